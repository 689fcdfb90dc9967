"""Groups with TensorFlow: each device of the process has a copy of the network; all stay equal."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from rlsp_tf.errors import RLSPError
from rlsp_tf.training.optimizer import KernelMuon
from rlsp_tf.training.workers.group import Group


def local_devices() -> list[str]:
    """Returns the names of all GPUs, or of the CPUs if there are none."""
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in found]


class TensorFlowGroup(Group):
    """Several devices of this process.

    Args:
        devices: names of the devices.
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
            # Variables of Keras are equal in all replicas, but the states of their samples differ.
            raise RLSPError(
                f"--pieces {pieces} needs a single device with TensorFlow, but there are {self.devices}; set "
                "KERAS_BACKEND=jax, or use one device by setting CUDA_VISIBLE_DEVICES."
            )

    def loss(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        # Keras divides a loss by the number of replicas only if it has an axis.
        return lambda truth, output: function(truth, output)[None]

    def optimizer(self, **options: Any) -> Any:
        return JointMuon(**options)


class JointMuon(KernelMuon):
    """Clips the gradients of the whole batch, where Keras would clip those of each replica."""

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        replicas = tf.distribute.get_replica_context()
        grads = replicas.all_reduce(tf.distribute.ReduceOp.SUM, list(grads))
        grads, _ = tf.clip_by_global_norm(grads, self.global_clipnorm)
        # Keras adds up the gradients of the replicas again, which are equal now, and too small to be clipped.
        super().apply([grad / replicas.num_replicas_in_sync for grad in grads], trainable_variables)
