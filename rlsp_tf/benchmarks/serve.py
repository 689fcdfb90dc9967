"""How many frames a running ``rlsp serve`` gives to more and more clients, how fast, and all of them."""

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
"""Times as many frames per second that more clients have to bring; else the server is saturated."""


@dataclass
class _Tally:
    """What one client has seen."""

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
    """Loads a server with sessions, each of which sends its next frame when the one before was answered.

    A round of a few seconds that does not count comes before every number of clients, in which the server
    makes what it needs for that many. A frame that is refused is sent again when the server says.

    Args:
        url: of the server, as it prints it.
        clients: how many, one number after the other.
        size: width and height of frames.
        seconds: for each number of clients.
        progress: show a progress bar on standard error.
        command: what to note as the command behind the result.

    Returns:
        :func:`rlsp_tf.benchmarks.harness.heading` and ``{"url", "size",
        "limits", "models", "seconds", "rounds": [{"clients", "frames", "rate": frames per second,
        "latency": {"p50", "p99"} in seconds, "streams": mean number of streams in a step, "refused":
        requests, "lost": frames that were accepted and never came, "wrong": frames of another size,
        "memory": bytes by process}], "saturated": the number of clients from which on more brought less than
        a twentieth, or ``None``}``.

    Raises:
        RLSPError: if there is no such server, it is full, or it ends meanwhile.
    """
    result = heading("serve", command)
    url = url.rstrip("/")
    about = _about(url)
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
                raise RLSPError(f"{url}: took no session, for others have them all; try again later.")
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
    """All clients at once for some seconds: what they have seen, and the time until the last answer."""
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
        raise RLSPError(f"{url}: {str(failures[0]).rstrip('.')}; look at the server.") from failures[0]
    return tallies, time.perf_counter() - began


def _client(url: str, clip: np.ndarray, tally: _Tally, until: float, expected: int) -> None:
    """One session from its beginning to its flush."""
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
            f"{url}: there is no rlsp serve; start it, and give the URL that it prints."
        ) from error


def _metrics(url: str) -> dict[str, float]:
    text = requests.get(f"{url}/metrics", timeout=60).text
    return {name: float(value) for name, value in re.findall(r"^([^#\s]\S*) (\S+)$", text, re.M)}


def _clip(size: tuple[int, int]) -> np.ndarray:
    """Waves that move: uint8 ``(8, height, width, 3)``. The network takes as long for any."""
    width, height = size
    t, y, x = np.ogrid[:8, :height, :width]
    waves = [np.sin((x + 2 * t) / 7 + y / period) for period in (5, 9, 17)]
    return (127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def _quantile(ordered: Sequence[float], part: float) -> float:
    """The least value that such a part of all does not exceed."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]
