"""The work folder beside a target, with a journal in it, from which an interrupted run is resumed.

The first line of the journal describes the run. Then follows a line of JSON for every finished segment, and a
last line when all frames are finished. A line is added only when the files it describes are flushed to the
disk. An incomplete last line, as a power failure may leave it, is ignored. A segment that was found damaged
and computed again has a second line, which replaces the first.

A user may happen to have a folder of such a name. It counts as a work folder only if it has a readable
journal, or nothing but the files of a run that has no journal yet. Only files with the names that runs use
are removed; links are never followed, and a folder is removed only when it is empty.
"""

import contextlib
import json
import os
import re
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path, PurePath
from typing import Any

from filelock import FileLock, Timeout

from rlsp_tf.errors import RLSPError
from rlsp_tf.system.files import fitting_name, others_in, remove_empty, remove_files, sync

SUFFIX = ".rlsp"
"""Suffix of a work folder's name, added to the name of the target."""
JOURNAL = "journal.jsonl"
PLAN = "plan.json"
"""File in the work folder of a run in ranges, which holds the ranges' own work folders, too
(:mod:`rlsp_tf.upscaling.plan`)."""
RANGE = 400
"""Least number of frames in a range: half a minute of work for one core if frames are small."""
PUBLISHED = "published.json"
"""File in a work folder whose result has its final name, or is about to get it
(:mod:`rlsp_tf.upscaling.published`)."""
_LOCK = "lock"
_VERSION = 1

_PART = r"\..+\.\d+-[0-9a-f]{8}\.part"
_OWN = re.compile(r"lock|published\.json|journal\.jsonl|\.?plan\.json(\.part)?|state-\d{6}\.npz")
"""Names of files in a work folder."""
_OWN_OR_FOLDER = re.compile(rf"\d{{6}}(\.[^.]*)?({re.escape(SUFFIX)})?|{_PART}(\.[^.]*)?")
"""Names of files or folders in a work folder: segments, work folders of ranges, and temporary files of
``atomic_file``."""
_LONGEST_LINE = 2**26
"""Most bytes of the first line of a journal. It includes the cuts that the user has listed."""
_FRAME = re.compile(r".+\.png")


class Times(Sequence[tuple[int, int]]):
    """A sequence of pairs of integers that takes 16 bytes a pair, since films have hundreds of thousands.

    Args:
        pairs: the pairs of integers, which must fit into 64 bits with sign.

    Raises:
        OverflowError: if an integer is too large.
    """

    def __init__(self, pairs: Iterable[tuple[int, int]]) -> None:
        self._flat = array("q", chain.from_iterable(pairs))

    def __len__(self) -> int:
        return len(self._flat) // 2

    def __getitem__(self, index: Any) -> Any:
        return self._flat[2 * index], self._flat[2 * index + 1]


@dataclass(frozen=True)
class Segment:
    """Consecutive frames that are written and need not be computed again.

    Attributes:
        name: name of the segment's file or folder in the work folder.
        frames: number of frames.
        size: size of all its files, in bytes.
        steps: number of steps of the network from the beginning of the clip to the end of the segment.
        times: presentation time and duration of each packet of a video, in the order of decoding, in the
            clip's units.
        sha256: checksum of the content; empty in journals of earlier versions, which stored none.
        state: SHA-256 of the file with the hidden state at the end of the segment; empty if the next step
            starts from a reset state.
        diverged: number of the frame from which on the network has diverged, if that was known when the
            segment ended; see :class:`rlsp_tf.inference.divergence.Watch`.
    """

    name: str
    frames: int
    size: int
    steps: int
    times: Sequence[tuple[int, int]] = ()
    sha256: str = ""
    state: str = ""
    diverged: int | None = None


@dataclass
class Journal:
    """The content of a journal.

    Attributes:
        run: everything that the result depends on. It must be the same in the run that resumes.
        rows: rows of the strips in which frames are computed; ``None`` for whole frames.
        segments: the finished segments, from the beginning of the clip on.
        notes: sentences for the user; ``None`` until all frames are finished.
    """

    run: dict[str, Any]
    rows: int | None
    segments: list[Segment] = field(default_factory=list)
    notes: list[str] | None = None

    @property
    def frames(self) -> int:
        """The number of finished frames."""
        return sum(segment.frames for segment in self.segments)

    @property
    def diverged(self) -> int | None:
        """The number of the frame from which on the network has diverged; ``None`` if it has not."""
        return first_divergence(self.segments)


