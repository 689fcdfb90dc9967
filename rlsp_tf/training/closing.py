"""A sampler that ends: threads that ask it ahead of a training may not outlive the interpreter."""

import threading

import numpy as np

from rlsp_tf.training.clips.mixture import MixedSampler
from rlsp_tf.training.clips.sampler import ClipSampler

QUIET = 0.3
"""Seconds without a call after which nobody calls any more. A pipeline has room for some batches only."""


class ClosableSampler:
    """A sampler whose last calls can be waited for.

    A thread of TensorFlow that is in Python, or enters it, while the interpreter shuts down ends the process
    with SIGABRT, or keeps it from ending.

    Args:
        sampler: gives the samples.

    Attributes:
        batch, shapes: those of the sampler.
    """

    def __init__(self, sampler: ClipSampler | MixedSampler) -> None:
        self._sampler = sampler
        self.batch, self.shapes = sampler.batch, sampler.shapes
        self._change = threading.Condition()
        self._running = self._calls = 0
        self._closed = False

    def samples(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of a step; zeros after :meth:`close`."""
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
        """Waits for calls under way, and until there are no more."""
        with self._change:
            self._closed = True
            self._change.wait_for(lambda: not self._running)
            calls = -1
            while calls != self._calls:
                calls = self._calls
                self._change.wait(QUIET)
