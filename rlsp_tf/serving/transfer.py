"""Bodies of requests and answers, which are read and sent block by block, and never too slowly."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from rlsp_tf.errors import RLSPError
from rlsp_tf.serving.limits import Limits, Refused
from rlsp_tf.serving.refusals import log

BLOCK = 2**16
"""Bytes of an answer that are handed to the connection at a time. The next block waits until the client has
taken most of the ones before, so that an answer that is not read takes no memory of its own."""


class BlockResponse(Response):
    """Bytes that are sent block by block, and something that is held until they are sent."""

    held: contextlib.ExitStack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.held:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            for begin in range(0, len(self.body), BLOCK):
                end = begin + BLOCK
                block = bytes(self.body[begin:end])
                await send({"type": "http.response.body", "body": block, "more_body": end < len(self.body)})


class HeldFileResponse(FileResponse):
    """A file, and something that is held until it is sent or its client has gone."""

    held: contextlib.ExitStack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.held:
            await super().__call__(scope, receive, send)


class HeldStreamResponse(StreamingResponse):
    """Blocks that are sent as they come, and something that is held until then.

    If they end with an ``RLSPError``, the connection is closed before the end of the answer, so that the
    client sees that it is not complete.
    """

    held: contextlib.ExitStack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.held:
            try:
                await self.stream_response(send)
            except RLSPError as error:
                log.warning("an answer ended early: %s", error)


async def open_pipe(path: Path, held: contextlib.ExitStack) -> asyncio.StreamReader:
    """Makes a named pipe, to read what another process writes into it.

    The other process waits while what it has written is not read.

    Args:
        path: the pipe.
        held: closes it when it ends.
    """
    os.mkfifo(path, 0o600)
    # Otherwise this would wait until the other process opens it, too.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
    reader = asyncio.StreamReader(BLOCK)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    held.callback(transport.close)
    return reader


async def body_of(request: Request, most: int, limits: Limits) -> AsyncIterator[bytes]:
    """The body of a request, block by block.

    Args:
        request: the request.
        most: the most bytes that it may have.
        limits: how slow it may be.

    Raises:
        Refused: with 413 if the body is longer, before it is read if its length is given; with 408 if it
            comes too slowly.
    """
    too_long = Refused(f"the request has more than {most} bytes, the limit here.", 413)
    if int(request.headers.get("content-length", 0)) > most:
        raise too_long
    too_slow = Refused(
        f"the request came too slowly; send at least {limits.least_rate} bytes per second, and all within "
        f"{limits.transfer_seconds:g} s.",
        408,
    )
    now = asyncio.get_running_loop().time
    began, size = now(), 0
    blocks = request.stream()
    while True:
        try:
            block = await asyncio.wait_for(anext(blocks), limits.stall_seconds)
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:
            raise too_slow from None
        size += len(block)
        if size > most:
            raise too_long
        elapsed = now() - began
        late = elapsed > limits.transfer_seconds
        if late or (elapsed > limits.stall_seconds and size < limits.least_rate * elapsed):
            raise too_slow
        yield block
