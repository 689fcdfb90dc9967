"""Whether what lies at a target is the result of a run that was killed right after it had got its name.

Such a run has left its work folder, and the same call is to end well instead of finding that its output
exists already. So before a result gets its name, the work folder notes which file or folder that will be.
"""

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlsp_tf.system.files import write_json
from rlsp_tf.upscaling.work_folder import PUBLISHED, WorkFolder


def note_published(work: Path, result: Path, run: dict[str, Any], notes: Sequence[str]) -> None:
    """Notes in a work folder what is going to get the name of the target.

    Args:
        work: the folder.
        result: complete, but under another name on the same disk.
        run: what it was made of, see :class:`rlsp_tf.upscaling.work_folder.Journal`.
        notes: sentences for the user.
    """
    value = {"run": run, "notes": [*notes], "result": _identity(result)}
    write_json(work / PUBLISHED, value, force=True)


def published(target: Path, run: Callable[[], dict[str, Any]]) -> list[str] | None:
    """What a run had to say that ended with its result, if it only had its work folder still to remove.

    That is removed then.

    Args:
        target: the file or folder to be.
        run: what it would be made of; asked only if it may be a result of that.

    Returns:
        ``None`` if the target is missing or is anything else.
    """
    work = WorkFolder(target)
    try:
        value = json.loads((work.path / PUBLISHED).read_text("utf-8"))
        notes = [str(note) for note in value["notes"]]
        if value["result"] != _identity(target) or value["run"] != run():
            return None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        with contextlib.suppress(OSError):
            work.path.rmdir()  # if it is empty, all but that was removed
        return None
    work.finish()
    return notes


def _identity(path: Path) -> list[int]:
    """What a file or folder keeps when it is renamed, and shares with no other on its disk."""
    about = path.stat()
    return [about.st_ino, about.st_mtime_ns, about.st_size]
