"""Opens what FFmpeg reads, a file or standard input, and says in a sentence why that fails."""

import errno
from pathlib import Path
from typing import Any

import av

from rlsp_tf.errors import describe_os_error

FORMATS = (
    *(
        "mov,mp4,m4a,3gp,3g2,mj2",
        "matroska,webm",
        "avi",
        "mpegts",
        "mpeg",
        "mpegvideo",
        "flv",
        "live_flv",
        "asf",
    ),
    *(
        "ogg",
        "mxf",
        "gif",
        "apng",
        "nut",
        "rm",
        "wtv",
        "dv",
        "ivf",
        "yuv4mpegpipe",
        "h264",
        "hevc",
        "av1",
        "obu",
    ),
)
"""FFmpeg's names of the formats that are read. Playlists and scripts are not among them, because FFmpeg would
open the files that they name."""
STDIN = Path("standard input")
"""Stands for the program's standard input, and is its name in messages."""


def with_padding(pixels: int) -> int:
    """The limit for FFmpeg's decoders, which count the padding of rows and columns as well."""
    return 2 * pixels + 2**20


def open_input(path: Path, most_pixels: int | None = None) -> Any:
    """Opens a file, or :data:`STDIN`, as a container of FFmpeg.

    Args:
        path: the file.
        most_pixels: width times height of the largest frame that FFmpeg decodes to find out what the header
            does not say. The size of larger ones stays unknown. There is no limit by default.

    Raises:
        av.FFmpegError: if it cannot be read.
    """
    # Without a protocol, FFmpeg would take a name with a colon for a URL. Metadata may be in any encoding.
    protocol, name = ("pipe", "0") if path is STDIN else ("file", path)
    options = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": protocol}
    if most_pixels is not None:
        options["max_pixels"] = str(with_padding(most_pixels))
    return av.open(f"{protocol}:{name}", options=options, metadata_errors="surrogateescape")


def libav_sentence(error: av.FFmpegError, path: Path, failure: str) -> str:
    """Describes an error of FFmpeg in one sentence: the system's reason if it has one, otherwise ``failure``.

    Args:
        error: the exception.
        path: the file, as the user knows it.
        failure: what went wrong and what to do, without a full stop.
    """
    # FFmpeg's YUV4MPEG reader adds to error numbers, so that a wrong header looks like a busy device.
    if isinstance(error, OSError) and error.errno != errno.EBUSY:
        return describe_os_error(OSError(error.errno, error.strerror, str(path)))
    return f"{path}: {failure} (FFmpeg: {(error.strerror or 'unknown error').lower()})."
