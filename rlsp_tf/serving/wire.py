"""The formats in which single frames are sent: raw RGB, PNG, and the planes of a video."""

import io
from collections.abc import Sequence
from typing import NamedTuple, get_args

import numpy as np
from PIL import Image

from rlsp_tf.errors import RLSPError
from rlsp_tf.pixels.color import ColorSpec, Matrix

RAW = "application/octet-stream"
"""RGB with 8 bits per channel, three bytes per pixel, row by row from the top, without a header."""
PNG = "image/png"
PLANES = "video/raw"
"""Y, Cb and Cr with 8 bits in limited range, plane after plane, chroma of half the width and height (4:2:0):
FFmpeg's ``yuv420p``. ``video/raw; matrix=bt709`` names the colour matrix, BT.601 by default."""
MEDIA_TYPES = (RAW, PNG, PLANES)
MATRICES: tuple[Matrix, ...] = get_args(Matrix)
PNG_OVERHEAD = 2**20
"""Bytes by which a PNG may exceed the raw pixels: noise cannot be compressed, and there may be metadata."""


class Answer(NamedTuple):
    """What a session answers to a frame.

    Attributes:
        data: the frame before, upscaled; ``None`` if there is none yet.
        batch: size of the batch in which it was computed; 0 if it was computed without.
        notes: sentences about the session that its client should read.
    """

    data: bytes | None
    batch: int = 0
    notes: Sequence[str] = ()


def max_bytes(width: int, height: int) -> int:
    """Returns the largest number of bytes of a frame of this size in any of the formats."""
    return 3 * width * height + PNG_OVERHEAD


def color_of(media_type: str) -> ColorSpec | None:
    """The colour format of planes; ``None`` for a media type of RGB.

    Args:
        media_type: one of ``MEDIA_TYPES``, of which planes may have a parameter.

    Raises:
        RLSPError: if the colour matrix is unknown.
    """
    kind, _, parameter = media_type.partition(";")
    if kind != PLANES:
        return None
    matrix = parameter.strip().removeprefix("matrix=") or "bt601"
    for known in MATRICES:
        if matrix == known:
            return ColorSpec(known, full_range=False)
    raise RLSPError(f"the colour matrix can be {', '.join(MATRICES)}, not {matrix[:40]!r}.")


def decode_frame(
    data: bytes, media_type: str, width: int, height: int
) -> np.ndarray | tuple[np.ndarray, ...]:
    """Decodes a frame. The data may come from anywhere.

    Args:
        data: the encoded frame.
        media_type: one of ``MEDIA_TYPES``; for planes, see :func:`color_of`.
        width, height: the size that the frame must have, in pixels.

    Returns:
        RGB uint8 ``(height, width, 3)``, or the planes Y, Cb and Cr.

    Raises:
        RLSPError: if the data is not a frame of this format and size. The size in the header of a PNG is
            checked before its pixels are decoded.
    """
    if media_type == RAW:
        if len(data) != 3 * width * height:
            raise RLSPError(
                f"the frame has {len(data)} bytes, but {width}x{height} pixels of RGB have "
                f"{3 * width * height}; send these, or a PNG as {PNG}."
            )
        return np.frombuffer(data, np.uint8).reshape(height, width, 3)
    if color_of(media_type):
        luma, chroma = width * height, -(-width // 2) * -(-height // 2)
        if len(data) != luma + 2 * chroma:
            raise RLSPError(
                f"the frame has {len(data)} bytes, but {width}x{height} pixels of 4:2:0 planes have "
                f"{luma + 2 * chroma}."
            )
        y, cb, cr = np.split(np.frombuffer(data, np.uint8), (luma, luma + chroma))
        half = (-(-height // 2), -(-width // 2))
        return y.reshape(height, width), cb.reshape(half), cr.reshape(half)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.size != (width, height):
                raise RLSPError(
                    f"the frame is {image.width}x{image.height}, but the session is for {width}x{height}; "
                    "begin a session for the other size."
                )
            if any(";16" in str(tile[3]) for tile in image.tile) or image.mode.startswith("I"):
                raise RLSPError("the frame has 16 bits per channel; send it with 8.")
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise RLSPError("the frame is not a PNG that can be decoded; send it again.") from error


def encode_frame(frame: np.ndarray | tuple[np.ndarray, ...], media_type: str) -> bytes:
    """Encodes a frame.

    Args:
        frame: RGB uint8 ``(H, W, 3)``, or planes.
        media_type: one of ``MEDIA_TYPES``.
    """
    if isinstance(frame, tuple):
        return b"".join(plane.tobytes() for plane in frame)
    if media_type == RAW:
        return frame.tobytes()
    file = io.BytesIO()
    # This takes a quarter of the time of the default level, and files are a tenth larger.
    Image.fromarray(frame).save(file, "PNG", compress_level=1)
    return file.getvalue()
