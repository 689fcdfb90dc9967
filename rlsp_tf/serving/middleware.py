"""Around the application of ``rlsp serve``: answers are counted, and reach who still sends."""

import asyncio
import contextlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlsp_tf.serving.prometheus import Metrics

LITTLE = 2**22
"""Bytes of a refused body that are read all the same."""
PATIENCE = 5
"""Seconds in which they have to come."""


class Edge:
    """Counts answers by route and status, and reads what is left of refused bodies, if that is little.

    A connection that is closed while a client still sends is reset, and the client may see that instead of
    the answer, with its sentence and its ``Retry-After``.

    Args:
        app: what answers.
        metrics: where it is counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        chunked = "transfer-encoding" in headers
        unread = chunked or headers.get("content-length", "0") != "0"

        async def watched() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Not by its path: every session would have numbers of its own.
                route = getattr(scope.get("endpoint"), "__name__", "other").lstrip("_")
                status = message["status"]
                self._metrics.requests.labels(route, status).inc()
                if status >= 400:
                    self._metrics.refused.labels(status).inc()
                    little = chunked or int(headers["content-length"]) <= LITTLE if unread else False
                    # Reading asks a client to send that waits to be asked.
                    if little and "expect" not in headers:
                        with contextlib.suppress(asyncio.TimeoutError):
                            await asyncio.wait_for(discard(), PATIENCE)
                    if unread:
                        MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        async def discard() -> None:
            size = 0
            while unread and size <= LITTLE:
                size += len((await watched()).get("body", b""))

        await self._app(scope, watched, counted)
