"""A sampler that can be closed, so that no thread calls it while the interpreter shuts down."""

import threading

import numpy as np

from rlsp_tf.training.clips.mixture import MixedSampler
from rlsp_tf.training.clips.sampler import ClipSampler

QUIET = 0.3
"""Seconds without a call after which no more calls are expected. A pipeline prefetches a few batches only."""


class ClosableSampler:
    """A sampler that can wait for its last call.

    If a thread of TensorFlow runs or enters Python code while the interpreter shuts down, the process aborts
    or never ends.

    Args:
        sampler: the sampler that makes the batches.

    Attributes:
        batch: samples per step.
        shapes: shapes of a sample; see :attr:`rlsp_tf.training.clips.sampler.ClipSampler.shapes`.
    """

    def __init__(self, sampler: ClipSampler | MixedSampler) -> None:
        self._sampler = sampler
        self.batch, self.shapes = sampler.batch, sampler.shapes
        self._change = threading.Condition()
        self._running = self._calls = 0
        self._closed = False

    def samples(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the batch of a step, or zeros after :meth:`close`."""
        with self._change:
            self._calls += 1
            if self._closed:
                lr, hr = (np.zeros((self.batch, *shape), np.uint8) for shape in self.shapes)
                return lr, hr
            self._running += 1
        try:
            return self._sampler.samples(step)
        finally:
            with self._change:
                self._running -= 1
                self._change.notify_all()

    def close(self) -> None:
        """Waits until all calls have returned and no more of them arrive."""
        with self._change:
            self._closed = True
            self._change.wait_for(lambda: not self._running)
            calls = -1
            while calls != self._calls:
                calls = self._calls
                self._change.wait(QUIET)
