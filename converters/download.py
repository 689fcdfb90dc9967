"""Downloads the authors' checkpoints: resumes, checks, and gives files their names when they are complete.

It uses ``requests``, which TensorFlow needs anyway: it honours proxies and, unlike ``pooch`` and
``keras.utils.get_file``, allows resuming.
"""

import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import requests

from rlsp_tf._version import __version__
from rlsp_tf.errors import RLSPError
from rlsp_tf.system.files import check_target, made_folder
from rlsp_tf.system.progress import ProgressBar

BASE_URL = "https://raw.githubusercontent.com/dariofuoli/RLSP/master/evaluate/checkpoints"

LICENCE = """\
The weights are the work of Dario Fuoli, Shuhang Gu and Radu Timofte (github.com/dariofuoli/RLSP):

  Copyright (C) 2019 Dario Fuoli. All rights reserved. Licensed under the CC BY-NC-SA 4.0
  (Attribution-NonCommercial-ShareAlike 4.0 International). The code is released for academic
  research use only. For commercial use, please contact Dario Fuoli <dario.fuoli@vision.ee.ethz.ch>

The licence (https://creativecommons.org/licenses/by-nc-sa/4.0/) holds for the converted file too."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to download, and how to recognise it.

    Attributes:
        name: str, name of the file at the base URL and on disk.
        size: int, size in bytes.
        sha256: str, SHA-256 in hexadecimal; ``None`` if it is not known.
    """

    name: str
    size: int
    sha256: str | None


FILES = {
    "7-48": (
        # The misspelling is the authors'.
        RemoteFile(
            "ckpt_rslp_48.index", 1820, "6f440c5ae4da9211922374e16f0817fc69b1ae8beea415082c44d035c63bd170"
        ),
        RemoteFile(
            "ckpt_rslp_48.meta", 527666, "6a918b0befae709008a0ee4503d028eca33d0066b2bcdca6b7320b922f546aad"
        ),
        RemoteFile(
            "ckpt_rslp_48.data-00000-of-00001",
            1958600,
            "ee994b6f9a5e9546f3edf3c63e2291b8a8291dd6abd18486d883159a79be0543",
        ),
    ),
    "7-64": (
        RemoteFile(
            "ckpt_rlsp_64.index", 1839, "b0a94c8635e82abe283a1f96c95f7b7814fdfe376092e93486f53e102ef090b1"
        ),
        RemoteFile(
            "ckpt_rlsp_64.meta", 611868, "dd62433bd0f611a45f4be74a587040c425d21c57e3e315e2da8cbfb7f6931140"
        ),
        RemoteFile(
            "ckpt_rlsp_64.data-00000-of-00001",
            3385544,
            "a9bb40cc8aa91665a747a1232518c19abaaea40b8a9f9fa0605b1d3fcebbb568",
        ),
    ),
    "7-128": (
        RemoteFile(
            "ckpt_rlsp_128.index", 1928, "62ce3a821044bfaf82d418e35440a19d328226e169ea1e6780ca6c97d34dd724"
        ),
        RemoteFile(
            "ckpt_rlsp_128.meta", 628036, "8ad52c435b824081df85b5eba8c2da702daf4d9febbb56acfad32cc5073a7997"
        ),
        # No SHA-256 is known of this file; the index holds a CRC32C of every tensor in it.
        RemoteFile("ckpt_rlsp_128.data-00000-of-00001", 12964040, None),
    ),
}
"""The files of each of the authors' checkpoints, in the order of download: index first, weights last."""


class _InterruptedError(Exception):
    """Raised when a connection was lost; another attempt can go on from there."""


class _CannotResumeError(_InterruptedError):
    """Raised when the server cannot send the rest of a file; another attempt has to begin anew."""


def download(
    name: str,
    folder: str | os.PathLike[str],
    *,
    base_url: str = BASE_URL,
    force: bool = False,
    progress: bool = False,
    timeout: float = 30,
    backoff: float = 1,
) -> Path:
    """Downloads a checkpoint of the authors and converts it.

    Files that are already complete are not downloaded again; incomplete ones are resumed. The caller must
    have accepted :data:`LICENCE`.

    Args:
        name: name of a network in :data:`FILES`.
        folder: path of the folder to download to; made if it is missing.
        base_url: address under which the files are found.
        force: bool, whether to replace existing files of the same names that are not the authors'.
        progress: bool, whether to show progress bars and retries on standard error.
        timeout: float, seconds to wait for each answer of the server and for each piece of a file.
        backoff: float, seconds to wait before the second attempt; doubles with every further one.

    Returns:
        The path of the ``.keras`` file, ``folder/authors-NAME.keras``.

    Raises:
        RLSPError: if a file cannot be downloaded, or is not the authors'.
    """
    # Imported here because TensorFlow takes seconds; the licence and the names do without it.
    from rlsp_tf.converters.tf1 import keras_from_tf1

    folder = Path(folder)
    target = folder / f"authors-{name}.keras"
    check_target(target, force=force)
    with made_folder(folder):
        for remote in FILES[name]:
            file = folder / remote.name
            if file.exists():
                if _intact(file, remote):
                    continue
                if not force:
                    raise RLSPError(
                        f"{file}: exists already and is not the authors'; move it, or --force to replace it."
                    )
            fetch(
                f"{base_url.rstrip('/')}/{remote.name}",
                file,
                remote,
                progress=progress,
                timeout=timeout,
                backoff=backoff,
            )
        keras_from_tf1(folder / FILES[name][0].name, target, force=force)
    return target


