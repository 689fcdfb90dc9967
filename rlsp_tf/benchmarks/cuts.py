"""Measures what scene cuts cost, what resetting the state at them gains, and how well they are detected."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import tensorflow as tf

from rlsp_tf.benchmarks.harness import heading
from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.load import load_step
from rlsp_tf.inference.recurrent_stream import RecurrentStream
from rlsp_tf.inference.step import Step
from rlsp_tf.media.frames import Frame
from rlsp_tf.media.open import open_source
from rlsp_tf.media.sequences import find_sequences, rgb_frames
from rlsp_tf.media.shots import detect_shots
from rlsp_tf.pixels.color import eight_bits
from rlsp_tf.pixels.degradation import degrade
from rlsp_tf.pixels.metrics import PROTOCOLS, decibels, luma, luma_of, mse
from rlsp_tf.system.progress import ProgressBar
from rlsp_tf.upscaling.upscale import WARM_START

FRAMES = 30
"""Number of frames of each sequence."""
AFTER = (0, 1, 2, 4, 8)
"""Frames after a cut whose PSNR is reported."""
FLASH = 8
"""Interval of flashes in frames; in a flash, pixels are three times as close to white."""
PAN = 32
"""Speed of a fast pan in high-resolution pixels per frame: a width of 704 passes in about a second."""
WAYS = {"carried over": None, "new start": 0, "warm start": WARM_START}
"""Frames of the warm start after the reset at a cut; ``None`` if the state is not reset."""


@dataclass(frozen=True)
class Material:
    """A clip and its true cuts.

    Attributes:
        name: description of the clip.
        hr: high-resolution frames, uint8 RGB ``(T, H, W, 3)``.
        cuts: numbers of the frames that begin a shot, without the first.
    """

    name: str
    hr: np.ndarray
    cuts: frozenset[int] = frozenset()


def benchmark_cuts(
    hr: str | os.PathLike[str],
    model: str | os.PathLike[str],
    *,
    progress: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Upscales clips with cuts and clips that may seem to have some, with and without resetting the state.

    The clips are made of the first ``FRAMES`` frames of all sequences, cropped to the size of the smallest:
    all sequences joined, each alone, each with flashes, and a pan over the middle frame of each. They are
    degraded as in the paper. PSNR is computed from luma with the crop border of the ``rlsp`` protocol and
    the mean error of all frames.

    Args:
        hr: the ground truth, two sequences or more; see :func:`rlsp_tf.evaluation.evaluate.evaluate`.
        model: as for :func:`rlsp_tf.inference.load.load_step`.
        progress: show on standard error how far it is.
        command: the command line to record in the result.

    Returns:
        :func:`rlsp_tf.benchmarks.harness.heading`, and::

            {"model": its name, "sequences": [their names], "size": [width, height], "warm_start": frames,
             "after": {way: {frame after a cut: dB}},
             "none": {way: {frame after a place mistaken for a cut: dB}},
             "materials": [{"name", "frames", "cuts", "found", "wrong": number of wrong detections,
                            "psnr": {"off": dB, "auto": dB}}]}

    Raises:
        RLSPError: if there are fewer than two sequences, one has too few frames, or the model or a file
            cannot be read.
    """
    result = heading("cuts", command)
    step = load_step(model, precision="float32")
    names, clips = _clips(hr, step.config.scale)
    materials = list(_materials(clips))
    joined, *alone = materials[: 1 + len(clips)]
    middles = frozenset({len(alone[0].hr) // 2})
    rows: dict[str, dict[str, Any]] = {}
    after: dict[str, dict[str, float]] = {}
    none: dict[str, dict[str, float]] = {}
    # One run for each way on the joined clip and on each sequence alone, and two runs on every clip.
    with ProgressBar(
        total=3 * (1 + len(clips)) + 2 * len(materials), unit="clips", show=progress, leave=False
    ) as bar:

        def errors(material: Material, cuts: frozenset[int], warm_start: int) -> list[float]:
            bar.update()
            return _errors(step, material.hr, cuts, warm_start)

        for way, warm in WAYS.items():
            found = errors(joined, frozenset() if warm is None else joined.cuts, warm or 0)
            after[way] = _after(found, joined.cuts)
            runs = [errors(each, frozenset() if warm is None else middles, warm or 0) for each in alone]
            none[way] = _after(np.mean(runs, axis=0).tolist(), middles)
        for material in materials:
            cuts = _found(material.hr, step.config.scale)
            row = rows.setdefault(
                material.name,
                {"frames": 0, "cuts": 0, "found": 0, "wrong": 0, "off": [], "auto": []},
            )
            row["frames"] += len(material.hr)
            row["cuts"] += len(material.cuts)
            row["found"] += len(cuts & material.cuts)
            row["wrong"] += len(cuts - material.cuts)
            row["off"] += errors(material, frozenset(), WARM_START)
            row["auto"] += errors(material, cuts, WARM_START)
    for row in rows.values():
        row["psnr"] = {way: decibels(float(np.mean(row.pop(way)))) for way in ("off", "auto")}
    height, width = clips[0].shape[1:3]
    return result | {
        "model": os.fspath(model),
        "sequences": names,
        "size": [width, height],
        "warm_start": WARM_START,
        "after": after,
        "none": none,
        "materials": [{"name": name, **row} for name, row in rows.items()],
    }


def _clips(hr: str | os.PathLike[str], scale: int) -> tuple[list[str], list[np.ndarray]]:
    """Reads the sequences, cropped to one size and length; returns their names and frames."""
    sequences = find_sequences(hr)
    if len(sequences) < 2:
        raise RLSPError(f"{os.fspath(hr)}: has a single sequence; give a folder of two or more.")
    clips = []
    for path in sequences.values():
        with open_source(path) as source:
            clips.append(np.stack(list(islice(rgb_frames(source), FRAMES))))
    length, height, width = (min(clip.shape[axis] for clip in clips) for axis in range(3))
    if length <= 2 * max(AFTER):
        raise RLSPError(
            f"{os.fspath(hr)}: a sequence has {length} frames; give {2 * max(AFTER) + 1} or more."
        )
    height, width = (side - side % scale for side in (height, width))
    return list(sequences), [clip[:length, :height, :width] for clip in clips]


def _materials(clips: Sequence[np.ndarray]) -> Iterator[Material]:
    """Yields the clips: first the joined one, then each sequence alone, then the others."""
    length = len(clips[0])
    joins = frozenset(range(length, length * len(clips), length))
    yield Material("sequences one after the other", np.concatenate(clips), joins)
    for clip in clips:
        yield Material("each alone", clip)
    for clip in clips:
        flashes = clip.copy()
        flashes[FLASH // 2 :: FLASH] = 255 - (255 - flashes[FLASH // 2 :: FLASH]) // 3
        yield Material("with flashes", flashes)
    for clip in clips:
        still = clip[length // 2]
        half = still.shape[1] // 8 * 4
        starts = range(0, still.shape[1] - half + 1, PAN)
        yield Material("fast pans", np.stack([still[:, start : start + half] for start in starts]))


def _found(hr: np.ndarray, scale: int) -> frozenset[int]:
    """The cuts that rlsp upscale detects."""
    frames = (Frame((frame,)) for frame in degrade(hr, scale))
    shots = enumerate(detect_shots(frames))
    return frozenset(index for index, (_, begins) in shots if begins and index)


def _errors(step: Step, hr: np.ndarray, cuts: frozenset[int], warm_start: int) -> list[float]:
    """Mean squared error of luma of every frame, with the state reset at the cuts."""
    stream = RecurrentStream(step, warm_start=warm_start)
    outputs: list[tf.Tensor] = []
    for index, frame in enumerate(degrade(hr, step.config.scale)):
        if index in cuts:
            outputs += stream.flush()
        outputs += stream.push(tf.constant(frame[None], tf.float32))
    outputs += stream.flush()
    crop = PROTOCOLS["rlsp"].crop
    inner = (slice(crop, -crop), slice(crop, -crop))
    found = []
    for truth, output in zip(hr, outputs, strict=True):
        found.append(mse(luma(truth)[inner], luma_of(eight_bits(output[0].numpy()))[inner]))
    return found


def _after(errors: Sequence[float], cuts: frozenset[int]) -> dict[str, float]:
    """PSNR in dB of the frames ``AFTER`` the cuts."""
    return {
        str(frame): decibels(float(np.mean([errors[cut + frame] for cut in sorted(cuts)]))) for frame in AFTER
    }
