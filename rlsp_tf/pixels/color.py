"""Converts between RGB and luma and chroma, with the matrices and ranges of the video standards.

The functions use only ``+ - * /`` on whole planes, so they accept NumPy arrays and TensorFlow tensors alike.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

PAPER_WEIGHTS = (65.738 / 256, 129.057 / 256, 25.064 / 256)
"""Weights of R, G and B (0..255) in the network's luma: limited-range BT.601, rounded as by the authors."""
LUMA_OFFSET = 16.0
"""Value of black in the network's luma."""


def eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Rounds and clips pixels to 8 bits: uint8, 0..255."""
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


Matrix = Literal["bt601", "bt709", "bt2020"]
ChromaLocation = Literal["left", "center", "topleft", "top", "bottomleft", "bottom"]

LUMA_WEIGHTS: dict[Matrix, tuple[float, float, float]] = {
    "bt601": (0.299, 0.587, 0.114),
    "bt709": (0.2126, 0.7152, 0.0722),
    "bt2020": (0.2627, 0.6780, 0.0593),
}
"""Weights of R, G and B in luma, from ITU-R BT.601-7 (2.5.1), BT.709-6 (3.2) and BT.2020-2 (table 4,
non-constant luminance)."""


@dataclass(frozen=True)
class ColorSpec:
    """The colour format of a video: how its planes (y, cb, cr) store colour.

    Attributes:
        matrix: name of the standard whose luma weights are used.
        full_range: whether 8-bit codes use 0..255. Otherwise luma uses 16..235 and chroma 16..240.
        depth: bits per sample, 8 to 16.
        subsampling: luma samples per chroma sample, ``(horizontal, vertical)``, each 1, 2 or 4. For example,
            ``(2, 2)`` is 4:2:0.
        chroma_location: position of the first chroma sample relative to the luma samples it belongs to, by
            FFmpeg's names (ITU-T H.273, figure 1).

    Raises:
        ValueError: if an attribute has another value than these.
    """

    matrix: Matrix
    full_range: bool
    depth: int = 8
    subsampling: tuple[int, int] = (2, 2)
    chroma_location: ChromaLocation = "left"

    def __post_init__(self) -> None:
        if self.matrix not in get_args(Matrix):
            raise ValueError(f"matrix must be one of {get_args(Matrix)}, not {self.matrix!r}")
        if self.depth not in range(8, 17):
            raise ValueError(f"depth must be 8 to 16, not {self.depth!r}")
        if len(self.subsampling) != 2 or any(factor not in (1, 2, 4) for factor in self.subsampling):
            raise ValueError(f"subsampling must be two of 1, 2, 4, not {self.subsampling!r}")
        if self.chroma_location not in get_args(ChromaLocation):
            raise ValueError(
                f"chroma_location must be one of {get_args(ChromaLocation)}, not {self.chroma_location!r}"
            )

    @property
    def siting(self) -> tuple[float, float]:
        """Offset of the first chroma sample from the first luma sample, ``(horizontal, vertical)``.

        It is counted in luma samples: ``(0, 0.5)`` for the usual 4:2:0, and always 0 along an axis that is
        not subsampled.
        """
        across, down = (factor - 1.0 for factor in self.subsampling)
        horizontal = 0.0 if self.chroma_location in ("left", "topleft", "bottomleft") else across / 2
        vertical = {"top": 0.0, "topleft": 0.0, "bottom": down, "bottomleft": down}
        return horizontal, vertical.get(self.chroma_location, down / 2)

    @property
    def ranges(self) -> tuple[float, float, float]:
        """The 8-bit code of black, and the spans of luma and of chroma in 8-bit codes."""
        return (0.0, 255.0, 255.0) if self.full_range else (16.0, 219.0, 224.0)


def rgb_to_ycbcr(r: Any, g: Any, b: Any, spec: ColorSpec) -> tuple[Any, Any, Any]:
    """Converts RGB to luma and chroma, without clipping or rounding.

    Args:
        r, g, b: float planes of equal shape, 0..255.
        spec: the colour format. Only its matrix and range are used.

    Returns:
        ``(y, cb, cr)``: float planes in 8-bit codes, whatever ``spec.depth`` is. They are 0..255 for the full
        range, otherwise 16..235 and 16..240.
    """
    kr, kg, kb = LUMA_WEIGHTS[spec.matrix]
    black, luma_span, chroma_span = spec.ranges
    y = kr * r + kg * g + kb * b
    cb = (b - y) * (chroma_span / 255 / (2 * (1 - kb))) + 128.0
    cr = (r - y) * (chroma_span / 255 / (2 * (1 - kr))) + 128.0
    return y * (luma_span / 255) + black, cb, cr


def ycbcr_to_rgb(y: Any, cb: Any, cr: Any, spec: ColorSpec) -> tuple[Any, Any, Any]:
    """Converts luma and chroma to RGB: the inverse of :func:`rgb_to_ycbcr`.

    Args:
        y, cb, cr: float planes of equal shape in 8-bit codes, whatever ``spec.depth`` is.
        spec: the colour format. Only its matrix and range are used.

    Returns:
        ``(r, g, b)``: float planes. Values outside 0..255 mean that RGB does not have this colour.
    """
    kr, kg, kb = LUMA_WEIGHTS[spec.matrix]
    black, luma_span, chroma_span = spec.ranges
    luma = (y - black) * (255 / luma_span)
    blue_difference = (cb - 128.0) * (255 / chroma_span * 2 * (1 - kb))
    red_difference = (cr - 128.0) * (255 / chroma_span * 2 * (1 - kr))
    green = luma - (kb / kg) * blue_difference - (kr / kg) * red_difference
    return luma + red_difference, green, luma + blue_difference


def luma_from_bt601(luma: Any, cb: Any, cr: Any, spec: ColorSpec) -> Any:
    """Converts the network's luma to the luma of another colour format, for pixels whose chroma is known.

    The network outputs L = 16 + p . (R, G, B), where p are the paper's weights. RGB is linear in (Y, Cb, Cr),
    and Y adds the same grey to all three channels. Let Q = p . RGB(black, Cb, Cr), which depends on chroma
    alone. Then

        L = 16 + (p_r + p_g + p_b) * (255 / luma span) * (Y - black) + Q,

    which is solved for Y. If ``spec`` is BT.601, Q only comes from the rounding of the paper's weights.

    Args:
        luma: the network's output, a float plane, 16..235 (BT.601 in limited range).
        cb, cr: float planes of the same shape in 8-bit codes, in the matrix and range of ``spec``.
        spec: the colour format. Only its matrix and range are used.

    Returns:
        Luma in the matrix and range of ``spec``: a float plane in 8-bit codes, neither clipped nor rounded.
    """
    kr, kg, kb = LUMA_WEIGHTS[spec.matrix]
    pr, pg, pb = PAPER_WEIGHTS
    black, luma_span, chroma_span = spec.ranges
    per_cb = 255 / chroma_span * 2 * (1 - kb) * (pb - pg * kb / kg)
    per_cr = 255 / chroma_span * 2 * (1 - kr) * (pr - pg * kr / kg)
    by_chroma = (cb - 128.0) * per_cb + (cr - 128.0) * per_cr
    return (luma - LUMA_OFFSET - by_chroma) * (luma_span / 255 / (pr + pg + pb)) + black


def from_codes(y: Any, cb: Any, cr: Any, spec: ColorSpec) -> tuple[Any, Any, Any]:
    """Converts code values of any depth to 8-bit codes, which the other functions use.

    Neutral chroma is half of ``2**depth`` in every range (ITU-T H.273, 8.3), not half of the largest code.

    Args:
        y, cb, cr: float planes in code values of ``spec.depth``, of any sizes.
        spec: the colour format of the planes.

    Returns:
        ``(y, cb, cr)``, neither rounded nor clipped.
    """
    unit, neutral = _unit(spec), 2.0 ** (spec.depth - 1)
    return y * (1 / unit), (cb - neutral) * (1 / unit) + 128.0, (cr - neutral) * (1 / unit) + 128.0


def to_codes(y: Any, cb: Any, cr: Any, spec: ColorSpec) -> tuple[Any, Any, Any]:
    """Converts 8-bit codes to code values of ``spec.depth``: the inverse of :func:`from_codes`."""
    unit, neutral = _unit(spec), 2.0 ** (spec.depth - 1)
    return y * unit, (cb - 128.0) * unit + neutral, (cr - 128.0) * unit + neutral


def _unit(spec: ColorSpec) -> float:
    """Returns the number of code values of ``spec.depth`` per 8-bit code (ITU-T H.273, 8.3)."""
    return (2**spec.depth - 1) / 255 if spec.full_range else 2.0 ** (spec.depth - 8)
