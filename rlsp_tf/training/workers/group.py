"""Several devices and processes that train one network, each on its share of every batch.

A process with several devices uses them all: on JAX through :mod:`rlsp_tf.training.workers.on_jax`, on
    TensorFlow through
:mod:`rlsp_tf.training.workers.on_tensorflow`. Several processes, called workers, are a matter of JAX; they
find each other by the environment variables of ``keras.distribution.initialize``, which are the same for
every Keras program:

=====================================  ===========================================================
``KERAS_DISTRIBUTION_JOB_ADDRESSES``   host and port of worker 0, where the others can reach it
``KERAS_DISTRIBUTION_NUM_PROCESSES``   how many workers there are
``KERAS_DISTRIBUTION_PROCESS_ID``      which one this is, from 0
=====================================  ===========================================================

Variables rather than options, as with ``KERAS_BACKEND``: the command is the same for all workers, and what
starts them on their machines sets variables anyway.
"""

import contextlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rlsp_tf.errors import RLSPError

GONE = (
    "another worker has ended, or never came; start all of them again with --resume, and training goes on "
    "from the last checkpoint."
)


class WorkerGone(RLSPError):
    """The others cannot be reached any more, so that this worker has to end, too."""

    def __init__(self) -> None:
        super().__init__(GONE)


class Group:
    """A process with one device, which has nobody to agree with. Larger groups are derived from it.

    What a method is said to do together has to be called by all workers, in the same order.

    Attributes:
        worker, workers: which one this is, from 0, of how many.
        devices: of all workers together.
        replicas: how many copies of the model a process keeps that each see a part of its batch; 1
            where a single one sees the whole batch, whatever devices it lies on.
    """

    worker = 0
    workers = 1
    devices = 1
    replicas = 1

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Within it, models are made for all devices."""
        yield

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Within it, such models are trained."""
        yield

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Within it, and within :meth:`training`, this worker uses models for itself."""
        yield

    def loss(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """A loss that is one number for a batch, as Keras takes it for all devices."""
        return function

    def adam(self, **options: Any) -> Any:
        """Keras's Adam with these options; ``global_clipnorm`` is of the gradients of the whole batch."""
        import keras

        if keras.backend.backend() == "tensorflow":
            from rlsp_tf.training.fused_adam import FusedAdam

            return FusedAdam(**options)
        return keras.optimizers.Adam(**options)

    def largest(self, number: int) -> int:
        """Together: the largest of all workers' numbers of 32 bits."""
        return number

    def read(self, variables: Sequence[Any]) -> list[np.ndarray]:
        """Together: the values of variables, whole where devices hold a part each."""
        return [variable.numpy() for variable in variables]

    def hand_out(self, variables: Sequence[Any], arrays: Sequence[np.ndarray] | None) -> None:
        """Together: gives variables the values that worker 0 has; the other workers have ``None``."""
        assert arrays is not None
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)

    def leave(self) -> None:
        """Together: parts in good order where all end with an error. Without one that happens by itself."""

    def check_same(self, what: str, text: str) -> None:
        """Together: raises an ``RLSPError`` that names ``what`` unless all workers give the same text."""
        number = zlib.crc32(text.encode()) >> 1
        if self.largest(number) != -self.largest(-number):
            raise RLSPError(f"the workers were given different {what}; give all the same command and clips.")

    def check_batch(self, batch: int, pieces: int) -> None:
        """Raises an ``RLSPError`` unless the devices can share a batch.

        Args:
            batch: samples per step.
            pieces: samples that a sequence has.
        """
        if batch % self.devices:
            raise RLSPError(
                f"--batch {batch} cannot be divided among {self.devices} devices; give a multiple, or show "
                "fewer devices with CUDA_VISIBLE_DEVICES."
            )
