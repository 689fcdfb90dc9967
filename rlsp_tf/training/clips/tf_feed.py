"""The tf.data pipeline, which makes samples in parallel ahead of the training step."""

import tensorflow as tf

from rlsp_tf.training.clips.mixture import MixedSampler
from rlsp_tf.training.clips.sampler import ClipSampler
from rlsp_tf.training.closing import ClosableSampler

AHEAD = 8
"""Number of batches that are prefetched."""


def clip_dataset(
    sampler: ClipSampler | MixedSampler | ClosableSampler,
    start: int,
    stop: int,
    waits: list[float] | None = None,
) -> "tf.data.Dataset":
    """Returns the batches of some steps, in order.

    The batch of a step does not depend on where the dataset starts, so a run can be resumed at any step.

    Args:
        sampler: makes the batches.
        start, stop: first step, and the step after the last; counted from 0.
        waits: list to which the seconds that training waited for each batch are appended.

    Returns:
        A dataset of ``(lr, hr)``; see :meth:`rlsp_tf.training.clips.sampler.ClipSampler.samples`.
    """

    def load(step: tf.Tensor) -> tuple[tf.Tensor, ...]:
        parts = tf.numpy_function(sampler.samples, [step], (tf.uint8, tf.uint8), stateful=False)
        shapes = ((sampler.batch, *shape) for shape in sampler.shapes)
        return tuple(map(tf.ensure_shape, parts, shapes))

    batches = tf.data.Dataset.range(start, stop)
    batches = batches.map(load, num_parallel_calls=2, deterministic=True).prefetch(AHEAD)
    return batches if waits is None else _timed(batches, waits)


def _timed(batches: "tf.data.Dataset", waits: list[float]) -> "tf.data.Dataset":
    """Records the time before and after each request for a batch; zip requests its parts in order."""
    clock = tf.data.Dataset.counter().map(lambda _: tf.timestamp())

    def record(before: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.control_dependencies([tf.numpy_function(_append, [tf.timestamp() - before], [])]):
            return tuple(tf.identity(part) for part in batch)

    def _append(wait: float) -> None:
        waits.append(float(wait))

    options = tf.data.Options()
    # A buffer after the clock would request batches early and hide that the training step waits.
    options.experimental_optimization.inject_prefetch = False
    return tf.data.Dataset.zip(clock, batches).map(record).with_options(options)
