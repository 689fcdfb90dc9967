"""Files on this machine or in an object store, through fsspec."""

import contextlib
import hashlib
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from rlsp_tf.errors import RLSPError, first_line
from rlsp_tf.system.files import Ours


class Storage:
    """A file or folder at an address.

    Args:
        address: a path, or a URL that fsspec supports, such as ``s3://bucket/film.mp4``.

    Attributes:
        local: the path, if the file is on this machine's file system; otherwise ``None``.
        name: the last part of the address.

    Raises:
        RLSPError: if fsspec, or the package it needs for this kind of URL, is not installed.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.local = None if "://" in address else Path(address)
        self.name = address.rstrip("/").rpartition("/")[2] if self.local is None else self.local.name
        if self.local is None:
            self._files, self._path = _open(address)

    def __truediv__(self, name: str) -> "Storage":
        return Storage(f"{self.address.rstrip('/')}/{name}")

    def exists(self) -> bool:
        """Whether a file or folder exists at this address."""
        if self.local:
            return self.local.exists()
        with _as_rlsp_error(self.address, "cannot be reached"):
            return bool(self._files.exists(self._path))

    def fetch(self, cache: Path | None = None) -> Path:
        """Downloads the file or folder.

        Args:
            cache: the folder for copies. A copy made by an earlier call is used again. By default
                :func:`download_cache`.

        Returns:
            The path of the copy, or of the file itself if it is on this machine.

        Raises:
            RLSPError: if it cannot be read.
        """
        if self.local:
            return self.local
        folder = (cache or download_cache()) / hashlib.sha256(self._identity().encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        copy = folder / self.name
        # The first process of a machine downloads, and the others wait for its copy.
        with FileLock(folder / "lock"), _as_rlsp_error(self.address, "cannot be read"):
            if not copy.exists():
                part = folder / ".part"  # a longer name might exceed the limit of the file system
                self._files.get(self._path, str(part), recursive=self._files.isdir(self._path))
                part.rename(copy)
        return copy

    def put(self, path: Path) -> None:
        """Uploads a local file or folder to this address.

        Raises:
            RLSPError: if it cannot be written.
        """
        with _as_rlsp_error(self.address, "cannot be written"):
            self._files.put(str(path), self._path, recursive=path.is_dir())

    def remove(self, ours: Ours) -> None:
        """Removes files from a folder in an object store.

        Args:
            ours: says which files to remove, by their paths relative to the folder.
        """
        with _as_rlsp_error(self.address, "cannot be removed"), contextlib.suppress(FileNotFoundError):
            root = self._path.rstrip("/") + "/"
            for file in self._files.find(self._path):
                if file.startswith(root) and ours(PurePosixPath(file[len(root) :])):
                    self._files.rm(file)

    def _identity(self) -> str:
        """Returns a text that changes when the file does."""
        with _as_rlsp_error(self.address, "cannot be read"):
            info = self._files.info(self._path)
        # Object stores differ in how they report changes.
        keys = ("size", "ETag", "etag", "LastModified", "mtime", "mtimeMs")
        return " ".join([self.address, *(str(info.get(key)) for key in keys)])


def download_cache() -> Path:
    """Returns the folder for copies of remote files on this machine."""
    return Path(tempfile.gettempdir()) / "rlsp-cache"


def _open(address: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError as error:
        raise RLSPError(f"{address}: needs fsspec; install it by: pip install 'rlsp_tf[ray]'.") from error
    try:
        return fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise RLSPError(f"{address}: {str(error).rstrip('.')}.") from error


@contextlib.contextmanager
def _as_rlsp_error(address: str, failure: str) -> Any:
    """Raises every failure in the block as an ``RLSPError`` that names the address."""
    try:
        yield
    except FileNotFoundError as error:
        raise RLSPError(f"{address}: no such file; check the address.") from error
    except (OSError, ValueError) as error:
        raise RLSPError(f"{address}: {failure} ({first_line(error)}).") from error
    except Exception as error:
        # Clients of object stores have their own exceptions; botocore's are derived from Exception alone.
        raise RLSPError(f"{address}: {failure} ({type(error).__name__}: {error}).") from error
