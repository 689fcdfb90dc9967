"""The two formats in which single frames are sent: raw RGB and PNG."""

import io

import numpy as np
from PIL import Image

from rlsp_tf.errors import RLSPError

RAW = "application/octet-stream"
"""RGB with 8 bits per channel, three bytes per pixel, row by row from the top, without a header."""
PNG = "image/png"
MEDIA_TYPES = (RAW, PNG)
PNG_OVERHEAD = 2**20
"""Bytes by which a PNG may exceed the raw pixels: noise cannot be compressed, and there may be metadata."""


def max_bytes(width: int, height: int) -> int:
    """Returns the largest number of bytes of a frame of this size in any of the formats."""
    return 3 * width * height + PNG_OVERHEAD


def decode_frame(data: bytes, media_type: str, width: int, height: int) -> np.ndarray:
    """Decodes a frame. The data may come from anywhere.

    Args:
        data: the encoded frame.
        media_type: one of ``MEDIA_TYPES``.
        width, height: the size that the frame must have, in pixels.

    Returns:
        RGB uint8 ``(height, width, 3)``.

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


def encode_frame(frame: np.ndarray, media_type: str) -> bytes:
    """Encodes a frame.

    Args:
        frame: RGB uint8 ``(H, W, 3)``.
        media_type: one of ``MEDIA_TYPES``.
    """
    if media_type == RAW:
        return frame.tobytes()
    file = io.BytesIO()
    # This takes a quarter of the time of the default level, and files are a tenth larger.
    Image.fromarray(frame).save(file, "PNG", compress_level=1)
    return file.getvalue()
