"""Files that get their final name only when they are complete, and checksums of files."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

from rlsp_tf.errors import RLSPError, describe_os_error

DEEPEST = 50
"""Levels of nesting that :func:`read_json` accepts. Files written by rlsp have ten at most."""
LARGEST = 2**24
"""Bytes that :func:`read_json` accepts. Files written by rlsp seldom reach a million, and parsed JSON can
take 30 times the size of its file."""

Ours = Callable[[PurePath], bool]
"""A function that says whether rlsp writes a file of this name, given as a path relative to its folder."""


def named(*patterns: str) -> Ours:
    """Makes an :data:`Ours` function from regular expressions.

    Args:
        patterns: regular expressions. One of them must match the whole relative path, written with slashes.
    """
    return lambda path: any(re.fullmatch(pattern, path.as_posix()) for pattern in patterns)


NOTHING = named()

LONGEST_NAME = 255
"""Most bytes that nearly every file system allows in a file's name."""
_LONGEST_SUFFIX = 16


@contextlib.contextmanager
def atomic_file(
    target: str | os.PathLike[str], *, force: bool = False, inside: Path | None = None
) -> Iterator[Path]:
    """Yields a temporary path, and renames the file to ``target`` when the block ends without an exception.

    The temporary name keeps the suffix of ``target``, because writers choose a format by it. The content is
    flushed to the disk before the file is renamed. If the block raises, the temporary file is removed and
    ``target`` stays as it was.

    Args:
        target: the final path. Folders above it that are missing are made, see :func:`made_folder`.
        force: whether to replace an existing file.
        inside: a folder on the same disk for the temporary file. By default the folder of ``target``.

    Yields:
        The path to write to.

    Raises:
        RLSPError: if the folder cannot be made or written, if ``target`` is a folder, or if it
            exists and ``force`` is false.
    """
    check_target(target, force=force)
    target = Path(target)
    temporary = temporary_path(target, inside)
    with made_folder(target.absolute().parent):
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
    """Yields a new folder, and renames it to ``target`` when the block ends without an exception.

    An existing empty folder is replaced. A folder with files in it is replaced only with ``force``, and only
    if all its files are ``ours``. The content is flushed to the disk before the folder is renamed.

    Args:
        target: the final path. Folders above it that are missing are made, see :func:`made_folder`.
        force: whether to replace a folder that has files in it.
        inside: a folder on the same disk for the new folder. By default the parent of ``target``.
        ours: says which files may be removed together with the replaced folder.

    Yields:
        The folder to write into.

    Raises:
        RLSPError: for the reasons listed at :func:`check_folder`. This is checked again at the end, in case
            other files were added to the folder meanwhile.
    """
    check_folder(target, force=force, ours=ours)
    target = Path(target)
    temporary = temporary_path(target, inside)
    with made_folder(target.absolute().parent):
        temporary.mkdir()
        try:
            yield temporary
            for path in (*temporary.rglob("*"), temporary):
                sync(path)
            # Files that were added to the target meanwhile must not be removed.
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


@contextlib.contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Makes a folder and those above it that are missing.

    If the block raises, the folders that were made are removed, as far as they are empty, so that a command
    that fails leaves nothing behind.

    Raises:
        RLSPError: if they cannot be made.
    """
    folder = folder.absolute()
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RLSPError(describe_os_error(error)) from error
    try:
        yield
    except BaseException:
        remove_empty(missing)
        raise


def remove_empty(folders: Iterable[Path]) -> None:
    """Removes folders, up to the first one that is not empty."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def check_target(target: str | os.PathLike[str], *, force: bool = False) -> None:
    """Raises an ``RLSPError`` if a file could not be written under this name.

    Args:
        target: the file to be written. Links are refused, because writing would replace the link and not
            the file it points to.
        force: whether the file may exist already.
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
    """Raises an ``RLSPError`` if a folder could not be created under this name.

    Args:
        target: the folder to be created. Links are refused, because the link would be replaced and not the
            folder it points to.
        force: whether the folder may exist already and hold files that are ``ours``.
        ours: says which files may be removed with an existing folder.
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
        sources: files or folders that are read. Links are followed. Whether upper and lower case differ is
            decided by the file system.
        replaced: whether an existing ``target`` is removed. If it is not, it may contain a source.
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
    """Whether two paths lead to the same existing file or folder, through links too."""
    return one.exists() and other.exists() and one.samefile(other)


