"""Kills runs with ``kill -9``, repeats the call, and compares the result with that of an undisturbed run.

Runs are killed at random moments, and before every change that they make on the disk
(:mod:`rlsp_tf.benchmarks.faults.kill_points`).
"""

import functools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from rlsp_tf.benchmarks.excerpts import packets
from rlsp_tf.benchmarks.faults.damaged_files import Upscale, upscaler
from rlsp_tf.benchmarks.faults.kill_points import record, recorded, watch
from rlsp_tf.errors import RLSPError, last_line
from rlsp_tf.system.progress import ProgressBar
from rlsp_tf.system.quiet import quiet_tensorflow
from rlsp_tf.upscaling.work_folder import JOURNAL, SUFFIX, read_journal

FRAMES, SEGMENT = 10, 2
"""Frames of the film, and of a segment, in runs that are killed before every change on the disk."""
TIME_LIMIT = 600
"""A run that takes longer, in seconds, counts as hung; normally it takes some seconds."""


class Counted:
    """A step that counts its calls in memory that outlives its process.

    Args:
        step: the step to run.
        count: a shared integer of :mod:`multiprocessing`.
    """

    def __init__(self, step: Any, count: Any) -> None:
        self._step, self._count = step, count

    def __getattr__(self, name: str) -> Any:
        # Not a StepWrapper, whose module imports TensorFlow.
        return getattr(self._step, name)

    def __call__(self, window: Any, state: Any) -> Any:
        """Runs one step; see :class:`rlsp_tf.inference.step.Step`."""
        self._count.value += 1
        return self._step(window, state)


def counting_upscaler(model: str, count: Any) -> Upscale:
    """Like :func:`rlsp_tf.benchmarks.faults.damaged_files.upscaler`, but counts the network's steps."""
    return upscaler(model, functools.partial(Counted, count=count))


def short_segments(model: str, count: Any) -> Upscale:
    """Like :func:`counting_upscaler`, but with short segments."""
    return functools.partial(counting_upscaler(model, count), segment=SEGMENT)


