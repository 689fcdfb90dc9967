"""The places where a run changes what is on the disk, each with a name, so that it can be killed there.

A process that is killed leaves the disk as it was before its next change. So the changes that a run makes,
one after the other, are all the states that ``kill -9`` can leave, but for how much of a temporary file has
been written. A failing power can also leave half of a line that was appended to a journal.
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
"""What Python calls a change in an audit event, and what we do. Replacing a file is a renaming to it."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def watch(folder: Path, dies_at: Callable[[str], bool]) -> None:
    """From now on this process may kill itself before any change in a folder; for good.

    Not seen is what libraries in C write, which is temporary until it is renamed.

    Args:
        folder: changes of anything below it count; absolute, and without symbolic links.
        dies_at: is told the name of every change before it happens, such as ``"rename
            film.mp4.rlsp/.000000.part.mp4 2"``, the second change of this kind; says whether to die there.
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
    """For :func:`watch`: notes the names of all changes in a file, which does not lie in the folder."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def note(name: str) -> bool:
        os.write(descriptor, f"{name}\n".encode())
        return False

    return note


def recorded(file: Path) -> Sequence[str]:
    """What :func:`record` has noted."""
    return file.read_text("utf-8").splitlines()


def _place(path: Any, inside: int = -1) -> Path:
    """The path of a path, which may start in an open folder, or of an open file."""
    if isinstance(path, int):
        link = Path(f"/proc/self/fd/{path}")
        return link.readlink() if link.is_symlink() else link
    return (_place(inside) if inside != -1 else Path.cwd()) / os.fsdecode(path)


def _cut_last_line(file: Path) -> None:
    content = file.read_bytes()
    begins = content.rstrip(b"\n").rfind(b"\n") + 1
    os.truncate(file, (begins + len(content)) // 2)
