"""Files that appear under their final name only when they are complete, and checksums of files."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlsp_tf.errors import RLSPError

DEEPEST = 50
"""Lists and dictionaries within each other in a JSON file of ours; none has more than ten."""

LONGEST_NAME = 255
"""Bytes of a file's name, on nearly all file systems."""
_LONGEST_SUFFIX = 16


@contextlib.contextmanager
def atomic_file(
    target: str | os.PathLike[str], *, force: bool = False, inside: Path | None = None
) -> Iterator[Path]:
    """Yields a temporary path that takes the name of ``target`` when the block ends well.

    The temporary name keeps the target's suffix, since writers choose a format by it. What was written is
    on the disk before it gets its name. When the block raises, the temporary file is removed and
    ``target`` is as it was.

    Args:
        target: the final path; its folder must exist.
        force: replace a file that is there already.
        inside: a folder on the same disk for the temporary file, instead of that of ``target``.

    Yields:
        The path to write to.

    Raises:
        RLSPError: if the folder is missing or cannot be written, if ``target`` is a folder, or if it
            exists and ``force`` is false.
    """
    check_target(target, force=force)
    target = Path(target)
    temporary = temporary_path(target, inside)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, target)
        sync(target.absolute().parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(
    target: str | os.PathLike[str], *, force: bool = False, inside: Path | None = None
) -> Iterator[Path]:
    """Yields a new folder that takes the name of ``target`` when the block ends well.

    An empty folder of that name is replaced; one with files in it only with ``force``. What was written is
    on the disk before it gets its name.

    Args:
        target: the final path; its parent must exist.
        force: replace a folder that has files in it.
        inside: a folder on the same disk for the new folder, instead of that of ``target``.

    Yields:
        The folder to write into.

    Raises:
        RLSPError: if the parent is missing or cannot be written, or if ``target`` is a file, or a
            folder that is not empty and ``force`` is false.
    """
    check_folder(target, force=force)
    target = Path(target)
    temporary = temporary_path(target, inside)
    temporary.mkdir()
    try:
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            sync(path)
        if target.is_dir():
            retired = temporary_path(target, inside)
            os.replace(target, retired)
            os.replace(temporary, target)
            shutil.rmtree(retired)
        else:
            os.replace(temporary, target)
        sync(target.absolute().parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_target(target: str | os.PathLike[str], *, force: bool = False) -> None:
    """Raises an ``RLSPError`` if the file ``target`` could not be written in the end.

    Args:
        target: the file to be written.
        force: accept that it exists already.
    """
    target = Path(target)
    if target.is_dir():
        raise RLSPError(f"{target}: is a folder; give the name of a file.")
    if target.exists() and not force:
        raise RLSPError(f"{target}: exists already; give another name or --force to replace it.")
    _check_parent(target)


def check_folder(target: str | os.PathLike[str], *, force: bool = False) -> None:
    """Raises an ``RLSPError`` if the folder ``target`` could not be made in the end.

    Args:
        target: the folder to be made.
        force: accept that it exists already and is not empty.
    """
    target = Path(target)
    if target.is_dir():
        if any(target.iterdir()) and not force:
            raise RLSPError(f"{target}: exists and is not empty; give another name or --force to replace it.")
    elif target.exists():
        raise RLSPError(f"{target}: is a file; give the name of a folder.")
    _check_parent(target)


def sync(path: Path) -> None:
    """Waits until a file, or the list of files of a folder, would survive a power failure."""
    if os.name != "posix" and path.is_dir():
        return  # Windows knows no such thing for folders
    descriptor = os.open(path, os.O_RDWR if os.name != "posix" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(target: str | os.PathLike[str], value: Any, *, force: bool = False) -> None:
    """Writes a value as JSON, whole or not at all.

    Args:
        target, force: see :func:`atomic_file`.
        value: of types that JSON knows.

    Raises:
        RLSPError: if ``target`` cannot be written.
    """
    with atomic_file(target, force=force) as part:
        part.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", "utf-8")


def read_json(path: str | os.PathLike[str], advice: str) -> Any:
    """Reads a JSON file of ours.

    Args:
        path: the file.
        advice: what to do if it cannot be read, as the end of a sentence.

    Returns:
        The value, nested no deeper than ``DEEPEST``, so that it can be compared, shown and written.

    Raises:
        RLSPError: if the file is missing or holds anything else.
    """
    try:
        value = json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError as error:
        raise RLSPError(f"{os.fspath(path)}: no such file; {advice}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise RLSPError(f"{os.fspath(path)}: is no JSON, or damaged; {advice}.") from error
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if level:
        raise RLSPError(f"{os.fspath(path)}: is none of ours, so deep is it; {advice}.")
    return value


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_parent(target: Path) -> None:
    parent = target.absolute().parent
    if not parent.is_dir():
        raise RLSPError(f"{target}: the folder {parent} does not exist; create it first.")
    try:
        # os.access is not enough: it says yes to root on a read-only file system.
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise RLSPError(
            f"{target}: cannot write into {parent} ({error.strerror}); choose another place."
        ) from error


def temporary_path(target: Path, inside: Path | None = None) -> Path:
    """A path that nothing has, for what is to become ``target``, with the same suffix.

    Args:
        target: the final path.
        inside: a folder for the temporary path, instead of that of ``target``.
    """
    folder = inside or target.absolute().parent
    suffix = target.suffix if len(target.suffix) < _LONGEST_SUFFIX else ""
    stem = target.name.removesuffix(suffix)
    return folder / fitting_name(f".{stem}", f".{os.getpid()}-{os.urandom(4).hex()}.part{suffix}")


def fitting_name(stem: str, ending: str) -> str:
    """A file's name that no file system finds too long.

    Args:
        stem: the beginning of the name. If the name would be too long, the end of it is replaced by a
            checksum of it.
        ending: the end of the name, which stays as it is.
    """
    encoded, room = os.fsencode(stem), LONGEST_NAME - len(os.fsencode(ending))
    if len(encoded) <= room:
        return stem + ending
    check = f"~{hashlib.sha256(encoded).hexdigest()[:8]}"
    return encoded[: room - len(check)].decode("utf-8", "ignore") + check + ending
