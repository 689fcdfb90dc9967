"""Files wherever fsspec finds them: on this machine, or as objects in a store."""

import contextlib
import hashlib
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from rlsp_tf.errors import RLSPError, first_line
from rlsp_tf.system.files import Ours


class Storage:
    """A file or folder by its address.

    Args:
        address: a path, or a URL that fsspec knows, such as ``s3://bucket/film.mp4``.

    Attributes:
        local: its path, if it is on this machine's file system.
        name: of the file or folder itself.

    Raises:
        RLSPError: if fsspec, or what it needs for such addresses, is not installed.
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
        """Whether there is something."""
        if self.local:
            return self.local.exists()
        with _said(self.address, "cannot be reached"):
            return bool(self._files.exists(self._path))

    def fetch(self, cache: Path | None = None) -> Path:
        """A local copy; the file itself if it is local.

        Args:
            cache: a folder for copies, those of other calls included.

        Raises:
            RLSPError: if it cannot be read.
        """
        if self.local:
            return self.local
        folder = (cache or download_cache()) / hashlib.sha256(self._identity().encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        copy = folder / self.name
        # One of the processes of a machine fetches for all.
        with FileLock(folder / "lock"), _said(self.address, "cannot be read"):
            if not copy.exists():
                part = folder / ".part"  # however long the name
                self._files.get(self._path, str(part), recursive=self._files.isdir(self._path))
                part.rename(copy)
        return copy

    def put(self, path: Path) -> None:
        """Writes a local file or folder here.

        Raises:
            RLSPError: if it cannot be written.
        """
        with _said(self.address, "cannot be written"):
            self._files.put(str(path), self._path, recursive=path.is_dir())

    def remove(self, ours: Ours) -> None:
        """Removes files from a folder in a store.

        Args:
            ours: which, by their paths in it.
        """
        with _said(self.address, "cannot be removed"), contextlib.suppress(FileNotFoundError):
            root = self._path.rstrip("/") + "/"
            for file in self._files.find(self._path):
                if file.startswith(root) and ours(PurePosixPath(file[len(root) :])):
                    self._files.rm(file)

    def _identity(self) -> str:
        with _said(self.address, "cannot be read"):
            about = self._files.info(self._path)
        # Different stores tell of changes by different words.
        tells = [str(about.get(key)) for key in ("size", "ETag", "etag", "LastModified", "mtime", "mtimeMs")]
        return " ".join([self.address, *tells])


def download_cache() -> Path:
    """Where copies of remote files go on this machine."""
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
def _said(address: str, what: str) -> Any:
    try:
        yield
    except FileNotFoundError as error:
        raise RLSPError(f"{address}: no such file; check the address.") from error
    except (OSError, ValueError) as error:
        raise RLSPError(f"{address}: {what} ({first_line(error)}).") from error
    except Exception as error:
        # What the client of a store raises: botocore has classes of its own.
        raise RLSPError(f"{address}: {what} ({type(error).__name__}: {error}).") from error
