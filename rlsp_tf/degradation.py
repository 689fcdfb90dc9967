"""High resolution to low resolution: the degradation that RLSP undoes."""

import os
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d
from tqdm import tqdm

from rlsp_tf.errors import RLSPError
from rlsp_tf.frames import Frame
from rlsp_tf.pixel_formats import rgb_from_planes
from rlsp_tf.video import open_sink, open_source

if TYPE_CHECKING:
    from rlsp_tf.degradations import Degradation

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


def degrade_path(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    scale: int = 4,
    degradation: "Degradation | None" = None,
    force: bool = False,
    progress: bool = False,
) -> list[str]:
    """Degrades a video file or a folder of images, losing nothing else.

    Planes of a video become RGB of 8 bits (16 if they have more) first, since that is what the paper
    degrades. Frames keep their names or time stamps. ``target`` appears when it is complete.

    Args:
        source: a video file, a folder of images, or an image.
        target: a folder to be made, of PNG; or a video file (by its suffix), of lossless RGB.
        scale: see :func:`degrade`.
        degradation: how; by default as :func:`degrade` does. Of several ways, one is taken.
        force: replace a target that exists.
        progress: show a progress bar on standard error.

    Returns:
        Sentences about what was assumed or left out.

    Raises:
        RLSPError: if anything about the files keeps this from being done.
        ValueError: if ``scale`` is below 1.
    """
    # They use what is above.
    from rlsp_tf.degradations import PAPER, DegradingStream

    recipe = (degradation or PAPER).draw(np.random.default_rng(0))
    with open_source(source) as frames:
        sink = open_sink(
            target,
            frames,
            width=-(-frames.width // scale),
            height=-(-frames.height // scale),
            codec="libx264rgb",
            crf=0,
            force=force,
        )
        bar = tqdm(frames, total=frames.frames, unit="frame", desc=os.fspath(target), disable=not progress)
        stream = DegradingStream(recipe, scale)
        waiting: deque[Frame] = deque()  # a codec gives a frame some time after it got it

        def write(ready: list[np.ndarray]) -> None:
            for lr in ready:
                sink.write(replace(waiting.popleft(), planes=(lr,)))

        with sink, bar:
            for frame in bar:
                rgb = frame.planes[0]
                if frames.color is not None:
                    rgb = rgb_from_planes(frame.planes, frames.color)
                waiting.append(replace(frame, planes=()))
                write(stream.push(rgb))
            write(stream.flush())
        return [*frames.notes, *sink.notes]
