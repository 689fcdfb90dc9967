"""Frames per second that one client gets from ``rlsp serve``, beside those of ``rlsp upscale``."""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import requests

from rlsp_tf.benchmarks.harness import REST, Worker, ratio
from rlsp_tf.benchmarks.serve_client import FrameClient, Tally, about_server, metrics_of
from rlsp_tf.benchmarks.video import VideoTimer
from rlsp_tf.errors import RLSPError
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.media.excerpts import cut
from rlsp_tf.media.pixel_formats import rgb8_from_planes
from rlsp_tf.media.video_reader import VideoSource
from rlsp_tf.serving.wire import PLANES, RAW, encode_frame
from rlsp_tf.system.backends import environment_for
from rlsp_tf.system.progress import ProgressBar
from rlsp_tf.upscaling.upscale import Recipe

ROUNDS = 3
FRAMES = 90
"""Frames that are timed, in every round."""
FEW = 15
"""Frames at the beginning that do not count."""
PRECISIONS = {8: "int8", 16: "auto", 32: "float32"}
"""The precision that computes with so many bits on this machine."""
LIKE_SESSIONS = "rlsp upscale --preset ultrafast --bars compute --repeats compute"
"""The command that does what a session does, which knows of no bars when its first frame comes and does not
encode, for which this preset takes least."""
USUAL = "rlsp upscale"
RECIPES = {
    LIKE_SESSIONS: Recipe(encoder=EncoderOptions(preset="ultrafast"), bars="compute", repeats="compute"),
    USUAL: Recipe(),
}


def side_by_side(
    url: str,
    video: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    rounds: int = ROUNDS,
    progress: bool = False,
) -> dict[str, Any]:
    """Upscales the beginning of a video by ``rlsp upscale`` and by a server on the same machine, in turn.

    Args:
        url: the URL that the server prints. It must have nothing else to do.
        video: the file. Its frames are sent as 4:2:0 planes with 8 bits, and as RGB.
        model: the weights of the server's first model; those of its name by default.
        rounds: number of rounds.
        progress: show on standard error how far it is.

    Returns:
        ``{"video", "frames", "contenders": {name: {"rate": frames per second, median over the rounds,
        "rates", "cpu": milliseconds of processor time per frame, of all processes, "to": the contender it is
        compared with, "ratio": of the rates, median over the rounds}}}``.

    Raises:
        RLSPError: if the video or the server cannot be used.
    """
    about = about_server(url)
    name, first = next(iter(about["models"].items()))
    with tempfile.TemporaryDirectory() as folder:
        clips = {count: Path(folder, f"{count}{Path(video).suffix}") for count in (FRAMES, FEW)}
        for count, path in clips.items():
            cut(Path(video), path, count)
        precision = PRECISIONS[first["bits"]]
        arguments = (os.fspath(video), os.fspath(model or name), precision)
        with environment_for(precision):
            upscaling = [
                Worker(name, UpscaleTimer, *arguments, recipe, folder, FRAMES, FEW)
                for name, recipe in RECIPES.items()
            ]
        like_sessions, usual = upscaling
        turns = {
            LIKE_SESSIONS: (lambda: like_sessions.call("run"), None),
            "a session of planes": (_Session(url, video, about, PLANES).run, LIKE_SESSIONS),
            "a session of RGB": (_Session(url, video, about, RAW).run, LIKE_SESSIONS),
            USUAL: (lambda: usual.call("run"), None),
            "POST /videos": (lambda: _post(url, "/videos", clips), USUAL),
            "POST /videos/stream": (lambda: _post(url, "/videos/stream", clips), USUAL),
        }
        results: dict[str, list[dict[str, float]]] = {name: [] for name in turns}
        try:
            with ProgressBar(
                total=rounds * len(turns), desc="turns", unit="turns", show=progress, leave=False
            ) as bar:
                for _ in range(rounds):
                    for name, (run, _to) in turns.items():
                        bar.set_postfix_str(name)
                        time.sleep(REST)
                        results[name].append(run())
                        bar.update()
        finally:
            for worker in upscaling:
                worker.close()
    rates = {name: [each["rate"] for each in own] for name, own in results.items()}
    return {
        "video": Path(video).name,
        "frames": FRAMES - FEW,
        "contenders": {
            name: {
                "rate": statistics.median(rates[name]),
                "rates": rates[name],
                "cpu": statistics.median(each["cpu"] for each in results[name]),
                "to": to,
                "ratio": ratio(rates[name], rates[to]) if to else None,
            }
            for name, (_run, to) in turns.items()
        },
    }


