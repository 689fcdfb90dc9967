"""The degradation from high resolution to low resolution, which RLSP reverses."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from rlsp_tf.errors import RLSPError

SIGMA = 1.5 / 4
"""Standard deviation of the blur in low-resolution pixels: 1.5 high-resolution pixels at scale 4."""


def degrade(frames: np.ndarray, scale: int = 4, sigma: float | None = None) -> np.ndarray:
    """Blurs frames with a Gaussian, keeps every ``scale``-th pixel and rounds, as Fuoli et al. 2019 do.

    With the defaults, the result equals SciPy's
    ``gaussian_filter(frame.astype(float32), sigma=(1.5, 1.5, 0))[::4, ::4]``, rounded, in every bit: 13 taps
    and a half-sample symmetric border. The authors' published frames were made like this. (A blur in uint8
    would truncate and make frames about 0.9 grey levels darker.)

    Low-resolution pixel i lies on high-resolution pixel ``scale * i``.

    Args:
        frames: high-resolution frames, uint8 or uint16 ``(..., H, W, 3)``.
        scale: how many times smaller the result is in each direction, at least 1.
        sigma: standard deviation of the blur in high-resolution pixels, above 0. By default 1.5 at scale 4,
            and in proportion at other scales, so that the amount of aliasing stays the same.

    Returns:
        ``(..., ceil(H / scale), ceil(W / scale), 3)`` of the same type as ``frames``.

    Raises:
        RLSPError: if ``frames`` has another type or shape, or no pixels.
        ValueError: if ``scale`` or ``sigma`` is out of range.
    """
    if frames.dtype not in (np.uint8, np.uint16) or frames.ndim < 3 or frames.shape[-1] != 3:
        raise RLSPError(
            f"frames must be uint8 or uint16 of shape (..., height, width, 3), "
            f"not {frames.dtype} {frames.shape}."
        )
    *leading, height, width, _ = frames.shape
    if not height or not width:
        raise RLSPError(f"frames of {width}x{height} have no pixels.")
    if scale < 1:
        raise ValueError(f"scale must be at least 1, not {scale}")
    if sigma is None:
        sigma = SIGMA * scale
    if sigma <= 0:
        raise ValueError(f"sigma must be above 0, not {sigma}")
    lr = np.empty((*leading, -(-height // scale), -(-width // scale), 3), frames.dtype)
    for index in np.ndindex(*leading):
        # Blur vertically first, as SciPy does, and horizontally only in the rows that are kept.
        rows = gaussian_filter1d(frames[index].astype(np.float32), sigma, axis=0)[::scale]
        pixels = gaussian_filter1d(rows, sigma, axis=1)[:, ::scale]
        # No clipping is needed: a weighted mean leaves the range only by float32 errors, which are rounded.
        lr[index] = np.rint(pixels)
    return lr
