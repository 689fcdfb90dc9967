"""Ways in which low resolution comes about, by name: that of the paper, and those of videos people have."""

import json
import re
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
from scipy.ndimage import gaussian_filter

from rlsp_tf.errors import RLSPError
from rlsp_tf.media.pixel_formats import eight_bit_rgb
from rlsp_tf.media.recompression import WORST_CRF, Codec, CodecName, Recompressor
from rlsp_tf.pixels.degradation import SIGMA, degrade
from rlsp_tf.pixels.resample import cubic_matrix

KERNELS = ("gaussian", "area", "bicubic", "lanczos")
NOISELESS = 0.5
"""Share of noiseless draws, where a degradation has noise."""
GRAINY = 0.5
"""Share of noise that is grain: of luma alone, and smooth over neighbouring pixels."""
PRESETS = ("veryfast", "medium")
KEY_FRAMES = (12, 25, 250)
"""Frames from one key frame to the next, of which one is drawn."""


@dataclass(frozen=True)
class SampledDegradation:
    """One way to make low resolution, everything decided.

    Low-resolution pixel i lies on high-resolution pixel ``scale * i`` for every kernel. A kernel that
    were centred between two pixels would move the picture by half of one against its truth, and a network
    cannot know that it was moved; it would learn to blur.

    Attributes:
        kernel: one of ``KERNELS``, which high resolution is filtered with.
        sigma: standard deviation of the Gaussian, in low-resolution pixels.
        noise: standard deviation of noise, in grey levels.
        grain: whether noise is grain; see ``GRAINY``.
        codec: what encodes the frames last, if anything does.
        seed: seed of the noise.
    """

    kernel: str = "gaussian"
    sigma: float = SIGMA
    noise: float = 0.0
    grain: bool = False
    codec: Codec | None = None
    seed: int = 0

    def __str__(self) -> str:
        parts = [f"Gaussian {self.sigma:.3g}" if self.kernel == "gaussian" else self.kernel]
        if self.noise:
            parts.append(f"{'grain' if self.grain else 'noise'} {self.noise:.1f}")
        return ", ".join([*parts, *([str(self.codec)] if self.codec else [])])

    @property
    def margin(self) -> int:
        """How far, in low-resolution pixels, a pixel depends on high resolution; a codec's reach aside."""
        return int(np.ceil(4 * self.sigma)) if self.kernel == "gaussian" else 3

    def apply(self, frames: np.ndarray, scale: int, *, lead: int = 0) -> np.ndarray:
        """Degrades a clip.

        Args:
            frames: uint8 ``(T, H, W, 3)``.
            scale: how many times smaller the result is.
            lead: frames that the codec has seen before the first one, fewer than T: the clip's own, in
                reverse. So a short clip begins anywhere between two key frames.

        Returns:
            uint8 ``(T, ceil(H / scale), ceil(W / scale), 3)``.
        """
        stream = DegradingStream(self, scale)
        lr = [stream.reduce(frame) for frame in frames]
        coded = [each for frame in (*lr[lead:0:-1], *lr) for each in stream.encode(frame)]
        return np.stack([*coded, *stream.flush()][lead:])


