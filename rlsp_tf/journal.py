"""What an interrupted upscaling has left: a work folder beside its target, with a journal in it.

The journal has a line of JSON for every segment that is finished, after a first one that tells which run
they are of, and gets a last one when no frame is left. A line is added when what it tells of is safely on
the disk; half a line at the end, as a power failure leaves it, tells of nothing.
"""

import contextlib
import json
import os
import shutil
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rlsp_tf.errors import RLSPError
from rlsp_tf.files import fitting_name, sync

SUFFIX = ".rlsp"
"""Of a work folder's name, after that of the target."""
JOURNAL = "journal.jsonl"
PLAN = "plan.json"
"""In the work folder of a run in ranges; each has a work folder in that (:mod:`rlsp_tf.ranges`)."""
_LOCK = "lock"
_VERSION = 1


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
    """

    name: str
    frames: int
    size: int
    steps: int
    times: Sequence[tuple[int, int]] = ()


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
        if self.path.exists() and not is_work_folder(self.path):
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
        journal = read_journal(file)
        if journal is not None:
            count = 1 + len(journal.segments) + (journal.notes is not None)
            os.truncate(file, sum(len(line) + 1 for line in file.read_bytes().split(b"\n")[:count]))
        return journal

    def append(self, journal: Journal, segment: Segment) -> None:
        """Notes a finished segment, whose files are on the disk."""
        file = self.path / JOURNAL
        if not journal.segments:
            self._add(file, {"version": _VERSION, "run": journal.run, "rows": journal.rows})
        self._add(file, asdict(segment))
        journal.segments.append(replace(segment, times=Times(segment.times)))

    def end(self, journal: Journal, notes: list[str]) -> None:
        """Notes that no frame is left."""
        self._add(self.path / JOURNAL, {"notes": notes})
        journal.notes = notes

    def size(self) -> int:
        """Bytes of everything in it."""
        return sum(each.stat().st_size for each in self.path.rglob("*") if each.is_file())

    def keep_only(self, names: set[str]) -> None:
        """Removes all but the lock, the journal and what is named."""
        for path in self.path.iterdir():
            if path.name not in names | {_LOCK, JOURNAL}:
                _remove(path)

    def clear(self) -> None:
        """Forgets what was finished."""
        for name in (JOURNAL, PLAN):
            (self.path / name).unlink(missing_ok=True)
        self.keep_only(set())

    def remove(self) -> None:
        """Removes the folder, the journal first, so that half a removal leaves nothing to go on with."""
        self.clear()
        shutil.rmtree(self.path, ignore_errors=True)

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
    try:
        lines = file.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    journal = None
    for line in lines:
        try:
            value = json.loads(line)
            if journal is None:
                journal = _header(value)
            elif "notes" in value:
                journal.notes = [str(note) for note in value["notes"]]
            else:
                journal.segments.append(_segment(value))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            break
    return journal if journal and journal.segments else None


def is_work_folder(path: Path) -> bool:
    """Whether a folder holds what a run keeps, or nothing."""
    if not path.is_dir():
        return False
    names = {each.name for each in path.iterdir()}
    return not names or JOURNAL in names or _LOCK in names


def stale_folders(root: Path, *, days: float) -> Iterator[WorkFolder]:
    """The work folders below a folder that nobody works in, each locked while it is the caller's.

    Args:
        root: searched with its subfolders.
        days: since their last change, at least.
    """
    for path in sorted(root.rglob(f"*{SUFFIX}")):
        if not path.is_dir() or not is_work_folder(path) or not any(path.iterdir()):
            continue
        last = max(each.stat().st_mtime for each in (path, *path.iterdir()))
        with contextlib.suppress(RLSPError):
            if time.time() - last >= days * 86400:
                with WorkFolder(path.with_name(path.name.removesuffix(SUFFIX))) as folder:
                    yield folder


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(each.stat().st_size for each in (path.iterdir() if path.is_dir() else (path,)))


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
    return Segment(segment.name, *numbers, Times(times))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
