"""What it brings that frames which repeat the one before, and black bars, are not computed."""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from rlsp_tf.benchmarks.harness import Worker, heading, ratio, take_turns
from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.backend import devices
from rlsp_tf.inference.bars import picture_of
from rlsp_tf.inference.load import load_step
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.media.excerpts import reading, writing
from rlsp_tf.upscaling.upscale import Recipe, upscale_clip

ROUNDS = 3
FRAMES = 48
"""Number of frames of each clip, a multiple of REPEATS."""
REPEATS = {"every frame once": 1, "every frame twice": 2, "every frame three times": 3}
"""How often a picture is shown in the clips without black bars, by the name of the clip."""
LETTERBOX = "black bars above and below"
ASPECT = 2.39
"""Width of a picture with black bars for a height of 1: that of a film in a cinema."""
MODES = ("spared", "computed")


def benchmark_spared(
    video: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] = "7-48",
    precision: str = "auto",
    rounds: int = ROUNDS,
    frames: int = FRAMES,
    progress: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Measures ``rlsp upscale`` with and without ``--repeats compute --bars compute``, in turn.

    Clips are made of the beginning of a video without loss, of those frames that differ from the one before:
    each once, twice, three times, and each once with black bars around a picture of 2.39:1, if the video is
    not as wide as that anyway. The start of the program does not count, and there is no warm start, which
    costs the same for a whole shot.

    Args:
        video: the video file.
        model, precision: as for :func:`rlsp_tf.inference.load.load_step`.
        rounds: number of rounds.
        frames: number of frames of each clip.
        progress: show on standard error how far it is.
        command: the command line to record in the result.

    Returns:
        :func:`rlsp_tf.benchmarks.harness.heading` and ``{"video", "size", "scale", "model", "precision",
        "device", "frames", "clips": [{"name", "picture": share of a frame without black edges, "spared",
        "computed": milliseconds per frame in each round, "ratio": how many times as fast the first is,
        median over the rounds}]}``.

    Raises:
        RLSPError: if the video cannot be upscaled or has fewer than ``frames`` frames that differ.
    """
    result = heading("spared", command, ("av",))
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(
            "upscaling", ClipsTimer, os.fspath(video), os.fspath(model), precision, folder, frames
        )
        try:
            (turns,) = take_turns([worker], rounds, progress=progress)
            about = worker.about
        finally:
            worker.close()
    pictures = about.pop("pictures")
    clips = []
    for name, picture in pictures.items():
        times = {mode: [turn[name][mode] for turn in turns] for mode in MODES}
        gain = ratio(times["computed"], times["spared"])
        clips.append({"name": name, "picture": picture, **times, "ratio": gain})
    return result | about | {"frames": frames, "clips": clips}


class ClipsTimer:
    """Upscales the clips in a process of its own, and times it.

    Args:
        video, model, precision, frames: see :func:`benchmark_spared`.
        folder: folder for clips and results.

    Attributes:
        about: ``{"video", "size", "scale", "model", "precision", "device", "pictures": share of a frame
            without black edges, by the name of the clip}``.

    Raises:
        RLSPError: see :func:`benchmark_spared`.
    """

    def __init__(self, video: str, model: str, precision: str, folder: str, frames: int) -> None:
        self._folder, self._frames = Path(folder), frames
        pictures, rate = _read(Path(video), frames)
        height, width = pictures[0].shape[0] * 2 // 3, pictures[0].shape[1]
        clips = {
            name: [picture for picture in pictures[: frames // times] for _ in range(times)]
            for name, times in REPEATS.items()
        }
        bar = 2 * round((height - width / ASPECT) / 4)
        if bar > 0:
            clips[LETTERBOX] = [_boxed(picture, bar) for picture in pictures]
        for name, shown in clips.items():
            _write(self._clip(name), shown, rate, Path(video))
        self._names = list(clips)
        self._step = load_step(model, precision=precision)
        spared = Recipe(encoder=EncoderOptions("libx264", preset="ultrafast"), warm_start=0)
        self._recipes = dict(
            zip(MODES, (spared, replace(spared, repeats="compute", bars="compute")), strict=True)
        )
        for name in self._names:  # each size of frames is compiled once
            self._upscale(name, spared)
        self.about = {
            "video": Path(video).name,
            "size": [width, height],
            "scale": self._step.config.scale,
            "model": Path(model).stem,
            "precision": self._step.precision,
            "device": devices()[0],
            "pictures": {name: _share(shown) for name, shown in clips.items()},
        }

    def run(self) -> dict[str, dict[str, float]]:
        """Measures milliseconds per frame of each clip in each mode."""
        return {
            name: {mode: self._upscale(name, recipe) for mode, recipe in self._recipes.items()}
            for name in self._names
        }

    def _upscale(self, name: str, recipe: Recipe) -> float:
        began = time.perf_counter()
        upscale_clip(self._clip(name), self._folder / "large.mkv", self._step, recipe, force=True)
        return 1e3 * (time.perf_counter() - began) / self._frames

    def _clip(self, name: str) -> Path:
        return self._folder / f"{name.replace(' ', '_')}.mkv"


def _read(video: Path, frames: int) -> tuple[list[np.ndarray], Fraction]:
    """Returns the first frames that differ from the one before, and the frame rate.

    Each is an array of its planes in 4:2:0, one below the other, ``(H * 3 / 2, W)``.
    """
    pictures: list[np.ndarray] = []
    with reading(video) as given:
        stream = given.streams.video[0]
        width, height = stream.width // 2 * 2, stream.height // 2 * 2
        for frame in given.decode(stream):
            picture = frame.reformat(width, height, "yuv420p").to_ndarray()
            if not pictures or not np.array_equal(picture, pictures[-1]):
                pictures.append(picture)
            if len(pictures) == frames:
                break
        rate = stream.average_rate or Fraction(25)
    if len(pictures) < frames:
        raise RLSPError(f"{video}: has {len(pictures)} frames that differ, too few; give a longer one.")
    return pictures, rate


def _boxed(picture: np.ndarray, bar: int) -> np.ndarray:
    """Blackens ``bar`` rows above and below, an even number, of a frame as returned by :func:`_read`."""
    height = picture.shape[0] * 2 // 3
    luma, chroma = picture[:height].copy(), picture[height:].copy()
    luma[:bar] = luma[-bar:] = 16
    planes = chroma.reshape(2, height // 2, -1)
    planes[:, : bar // 2] = planes[:, -(bar // 2) :] = 128
    return np.concatenate([luma, chroma])


def _share(pictures: Sequence[np.ndarray]) -> float:
    """Returns the share of frames, as returned by :func:`_read`, that is left without black edges."""
    frames = (av.VideoFrame.from_ndarray(picture, format="yuv420p").to_rgb() for picture in pictures)
    area = picture_of(frame.to_ndarray() for frame in frames)
    height, width = pictures[0].shape[0] * 2 // 3, pictures[0].shape[1]
    return area.height * area.width / (height * width) if area else 1.0


def _write(path: Path, pictures: Sequence[np.ndarray], rate: Fraction, source: Path) -> None:
    """Encodes frames without loss, so that equal ones are equal when they are decoded."""
    with writing(path, source) as made:
        stream = made.add_stream("libx264", rate=rate)
        stream.height, stream.width = pictures[0].shape[0] * 2 // 3, pictures[0].shape[1]
        stream.pix_fmt, stream.options = "yuv420p", {"qp": "0", "preset": "ultrafast"}
        for picture in pictures:
            made.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="yuv420p")))
        made.mux(stream.encode(None))
