"""Files that appear under their final name only when they are complete, and checksums of files."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any

from rlsp_tf.errors import RLSPError

DEEPEST = 50
"""Lists and dictionaries within each other in a JSON file of ours; none has more than ten."""
LARGEST = 2**24
"""Bytes of such a file, of which few have a million. When parsed they may take 30 times as many."""

Ours = Callable[[PurePath], bool]
"""Tells of a path relative to a folder whether the program writes a file of that name there."""


def named(*patterns: str) -> Ours:
    """Files whose whole path within a folder, with slashes, matches one of these regular expressions."""
    return lambda path: any(re.fullmatch(pattern, path.as_posix()) for pattern in patterns)


NOTHING = named()

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
    target: str | os.PathLike[str], *, force: bool = False, inside: Path | None = None, ours: Ours = NOTHING
) -> Iterator[Path]:
    """Yields a new folder that takes the name of ``target`` when the block ends well.

    An empty folder of that name is replaced; one with files in it only with ``force``, and only if it holds
    nothing but ``ours``. What was written is on the disk before it gets its name.

    Args:
        target: the final path; its parent must exist.
        force: replace a folder that has files in it.
        inside: a folder on the same disk for the new folder, instead of that of ``target``.
        ours: which files may be removed with the folder that is replaced.

    Yields:
        The folder to write into.

    Raises:
        RLSPError: see :func:`check_folder`; also in the end, if something came into the folder meanwhile.
    """
    check_folder(target, force=force, ours=ours)
    target = Path(target)
    temporary = temporary_path(target, inside)
    temporary.mkdir()
    try:
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            sync(path)
        # Whatever has come meanwhile stays.
        check_folder(target, force=force, ours=ours)
        if target.is_dir():
            retired = temporary_path(target, inside)
            os.replace(target, retired)
            os.replace(temporary, target)
            remove_files(retired, ours)
        else:
            os.replace(temporary, target)
        sync(target.absolute().parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_target(target: str | os.PathLike[str], *, force: bool = False) -> None:
    """Raises an ``RLSPError`` if the file ``target`` could not be written in the end.

    Args:
        target: the file to be written. A link is refused, since it would be replaced instead of what it
            points to.
        force: accept that it exists already.
    """
    target = Path(target)
    _check_link(target)
    if target.is_dir():
        raise RLSPError(f"{target}: is a folder; give the name of a file.")
    if target.exists() and not target.is_file():
        raise RLSPError(f"{target}: is a device or a pipe; give the name of a file.")
    if target.exists() and not force:
        raise RLSPError(f"{target}: exists already; give another name or --force to replace it.")
    _check_parent(target)


def check_folder(target: str | os.PathLike[str], *, force: bool = False, ours: Ours = NOTHING) -> None:
    """Raises an ``RLSPError`` if the folder ``target`` could not be made in the end.

    Args:
        target: the folder to be made. A link is refused, since it would be replaced instead of what it
            points to.
        force: accept that it exists already and holds files of the program.
        ours: which files these are.
    """
    target = Path(target)
    _check_link(target)
    if target.is_dir():
        if any(target.iterdir()) and not force:
            raise RLSPError(f"{target}: exists and is not empty; give another name or --force to replace it.")
        if (other := next(others_in(target, ours), None)) is not None:
            raise RLSPError(
                f"{target}: holds {other}, which this command does not write and --force does not remove; "
                "move it, or give another name."
            )
    elif target.exists():
        raise RLSPError(f"{target}: is a file; give the name of a folder.")
    _check_parent(target)


def check_apart(
    target: str | os.PathLike[str], *sources: str | os.PathLike[str], replaced: bool = True
) -> None:
    """Raises an ``RLSPError`` if an output is an input, contains one, or lies in one.

    Args:
        target: the file or folder to be written.
        sources: files or folders that are read; links are followed, and case counts where it does on the
            disk.
        replaced: whether what is at ``target`` goes; a folder that stays may contain a source.
    """
    target = Path(target)
    for source in map(Path, sources):
        if not source.exists():
            continue
        if is_same(target, source):
            raise RLSPError(f"{target}: is the input; give the output another name.")
        if replaced and any(is_same(target, parent) for parent in _parents(source)):
            raise RLSPError(f"{target}: contains the input {source}; give the output another name.")
        if any(is_same(source, parent) for parent in _parents(target)):
            raise RLSPError(f"{target}: lies in the input {source}; choose another place.")


def is_same(one: Path, other: Path) -> bool:
    """Whether two paths are of one file or folder that exists, be it through links or by another case."""
    return one.exists() and other.exists() and one.samefile(other)


def others_in(folder: Path, ours: Ours) -> Iterator[PurePath]:
    """What a folder holds that is not ``ours``, relative to it: files, links, and folders that are empty."""
    waiting = [folder]
    while waiting:
        for path in sorted(waiting.pop().iterdir()):
            if path.is_dir() and not path.is_symlink() and any(path.iterdir()):
                waiting.append(path)
            elif (
                path.is_symlink()
                or not (path.is_file() or path.is_dir())
                or not ours(path.relative_to(folder))
            ):
                yield path.relative_to(folder)


def remove_files(folder: Path, ours: Ours) -> None:
    """Removes files from a folder, and those folders in it, and itself, that are empty then.

    Args:
        folder: no link is followed from here on, and none is removed.
        ours: which files, and which folders that were empty before.
    """
    emptied = {folder}
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder comes before it
        own = ours(path.relative_to(folder)) and not path.is_symlink()
        if path.is_dir() and not path.is_symlink():
            if own or path in emptied:
                with contextlib.suppress(OSError):
                    path.rmdir()
                    emptied.add(path.parent)
        elif own and path.is_file():
            path.unlink(missing_ok=True)
            emptied.add(path.parent)
    with contextlib.suppress(OSError):
        folder.rmdir()


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
        if Path(path).stat().st_size > LARGEST:
            raise ValueError("larger than any of ours")
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


def _check_link(target: Path) -> None:
    if target.is_symlink():
        raise RLSPError(f"{target}: is a link to {target.readlink()}; give the name of what it points to.")


def _parents(path: Path) -> list[Path]:
    """Folders that a path is in, by its name and in truth."""
    return [*path.absolute().parents, *Path(os.path.realpath(path)).parents]


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
