"""Looks at a moment of a clip before and after upscaling, without computing what comes before it.

The network carries a state from frame to frame, so a few frames before the moment are computed, too. The
result is nearly that of a whole run, and exactly that if a shot begins within these frames.
"""

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import psutil

from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.step import KerasStep, Step
from rlsp_tf.inference.strips import within_memory
from rlsp_tf.inference.transparency import filled_under
from rlsp_tf.inference.upscaler import DeferredFrame, StreamingUpscaler
from rlsp_tf.media.frames import Frame, FrameSource
from rlsp_tf.media.interval import Interval, clock_time
from rlsp_tf.media.open import VideoSource, open_source
from rlsp_tf.media.pixel_formats import eight_bit_rgb, rgb_from_planes
from rlsp_tf.media.shots import AROUND, detect_shots
from rlsp_tf.pixels.resample import enlarge
from rlsp_tf.upscaling.upscale import WARM_START

RUN_UP = 4
"""Frames before the moment that are computed, too, after a warm start. With the weights that come with
rlsp, the difference from a whole run is at least 63 dB; 8 frames add 1 dB for a fifth more time."""
LOOK_BACK = 4 * AROUND
"""Frames before these in which cuts are looked for, since one is not found right at the beginning."""
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
    source: str | os.PathLike[str], model: keras.Model | Step, *, at: float | Fraction | None = None
) -> Moment:
    """Upscales one frame of a clip, with a few frames before it that warm up the state of the network.

    Only what lies near the frame is decoded.

    Args:
        source: a video, a folder of images, or an image.
        model: the network, see :class:`rlsp_tf.StreamingUpscaler`.
        at: seconds since the beginning of the clip, as a player counts them; images are shown for 1/25 s
            each. By default a third of the clip, or a later place if there is nothing to see there.

    Raises:
        RLSPError: if the clip cannot be read, or ends before ``at``.
    """
    with preview_frames(source, model, at=at) as (_, moments):
        return next(moments)


@contextmanager
def preview_frames(
    source: str | os.PathLike[str], model: keras.Model | Step, *, at: float | Fraction | None = None
) -> Iterator[tuple[FrameSource, Iterator[Moment]]]:
    """Upscales the frames of a clip from a moment on. Use it as a context manager, which closes the clip.

    Args:
        source, model, at: see :func:`preview_frame`.

    Yields:
        The clip, and an iterator over its frames, from the one that is shown at ``at`` to the last.

    Raises:
        RLSPError: as :func:`preview_frame` does.
    """
    step = KerasStep(model) if isinstance(model, keras.Model) else model
    with ExitStack() as stack:
        approach = stack.enter_context(_choose(Path(source)) if at is None else _near(Path(source), at))
        memory = psutil.virtual_memory().available / 2
        frames = approach.frames
        step = within_memory(step, frames.height, frames.width, memory, at_once=1 + WARM_START)
        yield frames, _moments(approach, step)


class _Approach(NamedTuple):
    """A clip that was read up to a moment.

    Attributes:
        frames: the clip.
        begins: seconds from the beginning of the clip to the time 0 of its frames.
        before: the frames before the moment and, as the last of them, the one that is shown then.
        following: iterates over the frames that follow.
    """

    frames: FrameSource
    begins: Fraction
    before: list[Frame]
    following: Iterator[Frame]


