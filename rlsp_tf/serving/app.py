"""``rlsp serve`` as an application of HTTP: what is sent where, and what comes back."""

import asyncio
import contextlib
import functools
import json
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from rlsp_tf._version import __version__
from rlsp_tf.errors import RLSPError, describe_os_error
from rlsp_tf.serving.limits import AGAIN, Limits, Lost, Refused, Room, Unfit
from rlsp_tf.serving.middleware import Edge
from rlsp_tf.serving.prometheus import Metrics
from rlsp_tf.serving.rate_limit import Rate
from rlsp_tf.serving.sessions import Backend, Sessions, ending, known_model
from rlsp_tf.serving.wire import FORMS, most_bytes

CONTAINERS = {"mp4": "video/mp4", "mkv": "video/x-matroska"}
"""What videos come back in, with their media types."""
SILENCE = 30
"""Seconds that a client may be silent in the middle of a body."""
Answer = Callable[[Request], Awaitable[Response]]


class VideoBackend(Backend, Protocol):
    """What computes, frames and videos: see :class:`rlsp_tf.serving.ray_backend.RayBackend`."""

    async def video(self, job: str, source: str, target: str, model: str) -> tuple[list[str], int]: ...
    async def stop(self, job: str) -> None: ...
    async def about(self) -> dict[str, dict[str, Any]]: ...


