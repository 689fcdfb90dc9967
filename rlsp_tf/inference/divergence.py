"""Notices when the output of a network runs away from the frames that it enlarges."""

import os

import tensorflow as tf

from rlsp_tf.network.cell import luma
from rlsp_tf.network.config import RLSPConfig

LARGEST_DEPARTURE = 32.0
"""Grey levels that an output may be away from its input in the root mean square, where that is flat."""
CONTRASTS = 3.0
"""What it may be away beyond that, in standard deviations of the input: steady weights can be 2.4 away on a
checkerboard of single pixels, the worst of :mod:`rlsp_tf.benchmarks.stability_clips`, and 1.5 on everything
else."""
SEVERAL = 5
"""Frames in succession that have to be far away before it is told."""


def is_far(output: tf.Tensor, rgb: tf.Tensor, config: RLSPConfig) -> bool:
    """Whether the output of a network is too far from its input to show the same.

    Bicubic interpolation passes through the low-resolution pixels, which are every ``scale``-th pixel of the
    output. So they are compared with these, and nothing is interpolated.

    Args:
        output: of the network, ``(1, scale*H, scale*W, C)`` float32.
        rgb: what it has enlarged, ``(1, H, W, 3)`` float32, 0..255.
        config: of the network.

    Returns:
        Also true if the output holds something else than numbers.
    """
    frame = rgb if config.output == "rgb" else luma(rgb)
    difference = output[:, :: config.scale, :: config.scale] - frame
    away = tf.sqrt(tf.reduce_mean(tf.square(difference)))
    # What is not a number is never less.
    return not bool(away <= limit(frame)[0])


def limit(frames: tf.Tensor) -> tf.Tensor:
    """How far an output may be away in the root mean square, in grey levels.

    Args:
        frames: ``(B, H, W, C)`` float32, in luma or RGB, whichever the network gives.

    Returns:
        ``(B,)`` float32.
    """
    centred = frames - tf.reduce_mean(frames, axis=(1, 2), keepdims=True)
    return LARGEST_DEPARTURE + CONTRASTS * tf.sqrt(tf.reduce_mean(tf.square(centred), axis=(1, 2, 3)))


class Watch:
    """Looks at one frame after the other, and says from which on the network has diverged.

    Args:
        since: number of an earlier frame from which on it has diverged, if an earlier run has found that.

    Attributes:
        since: number of the first frame of several in succession that were far away, or ``None``.
    """

    def __init__(self, since: int | None = None) -> None:
        self.since = since
        self._next = self._far = 0

    def look(self, number: int, far: bool) -> None:
        """Takes whether a frame :func:`is_far`.

        Args:
            number: of the frame; one that does not follow the frame before begins a new succession.
            far: as :func:`is_far` says.
        """
        self._far = int(far) if number != self._next else self._far + 1 if far else 0
        self._next = number + 1
        if self._far == SEVERAL:
            self._tell()

    def end(self) -> None:
        """No frame is left: if the last one was far away, none that follows can show that it recovers."""
        if self._far:
            self._tell()

    def _tell(self) -> None:
        if self.since is None:
            self.since = self._next - self._far


def divergence_notes(path: str | os.PathLike[str], since: int | None) -> list[str]:
    """What there is to say to the user.

    Args:
        path: of the clip.
        since: see :class:`Watch`.

    Returns:
        One sentence or none.
    """
    if since is None:
        return []
    return [
        f"{os.fspath(path)}: from frame {since} on (counted from 0) the result is far from the input, which "
        "means that the weights diverge on it; look at it, and use other weights if it shows noise (rlsp "
        "benchmark stability tests them)."
    ]
