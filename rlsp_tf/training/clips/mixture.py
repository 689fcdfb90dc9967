"""Mixes samples of clips, photographs and flat content, degraded in several ways.

As in :mod:`rlsp_tf.training.clips.sampler`, a batch depends on nothing but seed and step. Each sample has a
random generator of its own, so it does not depend on the samples before it.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from rlsp_tf.errors import UsageError
from rlsp_tf.media.degradations import PAPER, Degradation, SampledDegradation
from rlsp_tf.training.clips.camera import draw_clip
from rlsp_tf.training.clips.flat_content import draw_flat_clip
from rlsp_tf.training.clips.photographs import Photograph
from rlsp_tf.training.clips.sampler import ClipSampler, Window

CODED_MARGIN = 16
"""Low-resolution pixels around a sample that a codec sees, both sides together: the size of a block."""
LEAST_MARGIN = 4
"""Smallest number of these pixels on each side."""


@dataclass(frozen=True)
class Mixture:
    """What the samples of a training are made of.

    Attributes:
        photo_share: share of samples made from photographs, 0..1.
        flat_share: share of samples with flat content, 0..1. All other samples are cut from clips.
        degradation: how low-resolution frames are made.
        paper_share: share of samples that are degraded as in the paper instead, 0..1.

    Raises:
        UsageError: if a share is not between 0 and 1, or ``photo_share`` and ``flat_share`` add up to more.
    """

    photo_share: float = 0.0
    flat_share: float = 0.0
    degradation: Degradation = PAPER
    paper_share: float = 0.0

    def __post_init__(self) -> None:
        for name in ("photo_share", "flat_share", "paper_share"):
            if not 0 <= getattr(self, name) <= 1:
                option = name.replace("_", "-")
                raise UsageError(f"--{option} must be between 0 and 1, not {getattr(self, name)}.")
        if self.photo_share + self.flat_share > 1:
            shares = f"--photo-share {self.photo_share} and --flat-share {self.flat_share}"
            raise UsageError(f"{shares} add up to more than 1; give smaller ones.")

    @property
    def clips_only(self) -> bool:
        """Whether all samples are clips, degraded as in the paper, as those of a :class:`ClipSampler`."""
        return self == replace(CLIPS_ONLY, paper_share=self.paper_share)


CLIPS_ONLY = Mixture()
"""Only samples of clips, degraded as in the paper."""


@dataclass(frozen=True)
class Plan:
    """What was drawn for a sample before its pixels are made.

    Attributes:
        source: ``"clip"``, ``"photograph"`` or ``"flat"``.
        recipe: how the sample is degraded.
        margins: int ``(2, 2)``, low-resolution pixels to be rendered above and left of the sample, and below
            and right of it.
        lead: number of frames that the codec encodes before the sample; see
            :meth:`rlsp_tf.media.degradations.SampledDegradation.apply`.
    """

    source: str
    recipe: SampledDegradation
    margins: np.ndarray
    lead: int


class MixedSampler:
    """Makes the batches of a mixture.

    Args:
        clips: sampler of clips, which also decides about the size of batches and samples, and the seed.
        photographs: photographs to train on; needed if ``mixture.photo_share`` is above 0.
        mixture: what samples are made of.

    Attributes:
        batch, seed, scale, shapes: see :class:`rlsp_tf.training.clips.sampler.ClipSampler`.
    """

    def __init__(self, clips: ClipSampler, photographs: Sequence[Photograph], mixture: Mixture) -> None:
        self._clips, self._photographs, self._mixture = clips, photographs, mixture
        self._photos = [np.asarray(photograph.pixels) for photograph in photographs]
        self.batch, self.seed, self.scale, self.shapes = clips.batch, clips.seed, clips.scale, clips.shapes
        # Batches are already made in several threads.
        cv2.setNumThreads(1)

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process maps the files of the photographs itself.
        return MixedSampler, (self._clips, self._photographs, self._mixture)

    def share(self, worker: int, workers: int) -> "MixedSampler":
        """Returns a worker's part; see :meth:`rlsp_tf.training.clips.sampler.ClipSampler.share`."""
        part = copy.copy(self)
        part._clips = self._clips.share(worker, workers)
        part.batch = part._clips.batch
        return part

    def samples(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns a batch; see :meth:`rlsp_tf.training.clips.sampler.ClipSampler.samples`."""
        lr, hr = (np.empty((self.batch, *shape), np.uint8) for shape in self.shapes)
        windows = self._clips.sequences(step)
        piece = self._clips.piece(step)
        for index, (window, rng) in enumerate(zip(windows, self._generators(step), strict=True)):
            plan = self._plan(rng)
            if plan.source == "clip" and plan.recipe == SampledDegradation():
                window = window._replace(frames=window.frames[piece], offsets=window.offsets[piece])
                self._clips.cut(window, lr[index], hr[index])
            else:
                self._make(plan, rng, window, piece, lr[index], hr[index])
        return lr, hr

    def captions(self, step: int) -> list[str]:
        """Describes each sample of a step in a few words."""
        plans = [self._plan(rng) for rng in self._generators(step)]
        names = self._clips.captions(step)
        return [
            f"{name if plan.source == 'clip' else plan.source}: {plan.recipe}"
            for plan, name in zip(plans, names, strict=True)
        ]

    def _generators(self, step: int) -> list[np.random.Generator]:
        """Returns a random generator for each sample, independent of that of the windows of clips."""
        sequence = step // self._clips.pieces
        return [
            np.random.Generator(
                np.random.Philox(key=[self._clips.seed, sequence], counter=[0, 0, 0, index + 1])
            )
            for index in range(self._clips.part.start or 0, self._clips.part.stop)
        ]

    def _plan(self, rng: np.random.Generator) -> Plan:
        """Draws what a sample is made of."""
        mixture = self._mixture
        source, paper = rng.random(2)
        recipe = (PAPER if paper < mixture.paper_share else mixture.degradation).draw(rng)
        if source < mixture.flat_share:
            name = "flat"
        else:
            name = "photograph" if source < mixture.flat_share + mixture.photo_share else "clip"
        margins = np.full((2, 2), recipe.margin)
        lead = 0
        if recipe.codec is not None:
            # The blocks and the key frames of the codec may be anywhere in the sample.
            margins[0] = rng.integers(LEAST_MARGIN, CODED_MARGIN - LEAST_MARGIN + 1, 2)
            margins[1] = CODED_MARGIN - margins[0]
            lead = int(rng.integers(self._clips.length))
        return Plan(name, recipe, margins, lead)

    def _make(
        self,
        plan: Plan,
        rng: np.random.Generator,
        window: Window,
        piece: np.ndarray,
        lr: np.ndarray,
        hr: np.ndarray,
    ) -> None:
        """Makes one sample: renders its sequence with margins, degrades it, and fills ``lr`` and ``hr``."""
        scale, crop = self._clips.scale, self._clips.crop
        height, width = (int(side) for side in scale * (crop + plan.margins.sum(axis=0)))
        if plan.source == "clip":
            frames = self._clips.cut_wide(window, scale * plan.margins)
        elif plan.source == "photograph":
            frames = draw_clip(rng, self._photos, self._clips.length, height, width)
        else:
            _, frames = draw_flat_clip(rng, self._photos, self._clips.length, height, width)
        low = plan.recipe.apply(frames, scale, lead=plan.lead)
        y, x = plan.margins[0]
        lr[:] = low[piece, y : y + crop, x : x + crop]
        inner = piece[self._clips.neighbours[0] :][: self._clips.frames]
        y, x, side = scale * y, scale * x, scale * crop
        hr[:] = frames[inner, y : y + side, x : x + side]
