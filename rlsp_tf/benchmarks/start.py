"""What a user waits for: from starting ``rlsp upscale`` to its first frame, and what that consists of."""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from rlsp_tf.benchmarks.harness import heading
from rlsp_tf.errors import RLSPError, last_line
from rlsp_tf.media.excerpts import cut
from rlsp_tf.system.lean import lean_imports
from rlsp_tf.system.progress import ProgressBar
from rlsp_tf.system.quiet import quiet_tensorflow

ROUNDS = 5
FRAMES = 5
"""Number of frames of the clip: as few as a user may try first."""
PARTS = ("imports", "weights", "opening", "tracing", "first frame")
"""Parts of the time to the first frame, in their order. Opening a clip includes the rehearsal of the ending
and decoding the first frames; the first frame includes the steps of its warm start."""


def benchmark_start(
    video: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] = "7-48",
    precision: str = "auto",
    rounds: int = ROUNDS,
    frames: int = FRAMES,
    progress: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Measures the time from the start of a process to the first upscaled frame, by parts, and of a command.

    In every round, a process upscales the beginning of the video and notes when each part ended, and
    ``rlsp upscale`` itself does the same from its start to its end.

    Args:
        video: the video file.
        model, precision: as for :func:`rlsp_tf.inference.load.load_step`.
        rounds: number of rounds.
        frames: number of frames of the clip.
        progress: show a progress bar on standard error.
        command: the command line to record in the result.

    Returns:
        :func:`rlsp_tf.benchmarks.harness.heading` and ``{"video", "frames", "size", "model", "precision",
        "parts": {name: {"cpu", "wall"}}, "first": {"cpu", "wall"}, "command_line": {"cpu", "wall"}}``:
        seconds of all threads and on the clock, a list with a number for each round. ``"first"`` is the sum
        of the parts.

    Raises:
        RLSPError: if the video cannot be upscaled.
    """
    result = heading("start", command, ("av",))
    keys = ("cpu", "wall")
    parts: dict[str, dict[str, list[float]]] = {name: {key: [] for key in keys} for name in PARTS}
    first: dict[str, list[float]] = {key: [] for key in keys}
    whole: dict[str, list[float]] = {key: [] for key in keys}
    about: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        clip, large = Path(folder) / "clip.mkv", Path(folder) / "large.mkv"
        cut(Path(video), clip, frames)
        own = [sys.executable, "-m", __name__, os.fspath(model), precision, os.fspath(clip), os.fspath(large)]
        options = ["--model", os.fspath(model), "--precision", precision, "--preset", "ultrafast", "--force"]
        users = [sys.executable, "-m", "rlsp_tf", "upscale", os.fspath(clip), os.fspath(large), *options]
        for _ in ProgressBar(range(rounds), desc="rounds", unit="rounds", show=progress, leave=False):
            began = time.time()
            about = json.loads(_run(own, video)[0])
            before = 0.0, began
            for name, cpu, moment in about.pop("marks"):
                parts[name]["cpu"].append(cpu - before[0])
                parts[name]["wall"].append(moment - before[1])
                before = cpu, moment
            for key in keys:
                first[key].append(sum(parts[name][key][-1] for name in PARTS))
            _, cpu, wall = _run(users, video)
            whole["cpu"].append(cpu)
            whole["wall"].append(wall)
    return (
        result
        | {"video": Path(video).name, "frames": frames}
        | about
        | {"parts": parts, "first": first, "command_line": whole}
    )


def seconds_of(times: dict[str, Sequence[float]]) -> tuple[float, float]:
    """Returns the medians over the rounds: seconds of all threads, and seconds on the clock."""
    return statistics.median(times["cpu"]), statistics.median(times["wall"])


def _run(command: list[str], video: str | os.PathLike[str]) -> tuple[str, float, float]:
    """Runs a process; returns what it printed, the seconds of its threads and the seconds on the clock."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(command, capture_output=True, text=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if run.returncode:
        reason = last_line(run.stderr) or "no reason given"
        raise RLSPError(f"{os.fspath(video)}: cannot be upscaled ({reason.rstrip('.')}).")
    return run.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def _upscale(model: str, precision: str, clip: str, large: str) -> dict[str, Any]:
    """Does what ``rlsp upscale`` does; returns what it is about and ``"marks"``: ``(part, cpu, moment)``.

    The network's first step is traced and computed, its second one only computed; so what the first took
    longer counts as tracing.
    """
    marks: list[tuple[str, float, float]] = []

    def mark(name: str) -> None:
        marks.append((name, time.process_time(), time.time()))

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with quiet_tensorflow():
        with lean_imports():
            from rlsp_tf.inference.backend import start, to_array
        start()
    from rlsp_tf.inference.load import load_step
    from rlsp_tf.inference.step import StepWrapper
    from rlsp_tf.media.encoders import EncoderOptions
    from rlsp_tf.media.open import open_source
    from rlsp_tf.upscaling.upscale import Recipe, upscale_clip

    mark("imports")
    step = load_step(model, precision=precision)
    mark("weights")

    class Watched(StepWrapper):
        """A step that notes when its first call began and ended."""

        calls: ClassVar[list[tuple[float, float]]] = []

        def __call__(self, window: Any, state: Any) -> Any:
            if not self.calls:
                mark("opening")
            began = time.process_time(), time.time()
            result = super().__call__(window, state)
            to_array(result[0])  # a GPU would go on by itself
            if len(self.calls) < 2:
                self.calls.append((time.process_time() - began[0], time.time() - began[1]))
                if len(self.calls) == 2:
                    (first_cpu, first), (cpu, wall) = self.calls
                    _, opened_cpu, opened = marks[-1]
                    traced = max(0.0, first_cpu - cpu), max(0.0, first - wall)
                    marks.append(("tracing", opened_cpu + traced[0], opened + traced[1]))
            return result

    def tick() -> None:
        if marks[-1][0] == "tracing":
            mark("first frame")

    recipe = Recipe(encoder=EncoderOptions(preset="ultrafast"))
    upscale_clip(clip, large, Watched(step), recipe, force=True, tick=tick)
    with open_source(clip) as source:
        size = [source.width, source.height]
    return {"size": size, "model": Path(model).stem, "precision": step.precision, "marks": marks}


if __name__ == "__main__":
    print(json.dumps(_upscale(*sys.argv[1:])))
