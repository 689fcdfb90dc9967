"""Large frames in strips, so that a step takes less memory.

A step reads its input no further than ``layers`` low-resolution pixels away: that many convolutions of 3x3
lie between them. So a strip of rows that is computed together with ``layers`` rows more on either side is
what the whole frame gives. The state is kept for whole frames and every strip reads its surroundings from
there, so strips agree with whole frames after any number of steps, however far the receptive field has grown
in time: there is no seam that could show.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.step import Step, StepWrapper
from rlsp_tf.network.config import RLSPConfig

BASE = 0.7e9
"""Bytes of a process that has not seen a frame: Python and TensorFlow."""
PER_PIXEL = 1000
"""Bytes per low-resolution pixel around the network at scale 4: frames that wait, chroma, and an encoder
without lookahead; measured with frames of 1920x1080 that become 7680x4320."""


class StripStep(StepWrapper):
    """A step that is computed strip by strip.

    The same numbers as the step itself, but for the order in which a convolution may sum.

    Args:
        step: what to compute with.
        rows: of a strip, at low resolution; see :func:`strips`.
    """

    def __init__(self, step: Step, rows: int) -> None:
        super().__init__(step)
        self.rows = rows

    def initial_state(self, batch: int, height: int, width: int) -> Any:
        small = self._step.initial_state(batch, 1, 1)
        return [np.zeros((batch, height, width, each.shape[-1]), each.dtype.as_numpy_dtype) for each in small]

    def __call__(self, window: Sequence[tf.Tensor], state: Any) -> tuple[tf.Tensor, Any]:
        """One step; see :class:`rlsp_tf.inference.step.Step`. The state is overwritten with the next."""
        batch, height, width, _ = window[0].shape
        scale, reach = self.config.scale, self.config.layers
        frame = np.empty((batch, scale * height, scale * width, self.config.output_channels), np.float32)
        above = [each[:, :0] for each in state]
        for top, bottom in strips(height, self.rows, reach):
            first, last = top - above[0].shape[1], min(height, bottom + reach)
            around = [
                tf.concat([kept, each[:, top:last]], axis=1) for kept, each in zip(above, state, strict=True)
            ]
            # What the next strip needs of the state before.
            above = [each[:, bottom - reach : bottom].copy() for each in state]
            output, following = self._step([each[:, first:last] for each in window], around)
            inner = slice(scale * (top - first), scale * (bottom - first))
            frame[:, scale * top : scale * bottom] = np.asarray(output)[:, inner]
            for target, each in zip(state, following, strict=True):
                target[:, top:bottom] = np.asarray(each)[:, top - first : bottom - first]
        return tf.convert_to_tensor(frame), state


def strips(height: int, rows: int, reach: int) -> list[tuple[int, int]]:
    """``(top, bottom)`` of strips that cover a frame, all about as high.

    Args:
        height: of the frame.
        rows: that a strip has at most, but for what ``reach`` asks.
        reach: rows that a strip has at least, if the frame has.
    """
    count = max(1, min(-(-height // rows), height // reach))
    edges = [height * index // count for index in range(count + 1)]
    return list(itertools.pairwise(edges))


def within_memory(step: Step, height: int, width: int, memory: float, *, at_once: int = 1) -> Step:
    """The step itself if upscaling fits into memory with it, or else in strips that are as high as fits.

    Args:
        step: what to compute with.
        height, width: of low-resolution frames.
        memory: bytes for the whole process.
        at_once: frames of the network that are held at a time.

    Raises:
        RLSPError: if even low strips do not fit.
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
    """Per low-resolution pixel: the first layer's input, what a layer reads and what it writes."""
    return itemsize * (config.input_channels + 2 * config.filters) + 4 * 3 * config.window


def _bytes_of_state(config: RLSPConfig, itemsize: int) -> int:
    """Per low-resolution pixel: hidden state, feedback, and the frame made of it."""
    return itemsize * config.hidden_channels + 2 * 4 * config.feedback_channels
