"""Time and memory of upscaling a video from file to file, and the time of each part alone."""

import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import av

from rlsp_tf.benchmarks.harness import Worker, heading, ratio, take_turns
from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.backend import devices
from rlsp_tf.inference.load import load_step
from rlsp_tf.inference.upscaler import StreamingUpscaler
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.media.excerpts import cut
from rlsp_tf.media.open import Frame, VideoSink, VideoSource
from rlsp_tf.upscaling.upscale import Recipe, upscale_clip

ROUNDS = 5
FRAMES = 90
"""Number of frames that are timed, for every part and every round."""
FEW = 30
"""Frames at the beginning that do not count; the time of a run over these alone is subtracted."""
PARTS = ("decoding", "network", "encoding")


def benchmark_video(
    video: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] = "7-48",
    precision: str = "auto",
    codec: str = "libx264",
    preset: str = "ultrafast",
    rounds: int = ROUNDS,
    frames: int = FRAMES,
    few: int = FEW,
    progress: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Measures milliseconds per frame of ``rlsp upscale``, and of decoding, network and encoding alone.

    All are timed in turn on the same frames of the video. The network's part includes chroma. Then time and
    peak memory are measured for several lengths, up to the whole video, each in a process of its own.

    Args:
        video: the video file.
        model, precision: as for :func:`rlsp_tf.inference.load.load_step`.
        codec, preset: encoder and preset, as FFmpeg names them.
        rounds: number of rounds.
        frames: number of frames of the video that are timed.
        few: number of these that do not count, since parts may still be starting.
        progress: show on standard error how far it is.
        command: the command line to record in the result.

    Returns:
        :func:`rlsp_tf.benchmarks.harness.heading` and ``{"video", "size",
        "model", "codec", "preset", "frames", "milliseconds": {"decoding", "network", "encoding", "whole":
        {"median", "rounds"}}, "ratio": time of the whole to the sum of the parts, median over the rounds,
        "lengths": [{"frames", "seconds", "peak": bytes}]}``.

    Raises:
        RLSPError: if the video cannot be upscaled or has fewer than ``frames`` frames.
    """
    result = heading("video", command, ("av",))
    with tempfile.TemporaryDirectory() as folder:
        # The parts compute every frame, so the whole has to.
        encoder = EncoderOptions(codec, preset=preset)
        recipe = Recipe(encoder=encoder, repeats="compute", bars="compute")
        arguments = (os.fspath(video), os.fspath(model), precision, recipe, folder)
        worker = Worker("upscaling", VideoTimer, *arguments, frames, few)
        try:
            (turns,) = take_turns([worker], rounds, progress=progress)
            about = worker.about
        finally:
            worker.close()
        lengths = []
        for count in (few, frames, None):
            worker = Worker("upscaling", VideoTimer, *arguments, frames, few)
            try:
                lengths.append(worker.call("once", count))
            finally:
                worker.close()
    names = (*PARTS, "whole")
    times = {name: [turn[name] for turn in turns] for name in names}
    sums = [sum(turn[name] for name in PARTS) for turn in turns]
    return (
        result
        | about
        | {
            "codec": codec,
            "preset": preset,
            "frames": frames,
            "milliseconds": {
                name: {"median": statistics.median(times[name]), "rounds": times[name]} for name in names
            },
            "ratio": ratio(times["whole"], sums),
            "lengths": lengths,
        }
    )


class VideoTimer:
    """Upscales a video in a process of its own, and times it.

    Args:
        video, model, precision: see :func:`benchmark_video`.
        recipe: how the video is upscaled.
        folder: folder for output files.
        frames, few: see :func:`benchmark_video`.

    Attributes:
        about: ``{"video", "size", "scale", "model", "precision", "device"}``.

    Raises:
        RLSPError: see :func:`benchmark_video`.
    """

    def __init__(
        self,
        video: str,
        model: str,
        precision: str,
        recipe: Recipe,
        folder: str,
        frames: int,
        few: int,
    ) -> None:
        self._recipe, self._few = recipe, few
        self._folder = Path(folder)
        self._step = load_step(model, precision=precision)
        with VideoSource(Path(video)) as source:
            size = [source.width, source.height]
            self._frames = list(islice(source, frames))
        if len(self._frames) < max(frames, few + 1):
            raise RLSPError(f"{video}: has {len(self._frames)} frames, too few; give a longer one.")
        self._video = Path(video)
        self.about = {
            "video": Path(video).name,
            "size": size,
            "scale": self._step.config.scale,
            "model": Path(model).stem,
            "precision": self._step.precision,
            "device": devices()[0],
        }

    def run(self) -> dict[str, float]:
        """Measures milliseconds per frame of each part and of the whole."""
        return {
            "decoding": self._decoding(),
            "network": self._network(),
            "encoding": self._encoding(),
            "whole": self._whole(),
        }

    def once(self, frames: int | None) -> dict[str, Any]:
        """Upscales the first frames, or all of them; returns ``{"frames", "seconds", "peak": bytes}``."""
        self._frames.clear()
        video = self._video if frames is None else self._cut(frames)
        began = time.perf_counter()
        target = self._upscale(video)
        seconds = time.perf_counter() - began
        with av.open(os.fspath(target)) as container:
            count = sum(1 for packet in container.demux(video=0) if packet.size)
        # In units of 1024 bytes on Linux, of 1 byte on macOS.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"frames": count, "seconds": seconds, "peak": peak * (1 if sys.platform == "darwin" else 1024)}

    def _decoding(self) -> float:
        with VideoSource(self._video) as source:
            return self._per_frame(islice(source, len(self._frames)))

    def _network(self) -> float:
        with VideoSource(self._video) as source, self._sink(source) as sink:
            upscaler = StreamingUpscaler(self._step, source=source.color, target=sink.color)
            # Kept to be encoded later.
            self._large: list[Any] = []
            planes = (frame.planes if len(frame.planes) > 1 else frame.planes[0] for frame in self._frames)
            time = self._per_frame(map(self._large.extend, map(upscaler.push, planes)))
            self._large += upscaler.flush()
            sink.write(self._enlarged(0))
        return time

    def _encoding(self) -> float:
        with VideoSource(self._video) as source, self._sink(source) as sink:
            return self._per_frame(map(sink.write, map(self._enlarged, range(len(self._frames)))))

    def _enlarged(self, index: int) -> Frame:
        planes = self._large[index]
        return replace(self._frames[index], planes=planes if isinstance(planes, tuple) else (planes,))

    def _per_frame(self, work: Iterable[Any]) -> float:
        """Milliseconds per frame of a lazy iterator, without the first frames."""
        ticks = [time.perf_counter()]
        ticks += [time.perf_counter() for _ in work]
        return 1e3 * (ticks[-1] - ticks[self._few]) / (len(ticks) - 1 - self._few)

    def _whole(self) -> float:
        frames = len(self._frames)
        seconds = []
        for count in (self._few, frames):
            video = self._cut(count)
            began = time.perf_counter()
            self._upscale(video)
            seconds.append(time.perf_counter() - began)
        return 1e3 * (seconds[1] - seconds[0]) / (frames - self._few)

    def _sink(self, source: VideoSource) -> VideoSink:
        scale = self._step.config.scale
        return VideoSink(
            self._folder / "alone.mkv",
            source,
            width=scale * source.width,
            height=scale * source.height,
            force=True,
            encoder=self._recipe.encoder,
        )

    def _upscale(self, video: Path) -> Path:
        target = self._folder / "large.mkv"
        upscale_clip(video, target, self._step, self._recipe, force=True)
        return target

    def _cut(self, frames: int) -> Path:
        """A file with the first frames of the video, not encoded again."""
        part = self._folder / f"first_{frames}.mkv"
        if not part.exists():
            cut(self._video, part, frames)
        return part
