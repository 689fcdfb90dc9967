"""Names every change that a process makes on the disk, so that it can be killed right before it.

A killed process leaves the disk as it was before its next change. So the changes of a run cover all states
that ``kill -9`` can leave, except for how much of a temporary file was written. A power failure can also
leave half of a line at the end of a journal.
"""

import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlsp_tf.upscaling.work_folder import JOURNAL

_CHANGES = {
    "os.mkdir": "make",
    "os.rename": "rename",
    "os.remove": "remove",
    "os.rmdir": "remove",
    "os.truncate": "cut",
    "os.link": "link",
}
"""Python's audit events for changes on the disk, and our names for them; replacing a file is a rename."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def watch(folder: Path, dies_at: Callable[[str], bool]) -> None:
    """Makes this process kill itself before a change in a folder; this cannot be undone.

    Writes by libraries in C are not seen; they go to temporary files that are renamed later.

    Args:
        folder: absolute path without symbolic links; changes of anything in it count.
        dies_at: called with the name of every change before it happens, such as ``"rename
            film.mp4.rlsp/.000000.part.mp4 2"`` for the second such change; returns whether to die there.
    """
    counts: dict[str, int] = {}
    busy = False

    def reach(what: str, place: Path, instead: Callable[[Path], None] | None = None) -> None:
        nonlocal busy
        if busy or folder not in place.parents:
            return
        busy = True
        # The names of temporary files are random.
        shown = re.sub(r"[.]\d+-[0-9a-f]+[.]part", ".part", str(place.relative_to(folder)))
        name = f"{what} {shown}"
        counts[name] = counts.get(name, 0) + 1
        if dies_at(f"{name} {counts[name]}"):
            if instead is not None:
                instead(place)
            os.kill(os.getpid(), signal.SIGKILL)
        busy = False

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES:
            place = _place(arguments[0], arguments[-1] if event in ("os.remove", "os.rmdir") else -1)
            # Nothing changes where it is so already, or where a folder to be removed is not empty.
            exists = os.path.lexists(place)
            full = event == "os.rmdir" and exists and any(place.iterdir())
            if exists != (event == "os.mkdir") and not full:
                reach(_CHANGES[event], place)
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
            place = _place(arguments[0])
            if not place.is_dir():
                reach("open", place)

    usual = os.fsync

    def fsync(descriptor: Any) -> None:
        place = _place(descriptor)
        if place.name == JOURNAL:
            reach("write half a line to", place, _cut_last_line)
        usual(descriptor)

    os.fsync = fsync  # type: ignore[assignment]
    sys.addaudithook(audit)


def record(file: Path) -> Callable[[str], bool]:
    """Returns a function for :func:`watch` that writes the names of all changes to a file elsewhere."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def note(name: str) -> bool:
        os.write(descriptor, f"{name}\n".encode())
        return False

    return note


def recorded(file: Path) -> Sequence[str]:
    """Reads the names that :func:`record` has written."""
    return file.read_text("utf-8").splitlines()


def _place(path: Any, inside: int = -1) -> Path:
    """Resolves an argument of an audit event: a file descriptor, or a path relative to ``inside``."""
    if isinstance(path, int):
        link = Path(f"/proc/self/fd/{path}")
        return link.readlink() if link.is_symlink() else link
    return (_place(inside) if inside != -1 else Path.cwd()) / os.fsdecode(path)


def _cut_last_line(file: Path) -> None:
    content = file.read_bytes()
    begins = content.rstrip(b"\n").rfind(b"\n") + 1
    os.truncate(file, (begins + len(content)) // 2)
