"""``kill -9``, the same call again, and the result beside that of a run left alone.

At random moments of a run, and before every change that a run makes on the disk
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
from tqdm import tqdm

from rlsp_tf.benchmarks.excerpts import packets
from rlsp_tf.benchmarks.faults.damaged_files import Upscale, last_line, upscaler
from rlsp_tf.benchmarks.faults.kill_points import record, recorded, watch
from rlsp_tf.errors import RLSPError
from rlsp_tf.system.quiet import quiet_tensorflow
from rlsp_tf.upscaling.work_folder import JOURNAL, SUFFIX, read_journal

FRAMES, SEGMENT = 10, 2
"""Of the film that is killed at every change of the disk, and of its segments."""
TIME_LIMIT = 600
"""Seconds for a run of some, after which it hangs."""


class Counted:
    """A step that counts in memory that outlives its process.

    Args:
        step: what it does.
        count: an integer of :mod:`multiprocessing`.
    """

    def __init__(self, step: Any, count: Any) -> None:
        self._step, self._count = step, count

    def __getattr__(self, name: str) -> Any:
        # Not a StepWrapper, whose module imports TensorFlow.
        return getattr(self._step, name)

    def __call__(self, window: Any, state: Any) -> Any:
        """One step, see :class:`rlsp_tf.inference.step.Step`."""
        self._count.value += 1
        return self._step(window, state)


def counting_upscaler(model: str, count: Any) -> Upscale:
    """As :func:`rlsp_tf.benchmarks.faults.damaged_files.upscaler`, with a count of the network's steps."""
    return upscaler(model, functools.partial(Counted, count=count))


def short_segments(model: str, count: Any) -> Upscale:
    """As :func:`counting_upscaler`, in segments of few frames."""
    return functools.partial(counting_upscaler(model, count), segment=SEGMENT)


def benchmark_points(
    film: Path,
    folder: Path,
    *,
    model: str,
    make: Callable[[str, Any], Upscale] = short_segments,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Kills a run before each of its changes of the disk, and lets each be gone on with.

    Args:
        film: what is upscaled; a short one will do.
        folder: an empty one to work in; absolute, and without symbolic links.
        model, make, progress: see :func:`benchmark_kills`.

    Returns:
        ``[{"name": of the change, "code": how the second run ended, "said", "lost", "different", "left"}]``,
        the last four as of :func:`benchmark_kills`. At the last change a run has ended but for its exit code,
        and the second one may find that its output exists.

    Raises:
        RLSPError: if the run that is left alone does not end well.
    """
    sittings = _Sittings(make, film, model)
    (folder / "once").mkdir()
    once, names = folder / "once" / "once.mp4", folder / "names"
    if sittings.run(once, names=names).code != 0 or not once.exists():
        raise RLSPError(f"{film}: cannot be upscaled; see what rlsp upscale says of it.")
    expected = packets(once)
    found = []
    points = recorded(names)
    for number, name in enumerate(tqdm(points, desc="changes", disable=not progress, leave=False)):
        work = folder / f"point{number}"
        work.mkdir()
        target = work / once.name
        killed = sittings.run(target, point=name)
        second = sittings.run(target)
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
    """Kills runs while they work, each at another moment, and lets each be gone on with.

    Args:
        film: what is upscaled; several segments long, or nothing can be finished when the kill comes.
        folder: an empty one to work in.
        model: as for :func:`rlsp_tf.inference.load.load_step`.
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
            self._processes.set_forkserver_preload(["rlsp_tf.upscaling.upscale"])

    def run(
        self,
        target: Path,
        kill_after: float | None = None,
        *,
        point: str | None = None,
        names: Path | None = None,
    ) -> _Sitting:
        """One of them; seconds count from when it begins to upscale.

        Args:
            target: what it writes.
            kill_after: seconds.
            point: the name of a change of the disk to be killed at instead.
            names: gets the names of all of them.
        """
        log = target.parent.with_suffix(".log")
        count, ready = self._processes.RawValue("q", 0), self._processes.Event()
        process = self._processes.Process(
            target=_sit,
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
        return _Sitting(code, seconds, count.value, said)


def _sit(
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
    """What a result lacks of what was expected, and what is in the folder beside it."""
    got = packets(target) if target.exists() else {}
    return {
        "lost": max(0, len(expected["0 video"]) - len(got.get("0 video", ()))),
        "different": _different(expected, got),
        "left": sorted(path.name for path in target.parent.iterdir() if path != target),
    }


def _different(expected: dict[str, list[tuple[Any, str]]], got: dict[str, list[tuple[Any, str]]]) -> int:
    """How many packets of any stream are not the same, or not at the same time, or in one file only."""
    return sum(
        one != other
        for name in expected.keys() | got.keys()
        for one, other in zip_longest(expected.get(name, ()), got.get(name, ()))
    )
