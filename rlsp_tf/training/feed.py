"""Feeds batches to ``fit`` in the form that suits the backend."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import keras

from rlsp_tf.training.clips.mixture import MixedSampler
from rlsp_tf.training.clips.rendering import rendered
from rlsp_tf.training.clips.sampler import ClipSampler
from rlsp_tf.training.closing import ClosableSampler
from rlsp_tf.training.cpu import trains_on_cpu


class ClipSequence(keras.utils.PyDataset):
    """The batches of some steps, for backends other than TensorFlow.

    Args:
        samples: function that returns the batch of a step.
        start, stop: first step, and the step after the last; counted from 0.
        workers: number of threads that prepare batches ahead of training; with 1, batches are made between
            the steps.
    """

    def __init__(self, samples: Callable[[int], Any], start: int, stop: int, *, workers: int) -> None:
        super().__init__(workers=workers, max_queue_size=8)
        self._samples, self._start, self._stop = samples, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self._samples(self._start + index)


@contextlib.contextmanager
def feed(
    sampler: ClipSampler | MixedSampler, start: int, stop: int, waits: list[float], *, reuse: int = 1
) -> Iterator[Any]:
    """Provides the batches of some steps, in order, as an argument for ``fit``.

    The batches are the same with every backend. With TensorFlow they come through tf.data, with JAX from the
    memory of the accelerator if the clips fit there or samples are reused, and otherwise from threads. When
    the block ends, no thread works on batches any more.

    Args:
        sampler: draws the samples.
        start, stop: first step, and the step after the last; counted from 0.
        waits: list to which the seconds that training waited for each batch are appended; with TensorFlow
            or ``reuse`` only.
        reuse: number of steps that a sample is used in, on average; above 1, the backend has to be JAX.

    Yields:
        A dataset.
    """
    if reuse > 1:
        from rlsp_tf.training.clips.jax_pool import SamplePool

        with rendered(sampler, start // reuse) as batches:
            pool = SamplePool(sampler, batches, start, reuse=reuse, waits=waits)
            yield ClipSequence(pool.samples, start, stop, workers=1)
        return
    backend = keras.backend.backend()
    if backend == "jax" and isinstance(sampler, ClipSampler):
        from rlsp_tf.training.clips.jax_feed import DeviceClips, fits

        if fits(sampler.clips):
            # Cutting takes the host no time, so threads would only disturb it.
            yield ClipSequence(DeviceClips(sampler).samples, start, stop, workers=1)
            return
    closable = ClosableSampler(sampler)
    try:
        if backend == "tensorflow":
            from rlsp_tf.training.clips.tf_feed import clip_dataset

            yield clip_dataset(closable, start, stop, waits)
        else:
            # Beside an accelerator, all cores are free for making samples.
            workers = 2 if trains_on_cpu() else os.cpu_count() or 2
            yield ClipSequence(closable.samples, start, stop, workers=workers)
    finally:
        closable.close()