def first_divergence(segments: Iterable[Segment]) -> int | None:
    """Returns the smallest ``diverged`` of segments; ``None`` if the network has not diverged in any."""
    return min((each.diverged for each in segments if each.diverged is not None), default=None)


def work_name(target: str) -> str:
    """Returns the name of the work folder for a target of this name."""
    return fitting_name(target, SUFFIX)


class WorkFolder:
    """The work folder of a target. Use it as a context manager; only one run at a time can enter it.

    Args:
        target: the file or folder that the run writes.

    Attributes:
        path: path of the work folder.

    Raises:
        RLSPError: when the block is entered, if something else has the name of the work folder, or another
            run is using it.
    """

    def __init__(self, target: Path) -> None:
        self.path = target.absolute().with_name(work_name(target.name))
        self._shown = target.with_name(self.path.name)
        self._lock = FileLock(self.path / _LOCK, timeout=0)

    def __enter__(self) -> "WorkFolder":
        if os.path.lexists(self.path) and not is_work_folder(self.path):
            raise RLSPError(
                f"{self._shown}: is in the way of the work folder, which needs this name; rename or move it."
            )
        self._made = [folder for folder in self.path.parents if not folder.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise RLSPError(
                f"{self._shown}: another run is writing this output; wait for it, or give another name."
            ) from None
        return self

    def __exit__(self, *exception: Any) -> None:
        with contextlib.suppress(OSError):
            if self.path.is_dir() and not any((self.path / name).exists() for name in (JOURNAL, PLAN)):
                self.remove()
        self._lock.release()
        remove_empty(self._made)

    def read(self) -> Journal | None:
        """Reads the journal, and cuts off an incomplete last line; ``None`` if no segment is finished."""
        file = self.path / JOURNAL
        journal, size = _read(file)
        if journal is not None:
            os.truncate(file, size)
        return journal

    def append(self, journal: Journal, segment: Segment) -> None:
        """Adds a finished segment, whose files must be flushed to the disk."""
        file = self.path / JOURNAL
        if not journal.segments:
            self._add(file, {"version": _VERSION, "run": journal.run, "rows": journal.rows})
        self._add(file, asdict(segment))
        journal.segments.append(replace(segment, times=Times(segment.times)))

    def replace(self, journal: Journal, index: int, segment: Segment) -> None:
        """Replaces a finished segment that was computed again."""
        self._add(self.path / JOURNAL, asdict(segment))
        journal.segments[index] = replace(segment, times=Times(segment.times))

    def end(self, journal: Journal, notes: list[str]) -> None:
        """Notes that all frames are finished."""
        self._add(self.path / JOURNAL, {"notes": notes})
        journal.notes = notes

    def size(self) -> int:
        """Returns the size of all files in the folder, in bytes."""
        return sum(each.stat().st_size for each in self.path.rglob("*") if each.is_file())

    def keep_only(self, names: set[str]) -> None:
        """Removes all files of runs except the lock, the journal and those with the given names."""
        kept = names | {_LOCK, JOURNAL}
        remove_files(self.path, lambda path: path.parts[0] not in kept and is_own(path))

    def clear(self) -> None:
        """Removes everything that was finished."""
        for name in (PUBLISHED, JOURNAL, PLAN):
            (self.path / name).unlink(missing_ok=True)
        self.keep_only(set())

    def remove(self) -> None:
        """Removes all files of runs, and the folder if nothing else is in it.

        The journal is removed first, so that an interrupted removal cannot be taken for a run to resume.
        """
        self.clear()
        remove_files(self.path, is_own)

    def finish(self) -> None:
        """Removes the folder once the result has its final name; the note of that is removed last."""
        remove_files(self.path, lambda path: path.parts != (PUBLISHED,) and is_own(path))
        (self.path / PUBLISHED).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def _add(self, file: Path, value: dict[str, Any]) -> None:
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(value) + "\n")
            lines.flush()
            os.fsync(lines.fileno())
        sync(self.path)


def read_journal(file: Path) -> Journal | None:
    """Reads a journal up to the first line that is not valid.

    Args:
        file: the journal. It may be missing or have any content.

    Returns:
        The journal; ``None`` if there is nothing to resume from.

    Raises:
        OSError: if the file exists but cannot be read.
    """
    return _read(file)[0]


