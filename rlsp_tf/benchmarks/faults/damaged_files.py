"""Damaged videos, upscaled in a process that can hang or die without harm: what becomes of each."""

import functools
import shutil
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rlsp_tf.benchmarks.excerpts import cut, decodable, is_whole
from rlsp_tf.benchmarks.faults.damage import KINDS, damage
from rlsp_tf.benchmarks.harness import Overdue, Worker
from rlsp_tf.errors import RLSPError

FRAMES = 12
"""Of every video that is damaged."""
TIME_LIMIT = 120
"""Seconds for a run of one or two, after which it hangs."""
OUTCOMES = ("written", "refused", "hung", "half-written", "traceback")
"""Of a run: a whole target; one sentence and nothing left; no end; something left that is no whole target;
anything else, the death of the process included."""
PRESET = "ultrafast"
"""Of the encoder, in all runs: it takes the time that matters least."""

Upscale = Callable[..., Any]
"""Takes a source and a target."""


def upscaler(model: str, step: Callable[[Any], Any] = lambda step: step) -> Upscale:
    """What takes a source and a target and upscales one to the other; imports TensorFlow.

    Args:
        model: as for :func:`rlsp_tf.inference.load.load_step`.
        step: may put something around the step that it is given.
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
    """Damages the beginnings of videos, each in its own container, Matroska and MPEG-TS, and upscales them.

    Every run damages another place; kinds of damage and files take turns.

    Args:
        videos: the files.
        folder: an empty one to work in.
        model: as for :func:`rlsp_tf.inference.load.load_step`.
        runs: how many.
        make: what makes what is to be tried, from the model; of a module, so that a process can import it.
        limit: seconds for a run.
        progress: show a progress bar on standard error.

    Returns:
        ``{"frames": of every file, "limit", "runs": [{"seed", "file", "kind", "outcome", "said",
        "decodable", "written", "lost"}]}``: what was said by a run that was not ``"written"``; the frames
        that decode, those in the target, and how many of the former are not among the latter, 0 unless
        it was written.

    Raises:
        RLSPError: if a video cannot be read.
    """
    films = _films(videos, folder)
    found = []
    worker: Worker | None = None
    work = folder / "work"
    try:
        for seed in tqdm(range(runs), desc="damages", disable=not progress, leave=False):
            # Kinds change slower than files, so that all pairs come about.
            film = films[seed % len(films)]
            kind = KINDS[seed // len(films) % len(KINDS)]
            work.mkdir()
            source = work / film.name
            source.write_bytes(damage(film.read_bytes(), kind, np.random.default_rng(seed)))
            worker = worker or Worker("upscaling", DamageSide, make, model)
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


class DamageSide:
    """What runs in a process of its own.

    Args:
        make, model: see :func:`benchmark_damage`.
    """

    def __init__(self, make: Callable[[str], Upscale], model: str) -> None:
        self.about: dict[str, Any] = {}
        self._upscale = make(model)

    def run(self, source: str, target: str) -> dict[str, str]:
        """Upscales; gives the sentence of a refusal as ``"refused"``, or a ``"traceback"``, or nothing."""
        try:
            self._upscale(Path(source), Path(target))
        except RLSPError as error:
            return {"refused": str(error)}
        except Exception:
            return {"traceback": traceback.format_exc()}
        return {}


def last_line(said: str) -> str:
    """The last line of what was said, which is the sentence, or the end of a traceback."""
    return said.strip().splitlines()[-1] if said.strip() else ""


def _films(videos: Sequence[Path], folder: Path) -> list[Path]:
    films = []
    for video in videos:
        for suffix in dict.fromkeys((video.suffix, ".mkv", ".ts")):
            film = folder / f"{video.stem}{suffix}"
            cut(video, film, FRAMES, sound=True)
            # MPEG-TS takes anything, and what it does not know cannot be read again.
            if is_whole(film):
                films.append(film)
    if not films:
        raise RLSPError(f"{', '.join(map(str, videos))}: no video that can be damaged; give others.")
    return films


def _run(worker: Worker, source: Path, target: Path, limit: float) -> dict[str, Any]:
    """Upscales and looks at what is there afterwards."""
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
