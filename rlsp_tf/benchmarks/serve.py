"""Measures how many frames per second a running ``rlsp serve`` answers, for more and more clients."""

import math
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import requests
from tqdm import tqdm

from rlsp_tf.benchmarks.harness import heading
from rlsp_tf.errors import RLSPError
from rlsp_tf.serving.wire import RAW

CLIENTS = (1, 2, 4, 8, 16)
SECONDS = 20.0
GAIN = 1.05
"""The server is saturated if more clients do not bring this many times the frames per second."""


@dataclass
class _Tally:
    """What one client has sent and received."""

    sent: int = 0
    received: int = 0
    refused: int = 0
    wrong: int = 0
    latencies: list[float] = field(default_factory=list)


def benchmark_serve(
    url: str,
    *,
    clients: Sequence[int] = CLIENTS,
    size: tuple[int, int] = (480, 270),
    seconds: float = SECONDS,
    progress: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Loads a server with sessions. Each sends its next frame when the one before was answered.

    Each number of clients is preceded by a round of a few seconds that does not count, in which the server
    compiles what it needs. A frame that is refused is sent again after the time that the server names.

    Args:
        url: the URL that the server prints.
        clients: numbers of clients to measure, one after the other.
        size: width and height of the frames, in pixels.
        seconds: seconds for each number of clients.
        progress: show a progress bar on standard error.
        command: the command line to note in the result.

    Returns:
        What is measured: :func:`rlsp_tf.benchmarks.harness.heading` and ``{"url", "size", "limits",
        "models", "seconds", "rounds": [{"clients", "frames", "rate": frames per second, "latency": {"p50",
        "p99"} in seconds, "streams": mean size of a batch, "refused": refused requests, "lost": frames
        that were accepted but never returned, "wrong": frames of another size, "memory": bytes by
        process}], "saturated": the number of clients from which on more clients gain less than a twentieth,
        or ``None``}``.

    Raises:
        RLSPError: if there is no such server, it has no room for the clients, or it ends meanwhile.
    """
    result = heading("serve", command)
    url = url.rstrip("/")
    about = _about(url)
    limits = about["limits"]
    share = max(1, int(limits["sessions"] * limits["client_share"]))
    if max(clients) > share:
        raise RLSPError(
            f"{url}: accepts {share} sessions from one client, not {max(clients)}; start it with "
            "--client-share 1, or give fewer by --clients."
        )
    clip = _clip(size)
    scale = next(iter(about["models"].values()))["scale"]
    expected = 3 * size[0] * size[1] * scale**2
    rounds: list[dict[str, Any]] = []
    with tqdm(clients, desc="clients", disable=not progress, leave=False) as bar:
        for count in bar:
            bar.set_postfix_str(str(count))
            _round(url, clip, count, min(5.0, seconds), expected)
            before = _metrics(url)
            tallies, took = _round(url, clip, count, seconds, expected)
            after = _metrics(url)
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
                    "latency": {"p50": _quantile(latencies, 0.5), "p99": _quantile(latencies, 0.99)},
                    "streams": streams / max(1, steps),
                    "refused": sum(tally.refused for tally in tallies),
                    "lost": sum(tally.sent - tally.received for tally in tallies),
                    "wrong": sum(tally.wrong for tally in tallies),
                    "memory": {
                        process: int(after[f'rlsp_resident_bytes{{process="{process}"}}'])
                        for process in ("front", "replicas")
                    },
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
        "rounds": rounds,
        "saturated": saturated[0] if saturated else None,
    }


def _round(
    url: str, clip: np.ndarray, clients: int, seconds: float, expected: int
) -> tuple[list[_Tally], float]:
    """Runs all clients at the same time; returns what they saw and the seconds until the last answer."""
    tallies = [_Tally() for _ in range(clients)]
    failures: list[Exception] = []
    began = time.perf_counter()

    def run(tally: _Tally) -> None:
        try:
            _client(url, clip, tally, began + seconds, expected)
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


def _client(url: str, clip: np.ndarray, tally: _Tally, until: float, expected: int) -> None:
    """Runs one session from its begin to its flush."""
    height, width = clip.shape[1:3]
    headers = {"Content-Type": RAW}
    with requests.Session() as http:

        def send(method: str, path: str, **options: Any) -> requests.Response | None:
            while True:
                answer = http.request(method, f"{url}{path}", timeout=600, **options)
                if answer.status_code not in (429, 503):
                    if not answer.ok:
                        raise RLSPError(answer.json()["error"])
                    return answer
                tally.refused += 1
                wait = float(answer.headers.get("Retry-After", 1))
                if method == "POST" and time.perf_counter() + wait > until:
                    return None
                time.sleep(wait)

        def take(answer: requests.Response) -> None:
            if answer.status_code == 200:
                tally.received += 1
                tally.wrong += len(answer.content) != expected

        began = send("POST", "/sessions", params={"width": width, "height": height})
        if began is None:
            return
        session = f"/sessions/{began.json()['session']}"
        while time.perf_counter() < until:
            frame = clip[tally.sent % len(clip)].tobytes()
            start = time.perf_counter()
            answer = send("PUT", f"{session}/frames/{tally.sent}", data=frame, headers=headers)
            assert answer is not None
            tally.latencies.append(time.perf_counter() - start)
            tally.sent += 1
            take(answer)
        answer = send("DELETE", session)
        assert answer is not None
        take(answer)


def _about(url: str) -> dict[str, Any]:
    try:
        about = requests.get(f"{url}/", timeout=10).json()
        return {"models": dict(about["models"]), "limits": dict(about["limits"])}
    except (requests.RequestException, ValueError, LookupError, TypeError) as error:
        raise RLSPError(
            f"{url}: is not an rlsp serve without tokens; start one, and give the URL that it prints."
        ) from error


def _metrics(url: str) -> dict[str, float]:
    text = requests.get(f"{url}/metrics", timeout=60).text
    return {name: float(value) for name, value in re.findall(r"^([^#\s]\S*) (\S+)$", text, re.M)}


def _clip(size: tuple[int, int]) -> np.ndarray:
    """Moving waves, uint8 ``(8, height, width, 3)``. The network takes the same time for any content."""
    width, height = size
    t, y, x = np.ogrid[:8, :height, :width]
    waves = [np.sin((x + 2 * t) / 7 + y / period) for period in (5, 9, 17)]
    return (127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def _quantile(ordered: Sequence[float], part: float) -> float:
    """The least of the values that is not exceeded by this part of them."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]