def others_in(folder: Path, ours: Ours) -> Iterator[PurePath]:
    """Yields the files, links and empty folders in a folder that are not ``ours``, as relative paths."""
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
    """Removes the files of a folder that are ``ours``, then every folder that this has emptied.

    Links are neither followed nor removed.

    Args:
        folder: the folder to clean up. It is removed, too, if it is empty in the end.
        ours: says which files to remove, and which folders to remove that were empty before.
    """
    emptied = {folder}
    for path in sorted(folder.rglob("*"), reverse=True):  # the content of a folder comes before the folder
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
    """Flushes a file, or the list of files of a folder, to the disk, so that it survives a power failure."""
    if os.name != "posix" and path.is_dir():
        return  # Windows cannot flush folders
    descriptor = os.open(path, os.O_RDWR if os.name != "posix" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(target: str | os.PathLike[str], value: Any, *, force: bool = False) -> None:
    """Writes a value as a JSON file, completely or not at all.

    Args:
        target: the final path.
        value: the value, made of types that JSON has.
        force: whether to replace an existing file.

    Raises:
        RLSPError: if ``target`` cannot be written.
    """
    with atomic_file(target, force=force) as part:
        part.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", "utf-8")


def read_entries(path: str | os.PathLike[str], what: str) -> list[tuple[int, str]]:
    """Reads a text file with an entry per line. Empty lines and those that begin with ``#`` are skipped.

    Args:
        path: the file.
        what: what an entry is, such as ``"token"``, for errors.

    Returns:
        The number of the line, counted from 1, and the entry without white space around it, for each.

    Raises:
        RLSPError: if the file cannot be read, or is not text.
    """
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except OSError as error:
        raise RLSPError(describe_os_error(error)) from error
    except UnicodeDecodeError as error:
        raise RLSPError(f"{os.fspath(path)}: is not a text file; write one {what} per line.") from error
    entries = ((number, line.strip()) for number, line in enumerate(lines, 1))
    return [(number, entry) for number, entry in entries if entry and not entry.startswith("#")]


def read_json(path: str | os.PathLike[str], advice: str) -> Any:
    """Reads a JSON file that rlsp has written.

    Args:
        path: the file.
        advice: what to do if the file cannot be read, as the end of a sentence.

    Returns:
        The value, nested no deeper than ``DEEPEST``, so that comparing or writing it cannot exceed Python's
        limit on recursion.

    Raises:
        RLSPError: if the file is missing, is larger than ``LARGEST``, or is not such a file.
    """
    try:
        if Path(path).stat().st_size > LARGEST:
            raise ValueError("too large")
        value = json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError as error:
        raise RLSPError(f"{os.fspath(path)}: no such file; {advice}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise RLSPError(f"{os.fspath(path)}: is not a JSON file, or is damaged; {advice}.") from error
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if level:
        raise RLSPError(f"{os.fspath(path)}: is nested too deeply to be a file written by rlsp; {advice}.")
    return value


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 checksum of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_link(target: Path) -> None:
    if target.is_symlink():
        raise RLSPError(f"{target}: is a link to {target.readlink()}; give that name instead.")


def _parents(path: Path) -> list[Path]:
    """Returns the parent folders of a path, both as it is written and with its links resolved."""
    return [*path.absolute().parents, *Path(os.path.realpath(path)).parents]


def _check_parent(target: Path) -> None:
    # Folders that are missing will be made in the nearest one that exists.
    parent = next(folder for folder in target.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise RLSPError(f"{target}: {parent} is a file, not a folder; choose another place.")
    try:
        # os.access is not enough: for root it is true even on a read-only file system.
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise RLSPError(
            f"{target}: cannot write into {parent} ({error.strerror}); choose another place."
        ) from error


def temporary_path(target: Path, inside: Path | None = None) -> Path:
    """Returns an unused path for a file that will be renamed to ``target``, with the same suffix.

    Args:
        target: the final path.
        inside: the folder of the temporary path. By default the folder of ``target``.
    """
    folder = inside or target.absolute().parent
    suffix = target.suffix if len(target.suffix) < _LONGEST_SUFFIX else ""
    stem = target.name.removesuffix(suffix)
    return folder / fitting_name(f".{stem}", f".{os.getpid()}-{os.urandom(4).hex()}.part{suffix}")


def fitting_name(stem: str, ending: str) -> str:
    """Returns ``stem + ending``, shortened where file systems would refuse a name of that length.

    Args:
        stem: the beginning of the name. If the name is too long, the end of ``stem`` is replaced by a
            checksum of ``stem``.
        ending: the end of the name, which is never changed.
    """
    encoded, room = os.fsencode(stem), LONGEST_NAME - len(os.fsencode(ending))
    if len(encoded) <= room:
        return stem + ending
    check = f"~{hashlib.sha256(encoded).hexdigest()[:8]}"
    return encoded[: room - len(check)].decode("utf-8", "ignore") + check + ending
