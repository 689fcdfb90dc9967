"""Compares two Ray workers with one worker and with one process, and times the stages of their work."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

from rlsp_tf.benchmarks.excerpts import packets
from rlsp_tf.benchmarks.harness import REST, Worker, heading, installed, ratio
from rlsp_tf.errors import RLSPError, last_line
from rlsp_tf.media.excerpts import cut
from rlsp_tf.system.cores import ONE_CORE
from rlsp_tf.system.progress import ProgressBar

CLIPS = 4
"""Number of clips, copies of the beginning of a video, that workers share."""
FEW, MANY = 8, 72
"""Frames of short and of long clips. Their difference in time is the time of frames without the start."""
ROUNDS = 3
TASKS = 400
"""Number of empty tasks from which the overhead of Ray is measured."""
STAGES = ("plan", "render", "join")
"""The stages of upscaling a clip; see :mod:`rlsp_tf.upscaling.plan`."""
CONTENDERS: dict[str, tuple[str, ...]] = {
    "one process": (),
    "one worker": ("--engine", "ray", "--workers", "1"),
    "two workers": ("--engine", "ray", "--workers", "2"),
}
"""Options of rlsp upscale for each contender. One process uses all cores, a worker uses one."""


def benchmark_ray(
    video: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] = "7-48",
    preset: str = "ultrafast",
    rounds: int = ROUNDS,
    progress: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Times ``rlsp upscale`` over several clips in one process, and with one and two Ray workers.

    All take turns on the same clips; their results have to be equal byte for byte. Then the stages of a clip
    are timed in a process with one thread, alone and while another process does the same.

    Args:
        video: a video whose beginning is copied into MP4 files.
        model: as for ``rlsp upscale --model``.
        preset: preset of the encoder.
        rounds: number of rounds.
        progress: show on standard error how far it is.
        command: the command line to record in the result.

    Returns:
        :func:`rlsp_tf.benchmarks.harness.heading`, and::

            {"video", "model", "preset", "clips", "few", "many", "size": [width, height],
             "contenders": {name: {"few": [seconds], "many": [seconds], "per_frame": median seconds}},
             "ratio": how many times as fast two workers are as one, per frame, median over the rounds,
             "ratio_process": how many times as fast two workers are as one process,
             "whole_ratio": how many times as fast two workers are as one, including the start,
             "alone": {stage: seconds per frame}, "beside": {stage: seconds per frame},
             "task": seconds of Ray for an empty task, "start": seconds until a worker has its first frame,
             "bytes": {"in", "out"} per frame, "memory": bytes of memory of a worker}

    Raises:
        RLSPError: if Ray is not installed, the video is too short, or a run fails or gives another result.
    """
    if not installed("ray"):
        raise RLSPError("this benchmark needs Ray; install it by: pip install 'rlsp_tf[ray]'.")
    result = heading("ray", command, ("ray", "av"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sets = {}
        for count in (FEW, MANY):
            first = folder / f"{count}_0.mp4"
            cut(Path(video), first, count)
            if (frames := len(packets(first).get("0 video", ()))) < count:
                raise RLSPError(f"{os.fspath(video)}: has {frames} frames, too few; give a longer one.")
            others = [folder / f"{count}_{index}.mp4" for index in range(1, CLIPS)]
            for other in others:
                shutil.copyfile(first, other)
            sets[count] = [first, *others]
        seconds = _turns(sets, folder, os.fspath(model), preset, rounds, progress)
        side = (os.fspath(model), preset, os.fspath(sets[MANY][0]), name)
        workers = [Worker(f"worker {index}", Stages, *side, index) for index in range(2)]
        try:
            alone = workers[0].call("run")
            with ThreadPoolExecutor() as pool:
                beside, _ = pool.map(lambda worker: worker.call("run"), workers)
            about, start = workers[0].about, workers[0].call("begun")
        finally:
            for worker in workers:
                worker.close()
        task = _seconds_of_a_task()
    frames = CLIPS * (MANY - FEW)
    per_frame = {
        name: [(long - short) / frames for short, long in zip(each[FEW], each[MANY], strict=True)]
        for name, each in seconds.items()
    }
    return (
        result
        | about
        | {
            "video": Path(video).name,
            "model": Path(model).stem,
            "preset": preset,
            "clips": CLIPS,
            "few": FEW,
            "many": MANY,
            "contenders": {
                name: {
                    "few": each[FEW],
                    "many": each[MANY],
                    "per_frame": statistics.median(per_frame[name]),
                }
                for name, each in seconds.items()
            },
            "ratio": ratio(per_frame["one worker"], per_frame["two workers"]),
            "ratio_process": ratio(per_frame["one process"], per_frame["two workers"]),
            "whole_ratio": ratio(seconds["one worker"][MANY], seconds["two workers"][MANY]),
            "alone": {stage: alone[stage] for stage in STAGES},
            "beside": {stage: beside[stage] for stage in STAGES},
            "start": start,
            "task": task,
            "bytes": alone["bytes"],
            "memory": beside["memory"],
        }
    )


class Stages:
    """Upscales a clip as a worker does, in a process with one thread, and times each stage.

    Args:
        model, preset: see :func:`benchmark_ray`.
        clip: the video file.
        folder: folder to work in.
        index: number of the worker.

    Attributes:
        about: ``{"size", "scale", "precision"}``.
    """

    def __init__(self, model: str, preset: str, clip: str, folder: str, index: int) -> None:
        began = time.perf_counter()
        os.environ.update(ONE_CORE)
        from rlsp_tf.inference.load import load_step
        from rlsp_tf.media.encoders import EncoderOptions
        from rlsp_tf.media.open import open_source
        from rlsp_tf.upscaling.plan import make_plan, render_range
        from rlsp_tf.upscaling.upscale import Recipe

        self._folder, self._clip = Path(folder) / f"stages_{index}", Path(clip)
        self._folder.mkdir()
        self._step, self._recipe = load_step(model), Recipe(encoder=EncoderOptions(preset=preset))
        with open_source(self._clip) as source:
            size = [source.width, source.height]
        first = self._folder / "first.mp4"
        cut(self._clip, first, 1)
        plan = make_plan(first, self._step, self._recipe)
        render_range(first, self._folder / "start.mp4", self._step, self._recipe, plan, 0)
        shutil.rmtree(self._folder)
        self._folder.mkdir()
        self._begun = time.perf_counter() - began
        self.about = {
            "size": size,
            "scale": self._step.config.scale,
            "precision": self._step.precision,
        }

    def begun(self) -> float:
        """Seconds from the start of the process to its first frame."""
        return self._begun

    def run(self) -> dict[str, Any]:
        """Measures seconds per frame of each of ``STAGES``, bytes per frame, and memory in bytes."""
        import psutil

        from rlsp_tf.upscaling.plan import join_ranges, make_plan, render_range

        target, work = self._folder / "large.mp4", self._folder / "large.mp4.rlsp"
        target.unlink(missing_ok=True)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        times = [time.perf_counter()]
        plan = make_plan(self._clip, self._step, self._recipe)
        times.append(time.perf_counter())
        for index in range(len(plan.ranges)):
            render_range(self._clip, work / target.name, self._step, self._recipe, plan, index)
        times.append(time.perf_counter())
        join_ranges(self._clip, work, target, self._step, self._recipe, plan)
        times.append(time.perf_counter())
        frames = plan.ranges[-1].stop
        seconds = [(later - earlier) / frames for earlier, later in pairwise(times)]
        sizes = {"in": self._clip.stat().st_size / frames, "out": target.stat().st_size / frames}
        memory = psutil.Process().memory_info().rss
        return {**dict(zip(STAGES, seconds, strict=True)), "bytes": sizes, "memory": memory}


def _turns(
    sets: dict[int, list[Path]], folder: Path, model: str, preset: str, rounds: int, progress: bool
) -> dict[str, dict[int, list[float]]]:
    """Runs all contenders in turn; returns seconds of every run by contender and length of clips."""
    seconds: dict[str, dict[int, list[float]]] = {name: {count: [] for count in sets} for name in CONTENDERS}
    first: dict[str, bytes] = {}
    total = rounds * len(CONTENDERS) * len(sets)
    with ProgressBar(total=total, desc="turns", unit="turns", show=progress, leave=False) as bar:
        for _ in range(rounds):
            for name, options in CONTENDERS.items():
                for count, clips in sets.items():
                    bar.set_postfix_str(name)
                    out = folder / "out"
                    time.sleep(REST)
                    began = time.perf_counter()
                    _upscale(clips, out, model, ("--preset", preset, *options))
                    seconds[name][count].append(time.perf_counter() - began)
                    for file in out.iterdir():
                        if first.setdefault(file.name, content := file.read_bytes()) != content:
                            raise RLSPError(f"{name}: its {file.name} differs from that of the first run.")
                    shutil.rmtree(out)
                    bar.update()
    return seconds


def _upscale(clips: Sequence[Path], out: Path, model: str, options: Sequence[str]) -> None:
    command = [sys.executable, "-m", "rlsp_tf", "upscale", *map(os.fspath, clips)]
    command += ["--out", os.fspath(out), "--model", model, "--quiet", *options]
    run = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if run.returncode:
        last = last_line(run.stderr) or "no message"
        raise RLSPError(f"rlsp upscale {' '.join(options)} failed: {last.removeprefix('rlsp: error: ')}")


def _seconds_of_a_task() -> float:
    """Measures the seconds that Ray takes for an empty task on a worker that has started."""
    from rlsp_tf.upscaling.cluster import as_completed, start_ray

    ray = start_ray(None, 1)
    try:
        nothing = ray.remote(lambda: None)
        ray.get(nothing.remote())
        began = time.perf_counter()
        waiting = {nothing.remote(): index for index in range(TASKS)}
        for done in as_completed(ray, waiting):
            ray.get(done)
            del waiting[done]
        return (time.perf_counter() - began) / TASKS
    finally:
        ray.shutdown()
