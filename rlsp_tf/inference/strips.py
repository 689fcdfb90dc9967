"""Computes large frames in strips of rows, so that a step takes less memory.

A pixel of the output depends on inputs at most ``layers`` low-resolution pixels away, since ``layers``
convolutions of 3x3 lie between them. A strip of rows that is computed together with ``layers`` more rows on
either side is therefore the same as in the whole frame. The state is kept for whole frames, and every strip
reads its surroundings from there, so strips equal whole frames after any number of steps: there are no
seams.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.backend import dtype_of, to_array, to_tensor
from rlsp_tf.inference.step import Step, StepWrapper
from rlsp_tf.network.config import RLSPConfig

BASE = 0.7e9
"""Bytes that Python and TensorFlow take before the first frame."""
PER_PIXEL = 1000
"""Bytes per low-resolution pixel at scale 4 outside the network: waiting frames, chroma, and an encoder
without lookahead. Measured with frames of 1920x1080 that become 7680x4320."""


class StripStep(StepWrapper):
    """A step that is computed strip by strip.

    The results are those of the step itself, except that a convolution may sum in another order.

    Args:
        step: the :class:`rlsp_tf.inference.step.Step` that computes each strip.
        rows: int, largest height of a strip in low-resolution rows, as for :func:`strips`.
    """

    def __init__(self, step: Step, rows: int) -> None:
        super().__init__(step)
        self.rows = rows

    def initial_state(self, batch: int, height: int, width: int) -> Any:
        small = self._step.initial_state(batch, 1, 1)
        return [np.zeros((batch, height, width, each.shape[-1]), dtype_of(each)) for each in small]

    def __call__(self, window: Sequence[Any], state: Any) -> tuple[Any, Any]:
        """Computes one frame, as :class:`rlsp_tf.inference.step.Step` says. Overwrites the state in place."""
        batch, height, width, _ = window[0].shape
        scale, reach = self.config.scale, self.config.layers
        frame = np.empty((batch, scale * height, scale * width, self.config.output_channels), np.float32)
        above = [each[:, :0] for each in state]
        for top, bottom in strips(height, self.rows, reach):
            first, last = top - above[0].shape[1], min(height, bottom + reach)
            around = [
                to_tensor(np.concatenate([kept, each[:, top:last]], axis=1))
                for kept, each in zip(above, state, strict=True)
            ]
            # The next strip needs these rows of the old state, which are overwritten below.
            above = [each[:, bottom - reach : bottom].copy() for each in state]
            output, following = self._step([each[:, first:last] for each in window], around)
            inner = slice(scale * (top - first), scale * (bottom - first))
            frame[:, scale * top : scale * bottom] = to_array(output)[:, inner]
            for target, each in zip(state, following, strict=True):
                target[:, top:bottom] = to_array(each)[:, top - first : bottom - first]
        return to_tensor(frame), state


def strips(height: int, rows: int, reach: int) -> list[tuple[int, int]]:
    """Divides a frame into strips of about the same height.

    Args:
        height: int, height of the frame in rows.
        rows: int, largest height of a strip. ``reach`` goes first where the two contradict each other.
        reach: int, smallest height of a strip, unless the frame itself is lower.

    Returns:
        The strips as ``(top, bottom)``, bottom excluded, from the top of the frame to its end.
    """
    count = max(1, min(-(-height // rows), height // reach))
    edges = [height * index // count for index in range(count + 1)]
    return list(itertools.pairwise(edges))


def within_memory(step: Step, height: int, width: int, memory: float, *, at_once: int = 1) -> Step:
    """Returns the step itself if it fits into memory, or else one in strips as high as fit.

    Args:
        step: the :class:`rlsp_tf.inference.step.Step` to run.
        height: int, height of the low-resolution frames.
        width: int, width of the low-resolution frames.
        memory: float, bytes that the whole process may use.
        at_once: int, number of output frames that are held at a time.

    Raises:
        RLSPError: if even the lowest strips do not fit.
    """
    config, pixels = step.config, height * width
    held = PER_PIXEL * (config.scale / 4) ** 2 + (at_once - 1) * 4 * config.feedback_channels
    left = memory - BASE - pixels * held
    row = _bytes_of_convolutions(config, step.itemsize) * width
    whole = pixels * _bytes_of_state(config, step.itemsize)
    if 2 * whole + row * height <= left:
        return step
    # The end of a segment keeps a copy of the state, when the convolutions of a whole frame are done.
    whole += pixels * (_bytes_of_state(config, step.itemsize) - 4 * config.feedback_channels)
    rows = int((left - whole) / row) - 2 * config.layers
    if rows < config.layers:
        need = memory - left + whole + 3 * config.layers * row
        raise RLSPError(
            f"frames of {width}x{height} take {need / 1e9:.1f} GB, more than the {memory / 1e9:.1f} GB "
            "that may be used; give more by --memory, or make the frames smaller."
        )
    return StripStep(step, rows)


def _bytes_of_convolutions(config: RLSPConfig, itemsize: int) -> int:
    """Returns the bytes per low-resolution pixel of the first input and of a layer's input and output."""
    return itemsize * (config.input_channels + 2 * config.filters) + 4 * 3 * config.window


def _bytes_of_state(config: RLSPConfig, itemsize: int) -> int:
    """Returns the bytes per low-resolution pixel of hidden state, feedback and output frame."""
    return itemsize * config.hidden_channels + 2 * 4 * config.feedback_channels
