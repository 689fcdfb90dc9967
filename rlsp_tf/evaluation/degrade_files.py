"""The degradation of the paper from file to file, for ``rlsp degrade``."""

import os
from dataclasses import replace

from tqdm import tqdm

from rlsp_tf.media.open import open_sink, open_source
from rlsp_tf.media.pixel_formats import rgb_from_planes
from rlsp_tf.pixels.degradation import degrade


def degrade_path(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    scale: int = 4,
    force: bool = False,
    progress: bool = False,
) -> list[str]:
    """Degrades a video file or a folder of images as :func:`degrade` does, losing nothing else.

    Planes of a video become RGB of 8 bits (16 if they have more) first, since that is what the paper
    degrades. Frames keep their names or time stamps. ``target`` appears when it is complete.

    Args:
        source: a video file, a folder of images, or an image.
        target: a folder to be made, of PNG; or a video file (by its suffix), of lossless RGB.
        scale: see :func:`degrade`.
        force: replace a target that exists.
        progress: show a progress bar on standard error.

    Returns:
        Sentences about what was assumed or left out.

    Raises:
        RLSPError: if anything about the files keeps this from being done.
        ValueError: if ``scale`` is below 1.
    """
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
        with sink, bar:
            for frame in bar:
                rgb = frame.planes[0]
                if frames.color is not None:
                    rgb = rgb_from_planes(frame.planes, frames.color)
                sink.write(replace(frame, planes=(degrade(rgb, scale),), alpha=None))
        if frames.transparent and sink.transparent:
            frames.notes.append(f"{frames.path}: transparency was dropped.")
        return [*frames.notes, *sink.notes]
