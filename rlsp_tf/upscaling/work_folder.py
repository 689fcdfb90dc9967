"""What an interrupted upscaling has left: a work folder beside its target, with a journal in it.

The journal has a line of JSON for every segment that is finished, after a first one that tells which run
they are of, and gets a last one when no frame is left. A line is added when what it tells of is safely on
the disk; half a line at the end, as a power failure leaves it, tells of nothing. A segment that was found
damaged and was computed again has a second line, which counts instead of its first one.

Anybody may have a folder of such a name. It counts as a work folder only if there is a journal in it that
can be read, or nothing at all but what a run leaves before it has one. What is removed is what runs name
as they do, never what a link leads to, and a folder only when it is empty then.
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
from rlsp_tf.system.files import fitting_name, others_in, remove_files, sync

SUFFIX = ".rlsp"
"""Of a work folder's name, after that of the target."""
JOURNAL = "journal.jsonl"
PLAN = "plan.json"
"""In the work folder of a run in ranges; each has a work folder in that (:mod:`rlsp_tf.upscaling.plan`)."""
PUBLISHED = "published.json"
"""In a work folder whose result has got its name, or is about to (:mod:`rlsp_tf.upscaling.published`)."""
_LOCK = "lock"
_VERSION = 1

_PART = r"\..+\.\d+-[0-9a-f]{8}\.part"
_OWN = re.compile(r"lock|published\.json|journal\.jsonl|\.?plan\.json(\.part)?|state-\d{6}\.npz")
"""Names of files in a work folder."""
_OWN_OR_FOLDER = re.compile(rf"\d{{6}}(\.[^.]*)?({re.escape(SUFFIX)})?|{_PART}(\.[^.]*)?")
"""Of files or folders: segments, work folders of ranges, and what is unfinished, see ``atomic_file``."""
_LONGEST_LINE = 2**26
"""Bytes of the first line of a journal; cuts that were listed by the user are in it."""
_FRAME = re.compile(r".+\.png")


class Times(Sequence[tuple[int, int]]):
    """Pairs of integers in 16 bytes each: a film has hundreds of thousands, which as objects take megabytes.

    Args:
        pairs: of 64 bits with sign.

    Raises:
        OverflowError: if one is larger.
    """

    def __init__(self, pairs: Iterable[tuple[int, int]]) -> None:
        self._flat = array("q", chain.from_iterable(pairs))

    def __len__(self) -> int:
        return len(self._flat) // 2

    def __getitem__(self, index: Any) -> Any:
        return self._flat[2 * index], self._flat[2 * index + 1]


