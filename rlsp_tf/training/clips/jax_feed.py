"""Training clips kept in the memory of an accelerator, where samples are cut without the host.

For Keras's JAX backend. Cutting on the host and copying batches over would starve a fast accelerator: it
is sent a few hundred integers a step instead.
"""

import os
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rlsp_tf.training.clips.clip import Clip
from rlsp_tf.training.clips.sampler import ClipSampler, Window

SHARE = 0.5
"""Of the memory that is free, what clips may take; the rest is for training."""


def fits(clips: Sequence[Clip]) -> bool:
    """Whether clips can be kept on each of this process's devices, and their pixels be counted in 31 bits."""
    device = jax.local_devices()[0]
    stats = device.memory_stats()
    if stats is not None:
        free = stats["bytes_limit"] - stats["bytes_in_use"]
    elif device.platform == "cpu":
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        return False
    pixels = sum(int(np.prod(clip.shape)) for clip in clips)
    copies = len(_devices()) if device.platform == "cpu" else 1  # which share one memory
    return pixels < 2**31 and 6 * pixels * copies <= SHARE * free


class DeviceClips:
    """A sampler's clips on the devices of this process, each of which cuts as large a part of a batch.

    Without a distribution of Keras in force, these are the default device alone.

    Args:
        sampler: decides what is in a batch.
    """

    def __init__(self, sampler: ClipSampler) -> None:
        self._sampler = sampler
        clips, devices = sampler.clips, _devices()
        self._first = np.cumsum([0, *(int(np.prod(clip.shape)) for clip in clips)])
        self._sharding = NamedSharding(Mesh(np.array(devices), ("batch",)), PartitionSpec("batch"))
        self._pixels = []
        for kind in ("hr", "blurred"):
            pixels = np.concatenate([getattr(clip, kind).reshape(-1, 3) for clip in clips])
            self._pixels.append([jax.device_put(pixels, device) for device in devices])

    def samples(self, step: int) -> tuple[jax.Array, ...]:
        """The batch of a step on the devices, equal to that of :meth:`ClipSampler.samples`.

        Args:
            step: counted from 0.
        """
        windows = self._sampler.windows(step)
        starts, strides = (np.array(part, np.int32) for part in zip(*map(self._locate, windows), strict=True))
        parts = [
            _cut(
                *pixels,
                *share,
                first=self._sampler.neighbours[0],
                frames=self._sampler.frames,
                crop=self._sampler.crop,
                scale=self._sampler.scale,
            )
            for pixels, *share in zip(
                zip(*self._pixels, strict=True),
                np.split(starts, len(self._pixels[0])),
                np.split(strides, len(self._pixels[0])),
                strict=True,
            )
        ]
        if len(parts) == 1:
            return parts[0]
        return tuple(
            jax.make_array_from_single_device_arrays(
                (len(windows), *part[0].shape[1:]), self._sharding, list(part)
            )
            for part in zip(*parts, strict=True)
        )

    def _locate(self, window: Window) -> tuple[np.ndarray, tuple[int, int]]:
        """Where in the row of all pixels a sample begins, and how far apart its rows and columns are.

        Flipped or not, the first pixel of high and of low resolution is the same.
        """
        _, height, width = self._sampler.clips[window.clip].shape
        last = self._sampler.scale * (self._sampler.crop - 1)
        y, x = (window.offsets + np.multiply(window.flip, last)).T
        starts = self._first[window.clip] + (window.frames * height + y) * width + x
        down, across = (-1 if flip else 1 for flip in window.flip)
        strides = (down * width, across)
        return starts, strides[::-1] if window.transpose else strides


def _devices() -> list[jax.Device]:
    devices = jax.local_devices()
    return devices if keras.distribution.distribution() else devices[:1]


@partial(jax.jit, static_argnames=("first", "frames", "crop", "scale"))
def _cut(
    hr: jax.Array,
    blurred: jax.Array,
    starts: jax.Array,
    strides: jax.Array,
    *,
    first: int,
    frames: int,
    crop: int,
    scale: int,
) -> tuple[jax.Array, jax.Array]:
    """Gathers pixels ``(N, 3)`` from ``starts`` ``(B, T)`` on by ``strides`` ``(B, 2)``: ``(lr, hr)``."""

    def gather(pixels: jax.Array, starts: jax.Array, side: int, every: int) -> jax.Array:
        steps = every * jnp.arange(side, dtype=jnp.int32)
        rows, columns = strides[:, :1] * steps, strides[:, 1:] * steps
        grid = rows[:, None, :, None] + columns[:, None, None, :]
        return jnp.take(pixels, starts[:, :, None, None] + grid, axis=0, mode="clip")

    return gather(blurred, starts, crop, scale), gather(
        hr, starts[:, first : first + frames], scale * crop, 1
    )
