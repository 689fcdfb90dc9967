"""How often clients may ask a server, over HTTP and without Ray."""

import asyncio
import contextlib
import http.client
import json
import re
import socket
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.networks import Direct
from helpers.synthetic import make_clip
from rlsp_tf.cli.main import main
from rlsp_tf.inference.upscaler import StreamingUpscaler
from rlsp_tf.serving.engine import Engine
from rlsp_tf.serving.limits import DEFAULT_LIMITS, LOOPBACK, Limits

pytest.importorskip("limits", reason="needs rlsp_tf[serve]")
pytest.importorskip("uvicorn", reason="needs rlsp_tf[serve]")

from rlsp_tf.serving.app import App
from rlsp_tf.serving.rate_limit import RateLimit
from rlsp_tf.serving.server import Server
from rlsp_tf.serving.sessions import REQUESTS

HEIGHT, WIDTH = 10, 14
BEGIN = ("POST", f"/sessions?width={WIDTH}&height={HEIGHT}")
RAW = {"Content-Type": "application/octet-stream"}


class Client:
    """Asks from an address of its own, as a machine on the network would; all of 127.0.0.0/8 are this one."""

    def __init__(self, port, address):
        self._port, self._address = port, address

    def connect(self):
        return http.client.HTTPConnection(
            "127.0.0.1", self._port, timeout=60, source_address=(self._address, 0)
        )

    def ask(self, method, path, data=None, headers=None):
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, data, headers or {})
            answer = connection.getresponse()
            return SimpleNamespace(status=answer.status, headers=answer.headers, content=answer.read())

    def begin(self, *forwarded):
        """The status of a new session, maybe for whom a proxy has asked."""
        headers = {"X-Forwarded-For": ", ".join(forwarded)} if forwarded else {}
        return self.ask(*BEGIN, headers=headers).status


@pytest.fixture
def clock(monkeypatch):
    """The clock that requests are counted by; it stands still."""
    clock = SimpleNamespace(now=1e9)
    monkeypatch.setattr("limits.aio.storage.memory.time", SimpleNamespace(time=lambda: clock.now))
    return clock


@pytest.fixture(scope="module")
def engine(file):
    engine = Engine({"small": str(file)}, precision="float32", sessions=32)
    yield engine
    engine.close()


@pytest.fixture
def serving(engine, tmp_path):
    """Makes clients of a server by their addresses."""
    with contextlib.ExitStack() as servers:

        def serve(rate, proxies=LOOPBACK):
            listener = servers.enter_context(socket.create_server(("127.0.0.1", 0)))
            app = App(Direct(engine), engine.about(), Limits(rate=rate), tmp_path)
            server = Server(app, 1, proxies)
            thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
            thread.start()
            servers.callback(thread.join)
            servers.callback(setattr, server, "should_exit", True)
            return lambda address: Client(listener.getsockname()[1], address)

        yield serve


def test_who_asks_too_often_is_told_when_to_come_again(serving, clock):
    client = serving(2)("127.0.0.1")
    assert [client.begin() for _ in range(2)] == [201, 201]
    for method, path in (
        BEGIN,
        ("PUT", "/sessions/x/frames/0"),
        ("DELETE", "/sessions/x"),
        ("POST", "/videos"),
    ):
        answer = client.ask(method, path, b"x", RAW)
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
        said = json.loads(answer.content)["error"]
        assert said == "more than 2 requests per second come from this client; send fewer."
    # Whoever watches a server is counted apart from whom it works for.
    assert [client.ask("GET", path).status for path in ("/", "/healthz", "/metrics")] == [200, 200, 429]
    clock.now += 1
    metrics = client.ask("GET", "/metrics").content.decode()
    assert re.findall(r'^rlsp_refused_total{status="429"} (\S+)$', metrics, re.M) == ["5.0"]
    routes = re.findall(r'^rlsp_requests_total{route="(\w+)",status="429"} 1\.0$', metrics, re.M)
    assert sorted(routes) == ["begin", "flush", "frame", "metrics", "video"]
    assert client.begin() == 201


def test_a_frame_that_came_too_early_leaves_the_session_as_it_was(serving, clock, model):
    client = serving(2)("127.0.0.1")
    clip = make_clip(4, HEIGHT, WIDTH)
    session = f"/sessions/{json.loads(client.ask(*BEGIN).content)['session']}"
    answers = []
    for path, frame in [(f"{session}/frames/{t}", frame.tobytes()) for t, frame in enumerate(clip)]:
        answer = client.ask("PUT", path, frame, RAW)
        if answer.status == 429:
            clock.now += 1
            answer = client.ask("PUT", path, frame, RAW)
        answers.append(answer)
    assert [answer.status for answer in answers] == [204] + [200] * 3
    clock.now += 1
    answers.append(client.ask("DELETE", session))
    upscaler = StreamingUpscaler(model)
    expected = np.stack([frame for each in clip for frame in upscaler.push(each)] + upscaler.flush())
    assert b"".join(answer.content for answer in answers) == expected.tobytes()


