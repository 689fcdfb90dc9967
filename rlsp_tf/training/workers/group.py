"""Several devices and processes that train one network, each on its share of every batch.

A process trains on all of its devices: with JAX through :mod:`rlsp_tf.training.workers.on_jax`, with
TensorFlow through :mod:`rlsp_tf.training.workers.on_tensorflow`. Several processes, called workers, need JAX.
They find each other by the environment variables of ``keras.distribution.initialize``:

=====================================  ===========================================================
``KERAS_DISTRIBUTION_JOB_ADDRESSES``   host and port at which the others reach worker 0
``KERAS_DISTRIBUTION_NUM_PROCESSES``   number of workers
``KERAS_DISTRIBUTION_PROCESS_ID``      number of this worker, counted from 0
=====================================  ===========================================================

These are variables rather than options, like ``KERAS_BACKEND``, so the command is the same for all workers.
"""

import contextlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rlsp_tf.errors import RLSPError

GONE = (
    "another worker has ended or did not connect; start all of them again with --resume to continue from "
    "the last checkpoint."
)


class WorkerGone(RLSPError):
    """Another worker cannot be reached, so this one has to end, too."""

    def __init__(self) -> None:
        super().__init__(GONE)


class Group:
    """A single process with a single device, and the base class of larger groups.

    Collective methods have to be called by all workers, in the same order.

    Attributes:
        worker: number of this worker, counted from 0.
        workers: number of workers.
        devices: number of devices of all workers.
        replicas: number of copies of the model in a process, each of which sees a part of the batch; 1 if
            a single model, on one or several devices, sees the whole batch.
    """

    worker = 0
    workers = 1
    devices = 1
    replicas = 1

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Builds models for all devices within the block."""
        yield

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Trains such models within the block."""
        yield

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Lets this worker use models by itself in a block within :meth:`training`."""
        yield

    def loss(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Adapts a loss that returns one number for a batch to the devices of the group."""
        return function

    def optimizer(self, **options: Any) -> Any:
        """Makes a :class:`rlsp_tf.training.optimizer.KernelMuon`.

        Args:
            options: its arguments; ``global_clipnorm`` applies to the gradients of the whole batch.
        """
        from rlsp_tf.training.optimizer import KernelMuon

        return KernelMuon(**options)

    def largest(self, number: int) -> int:
        """Collective: returns the largest of the workers' numbers, which have 32 bits."""
        return number

    def read(self, variables: Sequence[Any]) -> list[np.ndarray]:
        """Collective: returns the values of variables, put together if each device holds a part."""
        return [variable.numpy() for variable in variables]

    def hand_out(self, variables: Sequence[Any], arrays: Sequence[np.ndarray] | None) -> None:
        """Collective: sets variables to the arrays of worker 0; the other workers pass ``None``."""
        assert arrays is not None
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)

    def leave(self) -> None:
        """Collective: disconnects the workers before all of them end with an error."""

    def check_same(self, what: str, text: str) -> None:
        """Collective: raises an ``RLSPError`` that names ``what`` unless all workers pass the same text."""
        number = zlib.crc32(text.encode()) >> 1
        if self.largest(number) != -self.largest(-number):
            raise RLSPError(
                f"the workers have different {what}; give all of them the same command and clips."
            )

    def check_batch(self, batch: int, pieces: int) -> None:
        """Raises an ``RLSPError`` unless a batch can be divided among the devices.

        Args:
            batch: samples per step.
            pieces: number of samples in a sequence.
        """
        if batch % self.devices:
            raise RLSPError(
                f"--batch {batch} cannot be divided among {self.devices} devices; give a multiple of "
                f"{self.devices}, or use fewer devices by setting CUDA_VISIBLE_DEVICES."
            )
