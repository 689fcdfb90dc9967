"""The two forms in which a single frame travels: its bytes as they are, and PNG."""

import io

import numpy as np
from PIL import Image

from rlsp_tf.errors import RLSPError

RAW = "application/octet-stream"
"""RGB of 8 bits, row after row from the top, three bytes a pixel, nothing else."""
PNG = "image/png"
FORMS = (RAW, PNG)
"""Media types of frames, those of answers too."""
SLACK = 2**20
"""Bytes that a PNG may have beyond its raw pixels: noise cannot be packed, and there is metadata."""


def most_bytes(width: int, height: int) -> int:
    """How many bytes a frame of a size can have in any form that is taken."""
    return 3 * width * height + SLACK


def frame_of(data: bytes, form: str, width: int, height: int) -> np.ndarray:
    """A frame out of bytes from anywhere.

    Args:
        data: the frame.
        form: one of FORMS.
        width, height: that it has to have.

    Returns:
        RGB uint8 ``(height, width, 3)``.

    Raises:
        RLSPError: if it is something else. Nothing larger than the frame is unpacked before that is known.
    """
    if form == RAW:
        if len(data) != 3 * width * height:
            raise RLSPError(
                f"the frame has {len(data)} bytes, but {width}x{height} pixels of RGB have "
                f"{3 * width * height}; send these, or PNG as {PNG}."
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
                raise RLSPError("the frame has 16 bits per channel; send it in 8.")
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise RLSPError("the frame is no PNG that can be read; send it again.") from error


def bytes_of(frame: np.ndarray, form: str) -> bytes:
    """A frame in one of FORMS.

    Args:
        frame: RGB uint8 ``(H, W, 3)``.
        form: one of FORMS.
    """
    if form == RAW:
        return frame.tobytes()
    file = io.BytesIO()
    # A quarter of the time of the usual level, for files a tenth larger.
    Image.fromarray(frame).save(file, "PNG", compress_level=1)
    return file.getvalue()
