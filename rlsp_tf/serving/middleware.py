"""Middleware that counts and logs answers, and reads the rest of refused bodies."""

import asyncio
import contextlib
import json
import logging
import secrets
import time
from traceback import format_exc
from typing import Literal

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlsp_tf.serving.limits import ServerFault
from rlsp_tf.serving.prometheus import Metrics
from rlsp_tf.serving.refusals import answer_refusal

DRAINED_BYTES = 2**22
"""Bytes of a refused body that are still read."""
DRAIN_SECONDS = 5
"""Seconds in which they must arrive."""
LONGEST_PATH = 200
"""Largest number of characters of a path in the log."""

log = logging.getLogger("rlsp.serve.requests")


class CountAndDrain:
    """Counts answers by route and status, logs them, and reads the rest of a refused body if it is short.

    If a connection is closed while the client is still sending, the client's system may drop the answer with
    the reason and the ``Retry-After``. That is why a short rest is read first.

    Every answer has an ``X-Request-Id``, which is also logged.

    Args:
        app: the application.
        metrics: counters for the answers.
        log_format: format of the log; by default nothing is logged.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, log_format: Literal["text", "json"] | None = None
    ) -> None:
        self._app, self._metrics, self._log_format = app, metrics, log_format

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        chunked = "transfer-encoding" in headers
        unread = chunked or headers.get("content-length", "0") != "0"
        began, request_id = time.perf_counter(), secrets.token_hex(8)
        status = size = 0

        async def receive_and_watch() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def send_and_count(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                # Answers are counted by route, not by path, because every session has its own paths.
                route = getattr(scope.get("endpoint"), "__name__", "other").lstrip("_")
                status = message["status"]
                self._metrics.requests.labels(route, status).inc()
                answer = MutableHeaders(scope=message)
                answer["X-Request-Id"] = request_id
                if status >= 400:
                    self._metrics.refused.labels(status).inc()
                    short = chunked or int(headers["content-length"]) <= DRAINED_BYTES if unread else False
                    # To read from a client that waits to be asked would be to ask it; one that was too slow
                    # has had its time.
                    if short and "expect" not in headers and status != 408:
                        with contextlib.suppress(asyncio.TimeoutError):
                            await asyncio.wait_for(discard(), DRAIN_SECONDS)
                    if unread:
                        answer["Connection"] = "close"
            else:
                size += len(message.get("body", b""))
            await send(message)

        async def discard() -> None:
            read = 0
            while unread and read <= DRAINED_BYTES:
                read += len((await receive_and_watch()).get("body", b""))

        try:
            await self._app(scope, receive_and_watch, send_and_count)
        except Exception:
            fault = ServerFault("the server failed at this request because of a bug.", format_exc())
            if not status:
                await answer_refusal(fault)(scope, receive_and_watch, send_and_count)
            else:
                raise
        finally:
            if self._log_format:
                self._log(scope, request_id, status, size, time.perf_counter() - began)

    def _log(self, scope: Scope, request_id: str, status: int, size: int, seconds: float) -> None:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "id": request_id,
            "client": scope.get("state", {}).get("client", "unknown"),
            "method": scope["method"],
            # The path is logged as it was sent, since a decoded path may contain line breaks.
            "path": scope["raw_path"].decode("ascii", "replace")[:LONGEST_PATH],
            "status": status,
            "bytes": size,
            "seconds": round(seconds, 4),
        }
        if self._log_format == "json":
            log.info(json.dumps(entry))
        else:
            log.info("%s", " ".join(map(str, entry.values())))