@dataclass(frozen=True)
class Degradation:
    """A named set of ways to make low resolution, of which one is drawn for every clip.

    Attributes:
        name: under which :func:`degradation_named` has it.
        kernels: some of ``KERNELS``.
        sigmas: smallest and largest standard deviation of the Gaussian, in low-resolution pixels.
        noise: largest standard deviation of noise, in grey levels.
        codecs: ``(name, share)`` of codecs that encode the frames last; none leaves frames as they are.
        crf: smallest and largest CRF, on the scale of x264.
        varied: whether the codec's preset and distance of key frames vary; otherwise they are x264's own.
    """

    name: str = "paper"
    kernels: tuple[str, ...] = ("gaussian",)
    sigmas: tuple[float, float] = (SIGMA, SIGMA)
    noise: float = 0.0
    codecs: tuple[tuple[CodecName, float], ...] = ()
    crf: tuple[int, int] = (23, 23)
    varied: bool = False

    def __str__(self) -> str:
        """A sentence without its full stop, for headings."""
        if self == PAPER:
            return "paper: Gaussian blur of 1.5 pixels, every 4th pixel"
        if self == replace(PAPER, name=self.name, codecs=self.codecs[:1], crf=self.crf[:1] * 2):
            return f"{self.name}: as in the paper, then {self.draw(np.random.default_rng(0)).codec}"
        codecs = ", ".join(f"{name} {share:.0%}" for name, share in self.codecs)
        return (
            f"{self.name}: {', '.join(self.kernels)}, Gaussians of {self.sigmas[0]:g} to {self.sigmas[1]:g} "
            f"low-resolution pixels, noise up to {self.noise:g}, {codecs} at CRF {self.crf[0]} to "
            f"{self.crf[1]}"
        )

    def draw(self, rng: np.random.Generator) -> SampledDegradation:
        """One of its recipes."""
        kernel = str(rng.choice(self.kernels))
        sigma = float(rng.uniform(*self.sigmas)) if kernel == "gaussian" else SIGMA
        noise = float(rng.uniform(0, self.noise)) if self.noise and rng.random() >= NOISELESS else 0.0
        grain = bool(noise and rng.random() < GRAINY)
        recipe = SampledDegradation(
            kernel, sigma, noise, grain, seed=int(rng.integers(2**31)) if noise else 0
        )
        if not self.codecs:
            return recipe
        names, shares = zip(*self.codecs, strict=True)
        codec = Codec(
            name=names[rng.choice(len(names), p=np.divide(shares, sum(shares)))],
            crf=int(rng.integers(self.crf[0], self.crf[1] + 1)),
        )
        if self.varied:
            codec = replace(codec, preset=str(rng.choice(PRESETS)), gop=int(rng.choice(KEY_FRAMES)))
        if codec.name == "x265":
            codec = replace(codec, preset="veryfast")  # slower ones take longer than all the rest of a sample
        return replace(recipe, codec=codec)

    def to_dict(self) -> dict[str, Any]:
        """The degradation as JSON has it."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


PAPER = Degradation()
VIDEO = Degradation(
    name="video",
    kernels=KERNELS,
    sigmas=(0.25, 0.55),
    noise=4.0,
    codecs=(("x264", 0.6), ("x265", 0.1), ("vp9", 0.15), ("mpeg4", 0.15)),
    crf=(15, 35),
    varied=True,
)
NAMES = (
    "paper, video, crf0 to crf51, such as crf23, or with another codec x265-crf23, vp9-crf23 or mpeg4-crf23"
)


def degradation_named(name: str) -> Degradation:
    """The degradation of a name.

    Args:
        name: ``"paper"``; ``"video"``, which is varied as the videos are that people have; ``"crf23"`` and
            the like: as in the paper, then encoded by x264 at that CRF with its own preset; or
            ``"vp9-crf23"`` and the like: by another codec, as strongly as x264 at that CRF.

    Raises:
        RLSPError: if there is no such name.
    """
    for known in (PAPER, VIDEO):
        if name == known.name:
            return known
    found = re.fullmatch(r"(?:(x265|vp9|mpeg4)-)?crf(\d{1,2})", name)
    if found is None or int(found[2]) > WORST_CRF:
        raise RLSPError(f"{name}: no degradation of this name; there are {NAMES}.")
    codec, crf = cast(CodecName, found[1] or "x264"), int(found[2])
    name = f"{found[1]}-crf{crf}" if found[1] else f"crf{crf}"
    return replace(PAPER, name=name, codecs=((codec, 1.0),), crf=(crf, crf))


class DegradingStream:
    """Degrades frames one after the other; with a codec they come out some frames later.

    Args:
        recipe: how.
        scale: how many times smaller frames become.
    """

    def __init__(self, recipe: SampledDegradation, scale: int) -> None:
        self._recipe, self._scale = recipe, scale
        self._noise = np.random.default_rng(recipe.seed)
        self._recompressor = Recompressor(recipe.codec) if recipe.codec else None

    def push(self, frame: np.ndarray) -> list[np.ndarray]:
        """Takes a frame ``(H, W, 3)``, gives those that are ready, in order.

        uint16 stays uint16 under the recipe of the paper and is rounded to uint8 for every other.
        """
        return self.encode(self.reduce(frame))

    def flush(self) -> list[np.ndarray]:
        """Gives the frames that are left."""
        return [] if self._recompressor is None else self._recompressor.flush()

    def reduce(self, frame: np.ndarray) -> np.ndarray:
        """The first half of :meth:`push`: filters a frame, makes it smaller and adds noise."""
        if self._recipe != SampledDegradation():
            frame = eight_bit_rgb((frame,), None)
        if self._recipe.kernel == "gaussian" and self._recipe.sigma == SIGMA:
            return self._add_noise(degrade(frame, self._scale))
        reduced = filter_and_skip(frame, self._taps, self._scale)
        return self._add_noise(np.rint(np.clip(reduced, 0, 255)).astype(np.uint8))

    def encode(self, lr: np.ndarray) -> list[np.ndarray]:
        """The second half: takes a small frame, gives those that the codec has ready."""
        return [lr] if self._recompressor is None else self._recompressor.push(lr)

    @cached_property
    def _taps(self) -> np.ndarray:
        return kernel_taps(self._recipe.kernel, self._scale, self._recipe.sigma)

    def _add_noise(self, lr: np.ndarray) -> np.ndarray:
        if not self._recipe.noise:
            return lr
        if self._recipe.grain:
            noise = gaussian_filter(self._noise.standard_normal((*lr.shape[:2], 1)), (0.7, 0.7, 0))
            noise /= noise.std() or 1.0
        else:
            noise = self._noise.standard_normal(lr.shape)
        return np.rint(np.clip(lr + self._recipe.noise * noise, 0, 255)).astype(np.uint8)


def kernel_taps(kernel: str, scale: int, sigma: float = SIGMA) -> np.ndarray:
    """The taps of a kernel, an odd number of them, which sum to 1.

    Args:
        kernel: ``"gaussian"``; ``"area"``, a mean over ``scale`` pixels; ``"bicubic"``, Keys' kernel as
            wide as the scale; or ``"lanczos"``, likewise with three lobes.
        scale: how many times smaller the result is to be.
        sigma: standard deviation of the Gaussian, in low-resolution pixels.
    """
    reach = 4 * scale
    offsets = np.arange(-reach, reach + 1)
    position = offsets / scale
    if kernel == "gaussian":
        weights = np.exp(-0.5 * (position / sigma) ** 2)
    elif kernel == "area":
        weights = np.clip(scale / 2 + 0.5 - np.abs(offsets), 0, 1)
    elif kernel == "bicubic":
        weights = cubic_matrix(2 * reach + 1, 1, step=scale, origin=reach)[0]
    elif kernel == "lanczos":
        weights = np.sinc(position) * np.sinc(position / 3) * (np.abs(position) < 3)
    else:
        raise ValueError(f"unknown kernel {kernel}")
    (kept,) = np.nonzero(np.abs(weights) > 1e-4 * weights.max())
    weights = weights[kept[0] : kept[-1] + 1]
    return weights / weights.sum()


def filter_and_skip(frame: np.ndarray, taps: np.ndarray, scale: int) -> np.ndarray:
    """Filters both axes of a frame ``(H, W, 3)`` and takes every ``scale``-th pixel, from the first on.

    Args:
        frame: pixels of any type.
        taps: weights of the filter, an odd number of them; beyond the edges the edge pixel is repeated.
        scale: how many times smaller the result is.

    Returns:
        float32 ``(ceil(H / scale), ceil(W / scale), 3)``, not rounded.
    """
    reach = len(taps) // 2
    for axis in (0, 1):
        around = [(reach, reach) if each == axis else (0, 0) for each in range(3)]
        size = frame.shape[axis]
        padded = np.moveaxis(np.pad(frame, around, mode="edge"), axis, 0).astype(np.float32)
        # No pixel that is not kept is computed.
        frame = sum(tap * padded[k : k + size : scale] for k, tap in enumerate(taps.astype(np.float32)))
        frame = np.moveaxis(frame, 0, axis)
    return frame
