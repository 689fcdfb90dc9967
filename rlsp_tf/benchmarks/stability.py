"""Checks that the output of networks stays near bicubic interpolation over long clips."""

import math
import os
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rlsp_tf.benchmarks.harness import heading
from rlsp_tf.benchmarks.quality import PRECISIONS
from rlsp_tf.benchmarks.sections import format_levels
from rlsp_tf.benchmarks.stability_clips import PERIOD, Clip, stability_clips
from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.divergence import limit
from rlsp_tf.inference.exported import EXPORTS
from rlsp_tf.inference.load import load_step
from rlsp_tf.inference.recurrent_stream import RecurrentStream
from rlsp_tf.inference.step import Step
from rlsp_tf.network.cell import luma
from rlsp_tf.pixels.resample import enlarge_matrix
from rlsp_tf.system.progress import ProgressBar

FRAMES = 500
"""Default number of frames of each clip."""
SIZE = (64, 48)
"""Width and height of low-resolution frames."""
GROWTH, SLACK = 1.5, 4.0
"""The difference is growing if its root mean square in the last frames is more than GROWTH times that in the
first frames plus SLACK grey levels. Stable networks settle after some frames and reach 1.25 times."""


class Differences(NamedTuple):
    """Differences of an output from bicubic interpolation in grey levels, each ``(frames, clips)``.

    Attributes:
        largest: largest difference in a frame; infinite or NaN if the output is.
        rms: root mean square over a frame; infinite or NaN if the output is.
        limit: limit of ``rms``; see :func:`rlsp_tf.inference.divergence.limit`.
    """

    largest: np.ndarray
    rms: np.ndarray
    limit: np.ndarray


