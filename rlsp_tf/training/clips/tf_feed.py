"""The tf.data pipeline: the samples of a :class:`ClipSampler`, cut in parallel ahead of the training step."""

import tensorflow as tf

from rlsp_tf.training.clips.mixture import MixedSampler
from rlsp_tf.training.clips.sampler import ClipSampler
from rlsp_tf.training.closing import ClosableSampler

AHEAD = 8
"""Batches kept ready."""


def clip_dataset(
    sampler: ClipSampler | MixedSampler | ClosableSampler,
    start: int,
    stop: int,
    waits: list[float] | None = None,
) -> "tf.data.Dataset":
    """The batches of the steps from ``start`` to ``stop``, in order.

    The same steps give the same batches, wherever it starts, so that a run can go on in the middle.

    Args:
        sampler: decides what is in a batch.
        start, stop: steps, counted from 0.
        waits: gets for every batch the seconds for which whoever asked for it had to wait.

    Returns:
        A dataset of ``(lr, hr)`` as :meth:`rlsp_tf.training.clips.sampler.ClipSampler.samples` gives.
    """

    def load(step: tf.Tensor) -> tuple[tf.Tensor, ...]:
        parts = tf.numpy_function(sampler.samples, [step], (tf.uint8, tf.uint8), stateful=False)
        shapes = ((sampler.batch, *shape) for shape in sampler.shapes)
        return tuple(map(tf.ensure_shape, parts, shapes))

    batches = tf.data.Dataset.range(start, stop)
    batches = batches.map(load, num_parallel_calls=2, deterministic=True).prefetch(AHEAD)
    return batches if waits is None else _timed(batches, waits)


def _timed(batches: "tf.data.Dataset", waits: list[float]) -> "tf.data.Dataset":
    """Looks at the clock before every batch is asked for, as zip asks its parts in order, and after."""
    clock = tf.data.Dataset.counter().map(lambda _: tf.timestamp())

    def record(before: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.control_dependencies([tf.numpy_function(_append, [tf.timestamp() - before], [])]):
            return tuple(tf.identity(part) for part in batch)

    def _append(wait: float) -> None:
        waits.append(float(wait))

    options = tf.data.Options()
    # A buffer behind the clock would ask ahead of the training step, which then waits unseen.
    options.experimental_optimization.inject_prefetch = False
    return tf.data.Dataset.zip(clock, batches).map(record).with_options(options)
