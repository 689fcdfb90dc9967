"""The HTTP server, which finishes its work before it ends."""

import asyncio
import functools
import logging
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from rlsp_tf.errors import RLSPError
from rlsp_tf.serving.app import App
from rlsp_tf.serving.connections import LimitedConfig, LimitedProtocol
from rlsp_tf.serving.limits import LOOPBACK
from rlsp_tf.serving.prometheus import LOGGED
from rlsp_tf.serving.refusals import log

BACKLOG = 512
"""Largest number of connections that wait to be accepted."""
OWN_FILES = 256
"""Largest number of open files besides connections."""
TICKS = 5
"""Tenths of a second between two checks of the connections."""
REPEAT_SECONDS = 60
"""Seconds between two logged warnings of the same kind."""


class Server(uvicorn.Server):
    """Serves an application, and finishes its work at the first SIGINT or SIGTERM.

    From then on new work is refused. Sessions can be flushed and videos are finished for ``grace`` seconds;
    videos that take longer are answered with 503. Jobs are suspended at once. A second signal ends the server
    at once. At SIGHUP models are loaded anew, see :meth:`rlsp_tf.serving.app.App.reload`.

    Args:
        app: the application.
        grace: seconds in which sessions can be flushed and videos are finished.
        proxies: addresses and networks of proxies whose ``X-Forwarded-For`` names the client.
        tls: certificate chain and private key, as PEM files; by default there is no TLS.

    Raises:
        RLSPError: if the system allows too few open files.
    """

    def __init__(
        self,
        app: App,
        grace: float,
        proxies: Sequence[str] = LOOPBACK,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        _allow_open_files(app.limits.connections + BACKLOG + OWN_FILES)
        config = LimitedConfig(
            app.app,
            app.limits,
            proxies,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            forwarded_allow_ips=list(proxies),
            lifespan="off",
            ssl_certfile=tls and tls[0],
            ssl_keyfile=tls and tls[1],
            # Time for answers that are still being sent when all work is done.
            timeout_graceful_shutdown=10,
        )
        config.load()
        super().__init__(config)
        self._app, self._grace = app, grace
        self._drained: asyncio.Task[None] | None = None
        self._reloading: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # As uvicorn does it, but with a time limit for the client's part of TLS. A connection that has not
        # got beyond that is not counted yet.
        limits, config, loop = self._app.limits, self.config, asyncio.get_running_loop()
        connect = functools.partial(
            LimitedProtocol, config=config, server_state=self.server_state, app_state={}
        )
        self.servers = [
            await loop.create_server(
                connect,
                sock=each,
                ssl=config.ssl,
                ssl_handshake_timeout=limits.head_seconds if config.ssl else None,
                backlog=BACKLOG,
            )
            for each in sockets or []
        ]
        self._background = asyncio.create_task(self._app.run())
        if threading.current_thread() is threading.main_thread() and sys.platform != "win32":
            loop.add_signal_handler(signal.SIGHUP, self._begin_reload)
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._background.cancel()
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS == 0:
            for connection in list(self.server_state.connections):
                connection.close_if_late()  # type: ignore[union-attr]
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._drained is not None:
            self.should_exit = True
        else:
            self._drained = asyncio.get_running_loop().create_task(self._drain())

    def _begin_reload(self) -> None:
        async def reload(before: "asyncio.Task[None] | None") -> None:
            if before is not None:
                await asyncio.wait({before})
            try:
                await self._app.reload()
            except RLSPError as error:
                log.error("the weights were not loaded anew: %s", error)

        self._reloading = asyncio.create_task(reload(self._reloading))

    async def _drain(self) -> None:
        self._app.drain()
        # Jobs go on when the server is started again, so nobody has to wait for them.
        await self._app.jobs.stop()
        deadline = asyncio.get_running_loop().time() + self._grace
        while self._app.busy and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.1)
        await self._app.stop_videos()
        self.should_exit = True


class OncePerMinute(logging.Filter):
    """Logs each warning at most once a minute, so that clients cannot fill the disk with warnings."""

    def __init__(self) -> None:
        super().__init__()
        self._next: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        now = time.monotonic()
        if self._next.get(record.msg, 0) > now:
            return False
        if len(self._next) > 1000:
            self._next.clear()
        self._next[record.msg] = now + REPEAT_SECONDS
        return True


class CountingFormatter(logging.Formatter):
    """Formats lines, and counts their bytes."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        LOGGED.inc(len(line.encode()) + 1)
        return line


def log_to_stderr() -> None:
    """Makes the server, uvicorn and asyncio log to standard error, each warning at most once a minute."""
    for name in ("rlsp.serve", "rlsp.serve.requests", "uvicorn.error", "asyncio"):
        handler = logging.StreamHandler()
        # Lines about requests may be JSON, so nothing comes before them.
        prefix = "" if name == "rlsp.serve.requests" else "rlsp: "
        handler.setFormatter(CountingFormatter(f"{prefix}%(message)s"))
        handler.addFilter(OncePerMinute())
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO if name.startswith("rlsp") else logging.WARNING)
        logger.propagate = False
        logger.handlers = [handler]


def check_tls(tls: tuple[Path, Path] | None) -> None:
    """Raises an exception if a certificate and its key cannot be used.

    Args:
        tls: certificate chain and private key, as PEM files.

    Raises:
        RLSPError: if they are missing, unreadable, no PEM files, or do not belong together.
    """
    if tls is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*tls)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RLSPError(
            f"{tls[0]}: cannot be used for TLS with the key {tls[1]} ({reason}); give a certificate chain "
            "and its private key, as PEM files that this user may read."
        ) from error


def _allow_open_files(count: int) -> None:
    """Raises the soft limit of open files, if it is lower."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            raise RLSPError(
                f"rlsp serve: the system allows {hard} open files, but {count} may be needed; allow more by "
                "ulimit -n, or give a smaller --max-connections."
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