class UpscaleTimer(VideoTimer):
    """Times ``rlsp upscale`` alone, with the processor time that it takes."""

    def run(self) -> dict[str, float]:
        """Measures frames per second, and milliseconds of processor time per frame."""
        seconds, used = [], []
        for count in (self._few, len(self._frames)):
            video, before, began = self._cut(count), _own_cpu(), time.perf_counter()
            self._upscale(video)
            seconds.append(time.perf_counter() - began)
            used.append(_own_cpu() - before)
        frames = len(self._frames) - self._few
        return {"rate": frames / (seconds[1] - seconds[0]), "cpu": 1e3 * (used[1] - used[0]) / frames}


class _Session:
    """Sends the frames of a video as a session, in one format."""

    def __init__(
        self, url: str, video: str | os.PathLike[str], about: dict[str, Any], media_type: str
    ) -> None:
        self._url = url
        frames: list[Any] = []
        with VideoSource(video) as source:
            color = source.color
            if color is None or color.depth != 8 or color.subsampling != (2, 2) or color.full_range:
                raise RLSPError(f"{video}: is not 4:2:0 with 8 bits in limited range; give another video.")
            for frame in source:
                frames.append(frame.planes)
                if len(frames) == FRAMES:
                    break
        height, width = frames[0][0].shape
        if media_type == RAW:
            frames = [rgb8_from_planes(planes, color) for planes in frames]
        else:
            media_type = f"{media_type}; matrix={color.matrix}"
        scale = next(iter(about["models"].values()))["scale"]
        large = (scale * height, scale * width)
        halves = (-(-large[0] // 2)) * (-(-large[1] // 2))
        expected = 3 * large[0] * large[1] if media_type == RAW else large[0] * large[1] + 2 * halves
        data = [encode_frame(frame, media_type) for frame in frames]
        self._client = FrameClient(url, data, (width, height), media_type, expected)

    def run(self) -> dict[str, float]:
        tally, cpu = Tally(), []

        def go_on(index: int) -> bool:
            if index in (FEW, FRAMES):
                cpu.append(_cpu_of(self._url))
            return index < FRAMES

        self._client.run(tally, go_on)
        times = sorted(tally.times)
        frames = FRAMES - FEW
        return {
            "rate": frames / (times[FRAMES - 1] - times[FEW - 1]),
            "cpu": 1e3 * (cpu[1] - cpu[0]) / frames,
        }


def _post(url: str, path: str, clips: dict[int, Path]) -> dict[str, float]:
    seconds, used = [], []
    for count in (FEW, FRAMES):
        data, before, began = clips[count].read_bytes(), _cpu_of(url), time.perf_counter()
        answer = requests.post(f"{url}{path}", data=data, timeout=3600)
        if not answer.ok:
            raise RLSPError(answer.json()["error"])
        seconds.append(time.perf_counter() - began)
        used.append(_cpu_of(url) - before)
    frames = FRAMES - FEW
    return {"rate": frames / (seconds[1] - seconds[0]), "cpu": 1e3 * (used[1] - used[0]) / frames}


def _own_cpu() -> float:
    times = psutil.Process().cpu_times()
    return times.user + times.system


def _cpu_of(url: str) -> float:
    """Processor time of a server and of this process, in seconds."""
    metrics = metrics_of(url)
    server = sum(metrics[f'rlsp_cpu_seconds{{process="{process}"}}'] for process in ("front", "replicas"))
    return server + _own_cpu()