def fetch(
    url: str,
    target: Path,
    remote: RemoteFile,
    *,
    progress: bool = False,
    timeout: float = 30,
    backoff: float = 1,
    attempts: int = 5,
) -> None:
    """Downloads one file to ``target`` with ``.part`` added, which a later call resumes, and then renames it.

    Args:
        url: address of the file.
        target: path of the file once it is complete and checked; replaced if it exists.
        remote: size and checksum that the file must have.
        progress: bool, as for :func:`download`.
        timeout: float, as for :func:`download`.
        backoff: float, as for :func:`download`.
        attempts: int, number of attempts before giving up.

    Raises:
        RLSPError: if all attempts fail, or the file is not the one expected.
    """
    part = target.with_name(f"{target.name}.part")
    for attempt in range(attempts):
        begun = part.exists()
        try:
            _receive(url, part, remote.size, progress=progress, timeout=timeout)
            if _intact(part, remote):
                os.replace(part, target)
                return
            part.unlink()
            if not begun:
                raise RLSPError(f"{url}: is not the authors' file, only as long; give another --base-url.")
            problem = f"{part.name} did not belong to it"
        except _CannotResumeError as error:
            part.unlink(missing_ok=True)
            problem = str(error)
        except _InterruptedError as error:
            problem = str(error)
        if attempt + 1 < attempts:
            wait = backoff * 2**attempt
            if progress:
                ProgressBar.write(f"{remote.name}: {problem}; trying again in {wait:.0f} s.", file=sys.stderr)
            time.sleep(wait)
    raise RLSPError(f"{url}: {problem}, {attempts} times; run the command again to go on from there.")


def _receive(url: str, part: Path, size: int, *, progress: bool, timeout: float) -> None:
    """Downloads the rest of a file, so that ``part`` has ``size`` bytes."""
    start = part.stat().st_size if part.exists() else 0
    if start == size:
        return
    if start > size:
        part.unlink()
        start = 0
    bar = ProgressBar(desc=part.stem, total=size, initial=start, unit="B", unit_scale=True, show=progress)
    with bar, _request(url, start, timeout) as response:
        _check_answer(response, url, start, size)
        if start and response.status_code == 200:  # the server ignored the range and sends the whole file
            start = 0
            bar.reset()
        try:
            with part.open("ab" if start else "wb") as file:
                for piece in response.iter_content(1 << 16):
                    start += len(piece)
                    if start > size:
                        raise RLSPError(
                            f"{url}: is another file (over {size} bytes); give another --base-url."
                        )
                    file.write(piece)
                    bar.update(len(piece))
        except requests.RequestException as error:  # before OSError, of which it is a subclass
            raise _InterruptedError("the connection was lost or stalled") from error
        except OSError as error:
            error.filename = os.fspath(part)
            raise
    if start < size:
        raise _InterruptedError("the connection ended early")


def _request(url: str, start: int, timeout: float) -> requests.Response:
    """Requests a file from byte ``start`` on."""
    headers = {"Accept-Encoding": "identity", "User-Agent": f"rlsp_tf/{__version__}"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        return requests.get(url, headers=headers, stream=True, timeout=timeout)
    except (requests.exceptions.SSLError, requests.exceptions.ProxyError) as error:
        raise RLSPError(
            f"{url}: the connection is refused on the way ({error}); check the network."
        ) from error
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _InterruptedError("the server cannot be reached or does not answer") from error
    except requests.RequestException as error:
        raise RLSPError(f"{url}: cannot be fetched ({error}); check the address.") from error


def _check_answer(response: requests.Response, url: str, start: int, size: int) -> None:
    """Raises unless the server is about to send the rest of the file (206) or all of it (200)."""
    code = response.status_code
    kind, length, held = (
        response.headers.get(name, "") for name in ("Content-Type", "Content-Length", "Content-Range")
    )
    if code >= 500:
        raise _InterruptedError(f"the server has a problem (HTTP {code})")
    if code == 416 or (code == 206 and not held.startswith(f"bytes {start}-")):
        raise _CannotResumeError("the server could not go on from there")
    if code not in (200, 206):
        raise RLSPError(f"{url}: {_refusal(code)}.")
    if "html" in kind:
        raise RLSPError(f"{url}: is a web page; sign in to the network or give another --base-url.")
    expected = size - start if code == 206 else size
    if length.isdigit() and int(length) != expected:
        raise RLSPError(f"{url}: is another file ({length} bytes, not {expected}); give another --base-url.")


def _refusal(code: int) -> str:
    """Returns what an HTTP status code means for the download, and what to do."""
    if code in (404, 410):
        return (
            f"not found (HTTP {code}); look at https://github.com/dariofuoli/RLSP and give another --base-url"
        )
    if code == 429:
        return "too many requests (HTTP 429); run the command again later"
    return f"the server refuses it (HTTP {code}); give another --base-url"


def _intact(file: Path, remote: RemoteFile) -> bool:
    """Returns whether a file is the expected one.

    Weights of unknown SHA-256 are checked against the index beside them.
    """
    # Imported here for the reason given in download().
    from rlsp_tf.converters.tf1 import data_of, index_of, prefix_of, read_tensors
    from rlsp_tf.system.files import sha256_of

    if file.stat().st_size != remote.size:
        return False
    if remote.sha256 is not None:
        return sha256_of(file) == remote.sha256
    prefix = prefix_of(file.with_name(remote.name))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkpoint"
        shutil.copyfile(index_of(prefix), index_of(copy))
        shutil.copyfile(file, data_of(copy))
        try:
            read_tensors(copy)
        except RLSPError:
            return False
    return True
