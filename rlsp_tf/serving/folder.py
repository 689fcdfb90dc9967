"""The temporary folder of a server, and the removal of folders of servers that were killed."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rlsp_tf.errors import RLSPError, describe_os_error

PREFIX = "rlsp-"
LOCK = "server.lock"
"""Name of a file in the folder that is locked while the server runs. The system unlocks it when the process
ends."""


@contextlib.contextmanager
def server_folder() -> Iterator[Path]:
    """Makes a temporary folder that is removed with all it holds when the block ends.

    Folders of servers that ended without that, by ``kill -9`` or a power failure, are removed first.

    Yields:
        The folder, readable by nobody else.

    Raises:
        RLSPError: if it cannot be made.
    """
    remove_leftovers()
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        # The file is locked before it gets the name that other servers look for.
        new = folder / "new.lock"
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        new.rename(folder / LOCK)
    except OSError as error:
        raise RLSPError(
            f"{tempfile.gettempdir()}: the server's folder cannot be made in it "
            f"({(error.strerror or '').lower()}); set TMPDIR to another folder."
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


@contextlib.contextmanager
def jobs_folder(path: Path, option: str = "--jobs") -> Iterator[Path]:
    """Makes a permanent folder if it is missing, and locks it while the block runs.

    Args:
        path: the folder.
        option: the option that names another folder, for the message.

    Raises:
        RLSPError: if it cannot be made or written, or another server uses it.
    """
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise RLSPError(describe_os_error(error)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield path
    except BlockingIOError as error:
        raise RLSPError(f"{path}: is used by another server; give another folder by {option}.") from error
    finally:
        os.close(descriptor)


def remove_leftovers() -> None:
    """Removes the folders of servers of this user that no longer run."""
    for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError):
            descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_uid == os.getuid() == lock.parent.lstat().st_uid:
                    shutil.rmtree(lock.parent, ignore_errors=True)
            finally:
                os.close(descriptor)
