"""Keeps training clips in the memory of an accelerator, which cuts the samples itself; for JAX.

The host sends only a few hundred integers per step. Cutting samples on the host and copying them would be
too slow for a fast accelerator.
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
"""Share of the free memory that clips may take. The rest is for training."""


def fits(clips: Sequence[Clip]) -> bool:
    """Whether clips fit into the memory of each device, and their pixels can be counted with 31 bits."""
    device = jax.local_devices()[0]
    stats = device.memory_stats()
    if stats is not None:
        free = stats["bytes_limit"] - stats["bytes_in_use"]
    elif device.platform == "cpu":
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        return False
    pixels = sum(int(np.prod(clip.shape)) for clip in clips)
    copies = len(_devices()) if device.platform == "cpu" else 1  # CPU devices share one memory
    return pixels < 2**31 and 6 * pixels * copies <= SHARE * free


class DeviceClips:
    """The clips of a sampler on the devices of this process, each of which cuts an equal part of a batch.

    Without an active distribution of Keras, only the default device is used.

    Args:
        sampler: decides which samples a batch has.
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
        """Returns the batch of a step on the devices, equal to that of :meth:`ClipSampler.samples`.

        Args:
            step: number of the step, counted from 0.
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
        """Returns the index of a sample's first pixel in each frame, and the strides of rows and columns.

        The first pixel is the same at high and at low resolution, whether the sample is flipped or not.
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
    """Gathers ``(lr, hr)`` from pixels ``(N, 3)``, given ``starts`` ``(B, T)`` and ``strides`` ``(B, 2)``."""

    def gather(pixels: jax.Array, starts: jax.Array, side: int, every: int) -> jax.Array:
        steps = every * jnp.arange(side, dtype=jnp.int32)
        rows, columns = strides[:, :1] * steps, strides[:, 1:] * steps
        grid = rows[:, None, :, None] + columns[:, None, None, :]
        return jnp.take(pixels, starts[:, :, None, None] + grid, axis=0, mode="clip")

    return gather(blurred, starts, crop, scale), gather(
        hr, starts[:, first : first + frames], scale * crop, 1
    )
