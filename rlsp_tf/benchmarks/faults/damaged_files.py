"""Upscales damaged videos in a separate process, which may hang or crash, and records the outcomes."""

import functools
import shutil
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlsp_tf.benchmarks.excerpts import decodable, is_whole
from rlsp_tf.benchmarks.faults.damage import KINDS, damage
from rlsp_tf.benchmarks.harness import Overdue, Worker
from rlsp_tf.errors import RLSPError
from rlsp_tf.media.excerpts import cut
from rlsp_tf.system.progress import ProgressBar

FRAMES = 12
"""Number of frames of every video that is damaged."""
TIME_LIMIT = 120
"""A run that takes longer, in seconds, counts as hung; normally it takes 1 to 2 s."""
OUTCOMES = ("written", "refused", "hung", "half-written", "traceback")
"""Outcomes of a run: a complete target; one sentence, and no files left behind; no end within the time limit;
an incomplete target or other files left behind; anything else, including a crash of the process."""
PRESET = "ultrafast"
"""Preset of the encoder in all runs, the fastest one."""

Upscale = Callable[..., Any]
"""A function of a source and a target path."""


def upscaler(model: str, step: Callable[[Any], Any] = lambda step: step) -> Upscale:
    """Returns a function that upscales a source to a target; imports TensorFlow.

    Args:
        model: as for :func:`rlsp_tf.inference.load.load_step`.
        step: may wrap the step of the network, for example to count its calls.
    """
    from rlsp_tf.inference.load import load_step
    from rlsp_tf.upscaling.upscale import upscale

    return functools.partial(upscale, model=step(load_step(model)), preset=PRESET)


def benchmark_damage(
    videos: Sequence[Path],
    folder: Path,
    *,
    model: str,
    runs: int,
    make: Callable[[str], Upscale] = upscaler,
    limit: float = TIME_LIMIT,
    progress: bool = False,
) -> dict[str, Any]:
    """Damages the beginnings of videos in their own container, Matroska and MPEG-TS, and upscales them.

    Every run damages another place; kinds of damage and files take turns.

    Args:
        videos: the video files.
        folder: an empty folder to work in.
        model: as for :func:`rlsp_tf.inference.load.load_step`.
        runs: number of runs.
        make: makes the function to be tried from ``model``; defined in a module, so that another process can
            import it.
        limit: time limit of a run in seconds.
        progress: show on standard error how far it is.

    Returns:
        ``{"frames": of every file, "limit", "runs": [{"seed", "file", "kind", "outcome", "said",
        "decodable", "written", "lost"}]}``: for each run its messages unless it was ``"written"``, the number
        of frames that decode, the number in the target, and the difference, 0 unless it was ``"written"``.

    Raises:
        RLSPError: if a video cannot be read.
    """
    films = _films(videos, folder)
    found = []
    worker: Worker | None = None
    work = folder / "work"
    try:
        for seed in ProgressBar(range(runs), desc="damages", unit="runs", show=progress, leave=False):
            # Kinds change more slowly than files, so that all pairs occur.
            film = films[seed % len(films)]
            kind = KINDS[seed // len(films) % len(KINDS)]
            work.mkdir()
            source = work / film.name
            source.write_bytes(damage(film.read_bytes(), kind, np.random.default_rng(seed)))
            worker = worker or Worker("upscaling", DamageRunner, make, model)
            run = _run(worker, source, work / "large.mkv", limit)
            if run["outcome"] == "hung" or "ended" in run:
                worker.close()
                worker = None
            run.pop("ended", None)
            found.append({"seed": seed, "file": film.name, "kind": kind, **run})
            shutil.rmtree(work)
    finally:
        if worker:
            worker.close()
    return {"frames": FRAMES, "limit": limit, "runs": found}


class DamageRunner:
    """Upscales files in a process of its own.

    Args:
        make, model: see :func:`benchmark_damage`.
    """

    def __init__(self, make: Callable[[str], Upscale], model: str) -> None:
        self.about: dict[str, Any] = {}
        self._upscale = make(model)

    def run(self, source: str, target: str) -> dict[str, str]:
        """Upscales; returns ``{"refused": sentence}``, ``{"traceback": text}``, or ``{}`` for success."""
        try:
            self._upscale(Path(source), Path(target))
        except RLSPError as error:
            return {"refused": str(error)}
        except Exception:
            return {"traceback": traceback.format_exc()}
        return {}


def _films(videos: Sequence[Path], folder: Path) -> list[Path]:
    films = []
    for video in videos:
        for suffix in dict.fromkeys((video.suffix, ".mkv", ".ts")):
            film = folder / f"{video.stem}{suffix}"
            cut(video, film, FRAMES, sound=True)
            # MPEG-TS accepts any stream, but not every one can be read again.
            if is_whole(film):
                films.append(film)
    if not films:
        raise RLSPError(
            f"{', '.join(map(str, videos))}: no video is suitable for this benchmark; give others."
        )
    return films


def _run(worker: Worker, source: Path, target: Path, limit: float) -> dict[str, Any]:
    """Upscales a file and checks which files are there afterwards."""
    said, ended = "", {}
    try:
        answer = worker.call("run", str(source), str(target), limit=limit)
    except Overdue as error:
        outcome, said = "hung", str(error)
    except RLSPError as error:
        outcome, said, ended = "traceback", str(error), {"ended": True}
    else:
        outcome, said = next(iter(answer.items()), ("written", ""))
    frames = None
    left = {path.name for path in source.parent.iterdir()} - {source.name}
    if outcome == "written":
        frames = is_whole(target)
        if left != {target.name} or frames is None:
            outcome = "half-written"
    elif outcome == "refused":
        if source.name not in said or "\n" in said:
            outcome = "traceback"
        elif left:
            outcome = "half-written"
    there = decodable(source)
    return {
        "outcome": outcome,
        "said": said.replace(f"{source.parent}/", ""),
        "decodable": there,
        "written": frames or 0,
        "lost": max(0, there - (frames or 0)) if outcome == "written" else 0,
        **ended,
    }
