"""Frames that repeat the one before to the bit, so that nothing has to be computed for them.

Animation is drawn for every second or third frame, slides and recordings of screens stand still, and films
are brought to higher frame rates by showing frames again. An encoder that skips what has not changed gives
such frames back without any difference.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from rlsp_tf.media.frames import Frame

STILL = 8
"""From so many equal frames on a picture stands still: nothing waits for the picture after it any more."""


def mark_repeats(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Takes the pixels away from frames that are equal to the frame before.

    Args:
        frames: the frames of a clip.

    Yields:
        The frames. Those that repeat the one before have no ``planes`` and no ``alpha``; times, name and
        profile are their own.
    """
    last: Frame | None = None
    for frame in frames:
        if last is not None and _look_alike(last, frame):
            yield replace(frame, planes=(), alpha=None)
        else:
            yield frame
            last = frame


def _look_alike(one: Frame, other: Frame) -> bool:
    if (one.alpha is None) != (other.alpha is None) or len(one.planes) != len(other.planes):
        return False
    pairs = [*zip(one.planes, other.planes, strict=True)]
    if one.alpha is not None and other.alpha is not None:
        pairs.append((one.alpha, other.alpha))
    # Most frames differ, and most of these in the middle row already.
    return all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs) and all(
        np.array_equal(a[len(a) // 2], b[len(b) // 2]) and np.array_equal(a, b) for a, b in pairs
    )