class Front:
    """The application, with all that it knows.

    Args:
        backend: what computes.
        models: of its ``about()``.
        limits: what is taken on.
        folder: for videos while they are here.

    Attributes:
        app: for an ASGI server.
        sessions: open ones.
        metrics: counted so far.
    """

    def __init__(
        self, backend: VideoBackend, models: Mapping[str, Mapping[str, Any]], limits: Limits, folder: Path
    ) -> None:
        self._backend, self._models, self._limits, self._folder = backend, models, limits, folder
        self.metrics = Metrics()
        self.sessions = Sessions(backend, models, limits, self._observe)
        self._videos = Room(limits.videos, "videos")
        self._rate = Rate(limits.rate)
        self._jobs: set[str] = set()
        self._default = next(iter(models))
        self.app = Starlette(
            routes=[
                Route("/", self._about),
                Route("/healthz", self._health),
                Route("/metrics", self._metrics),
                Route("/sessions", self._counted(self._begin), methods=["POST"]),
                Route("/sessions/{session}/frames/{index:int}", self._counted(self._frame), methods=["PUT"]),
                Route("/sessions/{session}", self._counted(self._flush), methods=["DELETE"]),
                Route("/videos", self._counted(self._video), methods=["POST"]),
            ],
            middleware=[Middleware(Edge, metrics=self.metrics)],
            exception_handlers={
                RLSPError: _answer_error,
                OSError: _answer_error,
                ClientDisconnect: _answer_error,
                HTTPException: _answer_error,
            },
        )

    @property
    def busy(self) -> bool:
        """Whether there is accepted work whose result nobody has yet."""
        return bool(self._videos.taken or self.sessions.queue.taken or self.sessions.withheld)

    def drain(self) -> None:
        """Takes on nothing new from here on; sessions can be flushed, videos are finished."""
        self.sessions.draining = True

    async def stop_videos(self) -> None:
        """Has videos that are at work answered with 503."""
        for job in list(self._jobs):
            await self._backend.stop(job)

    async def expire(self) -> None:
        """Forgets idle sessions; to be called now and then."""
        self.metrics.expired.inc(await self.sessions.expire())

    def _observe(self, seconds: float, shared: int) -> None:
        self.metrics.frames.labels("session").inc()
        self.metrics.frame_seconds.observe(seconds)
        if shared:
            self.metrics.streams.observe(shared)

    def _counted(self, answer: Answer) -> Answer:
        """Refuses requests that come too often."""

        @functools.wraps(answer)
        async def check_and_answer(request: Request) -> Response:
            await self._rate.check(request.client)
            return await answer(request)

        return check_and_answer

    async def _about(self, request: Request) -> Response:
        return JSONResponse({"rlsp_tf": __version__, "models": self._models, "limits": vars(self._limits)})

    async def _health(self, request: Request) -> Response:
        if self.sessions.draining:
            raise ending()
        await self._backend.about()
        return JSONResponse({"status": "ok"})

    async def _metrics(self, request: Request) -> Response:
        self.metrics.sessions.set(self.sessions.open)
        text = await asyncio.to_thread(self.metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _begin(self, request: Request) -> Response:
        model = request.query_params.get("model", self._default)
        width, height = (_whole(request, name) for name in ("width", "height"))
        session = self.sessions.begin(model, width, height)
        content = {
            "session": session.name,
            "model": model,
            "width": width,
            "height": height,
            "scale": self._models[model]["scale"],
            "latency": self._models[model]["latency"],
        }
        return JSONResponse(content, 201)

    async def _frame(self, request: Request) -> Response:
        session = self.sessions.get(request.path_params["session"])
        form = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if form not in FORMS:
            raise Refused(
                f"frames are taken as {' or '.join(FORMS)}, not {form[:40]!r}; set Content-Type.", 415
            )
        if self.sessions.draining:
            raise ending()
        self.sessions.queue.check()
        with session.room.one():
            data = b"".join([block async for block in _body(request, most_bytes(*session.size))])
            self.metrics.bytes.labels("in").inc(len(data))
            index = request.path_params["index"]
            return self._one_frame(await self.sessions.push(session, index, form, data), form)

    async def _flush(self, request: Request) -> Response:
        session = self.sessions.get(request.path_params["session"])
        return self._one_frame(await self.sessions.flush(session), session.form)

    def _one_frame(self, answer: bytes | None, form: str) -> Response:
        if answer is None:
            return Response(status_code=204)
        self.metrics.bytes.labels("out").inc(len(answer))
        return Response(answer, media_type=form)

    async def _video(self, request: Request) -> Response:
        if self.sessions.draining:
            raise ending()
        model = request.query_params.get("model", self._default)
        known_model(model, self._models)
        container = request.query_params.get("container", "mp4")
        if container not in CONTAINERS:
            raise Refused(f"videos come back as {' or '.join(CONTAINERS)}, not {container[:40]!r}.", 400)
        with contextlib.ExitStack() as kept:
            kept.enter_context(self._videos.one())
            # Names are ours: nothing that a client sends becomes a path.
            folder = Path(kept.enter_context(tempfile.TemporaryDirectory(dir=self._folder)))
            source, target = folder / "source", folder / f"result.{container}"
            await self._receive(request, source)
            notes, frames = await self._work(request, source, target, model)
            self.metrics.frames.labels("video").inc(frames)
            self.metrics.bytes.labels("out").inc(target.stat().st_size)
            headers = {"X-Notes": json.dumps(notes)} if notes else None
            response = _KeptFile(target, media_type=CONTAINERS[container], headers=headers)
            response.kept = kept.pop_all()
        return response

    async def _receive(self, request: Request, path: Path) -> None:
        size = 0
        with path.open("wb") as file:
            async for block in _body(request, self._limits.upload):
                await asyncio.to_thread(file.write, block)
                size += len(block)
        self.metrics.bytes.labels("in").inc(size)
        if not size:
            raise Refused("there is no video in the request; send it as the body.", 400)

    async def _work(self, request: Request, source: Path, target: Path, model: str) -> tuple[list[str], int]:
        job = secrets.token_hex(8)
        self._jobs.add(job)
        task = asyncio.ensure_future(self._backend.video(job, os.fspath(source), os.fspath(target), model))
        try:
            with self.metrics.video_seconds.time():
                stopped = False
                while not (await asyncio.wait({task}, timeout=0.5))[0]:
                    if not stopped and await request.is_disconnected():
                        stopped = True
                        await self._backend.stop(job)
                return task.result()
        except Unfit:
            raise
        except Refused:
            raise
        except RLSPError as error:
            if self.sessions.draining:
                raise ending() from error
            # It had to be tried to find out.
            raise Refused(str(error), 415) from error
        finally:
            self._jobs.discard(job)


class _KeptFile(FileResponse):
    """A file that goes, with all that was kept for it, when it was sent or its reader went away."""

    kept: contextlib.ExitStack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.kept:
            await super().__call__(scope, receive, send)


async def _body(request: Request, most: int) -> AsyncIterator[bytes]:
    """The body of a request, block by block.

    Raises:
        Refused: with 413, if it is longer than ``most`` bytes, before it is read where it says so itself;
            with 408, if the client falls silent.
    """
    too_long = Refused(f"the request has more than the {most} bytes that are taken here.", 413)
    if int(request.headers.get("content-length", 0)) > most:
        raise too_long
    size = 0
    blocks = request.stream()
    while True:
        try:
            block = await asyncio.wait_for(anext(blocks), SILENCE)
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:
            raise Refused(f"nothing came for {SILENCE} s; send it again.", 408) from None
        size += len(block)
        if size > most:
            raise too_long
        yield block


def _whole(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 9):
        raise Refused(f"give {name} in pixels, as in /sessions?width=480&height=270, not {text[:40]!r}.", 400)
    return int(text)


async def _answer_error(request: Request, error: Exception) -> Response:
    """One sentence for whatever was refused or failed."""
    headers = {}
    status, sentence = 400, str(error)
    if isinstance(error, HTTPException):
        status, sentence = error.status_code, f"{request.url.path[:80]}: {error.detail.lower()}."
        headers = dict(error.headers or {})
    elif isinstance(error, Refused):
        status = error.status
        if error.fresh_copy is not None:
            headers["Retry-After"] = str(error.fresh_copy)
    elif isinstance(error, Unfit):
        status = 413
    elif isinstance(error, Lost):
        status = 410
    elif isinstance(error, ClientDisconnect):
        sentence = "the client went away."
    elif isinstance(error, OSError):
        # Of ours, not of the client's: a full disk most of all. Its name is nobody else's business.
        status, headers["Retry-After"] = 503, str(AGAIN)
        sentence = describe_os_error(OSError(error.errno, error.strerror, "the server's folder"))
    return JSONResponse({"error": sentence}, status, headers=headers)
