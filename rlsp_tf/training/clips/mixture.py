"""Samples of clips, photographs and flat content, degraded in several ways: the whole mixture of a training.

As in :mod:`rlsp_tf.training.clips.sampler`, a batch is a function of seed and step alone. Every sample has
random numbers of its own, so that it does not depend on those before it.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from rlsp_tf.errors import UsageError
from rlsp_tf.media.degradations import PAPER, Degradation, SampledDegradation
from rlsp_tf.training.clips.camera import draw_clip
from rlsp_tf.training.clips.flat_content import draw_flat_clip
from rlsp_tf.training.clips.photographs import Photograph
from rlsp_tf.training.clips.sampler import ClipSampler, Window

CODED_MARGIN = 16
"""Low-resolution pixels that a codec sees beyond a sample, both sides together: one of its blocks."""
LEAST_MARGIN = 4
"""Of these, how many there are on either side at least."""


@dataclass(frozen=True)
class Mixture:
    """What the samples of a training are made of.

    Attributes:
        photo_share: share of the samples that are made of photographs.
        flat_share: share of the samples that are flat content; the rest are cut from clips.
        degradation: how low resolution is made.
        paper_share: share of the samples that are degraded as in the paper nevertheless.

    Raises:
        UsageError: if a share is not between 0 and 1, or those of the sources are more together.
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
            raise UsageError(f"{shares} are more than 1 together.")

    @property
    def clips_only(self) -> bool:
        """Whether it is clips alone, degraded as in the paper: what a :class:`ClipSampler` gives."""
        return self == replace(CLIPS_ONLY, paper_share=self.paper_share)


CLIPS_ONLY = Mixture()
"""Clips alone, degraded as in the paper."""


@dataclass(frozen=True)
class Plan:
    """What was drawn for a sample, apart from its pixels.

    Attributes:
        source: ``"clip"``, ``"photograph"`` or ``"flat"``.
        recipe: how it is degraded.
        margins: low-resolution pixels rendered above and left of it, and below and right of it.
        lead: frames that the codec has seen before; see :meth:`SampledDegradation.apply`.
    """

    source: str
    recipe: SampledDegradation
    margins: np.ndarray
    lead: int


class MixedSampler:
    """Gives the batches of a mixture.

    Args:
        clips: draws samples of clips, and decides about batch, frames, crop, seed and the rest.
        photographs: to train on; some are needed where ``mixture.photo_share`` is above 0.
        mixture: what to draw.

    Attributes:
        batch, shapes: as those of ``clips``.
    """

    def __init__(self, clips: ClipSampler, photographs: Sequence[Photograph], mixture: Mixture) -> None:
        self._clips, self._mixture = clips, mixture
        self._photos = [np.asarray(photograph.pixels) for photograph in photographs]
        self.batch, self.shapes = clips.batch, clips.shapes
        # Batches are made in several threads already, beside those of the training step.
        cv2.setNumThreads(1)

    def share(self, worker: int, workers: int) -> "MixedSampler":
        """See :meth:`rlsp_tf.training.clips.sampler.ClipSampler.share`."""
        part = copy.copy(self)
        part._clips = self._clips.share(worker, workers)
        part.batch = part._clips.batch
        return part

    def samples(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of a step; see :meth:`rlsp_tf.training.clips.sampler.ClipSampler.samples`."""
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
        """What each sample of a step is, in a few words."""
        plans = [self._plan(rng) for rng in self._generators(step)]
        names = self._clips.captions(step)
        return [
            f"{name if plan.source == 'clip' else plan.source}: {plan.recipe}"
            for plan, name in zip(plans, names, strict=True)
        ]

    def _generators(self, step: int) -> list[np.random.Generator]:
        """Random numbers for each sample; those of the clips' windows begin at another counter."""
        sequence = step // self._clips.pieces
        return [
            np.random.Generator(
                np.random.Philox(key=[self._clips.seed, sequence], counter=[0, 0, 0, index + 1])
            )
            for index in range(self._clips.part.start or 0, self._clips.part.stop)
        ]

    def _plan(self, rng: np.random.Generator) -> Plan:
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
            # A codec's blocks lie anywhere on the sample, and so do its key frames.
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
        """Fills the arrays of one sample: renders the sequence with margins, degrades it, and cuts both."""
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
