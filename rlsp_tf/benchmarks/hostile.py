"""Clients of ``rlsp serve`` that try to stop it, while others want to work."""

import contextlib
import http.client
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from rlsp_tf.serving.wire import RAW

HOLD_SECONDS = 12
"""How long a connection is held, which is longer than the server bears by default."""
SIZE = 64
"""Width and height of their frames."""


class HostileClients:
    """Threads that send what no client should, until the block ends.

    On this machine each has an address of its own, as on a network: all of 127.0.0.0/8 are this machine.

    Args:
        url: address of the server, such as ``"http://127.0.0.1:8000"``.
        count: how many.

    Attributes:
        attacks: how often each kind of attack was made.
    """

    def __init__(self, url: str, count: int) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "localhost", parts.port or 80
        self.attacks: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]

    def __enter__(self) -> "HostileClients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        address = f"127.0.0.{2 + number}" if self._host.startswith("127.") else ""
        rng = random.Random(number)
        attacker = _Attacker(self._host, self._port, address, rng, self._stop)
        while not self._stop.is_set():
            attack = rng.choice(ATTACKS)
            # The server may close the connection at any moment, which is its good right.
            with contextlib.suppress(OSError, http.client.HTTPException):
                attack(attacker)
            self.attacks[attack.__name__.lstrip("_")] += 1
            self._stop.wait(0.02)


class _Attacker:
    def __init__(self, host: str, port: int, address: str, rng: random.Random, stop: threading.Event) -> None:
        self._target, self._address, self.rng, self.stop = (host, port), address, rng, stop

    def connect(self) -> socket.socket:
        connection = socket.socket()
        # Small, so that it is soon the server where an answer waits to be read.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(HOLD_SECONDS)
        connection.bind((self._address, 0))
        connection.connect(self._target)
        return connection

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(
            *self._target, timeout=HOLD_SECONDS, source_address=(self._address, 0)
        )
        with contextlib.closing(connection):
            connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def send(self, connection: socket.socket, method: str, path: str, length: int, body: bytes) -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {RAW}\r\n"
        connection.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode() + body)

    def begin(self) -> str:
        _, content = self.ask("POST", f"/sessions?width={SIZE}&height={SIZE}")
        return content.decode().partition('"session":"')[2].partition('"')[0]


def _half_a_request(attacker: _Attacker) -> None:
    with attacker.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow:")
        attacker.stop.wait(attacker.rng.uniform(0, HOLD_SECONDS))


def _slow_upload(attacker: _Attacker) -> None:
    with attacker.connect() as connection:
        attacker.send(connection, "POST", "/videos", 10**6, b"")
        ends = time.monotonic() + HOLD_SECONDS
        while time.monotonic() < ends and not attacker.stop.wait(0.1):
            connection.sendall(b"x")


def _answer_not_read(attacker: _Attacker) -> None:
    session = attacker.begin()
    for index in range(2):
        attacker.ask("PUT", f"/sessions/{session}/frames/{index}", bytes(3 * SIZE**2), Content_Type=RAW)
    with attacker.connect() as connection:
        body = bytes(3 * SIZE**2)
        attacker.send(connection, "PUT", f"/sessions/{session}/frames/2", len(body), body)
        attacker.stop.wait(attacker.rng.uniform(0, HOLD_SECONDS))


def _frame_broken_off(attacker: _Attacker) -> None:
    session = attacker.begin()
    with attacker.connect() as connection:
        attacker.send(connection, "PUT", f"/sessions/{session}/frames/0", 3 * SIZE**2, b"half")


def _wrong_frames(attacker: _Attacker) -> None:
    session = attacker.begin()
    for index, kind in ((0, "image/png"), (7, RAW), (10**8, RAW), (0, "text/plain")):
        body = attacker.rng.randbytes(attacker.rng.randrange(20_000))
        attacker.ask("PUT", f"/sessions/{session}/frames/{index}", body, Content_Type=kind)


def _sessions_left_behind(attacker: _Attacker) -> None:
    for _ in range(40):
        attacker.begin()


def _no_http(attacker: _Attacker) -> None:
    with attacker.connect() as connection:
        connection.sendall(attacker.rng.randbytes(1000) + b"\r\n\r\n")
        connection.recv(2**16)


def _huge_head(attacker: _Attacker) -> None:
    with attacker.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(100):
            connection.sendall(b"X: " + b"x" * 1000 + b"\r\n")


def _too_large(attacker: _Attacker) -> None:
    attacker.ask("POST", "/videos", b"x", Content_Length=str(2**50))


def _no_video(attacker: _Attacker) -> None:
    for path in ("/videos", "/jobs"):
        attacker.ask("POST", path, attacker.rng.randbytes(10_000))


def _many_requests(attacker: _Attacker) -> None:
    for _ in range(200):
        attacker.ask("GET", attacker.rng.choice(("/", "/metrics", "/openapi.json", "/" + "x" * 9000)))


def _many_connections(attacker: _Attacker) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(100):
            held.enter_context(attacker.connect())
        attacker.stop.wait(1)


def _foreign_page(attacker: _Attacker) -> None:
    attacker.ask("POST", "/jobs", b"x", Origin="https://evil.example")
    attacker.ask("GET", "/", Host="evil.example")


ATTACKS: tuple[Callable[[_Attacker], Any], ...] = (
    _half_a_request,
    _slow_upload,
    _answer_not_read,
    _frame_broken_off,
    _wrong_frames,
    _sessions_left_behind,
    _no_http,
    _huge_head,
    _too_large,
    _no_video,
    _many_requests,
    _many_connections,
    _foreign_page,
)
