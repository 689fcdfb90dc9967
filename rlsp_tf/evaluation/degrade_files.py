"""The degradation of the paper, applied to files: ``rlsp degrade``."""

import os
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from rlsp_tf.media.degradations import PAPER, Degradation, DegradingStream
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.media.frames import Frame
from rlsp_tf.media.open import open_sink, open_source
from rlsp_tf.media.pixel_formats import rgb_from_planes
from rlsp_tf.system.progress import ProgressBar


def degrade_path(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    scale: int = 4,
    degradation: Degradation = PAPER,
    force: bool = False,
    progress: bool = False,
    tick: Callable[[], object] = lambda: None,
) -> list[str]:
    """Degrades a video file or a folder of images, and loses nothing else.

    Video is converted to RGB of 8 bits (16 bits if it has more) first, since the paper degrades RGB.
    Frames keep their names or time stamps. ``target`` appears when it is complete.

    Args:
        source: a video file, a folder of images, or an image.
        target: the folder of PNG files, or the video file (by its suffix) of lossless RGB, to write.
        scale: integer factor of the degradation, at least 1.
        degradation: how low resolution is made. Of a degradation with several ways, one is drawn.
        force: replace a target that exists.
        progress: show on standard error how far it is.
        tick: called for every frame.

    Returns:
        Sentences about what was assumed or left out.

    Raises:
        RLSPError: if ``source`` cannot be read or ``target`` cannot be written.
        ValueError: if ``scale`` is below 1.
    """
    recipe = degradation.draw(np.random.default_rng(0))
    with open_source(source) as frames:
        sink = open_sink(
            target,
            frames,
            width=-(-frames.width // scale),
            height=-(-frames.height // scale),
            encoder=EncoderOptions("libx264rgb", crf=0),
            force=force,
        )
        bar = ProgressBar(frames, total=frames.frames, unit="frames", desc=os.fspath(target), show=progress)
        stream = DegradingStream(recipe, scale)
        waiting: deque[Frame] = deque()  # a codec gives a frame some time after it got it

        def write(ready: list[np.ndarray]) -> None:
            for lr in ready:
                sink.write(replace(waiting.popleft(), planes=(lr,)))

        with sink, bar:
            for frame in bar:
                tick()
                rgb = frame.planes[0]
                if frames.color is not None:
                    rgb = rgb_from_planes(frame.planes, frames.color)
                waiting.append(replace(frame, planes=(), alpha=None))
                write(stream.push(rgb))
            write(stream.flush())
        if frames.transparent and sink.transparent:
            frames.notes.append(f"{frames.path}: transparency was dropped.")
        return [*frames.notes, *sink.notes]
