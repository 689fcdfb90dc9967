"""The ASGI application of a server: its routes and their answers."""

import asyncio
import contextlib
import functools
import json
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Literal, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from rlsp_tf._version import __version__
from rlsp_tf.errors import RLSPError
from rlsp_tf.serving.access import Access, CheckAccess
from rlsp_tf.serving.jobs import Job, JobBackend, Jobs
from rlsp_tf.serving.limits import Capacity, Limits, Refused, TooLarge
from rlsp_tf.serving.middleware import CountAndDrain
from rlsp_tf.serving.openapi import describe_api
from rlsp_tf.serving.prometheus import Metrics
from rlsp_tf.serving.rate_limit import RateLimit
from rlsp_tf.serving.refusals import log, on_exception
from rlsp_tf.serving.sessions import Backend, Sessions, check_model, shutting_down
from rlsp_tf.serving.transfer import (
    BLOCK,
    BlockResponse,
    HeldFileResponse,
    HeldStreamResponse,
    body_of,
    open_pipe,
)
from rlsp_tf.serving.wire import MEDIA_TYPES, PLANES, Answer, max_bytes

CONTAINERS = {"mp4": "video/mp4", "mkv": "video/x-matroska"}
"""Containers for the result of a video, with their media types."""
POLL_SECONDS = 0.5
"""Seconds between two checks whether a client that waits for a video has disconnected."""
EVENT_SECONDS = 1
"""Seconds between two events with the progress of a job."""
Endpoint = Callable[[Request], Awaitable[Response]]


class VideoBackend(Backend, JobBackend, Protocol):
    """Computes sessions and videos, see :class:`rlsp_tf.serving.ray_backend.RayBackend`."""

    async def about(self) -> dict[str, dict[str, Any]]: ...
    async def reload(self) -> dict[str, str | None]: ...


