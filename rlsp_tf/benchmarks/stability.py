"""Whether a network's output stays near bicubic interpolation for as long as a clip lasts."""

import math
import os
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from rlsp_tf.benchmarks.harness import heading
from rlsp_tf.benchmarks.quality import PRECISIONS
from rlsp_tf.benchmarks.stability_clips import PERIOD, Clip, stability_clips
from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.divergence import limit
from rlsp_tf.inference.exported import EXPORTS
from rlsp_tf.inference.load import load_step
from rlsp_tf.inference.recurrent_stream import RecurrentStream
from rlsp_tf.inference.step import Step
from rlsp_tf.network.cell import luma
from rlsp_tf.pixels.resample import enlarge_matrix

FRAMES = 500
"""Of each clip, unless said otherwise."""
SIZE = (64, 48)
"""Width and height of their frames at low resolution."""
GROWTH, SLACK = 1.5, 4.0
"""An output is growing if its root-mean-square departure in the last frames is more than GROWTH times that in
the first ones and SLACK grey levels. Steady networks take some frames to settle and reach 1.25 times."""


class Departures(NamedTuple):
    """How far a network's output is from bicubic interpolation, each ``(frames, clips)`` in grey levels.

    Attributes:
        largest: over the pixels of a frame; infinite or not a number where the output is.
        rms: the root mean square over them; likewise.
        limit: for ``rms``, see :func:`rlsp_tf.inference.divergence.limit`.
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
    """Runs networks for long over clips on which they may run away, with the state carried all the time.

    A network is unstable on a clip if its output in the last ``PERIOD`` frames holds something else than
    numbers, is too far from bicubic interpolation to show the clip, or is farther from it than in the first.

    Args:
        models: as for :func:`rlsp_tf.inference.load.load_step`. Exports run in the precision that they have.
        frames: of each clip.
        size: width and height of frames at low resolution.
        precisions: of the models.
        progress: show progress bars on standard error.
        command: what to note as the command behind the result.

    Returns:
        :func:`rlsp_tf.benchmarks.harness.heading`, and::

            {"frames", "window": first and last frames that are compared, "size": [width, height],
             "notes": [what was left out],
             "models": [{"name", "network", "precision", "fingerprint",
                         "clips": [{"name", "first", "last": largest departure in these frames,
                                    "first_rms", "last_rms": of the whole frame, "stable": bool}]}],
             "failures": [a sentence for each model and precision that is unstable]}

        Departures are in grey levels, ``None`` where they are no numbers.

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
            found = departures(step, clips, frames, progress=name if progress else None)
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


def departures(
    step: Step, clips: Mapping[str, Clip], frames: int, *, progress: str | None = None
) -> Departures:
    """Runs a network over clips of one size, side by side, with the state carried from frame to frame.

    Args:
        step: the network.
        clips: by name.
        frames: how many of each.
        progress: the title of a progress bar on standard error, if there shall be one.
    """
    stream = RecurrentStream(step)
    waiting: deque[np.ndarray] = deque()
    found: list[tuple[np.ndarray, ...]] = []

    def compare(output: tf.Tensor) -> None:
        rgb = waiting.popleft()
        frame = rgb.astype(np.float32) if step.config.output == "rgb" else luma(rgb).numpy()
        with np.errstate(over="ignore", invalid="ignore"):
            away = np.abs(output.numpy() - _bicubic(frame, step.config.scale)).reshape(len(rgb), -1)
            rms = np.sqrt(np.mean(np.square(away, dtype=np.float64), axis=1))
            found.append((away.max(axis=1), rms, limit(frame).numpy()))

    for t in tqdm(range(frames), desc=progress, disable=progress is None, leave=False):
        rgb = np.stack([clip(t) for clip in clips.values()])
        waiting.append(rgb)
        for output in stream.push(tf.constant(rgb, tf.float32)):
            compare(output)
    for output in stream.flush():
        compare(output)
    return Departures(*(np.stack(each).astype(np.float64) for each in zip(*found, strict=True)))


def of_clip(clip: Mapping[str, Any]) -> tuple[str, str]:
    """The departures of a clip in the first and in the last frames, as text."""
    first, last = (f"{levels(clip[key])} ({levels(clip[f'{key}_rms'])})" for key in ("first", "last"))
    return first, last


def levels(value: float | None) -> str:
    """Grey levels to the tenth; ``not finite`` where there is no number."""
    return "not finite" if value is None else f"{value:.1f}" if value < 1e6 else f"{value:.0e}"


def unstable(result: Mapping[str, Any]) -> list[str]:
    """A sentence for each model and precision that is unstable."""
    sentences = []
    for sheet in result["models"]:
        bad = [clip for clip in sheet["clips"] if not clip["stable"]]
        if bad:
            worst = max(bad, key=lambda clip: math.inf if clip["last_rms"] is None else clip["last_rms"])
            first, last = (levels(worst[key]) for key in ("first_rms", "last_rms"))
            sentences.append(
                f"{sheet['name']}: is unstable in {sheet['precision']} on {len(bad)} of "
                f"{len(sheet['clips'])} clips; on {worst['name']!r} its output is {first} grey levels (root "
                f"mean square) from bicubic interpolation in the first {result['window']} frames and {last} "
                "in the last. Use other weights or another precision."
            )
    return sentences


def _rows(names: Sequence[str], found: Departures) -> list[dict[str, Any]]:
    """A row for each clip."""
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
    """``(B, H, W, C)`` -> ``(B, scale*H, scale*W, C)``."""
    planes = np.moveaxis(frame, -1, 1)
    rows, columns = (enlarge_matrix(side, scale).astype(np.float32) for side in frame.shape[1:3])
    return np.moveaxis(rows @ planes @ columns.T, 1, -1)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