def benchmark_stability(
    models: Sequence[str | os.PathLike[str]] = ("7-48",),
    *,
    frames: int = FRAMES,
    size: tuple[int, int] = SIZE,
    precisions: Sequence[str] = PRECISIONS,
    progress: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Runs networks over long clips on which they may diverge, without resetting the state.

    A network is unstable on a clip if its output in the last ``PERIOD`` frames is not finite, is too far from
    bicubic interpolation to show the clip, or is farther from it than in the first ``PERIOD`` frames.

    Args:
        models: as for :func:`rlsp_tf.inference.load.load_step`. Exports run in their own precision.
        frames: number of frames of each clip.
        size: width and height of low-resolution frames.
        precisions: precisions in which models are run.
        progress: show on standard error how far it is.
        command: the command line to record in the result.

    Returns:
        :func:`rlsp_tf.benchmarks.harness.heading`, and::

            {"frames", "window": number of first and last frames that are compared, "size": [width, height],
             "notes": [sentences on what was left out],
             "models": [{"name", "network", "precision", "fingerprint",
                         "clips": [{"name", "first", "last": largest difference in these frames,
                                    "first_rms", "last_rms": root mean squares, "stable": bool}]}],
             "failures": [a sentence for each model and precision that is unstable]}

        Differences are in grey levels, ``None`` if they are not finite.

    Raises:
        RLSPError: if a model cannot be loaded or run.
    """
    result = heading("stability", command)
    clips = stability_clips(size[1], size[0])
    sheets, notes = [], []
    for model in models:
        exported = Path(model).suffix.lower() in EXPORTS or Path(model).is_dir()
        for precision in (None,) if exported else precisions:
            try:
                step = load_step(model, precision=precision)
            except RLSPError as error:
                if precision != "int8":
                    raise
                notes.append(f"{os.fspath(model)} in int8: {error}")
                continue
            name = f"{os.fspath(model)} {step.precision}"
            found = measure_differences(step, clips, frames, progress=name if progress else None)
            sheets.append(
                {
                    "name": os.fspath(model),
                    "network": step.config.name,
                    "precision": step.precision,
                    "fingerprint": step.fingerprint,
                    "clips": _rows(list(clips), found),
                }
            )
    result |= {
        "frames": frames,
        "window": _window(frames),
        "size": list(size),
        "notes": notes,
        "models": sheets,
    }
    return result | {"failures": unstable(result)}


def measure_differences(
    step: Step, clips: Mapping[str, Clip], frames: int, *, progress: str | None = None
) -> Differences:
    """Runs a network over clips of one size, as one batch, without resetting the state.

    Args:
        step: the network.
        clips: the clips by name.
        frames: number of frames of each clip.
        progress: title of a progress bar on standard error; ``None`` for no bar.
    """
    stream = RecurrentStream(step)
    waiting: deque[np.ndarray] = deque()
    found: list[tuple[np.ndarray, ...]] = []

    def compare(output: tf.Tensor) -> None:
        rgb = waiting.popleft()
        frame = rgb.astype(np.float32) if step.config.output == "rgb" else luma(rgb).numpy()
        with np.errstate(over="ignore", invalid="ignore"):
            away = np.abs(output.numpy() - _bicubic(frame, step.config.scale)).reshape(len(rgb), -1)
            # Whether a sum with infinities is infinite or no number differs between processors.
            away[np.isnan(away)] = np.inf
            rms = np.sqrt(np.mean(np.square(away, dtype=np.float64), axis=1))
            found.append((away.max(axis=1), rms, limit(frame).numpy()))

    for t in ProgressBar(range(frames), desc=progress, unit="frames", show=progress is not None, leave=False):
        rgb = np.stack([clip(t) for clip in clips.values()])
        waiting.append(rgb)
        for output in stream.push(tf.constant(rgb, tf.float32)):
            compare(output)
    for output in stream.flush():
        compare(output)
    return Differences(*(np.stack(each).astype(np.float64) for each in zip(*found, strict=True)))


def unstable(result: Mapping[str, Any]) -> list[str]:
    """A sentence for each model and precision that is unstable."""
    sentences = []
    for sheet in result["models"]:
        bad = [clip for clip in sheet["clips"] if not clip["stable"]]
        if bad:
            worst = max(bad, key=lambda clip: math.inf if clip["last_rms"] is None else clip["last_rms"])
            first, last = (format_levels(worst[key]) for key in ("first_rms", "last_rms"))
            sentences.append(
                f"{sheet['name']}: is unstable in {sheet['precision']} on {len(bad)} of "
                f"{len(sheet['clips'])} clips; on {worst['name']!r} its output is {first} grey levels (root "
                f"mean square) from bicubic interpolation in the first {result['window']} frames and {last} "
                "in the last. Use other weights or another precision."
            )
    return sentences


def _rows(names: Sequence[str], found: Differences) -> list[dict[str, Any]]:
    """Entries of ``"clips"``; see :func:`benchmark_stability`."""
    window = _window(len(found.rms))
    first, last = slice(None, window), slice(-window, None)
    rows = []
    for index, name in enumerate(names):
        before, after = found.rms[first, index].max(), found.rms[last, index].max()
        allowed = min(found.limit[last, index].max(), GROWTH * before + SLACK)
        rows.append(
            {
                "name": name,
                "first": _finite(found.largest[first, index].max()),
                "last": _finite(found.largest[last, index].max()),
                "first_rms": _finite(before),
                "last_rms": _finite(after),
                "stable": bool(np.isfinite(before) and after <= allowed),
            }
        )
    return rows


def _window(frames: int) -> int:
    return min(PERIOD, max(1, frames // 2))


def _bicubic(frame: np.ndarray, scale: int) -> np.ndarray:
    """Enlarges frames ``(B, H, W, C)`` to ``(B, scale*H, scale*W, C)`` by bicubic interpolation."""
    planes = np.moveaxis(frame, -1, 1)
    rows, columns = (enlarge_matrix(side, scale).astype(np.float32) for side in frame.shape[1:3])
    return np.moveaxis(rows @ planes @ columns.T, 1, -1)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
