"""A server without Ray and without a network that computes, and clients of it."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from rlsp_tf.errors import Interrupted
from rlsp_tf.serving.app import App
from rlsp_tf.serving.limits import Limits
from rlsp_tf.serving.server import Server
from rlsp_tf.serving.wire import Answer

WIDTH, HEIGHT = 16, 16
BEGIN = f"/sessions?width={WIDTH}&height={HEIGHT}"
ANSWER = bytes(2**22)
"""What the stand-in for the network answers: more than the buffers of the system hold."""
LIMITS = Limits(rate=10_000, connections=16)


class StandIn:
    """Answers like a replica, without computing anything."""

    def __init__(self):
        self.stopped = threading.Event()
        self.results = True
        self.frames = 0
        self.failure = None

    async def about(self):
        return {"small": {"scale": 4, "latency": 1, "bits": 32}}

    async def push(self, session, index, model, size, media_type, data):
        if data == b"bug":
            raise ZeroDivisionError("a bug")
        return Answer(ANSWER if index else None, 1)

    async def flush(self, session, index, media_type):
        return Answer(ANSWER)

    async def reload(self):
        return {"small": self.failure}

    async def drop(self, session):
        pass

    async def video(self, job, source, target, model):
        while not self.results:
            if self.stopped.is_set():
                raise Interrupted("the video: was stopped.")
            await asyncio.sleep(0.01)
        # It may be a pipe, which is read by this thread.
        await asyncio.to_thread(Path(target).write_bytes, ANSWER)
        return [], 1

    async def stop(self, job):
        self.stopped.set()

    async def progress(self, job):
        self.frames = min(self.frames + 1, 3)
        return self.frames, 12


class Client:
    """A client with an address of its own."""

    def __init__(self, port, address="127.0.0.2"):
        self.port, self.address = port, address

    def connect(self, **options):
        connection = socket.socket()
        # Small, so that it is soon the server where an answer waits to be read.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        connection.bind((self.address, 0))
        connection.connect(("127.0.0.1", self.port))
        return connection

    def send(self, method, path, body=b"", length=None, **headers):
        """Sends a request and returns the connection, with the answer still to be read."""
        length = len(body) if length is None else length
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {length}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        connection = self.connect()
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return connection

    def ask(self, method, path, body=b"", headers=None):
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=60, source_address=(self.address, 0)
        )
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            content = answer.read()
        return SimpleNamespace(
            status=answer.status,
            headers=answer.headers,
            content=content,
            error=json.loads(content)["error"] if answer.status >= 400 and content else "",
        )

    def begin(self):
        answer = self.ask("POST", BEGIN)
        assert answer.status == 201, answer.error
        return f"/sessions/{json.loads(answer.content)['session']}"


@contextlib.contextmanager
def serving(folder, limits=LIMITS, access=None, tls=None, proxies=(), grace=1, **options):
    """Runs a server; gives its port, application, connections, and what stands in for its network."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        backend = StandIn()
        models = asyncio.run(backend.about())
        app = App(backend, models, limits, folder, access=access, **options)
        server = Server(app, grace, proxies, tls)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=lambda: loop.run_until_complete(server.serve(sockets=[listener])))
        thread.start()
        try:
            yield SimpleNamespace(
                port=listener.getsockname()[1],
                app=app,
                backend=backend,
                connections=server.server_state.connections,
                thread=thread,
                # A signal arrives between two steps of the server.
                handle_exit=lambda *signal: loop.call_soon_threadsafe(server.handle_exit, *signal),
            )
        finally:
            server.should_exit = server.force_exit = True
            thread.join()
            loop.close()


def wait_until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
