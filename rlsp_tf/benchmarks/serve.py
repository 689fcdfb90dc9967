"""Measures how many frames per second a running ``rlsp serve`` answers, for more and more clients."""

import contextlib
import math
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import requests

from rlsp_tf.benchmarks.harness import heading
from rlsp_tf.benchmarks.hostile import HostileClients
from rlsp_tf.benchmarks.serve_client import FrameClient, Tally, about_server, metrics_of
from rlsp_tf.benchmarks.serve_video import side_by_side
from rlsp_tf.errors import RLSPError
from rlsp_tf.serving.wire import RAW
from rlsp_tf.system.progress import ProgressBar

CLIENTS = (1, 2, 4, 8, 16)
SECONDS = 20.0
SAMPLE_SECONDS = 5
"""Seconds between two looks at the memory of the server."""
GAIN = 1.05
"""The server is saturated if more clients do not bring this many times the frames per second."""


def benchmark_serve(
    url: str,
    *,
    clients: Sequence[int] = CLIENTS,
    size: tuple[int, int] = (480, 270),
    seconds: float = SECONDS,
    hostile: int = 0,
    video: str | os.PathLike[str] | None = None,
    model: str | os.PathLike[str] | None = None,
    progress: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Loads a server with sessions. Each has two frames on their way at a time.

    Each number of clients is preceded by a round of a few seconds that does not count, in which the server
    compiles what it needs. A frame that is refused is sent again after the time that the server names.

    Args:
        url: the URL that the server prints.
        clients: numbers of clients to measure, one after the other.
        size: width and height of the frames, in pixels.
        seconds: seconds for each number of clients.
        hostile: clients that try to stop the server meanwhile, see
            :class:`rlsp_tf.benchmarks.hostile.HostileClients`.
        video: compare with ``rlsp upscale`` of this video first, see
            :func:`rlsp_tf.benchmarks.serve_video.side_by_side`.
        model: the weights of the server's first model for that.
        progress: show on standard error how far it is.
        command: the command line to note in the result.

    Returns:
        What is measured: :func:`rlsp_tf.benchmarks.harness.heading` and ``{"url", "size", "limits",
        "models", "seconds", "hostile", "compared": the result of ``side_by_side`` or ``None``, "rounds":
        [{"clients", "frames", "rate": frames per second, "latency": {"p50", "p99", "worst"} in seconds,
        "streams": mean size of a batch, "refused": refused requests, "broken": connections that broke,
        "lost": frames that were accepted but never returned, "wrong": frames of another size, "attacks": how
        many there were of each kind, "memory": {"front": bytes ``[before, most, after]``, "replicas"},
        "files": the same of open files and connections, "log": bytes that the server has logged}],
        "saturated": the number of clients from which on more clients gain less than a twentieth, or
        ``None``}``.

    Raises:
        RLSPError: if there is no such server, it has no room for the clients, or it ends meanwhile.
    """
    result = heading("serve", command)
    url = url.rstrip("/")
    about = about_server(url)
    limits = about["limits"]
    share = max(1, int(limits["sessions"] * limits["client_share"]))
    if max(clients) > share:
        raise RLSPError(
            f"{url}: accepts {share} sessions from one client, not {max(clients)}; start it with "
            "--client-share 1, or give fewer by --clients."
        )
    compared = side_by_side(url, video, model=model, progress=progress) if video is not None else None
    clip = _clip(size)
    scale = next(iter(about["models"].values()))["scale"]
    expected = 3 * size[0] * size[1] * scale**2
    rounds: list[dict[str, Any]] = []
    with ProgressBar(clients, desc="clients", unit="rounds", show=progress, leave=False) as bar:
        for count in bar:
            bar.set_postfix_str(str(count))
            _round(url, clip, count, min(5.0, seconds), expected)
            with _Samples(url) as samples, HostileClients(url, hostile) as enemies:
                tallies, took = _round(url, clip, count, seconds, expected)
            before, after = samples.metrics[0], samples.metrics[-1]
            steps = after["rlsp_streams_count"] - before["rlsp_streams_count"]
            streams = after["rlsp_streams_sum"] - before["rlsp_streams_sum"]
            latencies = sorted(each for tally in tallies for each in tally.latencies)
            received = sum(tally.received for tally in tallies)
            if not received:
                raise RLSPError(f"{url}: accepted no session, because others have them all; try again later.")
            rounds.append(
                {
                    "clients": count,
                    "frames": received,
                    "rate": received / took,
                    "latency": {
                        "p50": _quantile(latencies, 0.5),
                        "p99": _quantile(latencies, 0.99),
                        "worst": latencies[-1],
                    },
                    "streams": streams / max(1, steps),
                    "refused": sum(tally.refused for tally in tallies),
                    "broken": sum(tally.broken for tally in tallies),
                    "lost": sum(tally.sent - tally.received for tally in tallies),
                    "wrong": sum(tally.wrong for tally in tallies),
                    "attacks": dict(enemies.attacks),
                    "memory": samples.by_process("rlsp_resident_bytes"),
                    "files": samples.by_process("rlsp_open_files"),
                    "log": int(after["rlsp_log_bytes_total"] - before["rlsp_log_bytes_total"]),
                }
            )
    rates = [each["rate"] for each in rounds]
    saturated = [
        rounds[index]["clients"]
        for index in range(len(rates) - 1)
        if max(rates[index + 1 :]) < GAIN * rates[index]
    ]
    return result | {
        "url": url,
        "size": list(size),
        "models": about["models"],
        "limits": about["limits"],
        "seconds": seconds,
        "hostile": hostile,
        "compared": compared,
        "rounds": rounds,
        "saturated": saturated[0] if saturated else None,
    }


def _round(
    url: str, clip: np.ndarray, clients: int, seconds: float, expected: int
) -> tuple[list[Tally], float]:
    """Runs all clients at the same time; returns what they saw and the seconds until the last answer."""
    tallies = [Tally() for _ in range(clients)]
    failures: list[Exception] = []
    began = time.perf_counter()
    height, width = clip.shape[1:3]
    frames = [frame.tobytes() for frame in clip]

    def run(tally: Tally) -> None:
        client = FrameClient(url, frames, (width, height), RAW, expected)
        try:
            client.run(tally, lambda index: time.perf_counter() < began + seconds)
        except (requests.RequestException, RLSPError) as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(tally,)) for tally in tallies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RLSPError(f"{url}: {str(failures[0]).rstrip('.')}; check the server.") from failures[0]
    return tallies, time.perf_counter() - began


class _Samples:
    """The counters of a server at the beginning of a block, every few seconds, and at its end."""

    def __init__(self, url: str) -> None:
        self._url, self._ended = url, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "_Samples":
        self.metrics = [metrics_of(self._url)]
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()
        self.metrics.append(metrics_of(self._url))

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            # A server that is attacked may refuse this once.
            with contextlib.suppress(requests.RequestException):
                self.metrics.append(metrics_of(self._url))

    def by_process(self, name: str) -> dict[str, list[int]]:
        """For each process a value before, the largest one, and the one after."""
        values = {}
        for process in ("front", "replicas"):
            own = [int(each[f'{name}{{process="{process}"}}']) for each in self.metrics]
            values[process] = [own[0], max(own), own[-1]]
        return values


def _clip(size: tuple[int, int]) -> np.ndarray:
    """Moving waves, uint8 ``(8, height, width, 3)``. The network takes the same time for any content."""
    width, height = size
    t, y, x = np.ogrid[:8, :height, :width]
    waves = [np.sin((x + 2 * t) / 7 + y / period) for period in (5, 9, 17)]
    return (127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def _quantile(ordered: Sequence[float], part: float) -> float:
    """The least of the values that is not exceeded by this part of them."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]
