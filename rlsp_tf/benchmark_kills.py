"""``kill -9`` at random moments, the same call again, and the result beside that of a run left alone."""

import functools
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rlsp_tf.benchmark_damage import Upscale, last_line, upscaler
from rlsp_tf.errors import RLSPError
from rlsp_tf.excerpts import packets
from rlsp_tf.journal import JOURNAL, SUFFIX, read_journal
from rlsp_tf.quiet import quiet_tensorflow

LIMIT = 600
"""Seconds for a run of some, after which it hangs."""


class Counted:
    """A step that counts in memory that outlives its process.

    Args:
        step: what it does.
        count: an integer of :mod:`multiprocessing`.
    """

    def __init__(self, step: Any, count: Any) -> None:
        self._step, self._count = step, count
        self.config, self.fingerprint = step.config, step.fingerprint
        self.precision, self.itemsize = step.precision, step.itemsize
        self.initial_state = step.initial_state

    def __call__(self, window: Any, state: Any) -> Any:
        """One step, see :class:`rlsp_tf.steps.Step`."""
        self._count.value += 1
        return self._step(window, state)


def counting_upscaler(model: str, count: Any) -> Upscale:
    """As :func:`rlsp_tf.benchmark_damage.upscaler`, with a count of the network's steps."""
    return upscaler(model, functools.partial(Counted, count=count))


def benchmark_kills(
    film: Path,
    folder: Path,
    *,
    model: str,
    kills: int,
    make: Callable[[str, Any], Upscale] = counting_upscaler,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Kills runs while they work, each at another moment, and lets each be gone on with.

    Args:
        film: what is upscaled; several segments long, or nothing can be finished when the kill comes.
        folder: an empty one to work in.
        model: as for :func:`rlsp_tf.steps.load_step`.
        kills: how many.
        make: what makes what is to be tried, from the model and a count of steps that it adds to.
        seed: of the moments.
        progress: show a progress bar on standard error.

    Returns:
        ``{"frames": of the film, "steps": of the network for them, "seconds": that takes, "kills": [{"after":
        seconds, "finished": frames at the kill, "code": how the second run ended, "said": the last line of
        what it said if not well, "lost": frames that the
        result has not, "different": packets that are others than without the kill, "twice": steps that were
        computed in both runs, "left": names of what is in the folder beside the result}]}``.

    Raises:
        RLSPError: if the run that is left alone does not end well.
    """
    sittings = _Sittings(make, film, model)
    once = folder / "once.mp4"
    whole = sittings.run(once)
    if whole.code != 0 or not once.exists():
        raise RLSPError(f"{film}: cannot be upscaled; see what rlsp upscale says of it.")
    expected = packets(once)
    frames = len(expected["0 video"])
    rng = np.random.default_rng(seed)
    found: list[dict[str, Any]] = []
    with tqdm(total=kills, desc="kills", disable=not progress, leave=False) as bar:
        while len(found) < kills:
            work = folder / f"kill{len(found)}"
            work.mkdir(exist_ok=True)
            target = work / once.name
            killed = sittings.run(target, kill_after=rng.uniform(0, whole.seconds))
            if killed.code == 0:
                target.unlink()  # done before it could be killed
                continue
            journal = read_journal(target.with_name(target.name + SUFFIX) / JOURNAL)
            second = sittings.run(target)
            got = packets(target) if target.exists() else {}
            found.append(
                {
                    "after": killed.seconds,
                    "finished": journal.frames if journal else 0,
                    "code": second.code,
                    "said": second.said,
                    "lost": max(0, frames - len(got.get("0 video", ()))),
                    "different": _different(expected, got),
                    "twice": killed.steps + second.steps - whole.steps,
                    "left": sorted(path.name for path in work.iterdir() if path != target),
                }
            )
            bar.update()
    return {"frames": frames, "steps": whole.steps, "seconds": whole.seconds, "kills": found}


@dataclass(frozen=True)
class _Sitting:
    code: int | None
    """As of :class:`multiprocessing.Process`; ``None`` for one that hung."""
    seconds: float
    steps: int
    said: str
    """The last line on standard error of one that did not end well."""


class _Sittings:
    """Runs in processes of their own, which import TensorFlow once for all where there is fork."""

    def __init__(self, make: Callable[[str, Any], Upscale], film: Path, model: str) -> None:
        self._make, self._film, self._model = make, film, model
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        self._processes: Any = multiprocessing.get_context("forkserver" if forks else "spawn")
        if forks:
            self._processes.set_forkserver_preload(["rlsp_tf.upscale"])

    def run(self, target: Path, kill_after: float | None = None) -> _Sitting:
        """One of them; seconds count from when it begins to upscale."""
        log = target.parent.with_suffix(".log")
        count, ready = self._processes.RawValue("q", 0), self._processes.Event()
        process = self._processes.Process(
            target=_sit, args=(self._make, self._model, self._film, target, log, count, ready)
        )
        with quiet_tensorflow():
            process.start()
        while process.is_alive() and not ready.wait(0.1):
            pass
        began = time.perf_counter()
        process.join(LIMIT if kill_after is None else kill_after)
        hung = process.is_alive()
        process.kill()
        process.join()
        code = None if hung and kill_after is None else process.exitcode
        seconds = time.perf_counter() - began
        said = last_line(log.read_text("utf-8", "replace")) if code else ""
        return _Sitting(code, seconds, count.value, said)


def _sit(
    make: Callable[[str, Any], Upscale],
    model: str,
    film: Path,
    target: Path,
    log: Path,
    count: Any,
    ready: Any,
) -> None:
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    run = make(model, count)
    ready.set()
    run(film, target)


def _different(expected: dict[str, list[tuple[Any, str]]], got: dict[str, list[tuple[Any, str]]]) -> int:
    """How many packets of any stream are not the same, or not at the same time, or in one file only."""
    return sum(
        one != other
        for name in expected.keys() | got.keys()
        for one, other in zip_longest(expected.get(name, ()), got.get(name, ()))
    )
