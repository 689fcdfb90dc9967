"""A long film, upscaled by the command line: memory over time, and whether all of it is there in the end."""

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
from tqdm import tqdm

from rlsp_tf.benchmarks.excerpts import is_whole, loop, packets, shape
from rlsp_tf.benchmarks.faults.situations import PROGRAM
from rlsp_tf.errors import RLSPError

PERIOD = 1.0
"""Seconds between two looks at memory."""
WARM_UP = 0.1
"""Of the time of the run, at its beginning, in which memory may rise."""


def benchmark_soak(
    film: Path,
    folder: Path,
    *,
    model: str,
    minutes: float,
    program: Sequence[str] = PROGRAM,
    period: float = PERIOD,
    progress: bool = False,
) -> dict[str, Any]:
    """Upscales a film put behind itself until it is so long, and looks at memory meanwhile.

    Args:
        film: made by :func:`rlsp_tf.benchmarks.excerpts.reduce`.
        folder: an empty one to work in.
        model: as for :func:`rlsp_tf.inference.load.load_step`.
        minutes: of video, at least.
        program: what takes ``upscale INPUT OUTPUT``, options and ends with an exit code.
        period: seconds between two looks.
        progress: show a progress bar on standard error.

    Returns:
        ``{"frames", "size": [width, height], "minutes": of video, "code": of the run, "said": where it is not
        0, "seconds": it took, "samples": [[seconds, bytes]], "first": median bytes in the first tenth of the
        time, "last": in the last, "slope": bytes per hour after the first tenth, by Theil and Sen, "lost":
        frames that are not there (all, if one does not decode), "moved": frames at other times,
        "duration": [of the film, of the result] in seconds, "sound": [packets of the film, of the
        result]}``.

    Raises:
        RLSPError: if the film cannot be read, or the run ends before memory was looked at three times.
    """
    source, target = folder / "long.mp4", folder / "large.mp4"
    width, height, rate = shape(film)
    loop(film, source, round(minutes * 60 * rate))
    given = packets(source)
    frames = len(given["0 video"])
    log = folder / "run.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*program, "upscale", str(source), str(target), "--model", model, "--preset", "ultrafast"],
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
        raise RLSPError(f"{film}: its run ended at once ({said}); try rlsp upscale with it.")
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
    """How memory went.

    Args:
        samples: ``[seconds, bytes]``, three or more, in order.

    Returns:
        ``{"first", "last", "slope"}``, see :func:`benchmark_soak`.
    """
    seconds, memory = np.array(samples, float).T
    end = seconds[-1]
    after = seconds >= WARM_UP * end
    return {
        "first": float(np.median(memory[seconds <= 0.1 * end])),
        "last": float(np.median(memory[seconds >= 0.9 * end])),
        # The median of the slopes between any two: the start and the joining of segments are no leaks.
        "slope": float(theilslopes(memory[after], seconds[after] / 3600).slope),
    }


def _watch(process: Any, period: float, progress: bool) -> list[list[float]]:
    began = time.perf_counter()
    watched = psutil.Process(process.pid)
    samples = []
    with tqdm(desc="soak", unit=" looks", disable=not progress, leave=False) as bar:
        while process.poll() is None:
            # One that has just ended has no memory.
            with contextlib.suppress(psutil.Error):
                if memory := watched.memory_info().rss:
                    samples.append([time.perf_counter() - began, float(memory)])
            bar.update()
            time.sleep(period)
    return samples


def _moved(given: Sequence[tuple[Fraction, str]], got: Sequence[tuple[Fraction, str]]) -> int:
    """How many frames of one are at another time in the other, compared in order of time."""
    pairs = zip(sorted(time for time, _ in given), sorted(time for time, _ in got), strict=False)
    return sum(one != other for one, other in pairs)


def _duration(video: Sequence[tuple[Fraction, str]]) -> float:
    """Seconds from the first frame to the last."""
    times = [time for time, _ in video]
    return float(max(times) - min(times)) if times else 0.0
