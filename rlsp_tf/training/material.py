"""The material of a training: clips and photographs, some of which are held out for validation."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rlsp_tf.errors import RLSPError
from rlsp_tf.training.clips.cache_cleaning import clean_cache
from rlsp_tf.training.clips.clip import Clip
from rlsp_tf.training.clips.index import index_clips, split_clips
from rlsp_tf.training.clips.mixture import MixedSampler
from rlsp_tf.training.clips.photographs import Photograph, index_photographs, split_photographs
from rlsp_tf.training.clips.rendering import SLACK
from rlsp_tf.training.clips.sampler import ClipSampler
from rlsp_tf.training.options import TrainingOptions
from rlsp_tf.training.validator import Validator, clip_excerpts, photograph_excerpts
from rlsp_tf.training.workers.group import Group


@dataclass(frozen=True)
class Material:
    """Clips and photographs that are ready for training.

    Attributes:
        sampler: draws the batches.
        clips: clips to validate on.
        photographs: photographs to validate on; empty in a training without photographs.
        index: what ``clips.json`` records of the clips and photographs, by what they are used for.
        notes: sentences about what was skipped.
    """

    sampler: ClipSampler | MixedSampler
    clips: list[Clip]
    photographs: list[Photograph]
    index: dict[str, list[dict[str, Any]]]
    notes: list[str]

    def validators(self, options: TrainingOptions) -> list[Validator]:
        """Returns a validator for the clips and, if there are any, one for the photographs."""
        degradation = options.mixture.degradation
        excerpts = [clip_excerpts(self.clips, degradation)]
        if self.photographs:
            excerpts.append(photograph_excerpts(self.photographs, options.network.scale, degradation))
        return [Validator(each) for each in excerpts]


def gather_material(
    data: Sequence[str | os.PathLike[str]],
    photographs: Sequence[str | os.PathLike[str]],
    options: TrainingOptions,
    *,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = False,
    group: Group,
) -> Material:
    """Finds clips and photographs, prepares those that are not in the cache, and divides them.

    Args:
        data: folders of clips; see :func:`rlsp_tf.training.clips.index.index_clips`.
        photographs: folders of photographs; see
            :func:`rlsp_tf.training.clips.photographs.index_photographs`.
        options: options of the training.
        cache: folder for prepared clips; by default :func:`rlsp_tf.training.clips.index.default_cache`.
        progress: show progress bars and notes on standard error.
        group: the workers, all of which call this function.

    Raises:
        RLSPError: if there are no clips to train on, photographs are needed but none are given, or the
            workers found different clips.
    """
    with _one_by_one(group):
        clips, notes = index_clips(
            data, cache=cache, scale=options.network.scale, halve=options.halve, progress=progress
        )
        photos: tuple[list[Photograph], list[Photograph]] = [], []
        if photographs:
            found, more = index_photographs(photographs, cache=cache, progress=progress)
            photos = split_photographs(found)
            notes += more
        elif options.mixture.photo_share:
            raise RLSPError("--photo-share needs photographs; give a folder of them by --photos.")
        notes += clean_cache(cache)
    training, validation = split_clips(clips, options.held_out)
    sampler = clip_sampler(training, options)
    notes += sampler.notes
    if progress:
        for note in notes:
            print(f"rlsp: note: {note}", file=sys.stderr)
    uses: dict[str, Sequence[Clip | Photograph]] = {"training": sampler.clips, "validation": validation}
    if photographs:
        uses["training photographs"], uses["validation photographs"] = photos
    index = {use: [each.to_dict() for each in those] for use, those in uses.items()}
    group.check_same("clips", json.dumps([clip["sha256"] for those in index.values() for clip in those]))
    mixture = options.mixture
    mixed = sampler if mixture.clips_only else MixedSampler(sampler, photos[0], mixture)
    return Material(mixed, validation, photos[1], index, notes)


def clip_sampler(clips: Sequence[Clip], options: TrainingOptions) -> ClipSampler:
    """Returns a sampler of clips for a training with these options."""
    return ClipSampler(
        clips,
        batch=options.batch,
        frames=options.frames,
        crop=options.crop + SLACK * (options.reuse > 1),
        seed=options.seed,
        pieces=options.pieces,
        curriculum=options.curriculum,
        neighbours=(options.network.frames_before, options.network.frames_after),
    )


@contextlib.contextmanager
def _one_by_one(group: Group) -> Iterator[None]:
    """Lets worker 0 run the block before the others, because they may share its cache."""
    if group.worker:
        group.largest(0)
    yield
    if not group.worker:
        group.largest(0)
