"""What strangers may try on a server, over HTTP, without Ray and without a network that computes.

Clients have addresses of their own, as machines on a network would: all of 127.0.0.0/8 are this machine.
"""

import asyncio
import contextlib
import json
import logging
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from rlsp_tf.errors import RLSPError

pytest.importorskip("limits", reason="needs rlsp_tf[serve]")
pytest.importorskip("uvicorn", reason="needs rlsp_tf[serve]")

from helpers.served import ANSWER, BEGIN, LIMITS, Client, wait_until
from rlsp_tf.benchmarks.hostile import HostileClients
from rlsp_tf.cli.main import main
from rlsp_tf.serving import folder as serve_folder
from rlsp_tf.serving.access import Access, read_tokens
from rlsp_tf.serving.folder import server_folder
from rlsp_tf.serving.server import OncePerMinute, check_tls
from rlsp_tf.serving.sessions import REQUESTS

MEDIA_TYPE = "application/octet-stream"
RAW = {"Content-Type": MEDIA_TYPE}
FRAME = bytes(range(256)) * 3
PATIENT = 3600
"""Seconds that no test waits for, where a limit of time must not be the reason."""


@pytest.fixture
def log(monkeypatch):
    """The lines that the server logs, as they get through the filter of its command."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    handler.addFilter(OncePerMinute())
    loggers = [logging.getLogger(name) for name in ("rlsp.serve", "uvicorn.error", "asyncio")]
    # The command, called by another test, leaves its own handler here.
    monkeypatch.setattr(logging.getLogger("rlsp.serve.requests"), "propagate", True)
    for logger in loggers:
        logger.addHandler(handler)
    yield lines
    for logger in loggers:
        logger.removeHandler(handler)


def is_closed(connection):
    """Whether the other side has closed a connection; it may have said why."""
    try:
        while connection.recv(2**16):
            pass
    except ConnectionError:
        pass
    return True


def waiting_bytes(server):
    return sum(each.transport.get_write_buffer_size() for each in list(server.connections))


class TestAnswers:
    def session(self, client):
        session = client.begin()
        assert client.ask("PUT", f"{session}/frames/0", FRAME, RAW).status == 204
        assert client.ask("PUT", f"{session}/frames/1", FRAME, RAW).content == ANSWER
        return session

    def test_answers_that_nobody_reads_take_little_memory(self, serving):
        """A frame that was answered before is answered again from memory, to any number of connections."""
        server = serving(replace(LIMITS, stall_seconds=PATIENT, least_rate=1, connections=64))
        client = Client(server.port)
        session = self.session(client)
        with contextlib.ExitStack() as stack:
            for _ in range(12):
                stack.enter_context(client.send("PUT", f"{session}/frames/1", FRAME, Content_Type=MEDIA_TYPE))
            wait_until(lambda: client.ask("PUT", f"{session}/frames/1", FRAME, RAW).status == 503)
            wait_until(lambda: waiting_bytes(server))
            # As many connections may wait for a session, with a block or two of 64 KiB each.
            assert waiting_bytes(server) <= REQUESTS * 2**17
        wait_until(lambda: not waiting_bytes(server))
        wait_until(lambda: client.ask("PUT", f"{session}/frames/1", FRAME, RAW).content == ANSWER)

    def test_a_client_that_does_not_read_loses_its_connection_but_not_its_answer(self, serving, log):
        server = serving(replace(LIMITS, stall_seconds=0.2))
        client = Client(server.port)
        session = self.session(client)
        with client.send("PUT", f"{session}/frames/1", FRAME, Content_Type=MEDIA_TYPE):
            wait_until(lambda: waiting_bytes(server))
            wait_until(lambda: not server.connections)
        assert client.ask("PUT", f"{session}/frames/1", FRAME, RAW).content == ANSWER
        assert log == ["a client did not read its answer; its connection was closed."]

    def test_a_result_that_nobody_reads_makes_room_for_other_videos(self, serving):
        server = serving(replace(LIMITS, stall_seconds=0.2, videos=1))
        client = Client(server.port)
        with client.send("POST", "/videos", b"video"):
            wait_until(lambda: waiting_bytes(server))
            wait_until(lambda: not server.app._videos.taken)
        assert client.ask("POST", "/videos", b"video").content == ANSWER

    def test_a_frame_that_is_sent_again_must_be_the_same(self, serving):
        client = Client(serving().port)
        session = self.session(client)
        assert client.ask("PUT", f"{session}/frames/1", FRAME, RAW).content == ANSWER
        for body, media_type in ((FRAME[::-1], MEDIA_TYPE), (b"", MEDIA_TYPE), (FRAME, "image/png")):
            answer = client.ask("PUT", f"{session}/frames/1", body, {"Content-Type": media_type})
            assert (answer.status, "accepted before with other content" in answer.error) == (409, True)
        assert client.ask("PUT", f"{session}/frames/2", FRAME, RAW).status == 200


class TestConnections:
    HALF = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow:"

    def test_half_requests_keep_nobody_out(self, serving, log):
        """From the address of a proxy, where many clients may come from, so that only the total counts."""
        server = serving(replace(LIMITS, head_seconds=PATIENT), proxies=["127.0.0.2"])
        client = Client(server.port)
        with contextlib.ExitStack() as stack:
            for number in range(100):
                connection = stack.enter_context(client.connect())
                connection.sendall(self.HALF)
                if number % 20 == 19:
                    assert client.ask("GET", "/healthz").status == 200
                    assert Client(server.port, "127.0.0.3").ask("GET", "/healthz").status == 200
                    assert len(server.connections) <= LIMITS.connections
        assert log == ["there are too many connections in all; the oldest idle one was closed."]

    def test_a_client_has_a_share_of_the_connections(self, serving, log):
        """Here all of them are at work, so that none can be closed for another one."""
        server = serving(replace(LIMITS, stall_seconds=PATIENT, videos=32, client_share=0.25))
        client = Client(server.port)
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(client.send("POST", "/videos", b"x", length=1000))
            wait_until(lambda: sum(each.busy for each in list(server.connections)) == 4)
            answer = client.ask("GET", "/healthz")
            assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
            assert Client(server.port, "127.0.0.3").ask("GET", "/healthz").status == 200
        assert log == ["there are too many connections of one client."]

    def test_a_head_must_be_complete_in_time(self, serving, log):
        """Also one of which something comes all the time, and the second one of a connection."""
        server = serving(replace(LIMITS, head_seconds=0.3))
        client = Client(server.port)
        with client.connect() as silent, client.connect() as half, client.connect() as second:
            half.sendall(self.HALF)
            second.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert second.recv(2**16).startswith(b"HTTP/1.1 200")
            second.sendall(self.HALF)
            drops = client.connect()
            with drops, contextlib.suppress(ConnectionError):
                for _ in range(600):
                    drops.sendall(b"G")
                    time.sleep(0.1)
                pytest.fail("it went on for a minute")
            assert all(map(is_closed, (silent, half, second)))
        wait_until(lambda: not server.connections)
        assert log == ["a request was not complete in time; it was closed."]

    def test_a_head_has_a_limited_size(self, serving, log):
        server = serving()
        client = Client(server.port)
        with client.connect() as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"GET / HTTP/1.1\r\n")
                for _ in range(10_000):
                    connection.sendall(b"X: " + b"x" * 1000 + b"\r\n")
                pytest.fail("10 MB were taken")
            assert is_closed(connection)
        assert client.ask("GET", "/healthz").status == 200

    def test_what_is_not_http_is_logged_once(self, serving, log):
        client = Client(serving().port)
        for _ in range(50):
            with client.connect() as connection:
                connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
                assert is_closed(connection)
        assert log == ["Invalid HTTP request received."]


def test_the_hostile_clients_of_the_benchmark_keep_nobody_out(serving):
    server = serving(replace(LIMITS, connections=256))
    client = Client(server.port, "127.0.0.99")
    with HostileClients(f"http://127.0.0.1:{server.port}", 4) as enemies:
        while sum(enemies.attacks.values()) < 8:
            assert client.ask("GET", "/healthz").status == 200
            time.sleep(0.1)
    session = client.begin()
    assert client.ask("PUT", f"{session}/frames/0", FRAME, RAW).status == 204


def test_the_benchmark_tells_what_they_have_done(serving, capsys):
    server = serving(replace(LIMITS, connections=256))
    words = ["--clients", "1", "--seconds", "1", "--size", "16x16", "--hostile", "4"]
    assert main(["benchmark", "serve", "--url", f"http://127.0.0.1:{server.port}", *words]) == 0
    said = capsys.readouterr().out
    assert re.search(r"Meanwhile 4 hostile clients made \d+ attacks\.", said)
    assert re.search(
        r"the server logged \d+ bytes, and \d+ connections of clients that are not hostile", said
    )
    assert re.search(r"\| 1 \| memory of the front \[MB\] \| [1-9]\d* \| [1-9]\d* \| [1-9]\d* \|", said)
    # There are none.
    assert "| 1 | files of the replicas | 0 | 0 | 0 |" in said


class TestSlowness:
    def test_an_upload_must_come_at_the_least_rate(self, serving):
        """One that is silent, and one of which a byte comes now and then."""
        server = serving(replace(LIMITS, stall_seconds=0.3, videos=1))
        client = Client(server.port)
        with client.send("POST", "/videos", b"x", length=1000) as silent:
            assert b"408" in silent.recv(2**16).split(b"\r\n")[0]
        with client.send("POST", "/videos", b"x", length=1000) as slow:
            slow.settimeout(0.05)
            for _ in range(1000):
                try:
                    answer = slow.recv(2**16)
                    break
                except TimeoutError:
                    slow.sendall(b"x")
            assert b"408" in answer.split(b"\r\n")[0]
        wait_until(lambda: not server.app._videos.taken)
        assert client.ask("POST", "/videos", b"video").content == ANSWER

    def test_a_body_has_a_time_in_all(self, serving):
        server = serving(replace(LIMITS, transfer_seconds=0.3, least_rate=1))
        with Client(server.port).send("POST", "/videos", b"x", length=100_000) as connection:
            connection.settimeout(0.05)
            for _ in range(1000):
                try:
                    answer = connection.recv(2**16)
                    break
                except TimeoutError:
                    connection.sendall(b"x" * 50)
            assert b"408" in answer.split(b"\r\n")[0]

    def test_refused_requests_do_not_keep_a_session(self, serving):
        server = serving(replace(LIMITS, idle=0.3))
        client, patience = Client(server.port), time.monotonic() + 60
        session = client.begin()
        while client.ask("PUT", f"{session}/frames/7", FRAME, RAW).status == 409:
            asyncio.run(server.app.expire())
            assert time.monotonic() < patience
        assert client.ask("PUT", f"{session}/frames/0", FRAME, RAW).status == 410

    def test_a_video_ends_when_its_client_goes(self, serving):
        server = serving()
        server.backend.results = False
        with Client(server.port).send("POST", "/videos", b"video"):
            wait_until(lambda: server.app._plain)
        assert server.backend.stopped.wait(60)
        wait_until(lambda: not server.app._videos.taken)


class TestShares:
    def test_one_client_cannot_have_all_sessions(self, serving):
        port = serving(replace(LIMITS, sessions=8)).port
        first, second = Client(port), Client(port, "127.0.0.3")
        sessions = [first.begin() for _ in range(2)]
        answer = first.ask("POST", BEGIN)
        assert (answer.status, answer.headers["Retry-After"]) == (429, "2")
        assert "2 sessions of this client already" in answer.error
        second.begin()
        assert first.ask("DELETE", sessions[0]).status == 204
        first.begin()

    def test_one_client_cannot_have_all_videos(self, serving):
        server = serving(replace(LIMITS, videos=4))
        server.backend.results = False
        first, second = Client(server.port), Client(server.port, "127.0.0.3")
        with first.send("POST", "/videos", b"video"), ThreadPoolExecutor(1) as pool:
            wait_until(lambda: server.app._plain)
            answer = first.ask("POST", "/videos", b"video")
            assert (answer.status, "1 videos of this client already" in answer.error) == (429, True)
            other = pool.submit(second.ask, "POST", "/videos", b"video")
            wait_until(lambda: len(server.app._plain) == 2)
            server.backend.results = True
            assert other.result().content == ANSWER


class TestAccess:
    def test_sessions_are_their_clients_own(self, serving):
        port = serving().port
        first, second = Client(port), Client(port, "127.0.0.3")
        session = first.begin()
        for method, path in (("PUT", f"{session}/frames/0"), ("DELETE", session)):
            answer = second.ask(method, path, FRAME, RAW)
            assert (answer.status, "no such session" in answer.error) == (410, True)
        assert first.ask("PUT", f"{session}/frames/0", FRAME, RAW).status == 204

    @pytest.mark.parametrize(
        ("host", "origin", "status"),
        [
            ("localhost", None, 200),
            ("localhost:1234", None, 200),
            ("10.1.2.3", None, 200),
            ("[::1]:8000", None, 200),
            ("Video.Example.:80", None, 200),
            ("video.example.org", None, 403),
            ("evil.example", None, 403),
            ("127.0.0.1.evil.example", None, 403),
            ("", None, 403),
            ("localhost:8000", "http://localhost:8000", 200),
            ("localhost:8000", "http://localhost:3000", 403),
            ("localhost:8000", "https://evil.example", 403),
            ("localhost:8000", "null", 403),
        ],
    )
    def test_requests_of_other_sites_are_refused(self, serving, host, origin, status):
        client = Client(serving(access=Access(hosts=["video.example"])).port)
        headers = {"Host": host} | ({"Origin": origin} if origin else {})
        answer = client.ask("GET", "/", headers=headers)
        assert answer.status == status, answer.error

    def test_without_a_token_there_is_only_the_health(self, serving, log):
        tokens = ["a" * 32, "b" * 32]
        client = Client(serving(access=Access(tokens=tokens)).port)
        assert client.ask("GET", "/healthz").status == 200
        for value in (None, "", "Bearer", "Bearer " + "c" * 32, "Basic " + "a" * 32, "Bearer " + "a" * 31):
            for method, path in (("GET", "/"), ("GET", "/metrics"), ("POST", BEGIN), ("POST", "/videos")):
                headers = {} if value is None else {"Authorization": value}
                answer = client.ask(method, path, headers=headers)
                assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        first, second = ({"Authorization": f"Bearer {token}"} for token in tokens)
        session = json.loads(client.ask("POST", BEGIN, headers=first).content)["session"]
        # Whoever has another token is another client, whatever the address.
        assert client.ask("DELETE", f"/sessions/{session}", headers=second).status == 410
        elsewhere = Client(client.port, "127.0.0.3")
        assert elsewhere.ask("DELETE", f"/sessions/{session}", headers=first).status == 204
        assert not log

    def test_tokens_cannot_be_guessed_fast(self, serving):
        client = Client(serving(replace(LIMITS, rate=1), access=Access(tokens=["a" * 32])).port)
        statuses = []
        # A window of the limit may end between two of them, but not after each of so many.
        while 429 not in statuses and len(statuses) < 1000:
            statuses.append(client.ask("GET", "/", headers={"Authorization": "Bearer x"}).status)
        assert set(statuses) == {401, 429}

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("# nothing\n\n", "has no token in it"),
            ("short\n", "line 1 is not a token of at least 16"),
            ("x" * 16 + "\n" + "two words that are long\n", "line 2 is not a token"),
            ("ü" * 16, "line 1 is not a token"),
        ],
    )
    def test_files_of_tokens_are_checked(self, tmp_path, text, said):
        (tmp_path / "tokens").write_text(text, "utf-8")
        with pytest.raises(RLSPError, match=said):
            read_tokens(tmp_path / "tokens")

    def test_a_file_of_tokens_has_one_in_each_line(self, tmp_path):
        (tmp_path / "tokens").write_text(f"# of the proxy\n{'a' * 32}\n\n  {'b' * 32}\n")
        assert read_tokens(tmp_path / "tokens") == ["a" * 32, "b" * 32]
        with pytest.raises(RLSPError, match=r"none: no such file or directory; check the path"):
            read_tokens(tmp_path / "none")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
    names = "-subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem"
    subprocess.run(
        [*command.split(), *names.split()],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder / "cert.pem", folder / "key.pem"


class TestTLS:
    def test_requests_are_answered_over_tls_only(self, serving, certificate):
        server = serving(replace(LIMITS, head_seconds=0.3), tls=certificate)
        context = ssl.create_default_context(cafile=str(certificate[0]))
        with Client(server.port).connect() as half:
            # Half of a greeting, which is not yet a connection for HTTP.
            half.sendall(b"\x16\x03\x01\x02\x00\x01")
            plain = Client(server.port).connect()
            with context.wrap_socket(plain, server_hostname="localhost") as connection:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert connection.recv(2**16).startswith(b"HTTP/1.1 200")
            assert is_closed(half)
        with Client(server.port).connect() as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert not plain.recv(2**16).startswith(b"HTTP/1.1 200")

    def test_a_certificate_that_cannot_be_used_is_named(self, certificate, tmp_path):
        check_tls(certificate)
        (tmp_path / "no.pem").write_text("nothing")
        key = certificate[1]
        for pair in ((tmp_path / "none.pem", key), (tmp_path / "no.pem", key), certificate[::-1]):
            with pytest.raises(RLSPError, match=f"^{pair[0]}: cannot be used for TLS"):
                check_tls(pair)


class TestFaults:
    def test_an_index_of_any_length_is_not_found(self, serving):
        client = Client(serving().port)
        session = client.begin()
        for index in ("9" * 5000, "%D9%A3", "1e3", "-1", "0x1", "+1", "1_0"):
            answer = client.ask("PUT", f"{session}/frames/{index}", FRAME, RAW)
            assert (answer.status, "not found" in answer.error) == (404, True)

    def test_a_bug_is_told_as_such_and_its_traceback_is_in_the_log(self, serving, log):
        client = Client(serving().port)
        session = client.begin()
        answer = client.ask("PUT", f"{session}/frames/0", b"bug", RAW)
        assert answer.status == 500
        assert answer.error == "the server failed at this request because of a bug."
        assert "ZeroDivisionError" in log[0]
        assert client.ask("GET", "/healthz").status == 200

    def test_a_full_disk_is_not_the_clients_fault(self, serving, monkeypatch):
        client = Client(serving().port)

        def full(*arguments, **options):
            raise OSError(28, "No space left on device", "/secret/folder")

        monkeypatch.setattr(Path, "open", full)
        answer = client.ask("POST", "/videos", b"video")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "30")
        assert answer.error == "the server has no space left for the work; try again later."


class TestLog:
    def test_the_command_logs_to_standard_error(self):
        """In a process of its own, since loggers are of the whole process."""
        code = """