@dataclass(frozen=True)
class Segment:
    """A stretch of frames that is written and will not be computed again.

    Attributes:
        name: of its file or folder in the work folder.
        frames: how many.
        size: bytes, of all its files.
        steps: of the network, from the beginning of the clip to its end.
        times: of the packets of a video file, in their order: time shown and duration, in the clip's units.
        sha256: of its content; empty in a journal of a version of this package that noted none.
        state: SHA-256 of the file with the state of the network at its end; empty where the next step takes
            no state from before.
        diverged: number of the frame from which on the network has diverged, if that was found when the
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
    """What is known of a run.

    Attributes:
        run: what it made of what; whoever goes on has to have the same.
        rows: of the strips that frames are computed in; ``None`` for whole frames.
        segments: finished ones, from the beginning of the clip on.
        notes: sentences for the user, once no frame is left.
    """

    run: dict[str, Any]
    rows: int | None
    segments: list[Segment] = field(default_factory=list)
    notes: list[str] | None = None

    @property
    def frames(self) -> int:
        """How many are finished."""
        return sum(segment.frames for segment in self.segments)

    @property
    def diverged(self) -> int | None:
        """Number of the frame from which on the network has diverged, if it has."""
        return first_divergence(self.segments)


def first_divergence(segments: Iterable[Segment]) -> int | None:
    """The least ``diverged`` of segments; ``None`` if the network has not diverged in any."""
    return min((each.diverged for each in segments if each.diverged is not None), default=None)


def work_name(target: str) -> str:
    """The name of the work folder of a target of that name."""
    return fitting_name(target, SUFFIX)


class WorkFolder:
    """The work folder of a target, for one run at a time; a context manager.

    Args:
        target: the file or folder to be.

    Attributes:
        path: of the work folder.

    Raises:
        RLSPError: if something else has its name, or (when the block is entered) another run works in it.
    """

    def __init__(self, target: Path) -> None:
        self.path = target.absolute().with_name(work_name(target.name))
        self._shown = target.with_name(self.path.name)
        self._lock = FileLock(self.path / _LOCK, timeout=0)

    def __enter__(self) -> "WorkFolder":
        if os.path.lexists(self.path) and not is_work_folder(self.path):
            raise RLSPError(f"{self._shown}: is in the way of what this run would keep there; rename it.")
        self.path.mkdir(exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise RLSPError(
                f"{self._shown}: another run is at work on this output; wait for it, or give another name."
            ) from None
        return self

    def __exit__(self, *exception: Any) -> None:
        with contextlib.suppress(OSError):
            if self.path.is_dir() and not any((self.path / name).exists() for name in (JOURNAL, PLAN)):
                self.remove()
        self._lock.release()

    def read(self) -> Journal | None:
        """The journal, ``None`` if nothing is finished. What follows its last whole line is cut off."""
        file = self.path / JOURNAL
        journal, size = _read(file)
        if journal is not None:
            os.truncate(file, size)
        return journal

    def append(self, journal: Journal, segment: Segment) -> None:
        """Notes a finished segment, whose files are on the disk."""
        file = self.path / JOURNAL
        if not journal.segments:
            self._add(file, {"version": _VERSION, "run": journal.run, "rows": journal.rows})
        self._add(file, asdict(segment))
        journal.segments.append(replace(segment, times=Times(segment.times)))

    def replace(self, journal: Journal, index: int, segment: Segment) -> None:
        """Notes that a finished segment was computed again."""
        self._add(self.path / JOURNAL, asdict(segment))
        journal.segments[index] = replace(segment, times=Times(segment.times))

    def end(self, journal: Journal, notes: list[str]) -> None:
        """Notes that no frame is left."""
        self._add(self.path / JOURNAL, {"notes": notes})
        journal.notes = notes

    def size(self) -> int:
        """Bytes of everything in it."""
        return sum(each.stat().st_size for each in self.path.rglob("*") if each.is_file())

    def keep_only(self, names: set[str]) -> None:
        """Removes what runs have left, but for the lock, the journal and what is named."""
        kept = names | {_LOCK, JOURNAL}
        remove_files(self.path, lambda path: path.parts[0] not in kept and is_own(path))

    def clear(self) -> None:
        """Forgets what was finished."""
        for name in (PUBLISHED, JOURNAL, PLAN):
            (self.path / name).unlink(missing_ok=True)
        self.keep_only(set())

    def remove(self) -> None:
        """Removes what runs have left, and the folder if nothing else is in it.

        The journal goes first, so that half a removal leaves nothing to go on with.
        """
        self.clear()
        remove_files(self.path, is_own)

    def finish(self) -> None:
        """Removes the folder of a result that has got its name; what tells of that is removed last."""
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
    """Reads a journal as far as it is whole.

    Args:
        file: it may be missing, or of any content.

    Returns:
        The journal, or ``None`` if there is none that could be gone on with.

    Raises:
        OSError: if it exists and cannot be read.
    """
    return _read(file)[0]


def is_work_folder(path: Path) -> bool:
    """Whether a folder is what a run keeps, by what is in it.

    It holds a journal or a plan that can be read; or the lock and nothing but what runs name as they do, as
    one leaves it that ended before its first segment did; or nothing.
    """
    if path.is_symlink() or not path.is_dir():
        return False
    lock = path / _LOCK
    if any((path / name).is_symlink() for name in (_LOCK, JOURNAL, PLAN)):
        return False
    # Whoever takes the lock empties its file.
    if lock.exists() and not (lock.is_file() and lock.stat().st_size == 0):
        return False
    if _begins_as_ours(path / JOURNAL) or _is_plan(path / PLAN):
        return True
    names = {each.name for each in path.iterdir()}
    return not names or (
        not names.isdisjoint((_LOCK, PUBLISHED)) and next(others_in(path, is_own), None) is None
    )


def is_own(path: PurePath) -> bool:
    """Whether runs name a file so, by its path in a work folder."""
    *folders, name = path.parts
    if not all(map(_OWN_OR_FOLDER.fullmatch, folders)):
        return False
    if folders and not folders[-1].endswith(SUFFIX):
        return bool(_FRAME.fullmatch(name))
    return bool(_OWN.fullmatch(name) or _OWN_OR_FOLDER.fullmatch(name))


def _begins_as_ours(file: Path) -> bool:
    """Whether the first line of a journal is that of a run."""
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
    """The work folders below a folder that nobody works in, each locked while it is the caller's.

    Args:
        root: searched with its subfolders.
        days: since their last change, at least.
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
    """Bytes of a file, or of all files in a folder."""
    return sum(each.stat().st_size for each in (path.iterdir() if path.is_dir() else (path,)))


def _read(file: Path) -> tuple[Journal | None, int]:
    """The journal, and how many bytes its whole lines have."""
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
    # A name that led out of the folder would let a journal remove or show other files.
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
