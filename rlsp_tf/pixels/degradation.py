"""High resolution to low resolution: the degradation that RLSP undoes."""

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d

from rlsp_tf.errors import RLSPError

if TYPE_CHECKING:
    pass

SIGMA = 1.5 / 4
"""Standard deviation of the blur in low-resolution pixels: 1.5 high-resolution pixels at scale 4."""


def degrade(frames: np.ndarray, scale: int = 4, sigma: float | None = None) -> np.ndarray:
    """Blurs with a Gaussian, takes every ``scale``-th pixel and rounds, as Fuoli et al. 2019 do.

    With the defaults, every bit is that of
    ``gaussian_filter(frame.astype(float32), sigma=(1.5, 1.5, 0))[::4, ::4]`` of SciPy, rounded: 13
    taps, half-sample symmetric border. The authors' published frames come from this. (A blur in
    uint8 truncates instead, which is about 0.9 grey levels darker.)

    Low-resolution pixel i lies on high-resolution pixel ``scale * i``.

    Args:
        frames: uint8 or uint16 ``(..., H, W, 3)``, high resolution.
        scale: how many times smaller the result is in each direction.
        sigma: standard deviation of the blur in high-resolution pixels; by default 1.5 at scale 4
            and in proportion at others, so that what aliases stays the same.

    Returns:
        ``(..., ceil(H / scale), ceil(W / scale), 3)`` in the type of ``frames``.

    Raises:
        RLSPError: if ``frames`` has another type or shape, or no pixel.
        ValueError: if ``scale`` is below 1 or ``sigma`` not above 0.
    """
    if frames.dtype not in (np.uint8, np.uint16) or frames.ndim < 3 or frames.shape[-1] != 3:
        raise RLSPError(
            f"frames must be uint8 or uint16 of shape (..., height, width, 3), "
            f"not {frames.dtype} {frames.shape}."
        )
    *leading, height, width, _ = frames.shape
    if not height or not width:
        raise RLSPError(f"frames of {width}x{height} have no pixel.")
    if scale < 1:
        raise ValueError(f"scale must be at least 1, not {scale}")
    if sigma is None:
        sigma = SIGMA * scale
    if sigma <= 0:
        raise ValueError(f"sigma must be above 0, not {sigma}")
    lr = np.empty((*leading, -(-height // scale), -(-width // scale), 3), frames.dtype)
    for index in np.ndindex(*leading):
        # Rows that are not kept need no horizontal blur. SciPy blurs the vertical axis first as well.
        rows = gaussian_filter1d(frames[index].astype(np.float32), sigma, axis=0)[::scale]
        pixels = gaussian_filter1d(rows, sigma, axis=1)[:, ::scale]
        # A weighted mean cannot leave the range by more than float32 errs, which rounding takes away.
        lr[index] = np.rint(pixels)
    return lr
