"""Writes a moment of a clip, before and after upscaling, as a picture or a short video: ``rlsp preview``."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, takewhile
from pathlib import Path

from rlsp_tf.errors import UsageError
from rlsp_tf.evaluation.side_by_side import ZOOM, Canvas, region_of_difference
from rlsp_tf.inference.step import Step
from rlsp_tf.media.frames import FrameSink, FrameSource
from rlsp_tf.media.images import ImageSink, is_image
from rlsp_tf.media.video_writer import VIDEO_FORMATS, VideoSink
from rlsp_tf.system.files import check_apart, check_target
from rlsp_tf.system.progress import ProgressBar
from rlsp_tf.upscaling.preview import Moment, preview_frames


def default_target(source: str | os.PathLike[str], seconds: float | None) -> Path:
    """Returns the name of a preview in the current folder, such as ``holiday-preview.png``."""
    path = Path(source).resolve()
    name = path.name if path.is_dir() else path.stem
    return Path(f"{name}-preview{'.png' if seconds is None else '.mp4'}")


def write_preview(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    step: Step,
    *,
    at: float | None = None,
    seconds: float | None = None,
    force: bool = False,
    progress: bool = False,
    tick: Callable[[], object] = lambda: None,
) -> tuple[float, list[str]]:
    """Shows a moment before and after upscaling side by side, and magnifies the region that differs most.

    Args:
        source: a video, a folder of images, or an image.
        target: the PNG or, with ``seconds``, the video to write.
        step: the network.
        at: seconds since the beginning of the clip, see :func:`rlsp_tf.upscaling.preview.preview_frame`.
        seconds: length of the video; ``None`` for a picture.
        force: whether to replace an existing file.
        progress: whether to show on standard error how far it is.
        tick: called for every frame.

    Returns:
        The time of the first frame that is shown, in seconds since the beginning of the clip; and sentences
        for the user about what was assumed or left out.

    Raises:
        RLSPError: if the clip cannot be read, ends before ``at``, or the result cannot be written.
    """
    target = Path(target)
    if seconds is None and target.suffix.lower() != ".png":
        advice = " or add --seconds 3" if target.suffix.lower() in VIDEO_FORMATS else ""
        raise UsageError(f"{target}: one moment goes into a picture; let the name end in .png{advice}.")
    if seconds is not None and is_image(target):
        raise UsageError(f"{target}: --seconds makes a video; let the name end in .mp4, or leave it out.")
    check_target(target, force=force)
    check_apart(target, source)
    with preview_frames(source, step, at=at) as (frames, moments):
        if seconds is not None and frames.frames == 1:
            raise UsageError(f"{source}: has a single frame; leave out --seconds.")
        first = next(moments)
        size = first.after.shape[:2]
        canvas = Canvas(
            size,
            region_of_difference([(first.before, first.after)], size, ZOOM),
            ZOOM,
            ("before (bicubic)", f"after (RLSP {step.config.name})"),
        )
        shown = [first] if seconds is None else _for_seconds(chain([first], moments), first, seconds)
        sink = _sink(target, frames, canvas, force=force)
        total = 1 if seconds is None else round(seconds * float(frames.rate or 1 / frames.time_base))
        with sink, ProgressBar(total=total, desc=str(target), unit="frames", show=progress) as bar:
            for moment in shown:
                pts = (moment.frame.pts or 0) - (first.frame.pts or 0)
                picture = canvas.draw([moment.before, moment.after])
                sink.write(replace(moment.frame, planes=(picture,), pts=pts, name=None, profile=None))
                bar.update()
                tick()
        return first.seconds, [*frames.notes, *sink.notes]


def _sink(target: Path, frames: FrameSource, canvas: Canvas, *, force: bool) -> FrameSink:
    if is_image(target):
        return ImageSink(target, force=force)
    return VideoSink(target, frames, width=canvas.width, height=canvas.height, force=force, companions=False)


def _for_seconds(moments: Iterator[Moment], first: Moment, seconds: float) -> Iterator[Moment]:
    # A little less, so that a frame that begins when the time is over is not shown.
    return takewhile(lambda moment: moment.seconds - first.seconds < seconds - 1e-6, moments)
