"""Groups with JAX: one program runs on the devices of all workers, each of which has a part of the batch.

XLA divides the computation among the devices and adds up the gradients, so a step gives the same result as
on a single device with the whole batch, except for the order of sums.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import keras
import numpy as np
from jax.experimental import multihost_utils

from rlsp_tf.training.workers.group import Group, WorkerGone

ENGINE = ("gloo", "nccl", "coordination", "barrier", "heartbeat", "deadline_exceeded", "unavailable")
"""Words in the messages of errors that the connection between workers causes."""


def meet() -> None:
    """Connects to the other workers; see :mod:`rlsp_tf.training.workers.group`.

    Raises:
        WorkerGone: if one of them has not connected after five minutes.
    """
    with _watched():
        keras.distribution.initialize()


class JaxGroup(Group):
    """All devices of all connected workers."""

    def __init__(self) -> None:
        self.worker, self.workers = jax.process_index(), jax.process_count()
        self.devices = jax.device_count()
        self._distribution = _Parallel(auto_shard_dataset=False)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        with _watched(), self._distribution.scope():
            yield

    training = scope

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(self._distribution)

    def largest(self, number: int) -> int:
        with _watched():
            return int(multihost_utils.process_allgather(np.int32(number)).max())

    def read(self, variables: Sequence[Any]) -> list[np.ndarray]:
        with _watched():
            return [self._whole(variable.value) for variable in variables]

    def hand_out(self, variables: Sequence[Any], arrays: Sequence[np.ndarray] | None) -> None:
        if arrays is None:
            arrays = [np.zeros(variable.shape, variable.dtype) for variable in variables]
        with _watched():
            arrays = multihost_utils.broadcast_one_to_all(list(arrays))
            super().hand_out(variables, arrays)

    def leave(self) -> None:
        # Otherwise the first worker to end would abort the others before they have printed their errors.
        with _watched():
            jax.distributed.shutdown()

    @staticmethod
    def _whole(array: jax.Array) -> np.ndarray:
        if array.is_fully_addressable or array.is_fully_replicated:
            return np.asarray(array)
        return multihost_utils.process_allgather(array, tiled=True)


class _Parallel(keras.distribution.DataParallel):
    """Data parallelism that also divides carried states, which would otherwise be gathered at every step."""

    def get_variable_layout(self, variable: Any) -> Any:
        if variable.path in ("rlsp/hidden", "rlsp/feedback"):
            return self.get_data_layout(variable.shape)
        return super().get_variable_layout(variable)


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """Raises ``WorkerGone`` for errors that the connection between workers causes."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        found: BaseException | None = error
        while found is not None:
            if any(word in str(found).lower() for word in ENGINE):
                raise WorkerGone from error
            found = found.__context__  # a cleanup may have failed after it
        raise
