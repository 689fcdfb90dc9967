"""Says before a run what it will make, on which device, and about how long and how much room that takes.

Time and size are measured: a few frames from within the clip are upscaled and encoded as the run does it.
"""

import os
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import keras

from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.load import device_of
from rlsp_tf.inference.step import KerasStep, Step
from rlsp_tf.media.frames import Frame, FrameSource
from rlsp_tf.media.images import DEFAULT_RATE
from rlsp_tf.media.interval import Interval
from rlsp_tf.media.open import ImageSink, VideoSink, VideoSource
from rlsp_tf.media.shots import listed_shots
from rlsp_tf.media.stream_copy import accompaniment
from rlsp_tf.system.signals import Stop
from rlsp_tf.upscaling.segments import SEGMENT
from rlsp_tf.upscaling.upscale import Recipe, render
from rlsp_tf.upscaling.work_folder import JOURNAL, WorkFolder, read_journal

SHORTEST = 2**23
"""Pixels of all frames of a clip below which measuring would take about as long as the run."""
SAMPLE = 2**21
"""Pixels of the frames that are measured, but at least ``FEWEST`` and at most ``MOST`` frames."""
FEWEST, MOST = 3, 16


@dataclass(frozen=True)
class Estimate:
    """What a run will make and what it takes.

    Attributes:
        path: the file or folder to write.
        width: width of the result's frames in pixels.
        height: height of the result's frames in pixels.
        rate: frames per second; ``None`` for images.
        frames: number of frames; ``None`` if unknown.
        finished: number of frames that an interrupted run has finished.
        codec: FFmpeg's name of the encoder; ``"png"`` for images.
        along: the streams that go along with the video, such as ``"sound (aac)"``.
        device: what computes, such as ``"CPU (AMD EPYC, 2 cores)"``.
        precision: number format of the convolutions.
        seconds: about how long the run takes; ``None`` if that was not measured, because it is short or the
            number of frames is unknown.
        size: about how many bytes the result has; ``None`` likewise.
    """

    path: Path
    width: int
    height: int
    rate: float | None
    frames: int | None
    finished: int
    codec: str
    along: tuple[str, ...]
    device: str
    precision: str
    seconds: float | None = None
    size: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Converts the estimate to types that JSON has."""
        return {**asdict(self), "path": str(self.path)}


def estimate(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    model: keras.Model | Step,
    recipe: Recipe | None = None,
    *,
    memory: float | None = None,
    force: bool = False,
    resume: bool = True,
) -> Estimate:
    """Estimates what upscaling a clip takes. This takes some seconds; nothing is left on the disk.

    Args:
        source, target: see :func:`rlsp_tf.upscaling.upscale.upscale`; neither may be a pipe.
        model: the network. Give the one that the run will use: what is compiled for it here need not be
            compiled again.
        recipe: how the clip is upscaled; by default as :func:`rlsp_tf.upscaling.upscale.upscale` does it.
        memory, force, resume: see :func:`rlsp_tf.upscaling.upscale.upscale`.

    Raises:
        RLSPError: if the clip cannot be read or the result could not be written.
    """
    source, target = Path(source), Path(target)
    recipe = Recipe() if recipe is None else recipe
    step = KerasStep(model) if isinstance(model, keras.Model) else model
    with recipe.open(source) as frames:
        sink = recipe.sink(frames, step.config.scale, target, force=force)
        video = sink if isinstance(sink, VideoSink) else None
        journal = read_journal(WorkFolder(target).path / JOURNAL) if resume else None
        made = recipe.geometry(frames, step.config.scale, target)
        found = Estimate(
            path=target,
            width=made.width,
            height=made.height,
            rate=float(video.rate) if video else None,
            frames=frames.frames,
            finished=journal.frames if journal else 0,
            codec=video.codec if video else "png",
            along=tuple(accompaniment(frames, video.format))
            if video and isinstance(frames, VideoSource)
            else (),
            device=device_of(step)[0],
            precision=step.precision,
        )
        pixels = frames.width * frames.height
        if frames.frames is None or isinstance(sink, ImageSink) or frames.frames * pixels < SHORTEST:
            return found
        try:
            third = Fraction(frames.frames // 3) / Fraction(
                frames.rate or recipe.encoder.rate or DEFAULT_RATE
            )
            start = Interval(recipe.interval.start + third)
            seconds, size = _measure(source, target, step, replace(recipe, interval=start), memory)
        except (RLSPError, OSError, av.FFmpegError):
            return found  # the run itself says what is wrong
        left = max(0, frames.frames - found.finished)
        return replace(found, seconds=left * seconds, size=frames.frames * size + _size_along(frames, video))


def _measure(
    source: Path, target: Path, step: Step, recipe: Recipe, memory: float | None
) -> tuple[float, float]:
    """Upscales the first frames of an interval; returns seconds and bytes for each of them."""
    recipe = replace(recipe, warm_start=0)
    with recipe.open(source) as frames:
        count = min(max(SAMPLE // (frames.width * frames.height), FEWEST), MOST)
        sample = [*islice(frames, 1 + count)]
        return _measure_sample(frames, sample, target, step, recipe, memory)


def _measure_sample(
    frames: FrameSource, sample: list[Frame], target: Path, step: Step, recipe: Recipe, memory: float | None
) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="rlsp-") as folder:

        def run(frames_of_it: list[Frame], name: str) -> Path:
            path = Path(folder) / f"{name}{target.suffix if target.suffix else ''}"
            sink = recipe.sink(frames, step.config.scale, path, companions=False)
            with sink:
                render(
                    frames,
                    listed_shots(frames_of_it, frozenset()),
                    sink,
                    step,
                    recipe,
                    memory=memory,
                    stop=Stop(),
                    tick=lambda: None,
                )
            return path

        run(sample[:1], "compiled")
        sample = sample[1:] or sample
        begin = time.perf_counter()
        path = run(sample, "measured")
        seconds = (time.perf_counter() - begin) / len(sample)
        if path.is_dir():
            return seconds, sum(file.stat().st_size for file in path.iterdir()) / len(sample)
        with av.open(path) as container:
            sizes = [packet.size for packet in container.demux(video=0) if packet.size]
        # Every segment begins with a key frame, which is much larger than the frames after it.
        key, *others = sizes
        share = 1 / (1.5 * SEGMENT)
        return seconds, share * key + (1 - share) * (sum(others) / len(others) if others else key)


def _size_along(frames: FrameSource, video: VideoSink | None) -> float:
    """Returns about how many bytes the sound of a clip takes."""
    if video is None or not isinstance(frames, VideoSource):
        return 0
    rates = [stream.bit_rate or 0 for stream in frames.decoder.container.streams.audio]
    return sum(rates) / 8 * float((frames.frames or 0) / video.rate)
