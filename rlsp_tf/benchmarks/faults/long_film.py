"""Upscales a long film with the command line; measures memory over time and checks the result."""

import contextlib
import subprocess
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from scipy.stats import theilslopes

from rlsp_tf.benchmarks.excerpts import is_whole, loop, packets, shape
from rlsp_tf.benchmarks.faults.sandbox import PROGRAM
from rlsp_tf.errors import RLSPError
from rlsp_tf.system.progress import ProgressBar

PERIOD = 1.0
"""Seconds between two measurements of memory."""
WARM_UP = 0.1
"""Share of the run, at its beginning, in which memory may rise."""


def benchmark_long_film(
    film: Path,
    folder: Path,
    *,
    model: str,
    minutes: float,
    program: Sequence[str] = PROGRAM,
    period: float = PERIOD,
    progress: bool = False,
) -> dict[str, Any]:
    """Upscales a film that is repeated until it is long enough, and measures memory meanwhile.

    Args:
        film: a file made by :func:`rlsp_tf.benchmarks.excerpts.reduce`.
        folder: an empty folder to work in.
        model: as for :func:`rlsp_tf.inference.load.load_step`.
        minutes: least length of the video.
        program: the command line to which ``upscale INPUT OUTPUT`` and options are added.
        period: seconds between two measurements of memory.
        progress: show on standard error how far it is.

    Returns:
        ``{"frames", "size": [width, height], "minutes": of video, "code": exit code, "said": messages unless
        it is 0, "seconds": of the run, "samples": [[seconds, bytes]], "first": median bytes in the first
        tenth of the time, "last": in the last tenth, "slope": bytes per hour after the first tenth, by Theil
        and Sen, "lost": missing frames (all, if one does not decode), "moved": frames at other times,
        "duration": [of the film, of the result] in seconds, "sound": [packets of the film, of the result]}``.

    Raises:
        RLSPError: if the film cannot be read, or the run ends before the third measurement of memory.
    """
    source, target = folder / "long.mp4", folder / "large.mp4"
    width, height, rate = shape(film)
    loop(film, source, round(minutes * 60 * rate))
    given = packets(source)
    frames = len(given["0 video"])
    log = folder / "run.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                *program,
                "upscale",
                *map(str, (source, target)),
                "--model",
                model,
                "--preset",
                "ultrafast",
                "--quiet",
            ],
            stdout=subprocess.DEVNULL,
            stderr=file,
        )
    try:
        samples = _watch(process, period, progress)
    finally:
        process.kill()
        code = process.wait()
    if len(samples) < 3:
        said = log.read_text("utf-8", "replace").strip()
        raise RLSPError(f"{film}: its run ended at once ({said}); run rlsp upscale with it to see why.")
    got = packets(target) if target.exists() else {}
    shown, back = given["0 video"], got.get("0 video", [])
    whole = target.exists() and is_whole(target) == len(back)
    return {
        "frames": frames,
        "size": [width, height],
        "minutes": float(frames / rate / 60),
        "code": code,
        "said": log.read_text("utf-8", "replace").strip() if code else "",
        "seconds": samples[-1][0],
        "samples": samples,
        **describe_memory(samples),
        "lost": max(0, frames - len(back)) if whole else frames,
        "moved": _moved(shown, back),
        "duration": [_duration(shown), _duration(back)],
        "sound": [len(each.get("1 audio", ())) for each in (given, got)],
    }


def describe_memory(samples: Sequence[Sequence[float]]) -> dict[str, float]:
    """Summarizes memory over time.

    Args:
        samples: three or more pairs ``[seconds, bytes]``, in order of time.

    Returns:
        ``{"first", "last", "slope"}``; see :func:`benchmark_long_film`.
    """
    seconds, memory = np.array(samples, float).T
    end = seconds[-1]
    after = seconds >= WARM_UP * end
    return {
        "first": float(np.median(memory[seconds <= 0.1 * end])),
        "last": float(np.median(memory[seconds >= 0.9 * end])),
        # The median of the slopes between all pairs ignores the start and the joining of segments.
        "slope": float(theilslopes(memory[after], seconds[after] / 3600).slope),
    }


def _watch(process: Any, period: float, progress: bool) -> list[list[float]]:
    began = time.perf_counter()
    watched = psutil.Process(process.pid)
    samples = []
    with ProgressBar(desc="long film", unit="samples", show=progress, leave=False) as bar:
        while process.poll() is None:
            # A process that has just ended has no memory.
            with contextlib.suppress(psutil.Error):
                if memory := watched.memory_info().rss:
                    samples.append([time.perf_counter() - began, float(memory)])
            bar.update()
            time.sleep(period)
    return samples


def _moved(given: Sequence[tuple[Fraction, str]], got: Sequence[tuple[Fraction, str]]) -> int:
    """Counts frames whose times differ, compared in order of time."""
    pairs = zip(sorted(time for time, _ in given), sorted(time for time, _ in got), strict=False)
    return sum(one != other for one, other in pairs)


def _duration(video: Sequence[tuple[Fraction, str]]) -> float:
    """Seconds from the first frame to the last."""
    times = [time for time, _ in video]
    return float(max(times) - min(times)) if times else 0.0