def benchmark_points(
    film: Path,
    folder: Path,
    *,
    model: str,
    make: Callable[[str, Any], Upscale] = short_segments,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Kills runs before each of their changes on the disk, and continues each of them.

    Args:
        film: the video to upscale; a short one is enough.
        folder: an empty folder to work in, an absolute path without symbolic links.
        model, make, progress: see :func:`benchmark_kills`.

    Returns:
        ``[{"name": of the change, "code": exit code of the second run, "said", "lost", "different",
        "left"}]``; the last four as in :func:`benchmark_kills`. Before its last change a run has already
        written its output, so the second run may report that it exists.

    Raises:
        RLSPError: if the undisturbed run fails.
    """
    runs = _Runs(make, film, model)
    (folder / "once").mkdir()
    once, names = folder / "once" / "once.mp4", folder / "names"
    if runs.run(once, names=names).code != 0 or not once.exists():
        raise RLSPError(f"{film}: cannot be upscaled; run rlsp upscale with it to see why.")
    expected = packets(once)
    found = []
    points = recorded(names)
    for number, name in enumerate(
        ProgressBar(points, desc="changes", unit="runs", show=progress, leave=False)
    ):
        work = folder / f"point{number}"
        work.mkdir()
        target = work / once.name
        killed = runs.run(target, point=name)
        second = runs.run(target)
        ended = second.code == 0 or (name == points[-1] and "exists already" in second.said)
        compared = _compared(expected, target)
        if killed.code != -signal.SIGKILL:
            compared["left"].append("a run that was not killed there")
        code = 0 if ended else second.code
        found.append({"name": name, "code": code, "said": "" if ended else second.said, **compared})
    return found


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
    """Kills runs at random moments, and continues each of them.

    Args:
        film: the video to upscale, several segments long.
        folder: an empty folder to work in.
        model: as for :func:`rlsp_tf.inference.load.load_step`.
        kills: number of kills.
        make: makes the function to be tried from ``model`` and a counter of steps.
        seed: seed of the random moments.
        progress: show on standard error how far it is.

    Returns:
        ``{"frames": of the film, "steps": of the network, "seconds": of an undisturbed run, "kills":
        [{"after": seconds, "finished": frames at the kill, "code": exit code of the second run, "said": its
        last message if it failed, "lost": missing frames, "different": packets that differ from the
        undisturbed run, "twice": steps that were computed in both runs, "left": names of other files in the
        folder of the result}]}``.

    Raises:
        RLSPError: if the undisturbed run fails.
    """
    runs = _Runs(make, film, model)
    once = folder / "once.mp4"
    whole = runs.run(once)
    if whole.code != 0 or not once.exists():
        raise RLSPError(f"{film}: cannot be upscaled; run rlsp upscale with it to see why.")
    expected = packets(once)
    frames = len(expected["0 video"])
    rng = np.random.default_rng(seed)
    found: list[dict[str, Any]] = []
    with ProgressBar(total=kills, desc="kills", unit="kills", show=progress, leave=False) as bar:
        while len(found) < kills:
            work = folder / f"kill{len(found)}"
            work.mkdir(exist_ok=True)
            target = work / once.name
            killed = runs.run(target, kill_after=rng.uniform(0, whole.seconds))
            if killed.code == 0:
                target.unlink()  # it ended before it could be killed
                continue
            journal = read_journal(target.with_name(target.name + SUFFIX) / JOURNAL)
            second = runs.run(target)
            found.append(
                {
                    "after": killed.seconds,
                    "finished": journal.frames if journal else 0,
                    "code": second.code,
                    "said": second.said,
                    "twice": killed.steps + second.steps - whole.steps,
                    **_compared(expected, target),
                }
            )
            bar.update()
    return {"frames": frames, "steps": whole.steps, "seconds": whole.seconds, "kills": found}


@dataclass(frozen=True)
class _Run:
    code: int | None
    """Exit code of :class:`multiprocessing.Process`; ``None`` if it hung."""
    seconds: float
    steps: int
    said: str
    """The last line on standard error if it failed."""


class _Runs:
    """Starts runs in processes of their own, which share one import of TensorFlow where fork exists."""

    def __init__(self, make: Callable[[str, Any], Upscale], film: Path, model: str) -> None:
        self._make, self._film, self._model = make, film, model
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        self._processes: Any = multiprocessing.get_context("forkserver" if forks else "spawn")
        if forks:
            self._processes.set_forkserver_preload(["rlsp_tf.upscaling.upscale"])

    def run(
        self,
        target: Path,
        kill_after: float | None = None,
        *,
        point: str | None = None,
        names: Path | None = None,
    ) -> _Run:
        """Starts a run and waits for its end; its time counts from when it begins to upscale.

        Args:
            target: the file to write.
            kill_after: seconds after which to kill it.
            point: name of the change on the disk at which to kill it instead.
            names: a file to which to write the names of all changes.
        """
        log = target.parent.with_suffix(".log")
        count, ready = self._processes.RawValue("q", 0), self._processes.Event()
        process = self._processes.Process(
            target=_run_in_process,
            args=(self._make, self._model, self._film, target, log, count, ready, point, names),
        )
        with quiet_tensorflow():
            process.start()
        while process.is_alive() and not ready.wait(0.1):
            pass
        began = time.perf_counter()
        process.join(TIME_LIMIT if kill_after is None else kill_after)
        hung = process.is_alive()
        process.kill()
        process.join()
        code = None if hung and kill_after is None else process.exitcode
        seconds = time.perf_counter() - began
        said = last_line(log.read_text("utf-8", "replace")) if code else ""
        return _Run(code, seconds, count.value, said)


def _run_in_process(
    make: Callable[[str, Any], Upscale],
    model: str,
    film: Path,
    target: Path,
    log: Path,
    count: Any,
    ready: Any,
    point: str | None,
    names: Path | None,
) -> None:
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    run = make(model, count)
    if point is not None:
        watch(target.parent, point.__eq__)
    if names is not None:
        watch(target.parent, record(names))
    ready.set()
    run(film, target)


def _compared(expected: dict[str, list[tuple[Any, str]]], target: Path) -> dict[str, Any]:
    """Compares a result with the expected packets, and lists other files in its folder."""
    got = packets(target) if target.exists() else {}
    return {
        "lost": max(0, len(expected["0 video"]) - len(got.get("0 video", ()))),
        "different": _different(expected, got),
        "left": sorted(path.name for path in target.parent.iterdir() if path != target),
    }


def _different(expected: dict[str, list[tuple[Any, str]]], got: dict[str, list[tuple[Any, str]]]) -> int:
    """Counts packets that differ in content or time, or are in one file only."""
    return sum(
        one != other
        for name in expected.keys() | got.keys()
        for one, other in zip_longest(expected.get(name, ()), got.get(name, ()))
    )