import logging
from rlsp_tf.serving.prometheus import Metrics
from rlsp_tf.serving.server import log_to_stderr
log_to_stderr()
for _ in range(3):
    logging.getLogger("rlsp.serve").warning("too many")
    logging.getLogger("rlsp.serve.requests").info('{"status": 200}')
    logging.getLogger("asyncio").error("socket.accept() out of system resource")
print(Metrics().text().decode())
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        lines = ["rlsp: too many", '{"status": 200}', "rlsp: socket.accept() out of system resource"]
        assert done.stderr.splitlines() == [*lines, lines[1], lines[1]]
        assert f"rlsp_log_bytes_total {len(done.stderr)}.0\n" in done.stdout

    def test_requests_are_logged_without_what_could_break_a_line(self, serving, log):
        client = Client(serving(log_format="json").port)
        logging.getLogger("rlsp.serve").setLevel(logging.INFO)
        answer = client.ask("GET", "/no%0Athing?token=secret")
        wait_until(lambda: log)
        (line,) = log
        entry = json.loads(line)
        assert entry.pop("seconds") >= 0
        assert entry.pop("time")
        assert entry == {
            "id": answer.headers["X-Request-Id"],
            "client": "127.0.0.2",
            "method": "GET",
            "path": "/no%0Athing",
            "status": 404,
            "bytes": len(answer.content),
        }


class TestFolder:
    CODE = """
import os, signal, tempfile
from rlsp_tf.serving.folder import server_folder
with server_folder() as folder:
    (folder / "videos").mkdir()
    (folder / "videos" / "film").write_bytes(b"private")
    print(folder, flush=True)
    input()
"""

    def test_what_a_killed_server_leaves_is_removed_by_the_next_one(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        others = tmp_path / "rlsp-mine"
        others.mkdir()
        with contextlib.ExitStack() as stack:
            command, pipe = [sys.executable, "-c", self.CODE], subprocess.PIPE
            servers = [
                stack.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
                for _ in range(2)
            ]
            killed, running = (Path(server.stdout.readline().strip()) for server in servers)
            servers[0].send_signal(signal.SIGKILL)
            servers[0].wait()
            assert (killed / "videos" / "film").exists()
            with server_folder() as own:
                assert sorted(tmp_path.iterdir()) == sorted([others, running, own])
                assert own.stat().st_mode & 0o077 == 0
            servers[1].communicate("\n")
        assert [*tmp_path.iterdir()] == [others]

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
        with pytest.raises(RLSPError, match="set TMPDIR to another folder"), serve_folder.server_folder():
            pass
