"""Recognizes the result of a run that was killed right after the result got its final name.

Such a run leaves its work folder behind. When the call is repeated it should succeed, and not complain that
its output exists. So before a result gets its final name, its identity is noted in the work folder.
"""

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlsp_tf.system.files import write_json
from rlsp_tf.upscaling.work_folder import PUBLISHED, WorkFolder


def note_published(work: Path, result: Path, run: dict[str, Any], notes: Sequence[str]) -> None:
    """Notes in a work folder which file or folder is about to get its final name.

    Args:
        work: the work folder.
        result: the complete result under a temporary name, on the same disk.
        run: everything that the result depends on, see :class:`rlsp_tf.upscaling.work_folder.Journal`.
        notes: sentences for the user.
    """
    value = {"run": run, "notes": [*notes], "result": _identity(result)}
    write_json(work / PUBLISHED, value, force=True)


def published(target: Path, run: Callable[[], dict[str, Any]]) -> list[str] | None:
    """Checks whether a target is the result of an earlier run that only failed to remove its work folder.

    If so, the work folder is removed.

    Args:
        target: the file or folder to check.
        run: returns everything that the result would depend on; called only if needed.

    Returns:
        The notes of that run; ``None`` if the target is missing or is anything else.
    """
    work = WorkFolder(target)
    try:
        value = json.loads((work.path / PUBLISHED).read_text("utf-8"))
        notes = [str(note) for note in value["notes"]]
        if value["result"] != _identity(target) or value["run"] != run():
            return None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        with contextlib.suppress(OSError):
            work.path.rmdir()  # an empty folder was left by an interrupted removal
        return None
    work.finish()
    return notes


def _identity(path: Path) -> list[int]:
    """Returns numbers that identify a file or folder on its disk and do not change when it is renamed."""
    status = path.stat()
    return [status.st_ino, status.st_mtime_ns, status.st_size]
