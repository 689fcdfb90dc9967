"""Notices when a network diverges: when its output no longer resembles the frames that it enlarges."""

import os
from typing import Any

from keras import ops

from rlsp_tf.network.cell import luma
from rlsp_tf.network.config import RLSPConfig

LARGEST_DEPARTURE = 32.0
"""Largest root mean square difference between an output and a flat input, in grey levels."""
CONTRASTS = 3.0
"""What is added to :data:`LARGEST_DEPARTURE` for inputs that are not flat, in standard deviations of the
input. Weights that do not diverge reach 2.4 on a checkerboard of single pixels, the worst clip of
:mod:`rlsp_tf.benchmarks.stability_clips`, and 1.5 on all others."""
SEVERAL = 5
"""Number of successive frames that must be too far away before the network counts as diverged."""


def is_far(output: Any, rgb: Any, config: RLSPConfig) -> bool:
    """Returns whether the output of a network is too far from its input to show the same picture.

    Every ``scale``-th pixel of the output is compared with the input itself. These are the pixels that
    bicubic interpolation would leave as they are, so nothing has to be interpolated.

    Args:
        output: float32 ``(1, scale*H, scale*W, C)``, the output of the network.
        rgb: float32 ``(1, H, W, 3)``, 0..255, the frame that it enlarges.
        config: the network's :class:`rlsp_tf.RLSPConfig`.

    Returns:
        True if it is too far away, or contains NaN.
    """
    frame = rgb if config.output == "rgb" else luma(rgb)
    difference = output[:, :: config.scale, :: config.scale] - frame
    away = ops.sqrt(ops.mean(ops.square(difference)))
    # Not "away > limit", which is false for NaN.
    return not bool(away <= limit(frame)[0])


def limit(frames: Any) -> Any:
    """Returns the largest root mean square difference that an output may have, in grey levels.

    Args:
        frames: float32 ``(B, H, W, C)``, low-resolution frames in the colour that the network returns: luma
            or RGB.

    Returns:
        Float32 ``(B,)``, one limit for each frame.
    """
    centred = frames - ops.mean(frames, axis=(1, 2), keepdims=True)
    return LARGEST_DEPARTURE + CONTRASTS * ops.sqrt(ops.mean(ops.square(centred), axis=(1, 2, 3)))


class DivergenceWarning(UserWarning):
    """The result no longer resembles the frames that were enlarged, which means that the weights diverge."""


class Watch:
    """Watches one frame after the other and remembers where the network diverged.

    Args:
        since: int, number of the frame at which an earlier run saw the network diverge, or ``None``.

    Attributes:
        since: int, number of the frame at which the network diverged: the first of several successive frames
            that were too far away. ``None`` as long as there are none.
    """

    def __init__(self, since: int | None = None) -> None:
        self.since = since
        self._next = self._far = 0

    def look(self, number: int, far: bool) -> None:
        """Records the next frame.

        Args:
            number: int, number of the frame. If it does not follow the previous one, counting starts anew.
            far: bool, result of :func:`is_far` for this frame.
        """
        self._far = int(far) if number != self._next else self._far + 1 if far else 0
        self._next = number + 1
        if self._far == SEVERAL:
            self._record()

    def end(self) -> None:
        """Ends the clip. A last frame that is too far away counts: no later one can show a recovery."""
        if self._far:
            self._record()

    def _record(self) -> None:
        """Sets ``since`` to the first of the latest frames that were too far away, if it is not set yet."""
        if self.since is None:
            self.since = self._next - self._far


def divergence_notes(path: str | os.PathLike[str], since: int | None) -> list[str]:
    """Returns what to tell the user about divergence.

    Args:
        path: path of the clip.
        since: number of the frame at which the network diverged, as in :class:`Watch`, or ``None``.

    Returns:
        A list of one sentence, empty if the network did not diverge.
    """
    if since is None:
        return []
    return [
        f"{os.fspath(path)}: from frame {since} on (counted from 0) the result is far from the input, which "
        "means that the weights diverge on it; look at it, and use other weights if it shows noise (rlsp "
        "benchmark stability tests them)."
    ]
