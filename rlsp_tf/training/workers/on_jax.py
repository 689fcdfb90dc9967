"""Groups on JAX: one program over the devices of all workers, each of which has a part of the batch.

XLA divides what is computed among the devices and adds up gradients where they are needed, so a step of
the group is the step of one device with the whole batch, but for the order of sums.
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
"""Words by which errors are known that come from between the workers."""


def meet() -> None:
    """Waits for the other workers, by the variables that :mod:`rlsp_tf.training.workers.group` describes.

    Raises:
        WorkerGone: if one has not come after five minutes.
    """
    with _watched():
        keras.distribution.initialize()


class JaxGroup(Group):
    """All devices of all workers that have met."""

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
        # Else the first to end takes the engine with it while others still say why they end.
        with _watched():
            jax.distributed.shutdown()

    @staticmethod
    def _whole(array: jax.Array) -> np.ndarray:
        if array.is_fully_addressable or array.is_fully_replicated:
            return np.asarray(array)
        return multihost_utils.process_allgather(array, tiled=True)


class _Parallel(keras.distribution.DataParallel):
    """Also divides what is carried from piece to piece, which otherwise would be gathered in every step."""

    def get_variable_layout(self, variable: Any) -> Any:
        if variable.path in ("rlsp/hidden", "rlsp/feedback"):
            return self.get_data_layout(variable.shape)
        return super().get_variable_layout(variable)


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """Tells that a worker is gone from errors of other kinds."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        found: BaseException | None = error
        while found is not None:
            if any(word in str(found).lower() for word in ENGINE):
                raise WorkerGone from error
            found = found.__context__  # putting things right after it may have failed, too
        raise
