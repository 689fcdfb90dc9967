"""Jobs: videos that are upscaled in the background and whose results are fetched later.

A job is a folder with the upload, the result and a file that describes it. So jobs survive the end of the
server if their folder does.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from rlsp_tf.errors import RLSPError
from rlsp_tf.serving.limits import Capacity, Limits, Refused, ServerFault, TooLarge
from rlsp_tf.serving.refusals import log
from rlsp_tf.system.files import read_json, write_json

POLL_SECONDS = 0.25
"""Seconds between two attempts to start the next job."""
PROGRESS_SECONDS = 0.5
"""Seconds between two requests for the progress of a job."""
RATE_SECONDS = 30
"""Seconds over which frames per second are counted. The time since the beginning would be misleading, because
a resumed job passes the frames that were finished at once."""


class JobBackend(Protocol):
    """Computes videos, see :class:`rlsp_tf.serving.ray_backend.RayBackend`."""

    async def video(self, job: str, source: str, target: str, model: str) -> tuple[list[str], int]: ...
    async def stop(self, job: str) -> None: ...
    async def progress(self, job: str) -> tuple[int, int | None]: ...


@dataclass
class Job:
    """A video that was uploaded.

    Attributes:
        name: name of the job, which only its client knows.
        client: the client that uploaded it and may use it.
        model: name of the network.
        container: suffix of the result.
        created: time of the upload, in seconds since 1970.
        state: ``waiting``, ``running``, ``done`` or ``failed``.
        frames: number of frames that are finished.
        total: number of frames of the result; ``None`` until it is known.
        notes: sentences about what was assumed or left out.
        error: a sentence if it failed.
        status: HTTP status of the error.
        began: time at which the work began, in seconds since 1970.
        ended: time at which it ended.
        rate: recent frames per second; ``None`` until it is known.
    """

    name: str
    client: str
    model: str
    container: str
    created: float = field(default_factory=time.time)
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    frames: int = 0
    total: int | None = None
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    status: int | None = None
    began: float | None = None
    ended: float | None = None
    rate: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether the job is done or has failed."""
        return self.state in ("done", "failed")

    def describe(self) -> dict[str, Any]:
        """Describes the job for its client, with frames per second and an estimate of the seconds left."""
        left = (self.total - self.frames) / self.rate if self.rate and self.total is not None else None
        return {
            "job": self.name,
            "state": self.state,
            "model": self.model,
            "container": self.container,
            "frames": self.frames,
            "total": self.total,
            "rate": self.rate and round(self.rate, 3),
            "left": left if left is None or self.is_over else round(left, 1),
            "notes": self.notes,
            "error": self.error,
        }