class App:
    """The ASGI application of a server, with its sessions, jobs and counters.

    Args:
        backend: computes sessions and videos.
        models: the result of the backend's ``about()``.
        limits: limits on what is accepted.
        folder: folder for videos while they are uploaded, computed and sent.
        jobs_folder: folder for jobs, which continue when a server with the same folder is started again;
            by default a part of ``folder``.
        access: tokens and names with which the server may be used; by default there are no tokens.
        log_format: format in which requests are logged; by default they are not logged.

    Attributes:
        app: the application, to be run by an ASGI server.
        sessions: the sessions.
        jobs: the jobs.
        metrics: the counters.
        limits: limits on what is accepted.
    """

    def __init__(
        self,
        backend: VideoBackend,
        models: dict[str, dict[str, Any]],
        limits: Limits,
        folder: Path,
        *,
        jobs_folder: Path | None = None,
        access: Access | None = None,
        log_format: Literal["text", "json"] | None = None,
    ) -> None:
        self._backend, self._models, self.limits, self._folder = backend, models, limits, folder
        self.metrics = Metrics()
        self.sessions = Sessions(backend, models, limits, self._observe)
        self._videos = Capacity(limits.videos, "videos", limits.share_of(limits.videos))
        self._rate, self._read_rate = RateLimit(limits.rate), RateLimit(limits.rate)
        self._plain: set[str] = set()
        jobs_folder = jobs_folder or folder / "jobs"
        jobs_folder.mkdir(parents=True, exist_ok=True)
        self.jobs = Jobs(backend, limits, jobs_folder, self._videos, models, self._observe_job)
        self._default = next(iter(models))
        work, read = self._rate_limited(self._rate), self._rate_limited(self._read_rate)
        routes = [
            Route("/", read(self._about)),
            Route("/openapi.json", read(self._api)),
            Route("/healthz", read(self._health)),
            Route("/metrics", read(self._metrics)),
            Route("/sessions", work(self._begin), methods=["POST"]),
            Route("/sessions/{session}/frames/{index}", work(self._frame), methods=["PUT"]),
            Route("/sessions/{session}", work(self._flush), methods=["DELETE"]),
            Route("/videos", work(self._video), methods=["POST"]),
            Route("/videos/stream", work(self._stream), methods=["POST"]),
            Route("/jobs", work(self._submit), methods=["POST"]),
            Route("/jobs/{job}", read(self._job)),
            Route("/jobs/{job}", work(self._remove), methods=["DELETE"]),
            Route("/jobs/{job}/events", read(self._events)),
            Route("/jobs/{job}/result", work(self._result)),
        ]
        self._description = describe_api(routes, models, limits.pixels)
        self.app = Starlette(
            routes=routes,
            middleware=[
                Middleware(CountAndDrain, metrics=self.metrics, log_format=log_format),
                Middleware(CheckAccess, access=access or Access(), rate=self._rate),
            ],
            exception_handlers={
                RLSPError: on_exception,
                OSError: on_exception,
                ClientDisconnect: on_exception,
                HTTPException: on_exception,
            },
        )

    @property
    def busy(self) -> bool:
        """Whether the result of any accepted work has not been fetched yet."""
        return bool(self._videos.taken or self.sessions.queue.taken or self.sessions.unflushed)

    def drain(self) -> None:
        """Refuses new work from now on. Sessions can still be flushed, and videos are finished."""
        self.sessions.draining = self.jobs.draining = True

    async def reload(self) -> None:
        """Loads the models anew, and logs what came of it. What is at work ends with the weights it has."""
        for name, failure in (await self._backend.reload()).items():
            if failure:
                log.error("the weights of %s were not loaded anew, the old ones stay: %s", name, failure)
            else:
                log.info("the weights of %s were loaded anew.", name)
        # The same mapping is used by sessions and jobs.
        self._models.update(await self._backend.about())

    async def run(self) -> None:
        """Starts jobs and removes idle sessions, until it is cancelled."""
        computing = asyncio.create_task(self.jobs.run())
        try:
            while True:
                await asyncio.sleep(min(1, self.limits.idle / 4))
                # A replica that is being replaced just now forgets its sessions anyway.
                with contextlib.suppress(RLSPError):
                    await self.expire()
        finally:
            computing.cancel()

    async def stop_videos(self) -> None:
        """Stops the videos that are computed. Requests for them are answered with 503."""
        for name in list(self._plain):
            await self._backend.stop(name)

    async def expire(self) -> None:
        """Removes idle sessions; has to be called regularly."""
        self.metrics.expired.inc(await self.sessions.expire())

    def _observe(self, seconds: float, batch: int) -> None:
        self.metrics.frames.labels("session").inc()
        self.metrics.frame_seconds.observe(seconds)
        if batch:
            self.metrics.batch.observe(batch)

    def _rate_limited(self, rate: RateLimit) -> Callable[[Endpoint], Endpoint]:
        """Decorates an endpoint so that it refuses requests of clients that send too many."""

        def decorate(endpoint: Endpoint) -> Endpoint:
            @functools.wraps(endpoint)
            async def check_and_answer(request: Request) -> Response:
                await rate.check(request.state.client)
                return await endpoint(request)

            return check_and_answer

        return decorate

    async def _about(self, request: Request) -> Response:
        return JSONResponse({"rlsp_tf": __version__, "models": self._models, "limits": vars(self.limits)})

    async def _api(self, request: Request) -> Response:
        return JSONResponse(self._description)

    async def _health(self, request: Request) -> Response:
        if self.sessions.draining:
            raise shutting_down()
        await self._backend.about()
        return JSONResponse({"status": "ok"})

    async def _metrics(self, request: Request) -> Response:
        self.metrics.sessions.set(self.sessions.open)
        text = await asyncio.to_thread(self.metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _begin(self, request: Request) -> Response:
        model = request.query_params.get("model", self._default)
        width, height = (_pixels_of(request, name) for name in ("width", "height"))
        session = self.sessions.begin(request.state.client, model, width, height)
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
        index = _index_of(request)
        session = self.sessions.get(request.state.client, request.path_params["session"])
        media_type, parameter = (
            part.strip() for part in request.headers.get("content-type", "").lower().partition(";")[::2]
        )
        if media_type not in MEDIA_TYPES:
            raise Refused(
                f"frames must be {' or '.join(MEDIA_TYPES)}, not {media_type[:40]!r}; set Content-Type.", 415
            )
        if media_type == PLANES and parameter:
            media_type = f"{media_type}; {parameter}"
        if self.sessions.draining:
            raise shutting_down()
        self.sessions.queue.check(session.client)
        with contextlib.ExitStack() as held:
            held.enter_context(session.requests.one())
            blocks = body_of(request, max_bytes(*session.size), self.limits)
            data = b"".join([block async for block in blocks])
            self.metrics.bytes.labels("in").inc(len(data))
            answer = await self.sessions.push(session, index, media_type, data)
            return self._frame_response(answer, media_type, held.pop_all())

    async def _flush(self, request: Request) -> Response:
        session = self.sessions.get(request.state.client, request.path_params["session"])
        with contextlib.ExitStack() as held:
            held.enter_context(session.requests.one())
            answer = await self.sessions.flush(session)
            return self._frame_response(answer, session.media_type, held.pop_all())

    def _frame_response(self, answer: Answer, media_type: str, held: contextlib.ExitStack) -> Response:
        headers = {"X-Notes": json.dumps(answer.notes)} if answer.notes else None
        if answer.data is None:
            held.close()
            return Response(status_code=204, headers=headers)
        self.metrics.bytes.labels("out").inc(len(answer.data))
        response = BlockResponse(answer.data, media_type=media_type, headers=headers)
        response.held = held
        return response

    def _observe_job(self, job: Job) -> None:
        if job.state == "done":
            self.metrics.frames.labels("video").inc(job.frames)
        if job.began and job.ended:
            self.metrics.video_seconds.observe(job.ended - job.began)

    def _model_for_video(self, request: Request) -> str:
        """Returns the model that a request for a video asks for."""
        if self.sessions.draining:
            raise shutting_down()
        model = request.query_params.get("model", self._default)
        check_model(model, self._models)
        return model

    def _options_of_video(self, request: Request) -> tuple[str, str]:
        """Returns the model and the container that a request for a video asks for."""
        model = self._model_for_video(request)
        container = request.query_params.get("container", "mp4")
        if container not in CONTAINERS:
            raise Refused(f"the result can be {' or '.join(CONTAINERS)}, not {container[:40]!r}.", 400)
        return model, container

    async def _submit(self, request: Request) -> Response:
        model, container = self._options_of_video(request)
        receive = functools.partial(self._receive, request)
        job = await self.jobs.submit(request.state.client, model, container, receive)
        return JSONResponse(job.describe(), 202, headers={"Location": f"/jobs/{job.name}"})

    def _job_of(self, request: Request) -> Job:
        return self.jobs.get(request.state.client, request.path_params["job"])

    async def _job(self, request: Request) -> Response:
        return JSONResponse(self._job_of(request).describe())

    async def _remove(self, request: Request) -> Response:
        await self.jobs.remove(self._job_of(request))
        return Response(status_code=204)

    async def _events(self, request: Request) -> Response:
        job = self._job_of(request)

        async def events() -> AsyncIterator[str]:
            while True:
                yield f"data: {json.dumps(job.describe())}\n\n"
                if job.is_over or self.sessions.draining:
                    return
                await asyncio.sleep(EVENT_SECONDS)

        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(events(), media_type="text/event-stream", headers=headers)

    async def _result(self, request: Request) -> Response:
        job = self._job_of(request)
        path = self.jobs.result(job)
        return FileResponse(path, media_type=CONTAINERS[job.container])

    async def _video(self, request: Request) -> Response:
        model, container = self._options_of_video(request)
        with contextlib.ExitStack() as held:
            held.enter_context(self._videos.one(request.state.client))
            # The server chooses the names: nothing that a client sends becomes part of a path.
            folder = Path(held.enter_context(tempfile.TemporaryDirectory(dir=self._folder)))
            source, target = folder / "source", folder / f"result.{container}"
            await self._receive(request, source)
            notes, frames = await self._work(request, source, target, model)
            self.metrics.frames.labels("video").inc(frames)
            self.metrics.bytes.labels("out").inc(target.stat().st_size)
            headers = {"X-Notes": json.dumps(notes)} if notes else None
            response = HeldFileResponse(target, media_type=CONTAINERS[container], headers=headers)
            response.held = held.pop_all()
        return response

    async def _stream(self, request: Request) -> Response:
        model = self._model_for_video(request)
        with contextlib.ExitStack() as held:
            held.enter_context(self._videos.one(request.state.client))
            folder = Path(held.enter_context(tempfile.TemporaryDirectory(dir=self._folder)))
            source, target = folder / "source", folder / "result.mkv"
            await self._receive(request, source)
            reader = await open_pipe(target, held)
            work = asyncio.create_task(self._work(request, source, target, model))
            held.callback(work.cancel)
            first = asyncio.create_task(reader.read(BLOCK))
            held.callback(first.cancel)
            # Until something is there to be sent, a failure can be answered with its status.
            await asyncio.wait({work, first}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()

            async def blocks() -> AsyncIterator[bytes]:
                block = await first
                while block:
                    self.metrics.bytes.labels("out").inc(len(block))
                    yield block
                    block = await reader.read(BLOCK)
                _, frames = await work
                self.metrics.frames.labels("video").inc(frames)

            response = HeldStreamResponse(blocks(), media_type=CONTAINERS["mkv"])
            response.held = held.pop_all()
        return response

    async def _receive(self, request: Request, path: Path) -> None:
        """Writes the body of a request to a file."""
        size = 0
        with path.open("wb") as file:
            async for block in body_of(request, self.limits.upload, self.limits):
                await asyncio.to_thread(file.write, block)
                size += len(block)
        self.metrics.bytes.labels("in").inc(size)
        if not size:
            raise Refused("there is no video in the request; send it as the body.", 400)

    async def _work(self, request: Request, source: Path, target: Path, model: str) -> tuple[list[str], int]:
        """Upscales a video, and stops if the client disconnects."""
        job = secrets.token_hex(8)
        self._plain.add(job)
        task = asyncio.ensure_future(self._backend.video(job, os.fspath(source), os.fspath(target), model))
        try:
            with self.metrics.video_seconds.time():
                stopped = False
                while not (await asyncio.wait({task}, timeout=POLL_SECONDS))[0]:
                    if not stopped and await request.is_disconnected():
                        stopped = True
                        await self._backend.stop(job)
                return task.result()
        except (TooLarge, Refused):
            raise
        except RLSPError as error:
            if self.sessions.draining:
                raise shutting_down() from error
            # Anything else that the backend says is about a file that it could not upscale.
            raise Refused(str(error), 415) from error
        finally:
            self._plain.discard(job)


def _pixels_of(request: Request, name: str) -> int:
    """Returns a number of pixels from the query."""
    text = request.query_params.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 9):
        raise Refused(f"give {name} in pixels, as in /sessions?width=480&height=270, not {text[:40]!r}.", 400)
    return int(text)


def _index_of(request: Request) -> int:
    """Returns the index of a frame from the path."""
    text = request.path_params["index"]
    # Python limits the number of digits that it converts.
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise HTTPException(404)
    return int(text)
