"""Keeps samples in the memory of an accelerator, which takes each of them several times; for JAX.

A fast accelerator trains on more samples than the processors beside it can render and encode meanwhile.
"""

import time
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rlsp_tf.training.clips.mixture import MixedSampler
from rlsp_tf.training.clips.rendering import SLACK
from rlsp_tf.training.clips.sampler import ClipSampler

POOL = 2048
"""Number of samples in the pool, or one batch if that is more."""


class SamplePool:
    """Draws batches from the latest samples, and turns and mirrors each sample in its own way.

    As with a sampler, a batch depends on nothing but seed and step: a batch of new samples replaces the
    oldest one after every ``reuse`` steps, and training waits for it if it is not ready.

    Args:
        sampler: the sampler that makes the samples, higher and wider than those of a
            batch by ``SLACK``.
        rendered: the sampler's batches from number ``start // reuse`` on; see
            :func:`rlsp_tf.training.clips.rendering.rendered`.
        start: step of the first batch, counted from 0.
        reuse: number of batches that a sample is part of, on average.
        waits: list to which the seconds are appended that each batch waited for new samples.
    """

    def __init__(
        self,
        sampler: ClipSampler | MixedSampler,
        rendered: Iterator[tuple[np.ndarray, np.ndarray]],
        start: int,
        *,
        reuse: int,
        waits: list[float],
    ) -> None:
        self._rendered, self._reuse, self._waits = rendered, reuse, waits
        self._batch, self._seed, self._scale = sampler.batch, sampler.seed, sampler.scale
        self._crop = sampler.shapes[0][1] - SLACK
        self._count = max(1, POOL // sampler.batch)
        shapes = [(self._count * sampler.batch, *shape) for shape in sampler.shapes]
        self._pixels = [jnp.zeros(shape, jnp.uint8) for shape in shapes]
        self._entered = start // reuse  # number of the batch that enters next
        self._filled = False

    def samples(self, step: int) -> tuple[jax.Array, jax.Array]:
        """Returns the batch of a step on the device; steps have to be requested in order.

        Args:
            step: number of the step, counted from 0.

        Returns:
            ``(lr, hr)`` as :meth:`rlsp_tf.training.clips.sampler.ClipSampler.samples`.
        """
        began = time.monotonic()
        # Before step 0, batches 0 to count - 1 have entered.
        while self._entered < step // self._reuse + self._count:
            self._enter()
        self._waits.append(time.monotonic() - began)
        rng = np.random.Generator(np.random.Philox(key=[self._seed, step], counter=[0, 0, 0, 2**32]))
        indices = rng.choice(len(self._pixels[0]), self._batch, replace=False)
        flips, first = rng.integers(2, size=(2, self._batch, 2))
        turns = rng.integers(2, size=self._batch).astype(bool)
        return _draw(*self._pixels, indices, flips, first, turns, crop=self._crop, scale=self._scale)

    def _enter(self) -> None:
        """Lets the next batch of new samples take the place of the oldest one."""
        place = self._entered % self._count * self._batch
        self._pixels = [
            _replace(pixels, new, place)
            for pixels, new in zip(self._pixels, next(self._rendered), strict=True)
        ]
        self._entered += 1


@partial(jax.jit, donate_argnums=0)
def _replace(pixels: jax.Array, new: jax.Array, place: int) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(pixels, new, place, 0)


@partial(jax.jit, static_argnames=("crop", "scale"))
def _draw(
    lr: jax.Array,
    hr: jax.Array,
    indices: jax.Array,
    flips: jax.Array,
    first: jax.Array,
    turns: jax.Array,
    *,
    crop: int,
    scale: int,
) -> tuple[jax.Array, jax.Array]:
    """Takes samples, and mirrors and transposes them.

    Args:
        lr, hr: the pool, ``(N, T, ...)``.
        indices: which samples, int ``(B,)``.
        flips: 1 for samples that are flipped ``(vertically, horizontally)``, otherwise 0; int ``(B, 2)``.
        first: first low-resolution row and column, or the one before it for flipped samples; int ``(B, 2)``.
        turns: which samples are transposed after flipping, bool ``(B,)``.
        crop: height and width of the result in low-resolution pixels.
        scale: upscaling factor.
    """

    def take(pixels: jax.Array, scale: int) -> jax.Array:
        along = jnp.arange(scale * crop)
        forward = scale * first[:, :, None] + along
        backward = scale * (first[:, :, None] + crop) - along
        rows, columns = jnp.moveaxis(jnp.where(flips[:, :, None] == 1, backward, forward), 1, 0)
        turned = turns[:, None, None]
        y = jnp.where(turned, rows[:, None, :], rows[:, :, None])
        x = jnp.where(turned, columns[:, :, None], columns[:, None, :])
        times = jnp.arange(pixels.shape[1])[:, None, None]
        return pixels[indices[:, None, None, None], times, y[:, None], x[:, None]]

    return take(lr, 1), take(hr, scale)