def is_work_folder(path: Path) -> bool:
    """Whether a folder is a work folder, judged by its content.

    A work folder has a readable journal or plan; or the lock and only the files of a run that ended before
    its first segment; or it is empty.
    """
    if path.is_symlink() or not path.is_dir():
        return False
    lock = path / _LOCK
    if any((path / name).is_symlink() for name in (_LOCK, JOURNAL, PLAN)):
        return False
    # The file of a lock is always empty.
    if lock.exists() and not (lock.is_file() and lock.stat().st_size == 0):
        return False
    if _is_journal(path / JOURNAL) or _is_plan(path / PLAN):
        return True
    names = {each.name for each in path.iterdir()}
    return not names or (
        not names.isdisjoint((_LOCK, PUBLISHED)) and next(others_in(path, is_own), None) is None
    )


def is_own(path: PurePath) -> bool:
    """Whether runs write files of this name, given as a path relative to the work folder."""
    *folders, name = path.parts
    if not all(map(_OWN_OR_FOLDER.fullmatch, folders)):
        return False
    if folders and not folders[-1].endswith(SUFFIX):
        return bool(_FRAME.fullmatch(name))
    return bool(_OWN.fullmatch(name) or _OWN_OR_FOLDER.fullmatch(name))


def _is_journal(file: Path) -> bool:
    """Whether a file begins with the first line of a journal."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        with file.open("rb") as lines:
            _header(json.loads(lines.readline(_LONGEST_LINE)))
        return True
    return False


def _is_plan(file: Path) -> bool:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        plan = json.loads(file.read_bytes())
        return isinstance(plan["run"], dict) and isinstance(plan["ranges"], list)
    return False


def stale_folders(root: Path, *, days: float) -> Iterator[WorkFolder]:
    """Yields the work folders below a folder that no run is using, each locked until the next is taken.

    Args:
        root: the folder to search, including its subfolders.
        days: least number of days since the last change.
    """
    for path in sorted(root.rglob(f"*{SUFFIX}")):
        if not is_work_folder(path) or not any(path.iterdir()):
            continue
        last = max(each.lstat().st_mtime for each in (path, *path.iterdir()))
        with contextlib.suppress(RLSPError):
            if time.time() - last >= days * 86400:
                with WorkFolder(path.with_name(path.name.removesuffix(SUFFIX))) as folder:
                    yield folder


def size_of(path: Path) -> int:
    """Returns the size in bytes of a file, or of all files in a folder."""
    return sum(each.stat().st_size for each in (path.iterdir() if path.is_dir() else (path,)))


def _read(file: Path) -> tuple[Journal | None, int]:
    """Reads a journal; returns it, and the size in bytes of its valid lines."""
    try:
        lines = file.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return None, 0
    journal, size = None, 0
    places: dict[str, int] = {}
    for line in lines:
        try:
            value = json.loads(line)
            if journal is None:
                journal = _header(value)
            elif "notes" in value:
                journal.notes = [str(note) for note in value["notes"]]
            else:
                segment = _segment(value)
                place = places.setdefault(segment.name, len(places))
                journal.segments[place : place + 1] = [segment]
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            break
        size += len(line) + 1
    return (journal, size) if journal and journal.segments else (None, 0)


def _header(value: Any) -> Journal:
    rows = value["rows"]
    if value["version"] != _VERSION or not isinstance(value["run"], dict):
        raise ValueError
    if rows is not None and not (type(rows) is int and rows > 0):
        raise ValueError
    return Journal(value["run"], rows)


def _segment(value: Any) -> Segment:
    segment = Segment(**value)
    numbers = (segment.frames, segment.size, segment.steps)
    times = [(shown, lasts) for shown, lasts in segment.times]
    if not all(type(number) is int and number >= 0 for number in numbers) or segment.frames == 0:
        raise ValueError
    if not all(type(number) is int for pair in times for number in pair):
        raise ValueError
    if times and len(times) != segment.frames:
        raise ValueError
    # With a path for a name, a forged journal could make rlsp read or remove files outside the folder.
    if not (isinstance(segment.name, str) and segment.name.split(".")[0].isdecimal()):
        raise ValueError
    if Path(segment.name).name != segment.name:
        raise ValueError
    diverged = segment.diverged
    if diverged is not None and not (type(diverged) is int and diverged >= 0):
        raise ValueError
    if not (isinstance(segment.sha256, str) and isinstance(segment.state, str)):
        raise ValueError
    return replace(segment, times=Times(times))
