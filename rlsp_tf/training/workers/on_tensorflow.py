"""Groups on TensorFlow: the devices of one process, each with a copy of the network, kept the same."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from rlsp_tf.errors import RLSPError
from rlsp_tf.training.workers.group import Group


def local_devices() -> list[str]:
    """The names of all GPUs, or of what else there is to compute on."""
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in found]


class TensorFlowGroup(Group):
    """Several devices of this process.

    Args:
        devices: their names.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        self.devices = self.replicas = len(devices)
        self._strategy = tf.distribute.MirroredStrategy(devices)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        with self._strategy.scope():
            yield

    def check_batch(self, batch: int, pieces: int) -> None:
        super().check_batch(batch, pieces)
        if pieces > 1:
            # Keras's variables are the same in all replicas; the state of their samples is not.
            raise RLSPError(
                f"--pieces {pieces} is for one device on TensorFlow, not {self.devices}; set "
                "KERAS_BACKEND=jax, or show one with CUDA_VISIBLE_DEVICES."
            )

    def loss(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        # Keras divides by the number of replicas only what has an axis.
        return lambda truth, output: function(truth, output)[None]

    def adam(self, **options: Any) -> Any:
        return JointAdam(name="adam", **options)


class JointAdam(keras.optimizers.Adam):
    """Clips the gradients of the whole batch: Keras clips those of every replica before it adds them up."""

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        replicas = tf.distribute.get_replica_context()
        grads = replicas.all_reduce(tf.distribute.ReduceOp.SUM, list(grads))
        grads, _ = tf.clip_by_global_norm(grads, self.global_clipnorm)
        # Keras adds up again what is the same in all of them now; smaller, it is not clipped again.
        super().apply([grad / replicas.num_replicas_in_sync for grad in grads], trainable_variables)