def test_clients_do_not_share(serving, clock):
    client = serving(1)
    assert [client("127.0.0.2").begin() for _ in range(2)] == [201, 429]
    assert [client("127.0.0.3").begin() for _ in range(2)] == [201, 429]


def test_behind_a_proxy_clients_are_who_it_says(serving, clock):
    """Each adds whom it has heard: what comes before that, a client may have made up."""
    proxy = serving(1)("127.0.0.1")
    assert [proxy.begin("192.0.2.1"), proxy.begin("192.0.2.1")] == [201, 429]
    assert [proxy.begin("192.0.2.2"), proxy.begin("192.0.2.9", "192.0.2.2")] == [201, 429]
    assert [proxy.begin(), proxy.begin()] == [201, 429]
    assert [proxy.begin("unknown"), proxy.begin("x" * 999)] == [201, 429]


def test_a_network_of_ipv6_is_one_client(serving, clock):
    proxy = serving(1)("127.0.0.1")
    assert [proxy.begin("2001:db8::1"), proxy.begin("2001:db8::2:1")] == [201, 429]
    assert proxy.begin("2001:db8:0:1::1") == 201
    assert [proxy.begin("192.0.2.1"), proxy.begin("::ffff:192.0.2.1")] == [201, 429]


def test_only_trusted_proxies_are_believed(serving, clock):
    client = serving(1)("127.0.0.2")
    assert [client.begin("192.0.2.1"), client.begin("192.0.2.2")] == [201, 429]
    client = serving(1, ["127.0.0.2", "127.1.0.0/16"])
    for address in ("127.0.0.2", "127.1.2.3"):
        assert [client(address).begin(f"192.0.2.{n}", address) for n in (1, 1)] == [201, 429]
        clock.now += 1
    assert [client("127.0.0.1").begin("192.0.2.1"), client("127.0.0.1").begin("192.0.2.2")] == [201, 429]


@pytest.mark.parametrize("text", ["proxy.example", "10.0.0.1/8", "*", ""])
def test_what_is_no_address_of_a_proxy_is_told(text, capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--trusted-proxy", text])
    assert f"expected an address such as 10.0.0.7, or a network such as 10.0.0.0/8, not {text!r}" in (
        capsys.readouterr().err
    )


def test_eight_sessions_at_60_frames_a_second_are_not_refused_by_default(clock):
    async def work():
        rate = RateLimit(DEFAULT_LIMITS.rate)
        for _ in range(8 * 60):
            await rate.check("192.0.2.1")

    asyncio.run(work())


def test_clients_of_the_past_take_no_memory(clock):
    async def work():
        rate = RateLimit(1)
        for n in range(1000):
            await rate.check(f"10.0.{n // 256}.{n % 256}")
        storage = rate._limiter.storage
        kept = (storage.storage, storage.expirations, storage.locks, storage.events)
        assert max(map(len, kept)) == 1000
        clock.now += 1
        await rate.check("192.0.2.1")
        # They are looked through when nothing else is to be done.
        await asyncio.sleep(0)
        assert max(map(len, kept)) == 1

    asyncio.run(work())


def test_one_session_cannot_have_many_frames_in_memory(serving):
    client = serving(500)("127.0.0.1")
    session = f"/sessions/{json.loads(client.ask(*BEGIN).content)['session']}"
    frame = make_clip(1, HEIGHT, WIDTH).tobytes()
    with contextlib.ExitStack() as connections:
        for _ in range(REQUESTS):
            connection = connections.enter_context(contextlib.closing(client.connect()))
            connection.putrequest("PUT", f"{session}/frames/0")
            for name, value in {**RAW, "Content-Length": str(len(frame))}.items():
                connection.putheader(name, value)
            connection.endheaders(frame[:-1])
        deadline = time.monotonic() + 30
        while (answer := client.ask("PUT", f"{session}/frames/0", b"", RAW)).status != 503:
            assert time.monotonic() < deadline
            assert answer.status == 400, "an empty frame, while the others were not there yet"
        assert f"{REQUESTS} requests for this session already" in json.loads(answer.content)["error"]
        connection.send(frame[-1:])
        assert connection.getresponse().status == 204
        # One of the places is free again, while the other frames still come.
        assert client.ask("PUT", f"{session}/frames/0", frame, RAW).status == 204
    assert client.ask("DELETE", session).status == 200
