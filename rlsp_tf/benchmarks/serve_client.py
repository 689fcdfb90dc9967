"""A client of ``rlsp serve`` that sends the frames of one session, as benchmarks need it."""

import itertools
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import requests

from rlsp_tf.errors import RLSPError

IN_FLIGHT = 2
"""Frames of a session on their way at a time, as many as the server allows."""
MOST_BREAKS = 50
"""Connections that may break one after the other until the client gives up."""


@dataclass
class Tally:
    """What one client has sent and received.

    Attributes:
        sent: accepted frames.
        received: upscaled frames.
        refused: requests that were refused and sent again.
        broken: connections that broke, after which the request was sent again.
        wrong: upscaled frames of another size.
        latencies: seconds from the first byte of each frame to the last byte of its answer.
        times: when the answers were here, by ``time.perf_counter``.
    """

    sent: int = 0
    received: int = 0
    refused: int = 0
    broken: int = 0
    wrong: int = 0
    latencies: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


class FrameClient:
    """Sends a clip as a session, with :data:`IN_FLIGHT` frames on their way at a time.

    Frames that are refused are sent again after the time that the server names, and so are those whose
    connection has broken.

    Args:
        url: address of the server.
        frames: the frames as they are sent, which are repeated.
        size: their width and height.
        media_type: their format.
        expected: bytes of an upscaled frame.
    """

    def __init__(
        self, url: str, frames: Sequence[bytes], size: tuple[int, int], media_type: str, expected: int
    ) -> None:
        self._url, self._frames, self._size = url, frames, size
        self._headers, self._expected = {"Content-Type": media_type}, expected
        self._lock = threading.Lock()

    def run(self, tally: Tally, go_on: Callable[[int], bool]) -> None:
        """Runs one session from its begin to its flush.

        Args:
            tally: is kept up to date.
            go_on: whether to send the frame of this number; asked in their order.

        Raises:
            RLSPError: if a frame is refused for good.
            requests.RequestException: if the server cannot be reached any more.
        """
        width, height = self._size
        with requests.Session() as http:
            size = {"width": width, "height": height}
            began = self._send(http, tally, "POST", "/sessions", lambda: go_on(0), params=size)
            if began is None:
                return
            session = f"/sessions/{began.json()['session']}"
            numbers = itertools.count()

            def lane(number: int) -> None:
                with requests.Session() as own:
                    while (index := self._next(numbers, go_on)) is not None:
                        self._frame(own, tally, session, index)

            with ThreadPoolExecutor(IN_FLIGHT) as pool:
                list(pool.map(lane, range(IN_FLIGHT)))
            self._take(tally, self._send(http, tally, "DELETE", session))

    def _next(self, numbers: "itertools.count[int]", go_on: Callable[[int], bool]) -> int | None:
        with self._lock:
            index = next(numbers)
            return index if go_on(index) else None

    def _frame(self, http: requests.Session, tally: Tally, session: str, index: int) -> None:
        data, start = self._frames[index % len(self._frames)], time.perf_counter()
        path = f"{session}/frames/{index}"
        answer = self._send(http, tally, "PUT", path, data=data, headers=self._headers)
        with self._lock:
            tally.times.append(time.perf_counter())
            tally.latencies.append(tally.times[-1] - start)
            tally.sent += 1
        self._take(tally, answer)

    def _take(self, tally: Tally, answer: requests.Response | None) -> None:
        if answer is not None and answer.status_code == 200:
            with self._lock:
                tally.received += 1
                tally.wrong += len(answer.content) != self._expected

    def _send(
        self,
        http: requests.Session,
        tally: Tally,
        method: str,
        path: str,
        go_on: Callable[[], bool] = lambda: True,
        **options: Any,
    ) -> requests.Response | None:
        """Sends a request until it is accepted; ``None`` if it was refused and that is enough."""
        breaks = 0
        while True:
            try:
                answer = http.request(method, f"{self._url}{path}", timeout=600, **options)
            except requests.ConnectionError:
                breaks += 1
                if breaks > MOST_BREAKS:
                    raise
                tally.broken += 1
                time.sleep(0.1)
                continue
            if answer.status_code not in (429, 503):
                if not answer.ok:
                    raise RLSPError(answer.json()["error"])
                return answer
            tally.refused += 1
            if not go_on():
                return None
            time.sleep(float(answer.headers.get("Retry-After", 1)))


def about_server(url: str) -> dict[str, Any]:
    """The models and limits of a server.

    Raises:
        RLSPError: if there is none, or it wants a token.
    """
    try:
        about = requests.get(f"{url}/", timeout=10).json()
        return {"models": dict(about["models"]), "limits": dict(about["limits"])}
    except (requests.RequestException, ValueError, LookupError, TypeError) as error:
        raise RLSPError(
            f"{url}: is not an rlsp serve without tokens; start one, and give the URL that it prints."
        ) from error


def metrics_of(url: str) -> dict[str, float]:
    """The counters of a server, by their names with labels.

    Raises:
        requests.RequestException: if it does not answer, or refuses to.
    """
    answer = requests.get(f"{url}/metrics", timeout=60)
    answer.raise_for_status()
    return {name: float(value) for name, value in re.findall(r"^([^#\s]\S*) (\S+)$", answer.text, re.M)}