def _moments(approach: _Approach, step: Step) -> Iterator[Moment]:
    """Upscales the frame that is shown at a moment and all that follow it."""
    frames, _, before, following = approach
    shots = detect_shots(chain(before, following), frames.depth)
    head = [*islice(shots, len(before))]
    # What lies before a cut does not matter.
    begin = max(len(before) - 1 - RUN_UP, *(index for index, (_, begins) in enumerate(head) if begins))
    upscaler = StreamingUpscaler(step, source=frames.color, warm_start=WARM_START)
    waiting: deque[tuple[int, Frame]] = deque()

    def finished(outputs: Iterable[DeferredFrame | None]) -> Iterator[Moment]:
        for output in outputs:
            index, frame = waiting.popleft()
            if index >= len(before) - 1:
                assert output is not None
                yield _moment(approach, frame, output, step.config.scale)

    for index, (frame, begins) in enumerate(chain(head[begin:], shots), begin):
        if begins:
            yield from finished(upscaler.advance(None))
        waiting.append((index, frame))
        planes = frame.planes
        if frame.alpha is not None:
            planes = filled_under(planes, frame.alpha, frames.depth)
        yield from finished(upscaler.advance(upscaler.enter(planes if frames.color else planes[0])))
    yield from finished(upscaler.advance(None))


def _moment(approach: _Approach, frame: Frame, output: DeferredFrame, scale: int) -> Moment:
    frames = approach.frames
    rgb = rgb_from_planes(frame.planes, frames.color) if frames.color else frame.planes[0]
    deep = 257 if rgb.dtype == np.uint16 else 1
    return Moment(
        before=enlarge(rgb / deep, scale),
        after=eight_bit_rgb((output(),), None),
        seconds=float(approach.begins + (frame.pts or 0) * frames.time_base),
        frame=replace(frame, planes=(), alpha=None),
        notes=tuple(frames.notes),
    )


@contextmanager
def _choose(source: Path) -> Iterator[_Approach]:
    """Goes to the first of ``PLACES`` at which there is something to see; to the last if there is none."""
    with open_source(source) as frames:
        length = (frames.frames or 0) / (frames.rate or 1 / frames.time_base)
    # A file may be shorter than it says; there is a frame at 0 in any case.
    for place in (*PLACES, 0):
        with ExitStack() as stack:
            try:
                approach = stack.enter_context(_near(source, place * length))
            except RLSPError:
                if not place:
                    raise
                continue
            shown = approach.before[-1].planes[0]
            if np.std(shown) / (2**approach.frames.depth - 1) > FLAT or place not in PLACES[:-1]:
                yield approach
                return


@contextmanager
def _near(source: Path, at: float | Fraction) -> Iterator[_Approach]:
    """Reads a clip up to a moment, from ``LOOK_BACK`` and ``RUN_UP`` frames before it on.

    Args:
        source: the clip.
        at: seconds since its beginning.

    Raises:
        RLSPError: if the clip ends before that.
    """
    with open_source(source) as frames:
        rate = frames.rate or 1 / frames.time_base
        first = next(iter(frames))
    # Seconds are rounded, and a frame is shown from its own time on.
    at = Fraction(at) + Fraction(1, 10**6)
    # A frame more, since only frames that begin later than an interval belong to it.
    ahead = LOOK_BACK + RUN_UP + 1
    start = max(Fraction(0), at - ahead / rate)
    with ExitStack() as stack:
        try:
            frames = stack.enter_context(open_source(source, interval=Interval(start)))
        except RLSPError as error:
            raise RLSPError(
                f"{source}: has no frame at {clock_time(at)}, since it ends before; give an earlier time."
            ) from error
        begins = -(first.pts or 0) * frames.time_base
        if isinstance(frames, VideoSource):
            begins += frames.begins or 0
        else:
            begins = math.ceil(start * rate) / rate
        before: deque[Frame] = deque(maxlen=ahead)
        following = iter(frames)
        for frame in following:
            if before and begins + (frame.pts or 0) * frames.time_base > at:
                following = chain([frame], following)
                break
            before.append(frame)
        else:
            last = before[-1]
            lasts = last.duration * frames.time_base if last.duration else 1 / rate
            end = begins + (last.pts or 0) * frames.time_base + lasts
            if end <= at:
                raise RLSPError(
                    f"{source}: lasts until {clock_time(end)}, so it has no frame at {clock_time(at)}; give "
                    "an earlier time."
                )
        yield _Approach(frames, begins, [*before], following)
