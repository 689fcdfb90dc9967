"""Looks at a moment of a clip before and after upscaling, without computing what comes before it.

The network carries a state from frame to frame, so a few frames before the moment are computed, too. The
result is nearly that of a whole run, and exactly that if a shot begins within these frames.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import keras
import numpy as np
import psutil

from rlsp_tf.inference.step import KerasStep, Step
from rlsp_tf.inference.strips import within_memory
from rlsp_tf.inference.transparency import filled_under
from rlsp_tf.inference.upscaler import DeferredFrame, StreamingUpscaler
from rlsp_tf.media.frames import Frame, FrameSource
from rlsp_tf.media.open import open_source
from rlsp_tf.media.pixel_formats import rgb_from_planes
from rlsp_tf.media.seek import frames_near, seconds_of
from rlsp_tf.media.shots import detect_shots
from rlsp_tf.pixels.color import eight_bits
from rlsp_tf.pixels.resample import enlarge
from rlsp_tf.upscaling.upscale import WARM_START

RUN_UP = 8
"""Frames before the moment that are computed, too."""
PLACES = (1 / 3, 1 / 2, 2 / 3)
"""Shares of a clip at which a picture that shows something is looked for, if no time is given."""
FLAT = 4 / 255
"""Standard deviation of luma, as a share of its range, below which a picture shows nothing, such as black."""


@dataclass(frozen=True)
class Moment:
    """A frame of a clip, before and after upscaling.

    Attributes:
        before: uint8 RGB ``(scale*H, scale*W, 3)``, enlarged by bicubic interpolation, as players do it.
        after: uint8 RGB of the same size, from the network.
        seconds: time of the frame since the beginning of the clip.
        frame: the frame of the clip, without pixels.
        notes: sentences for the user about the clip.
    """

    before: np.ndarray
    after: np.ndarray
    seconds: float
    frame: Frame
    notes: tuple[str, ...]


def preview_frame(
    source: str | os.PathLike[str], model: keras.Model | Step, *, at: float | None = None
) -> Moment:
    """Upscales one frame of a clip, with a few frames before it that warm up the state of the network.

    Of a video, only what lies near the frame is decoded.

    Args:
        source: a video, a folder of images, or an image.
        model: the network, see :class:`rlsp_tf.StreamingUpscaler`.
        at: seconds since the beginning of the clip, as a player counts them; images are shown for 1/25 s
            each. By default a third of the clip, or a later place if there is nothing to see there.

    Raises:
        RLSPError: if the clip cannot be read, or ends before ``at``.
    """
    with preview_frames(source, model, at=at) as moments:
        return next(moments)


@contextmanager
def preview_frames(
    source: str | os.PathLike[str], model: keras.Model | Step, *, at: float | None = None
) -> Iterator[Iterator[Moment]]:
    """Upscales the frames of a clip from a moment on. Use it as a context manager, which closes the clip.

    Args:
        source, model, at: see :func:`preview_frame`.

    Yields:
        An iterator over the frames, from the one that is shown at ``at`` to the last.

    Raises:
        RLSPError: as :func:`preview_frame` does.
    """
    step = KerasStep(model) if isinstance(model, keras.Model) else model
    with open_source(Path(source)) as frames:
        before, following = _choose(frames) if at is None else frames_near(frames, at, RUN_UP)
        memory = psutil.virtual_memory().available / 2
        step = within_memory(step, frames.height, frames.width, memory, at_once=1 + WARM_START)
        yield _moments(frames, before, following, step)


def _moments(
    frames: FrameSource, before: list[Frame], following: Iterator[Frame], step: Step
) -> Iterator[Moment]:
    """Upscales the last frame of ``before`` and all that follow it."""
    shots = detect_shots(chain(before, following), frames.depth)
    head = [*islice(shots, len(before))]
    # What lies before the cut does not matter.
    begin = max(index for index, (_, begins) in enumerate(head) if begins)
    upscaler = StreamingUpscaler(step, source=frames.color, warm_start=WARM_START)
    waiting: deque[tuple[int, Frame]] = deque()

    def finished(outputs: Iterable[DeferredFrame | None]) -> Iterator[Moment]:
        for output in outputs:
            index, frame = waiting.popleft()
            if index >= len(before) - 1:
                assert output is not None
                yield _moment(frames, frame, output, step.config.scale)

    for index, (frame, begins) in enumerate(chain(head[begin:], shots), begin):
        if begins:
            yield from finished(upscaler.advance(None))
        waiting.append((index, frame))
        planes = frame.planes
        if frame.alpha is not None:
            planes = filled_under(planes, frame.alpha, frames.depth)
        yield from finished(upscaler.advance(upscaler.enter(planes if frames.color else planes[0])))
    yield from finished(upscaler.advance(None))


def _moment(frames: FrameSource, frame: Frame, output: DeferredFrame, scale: int) -> Moment:
    rgb = rgb_from_planes(frame.planes, frames.color) if frames.color else frame.planes[0]
    deep = 257 if rgb.dtype == np.uint16 else 1
    after = output()
    return Moment(
        before=enlarge(rgb / deep, scale),
        after=eight_bits(after / 257) if after.dtype == np.uint16 else after,
        seconds=float(((frame.pts or 0) - frames.start) * frames.time_base),
        frame=replace(frame, planes=(), alpha=None),
        notes=tuple(frames.notes),
    )


def _choose(frames: FrameSource) -> tuple[list[Frame], Iterator[Frame]]:
    """Goes to the first of ``PLACES`` at which there is something to see; the last if there is none."""
    for place in PLACES:
        approach = frames_near(frames, place * (seconds_of(frames) or 0), RUN_UP)
        picture = approach[0][-1].planes[0]
        if np.std(picture) / (2**frames.depth - 1) > FLAT:
            break
    return approach
