"""Reads the frames of a clip that lie near a moment."""

from collections import deque
from collections.abc import Iterator
from itertools import chain

from rlsp_tf.errors import RLSPError, UsageError
from rlsp_tf.media.frames import Frame, FrameSource


def seconds_of(frames: FrameSource) -> float | None:
    """Returns about how long a clip lasts, in seconds; ``None`` if its number of frames is unknown.

    Where frames have no rate, as images, each lasts one unit of ``time_base``.
    """
    return None if frames.frames is None else float(frames.frames / (frames.rate or 1 / frames.time_base))


def frames_near(frames: FrameSource, at: float, run_up: int) -> tuple[list[Frame], Iterator[Frame]]:
    """Reads up to a moment, and of a video only what lies near it.

    Args:
        frames: the clip.
        at: seconds since its beginning; a frame without a rate of its own lasts one unit of ``time_base``.
        run_up: number of frames before the moment.

    Returns:
        The frames before the moment and, as the last of them, the one that is shown then; and an iterator
        over the frames that follow.

    Raises:
        RLSPError: if the clip ends before that.
    """
    if at < 0:
        raise UsageError(f"{frames.path}: begins at 0 s, so it has no frame at {at:g} s; give a later time.")
    unit, rate = frames.time_base, frames.rate or 1 / frames.time_base
    wanted = frames.start + round(at / unit)
    # A file may have its key frames elsewhere than it says, so if there is nothing before the moment, go on
    # from an earlier place; in the end from the beginning.
    for earlier in (run_up / rate, run_up / rate + 20, wanted * unit):
        frames.seek(max(frames.start, wanted - round(earlier / unit)))
        before: deque[Frame] = deque(maxlen=run_up + 1)
        following = iter(frames)
        first_after = None
        for frame in following:
            if frame.pts is not None and frame.pts > wanted:
                first_after = frame
                break
            before.append(frame)
        if before:
            break
    if first_after is not None:
        return ([*before], chain([first_after], following)) if before else ([first_after], following)
    if not before:
        raise RLSPError(f"{frames.path}: no frame can be read at {at:g} s; give another time.")
    end = (before[-1].pts or 0) + (before[-1].duration or round(1 / (rate * unit)))
    if end <= wanted:
        length = float((end - frames.start) * unit)
        raise RLSPError(
            f"{frames.path}: lasts {length:.2f} s, so it has no frame at {at:g} s; give an earlier time."
        )
    return [*before], iter(())