class Jobs:
    """The jobs of a server. They are computed in the order of their uploads.

    Args:
        backend: computes the videos.
        limits: limits on the number of jobs, and on the time for which finished jobs are kept.
        folder: folder for jobs. Unfinished jobs in it are continued.
        running: limit on the number of videos that are computed at the same time.
        models: names of the models that are served.
        finished: function that is called with every job that has ended.
    """

    def __init__(
        self,
        backend: JobBackend,
        limits: Limits,
        folder: Path,
        running: Capacity,
        models: Mapping[str, Any],
        finished: Callable[[Job], None] = lambda job: None,
    ) -> None:
        self._backend, self._limits, self._folder = backend, limits, folder
        self._running, self._models, self._finished = running, models, finished
        self._kept = Capacity(limits.jobs, "jobs", limits.share_of(limits.jobs))
        self._places: dict[str, contextlib.ExitStack] = {}
        self._jobs: dict[str, Job] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.draining = False
        self._load()

    async def submit(
        self, client: str, model: str, container: str, receive: Callable[[Path], Awaitable[None]]
    ) -> Job:
        """Adds a job.

        Args:
            client: the client that uploads it.
            model: name of the model.
            container: suffix of the result.
            receive: function that writes the upload to a file. It may write more files into the same folder,
                which stay until the job is removed; the upload itself is removed when the job has ended.

        Raises:
            Refused: with 429 or 503 if there are too many jobs.
        """
        with contextlib.ExitStack() as held:
            held.enter_context(self._kept.one(client))
            job = Job(secrets.token_urlsafe(16), client, model, container)
            folder = self._folder / job.name
            folder.mkdir(mode=0o700)
            held.callback(shutil.rmtree, folder, ignore_errors=True)
            await receive(folder / "source")
            await self._save(job)
            self._places[job.name] = held.pop_all()
        self._jobs[job.name] = job
        return job

    def get(self, client: str, name: str) -> Job:
        """Returns a job by its name.

        Args:
            client: the client that asks.
            name: name of the job.

        Raises:
            Refused: with 404 if there is no job of this name, or another client uploaded it.
        """
        job = self._jobs.get(name)
        if job is None or job.client != client:
            raise Refused(
                "this client has no such job; a job is removed when it is deleted, or "
                f"{self._limits.job_age:g} s after its end.",
                404,
            )
        return job

    def of(self, client: str) -> list[Job]:
        """Returns the jobs of a client in the order of their uploads."""
        return [job for job in self._jobs.values() if job.client == client]

    def result(self, job: Job) -> Path:
        """Returns the path of the result of a job.

        Raises:
            Refused: with 409 if the job has not ended, or with the status of its error if it has failed.
        """
        if job.state == "failed":
            raise Refused(job.error or "the job has failed.", job.status or 500)
        if job.state != "done":
            raise Refused(f"the job is {job.state}; ask for the result when it is done.", 409, retry_after=2)
        return self._folder / job.name / f"result.{job.container}"

    async def again(self, job: Job) -> None:
        """Queues a failed job again. Backends that keep what is finished resume it."""
        job.state, job.error, job.status, job.began, job.ended = "waiting", None, None, None, None
        await self._save(job)

    async def remove(self, job: Job) -> None:
        """Stops a job if it has not ended, and removes it with its files."""
        self._jobs.pop(job.name, None)
        # Otherwise files would be written into the folder after it was removed.
        await self._end(job.name)
        if place := self._places.pop(job.name, None):
            await asyncio.to_thread(place.close)

    async def run(self) -> None:
        """Starts jobs when there is a place, and removes old ones, until it is cancelled."""
        while True:
            for job in [each for each in self._jobs.values() if each.state == "waiting"]:
                # The jobs of one client may have to wait while those of another one can start.
                with contextlib.suppress(Refused):
                    if not self.draining and job.name not in self._tasks:
                        self._begin(job)
            expired = time.time() - self._limits.job_age
            for job in [each for each in self._jobs.values() if each.ended and each.ended < expired]:
                await self.remove(job)
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self) -> None:
        """Stops the running jobs, which then wait again."""
        self.draining = True
        await asyncio.gather(*map(self._end, list(self._tasks)))

    async def _end(self, name: str) -> None:
        """Stops a running job, and waits for its end."""
        while name in self._tasks:
            # Repeatedly, since the replica may not know the job yet the first time.
            with contextlib.suppress(RLSPError):
                await self._backend.stop(name)
            await asyncio.wait({self._tasks[name]}, timeout=PROGRESS_SECONDS)

    def _begin(self, job: Job) -> None:
        place = contextlib.ExitStack()
        place.enter_context(self._running.one(job.client))
        task = self._tasks[job.name] = asyncio.ensure_future(self._compute(job))

        def end(task: asyncio.Task[None]) -> None:
            place.close()
            del self._tasks[job.name]

        task.add_done_callback(end)

    async def _compute(self, job: Job) -> None:
        folder = self._folder / job.name
        source, target = folder / "source", folder / f"result.{job.container}"
        job.state, job.began, job.frames, job.rate = "running", time.time(), 0, None
        recent: deque[tuple[float, int]] = deque()
        work = asyncio.ensure_future(
            self._backend.video(job.name, os.fspath(source), os.fspath(target), job.model)
        )
        try:
            while not (await asyncio.wait({work}, timeout=PROGRESS_SECONDS))[0]:
                with contextlib.suppress(RLSPError):
                    job.frames, total = await self._backend.progress(job.name)
                    job.total = total if total is not None else job.total
                # A network takes its time until the first frame, which says nothing about the others.
                if job.frames:
                    recent.append((time.time(), job.frames))
                    while recent[-1][0] - recent[0][0] > RATE_SECONDS:
                        recent.popleft()
                    (since, before), (now, frames) = recent[0], recent[-1]
                    job.rate = (frames - before) / (now - since) if frames > before else None
            job.notes, job.total = work.result()
            job.state, job.frames = "done", job.total
        except RLSPError as error:
            if self.draining or job.name not in self._jobs:
                job.state = "waiting"
                return
            job.state, job.error = "failed", str(error)
            job.status = 413 if isinstance(error, TooLarge) else 415
            if isinstance(error, Refused):
                job.status = error.status
            if isinstance(error, ServerFault) and error.details:
                log.error("a job failed:\n%s", error.details)
        job.ended = time.time()
        source.unlink(missing_ok=True)
        await self._save(job)
        self._finished(job)

    async def _save(self, job: Job) -> None:
        path = self._folder / job.name / "job.json"
        await asyncio.to_thread(write_json, path, asdict(job), force=True)

    def _load(self) -> None:
        """Finds the jobs of an earlier server."""
        for path in sorted(self._folder.glob("*/job.json"), key=lambda path: path.stat().st_mtime):
            try:
                job = Job(**read_json(path, "remove its folder"))
            except (RLSPError, TypeError):
                continue
            if job.model not in self._models:
                continue
            if not job.is_over:
                job.state, job.began = "waiting", None
            place = self._places[job.name] = contextlib.ExitStack()
            # There may be more jobs than the limit, if it was higher before.
            with contextlib.suppress(Refused):
                place.enter_context(self._kept.one(job.client))
            place.callback(shutil.rmtree, path.parent, ignore_errors=True)
            self._jobs[job.name] = job
