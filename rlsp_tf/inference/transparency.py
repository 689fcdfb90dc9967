"""Transparency around the network: alpha is enlarged like chroma, and what nobody sees does not bleed."""

import numpy as np

from rlsp_tf.inference.color_path import ChromaGeometry
from rlsp_tf.pixels.resample import cubic_matrix

INVISIBLE = 1 / 64
"""Pixels that are less opaque than this count as fully transparent. Encoders that lose something leave some
that should be, at one or two codes of 255."""


def enlarge_alpha(
    alpha: np.ndarray, scale: int, *, depth: int, target_depth: int, geometry: ChromaGeometry = "aligned"
) -> np.ndarray:
    """Alpha at the positions of the network's pixels, by cubic interpolation.

    Args:
        alpha: ``(H, W)``, 0 to ``2**depth - 1``.
        scale: how many times larger the result is.
        depth: bits per sample of ``alpha``.
        target_depth: bits per sample of the result.
        geometry: see :class:`rlsp_tf.inference.color_path.ColorPath`.

    Returns:
        ``(scale*H, scale*W)``, uint8 or, above 8 bits, uint16.
    """
    origin = 0.5 / scale - 0.5 if geometry == "authors" else 0.0
    rows, columns = (
        cubic_matrix(size, size * scale, step=1 / scale, origin=origin).astype(np.float32)
        for size in alpha.shape
    )
    most = 2**target_depth - 1
    large = rows @ (alpha.astype(np.float32) * np.float32(most / (2**depth - 1)) @ columns.T)
    return np.clip(np.rint(large), 0, most).astype(np.uint8 if target_depth == 8 else np.uint16)


def filled_under(planes: tuple[np.ndarray, ...], alpha: np.ndarray, depth: int) -> tuple[np.ndarray, ...]:
    """A frame whose invisible pixels have the colours of the visible ones around them.

    What lies under transparent pixels is anything, often black. The network and the interpolation of chroma
    look at neighbours, and would draw it into the edges of what is seen. Visible pixels stay as they are. It
    is the pull-push algorithm of Gortler et al. (The Lumigraph, SIGGRAPH 1996), with alpha as the weight.

    Args:
        planes: ``(rgb,)`` or ``(y, cb, cr)``, see :class:`rlsp_tf.media.frames.Frame`.
        alpha: ``(H, W)``, 0 to ``2**depth - 1``.
        depth: bits per sample.

    Returns:
        Planes of the same shapes and types. Where a frame has no visible pixel, they are flat.
    """
    weight = alpha.astype(np.float32) / np.float32(2**depth - 1)
    weight[weight < INVISIBLE] = 0
    if weight.all():
        return planes
    found = []
    for plane in planes:
        # A sample of chroma counts as much as the pixels that it stands for.
        down, across = (-(-large // small) for large, small in zip(alpha.shape, plane.shape, strict=False))
        fitting = _blocks(weight[..., None], down, across).mean(axis=(1, 3))
        samples = _filled(plane.reshape(*plane.shape[:2], -1).astype(np.float32), fitting)
        found.append(np.rint(samples).astype(plane.dtype).reshape(plane.shape))
    return tuple(found)


def _filled(samples: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``(H, W, C)`` with samples of weight 0 replaced; ``weight`` is ``(H, W, 1)``."""
    if weight.all():
        return samples
    if not weight.any():
        return np.broadcast_to(samples.mean(axis=(0, 1)), samples.shape)
    weights = _blocks(weight, 2, 2).mean(axis=(1, 3))
    sums = _blocks(samples * weight, 2, 2).mean(axis=(1, 3))
    coarse = _filled(sums / np.maximum(weights, np.finfo(np.float32).tiny), weights)
    height, width = samples.shape[:2]
    return np.where(weight > 0, samples, coarse.repeat(2, axis=0).repeat(2, axis=1)[:height, :width])


def _blocks(samples: np.ndarray, down: int, across: int) -> np.ndarray:
    """``(H, W, C)`` -> ``(h, down, w, across, C)``, filled up with zeros at the bottom and on the right."""
    height, width, channels = samples.shape
    padded = np.pad(samples, ((0, -height % down), (0, -width % across), (0, 0)))
    return padded.reshape(padded.shape[0] // down, down, -1, across, channels)
