"""Runs the networks in processes of Ray Serve, and calls the process that has a session."""

import asyncio
import contextlib
import functools
import logging
import os
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.config import RequestRouterConfig
from ray.serve.exceptions import RayServeException

from rlsp_tf.errors import RLSPError
from rlsp_tf.serving.limits import Limits, Refused, ServerFault, SessionLost
from rlsp_tf.serving.wire import Answer

ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"
"""Sends all calls of a session to the same replica, which depends only on the session's name."""
KEYS = 200
"""Number of keys for each replica, at least one of which the router surely sends to it."""


class Replica:
    """A :class:`rlsp_tf.serving.engine.Engine` in a process of its own.

    Exceptions are returned, not raised, since Ray would hide them in one of its own.

    Args:
        models, precision: see :class:`rlsp_tf.serving.engine.Engine`.
        limits: see :class:`rlsp_tf.serving.limits.Limits`.
        threads: number of threads of TensorFlow.
        folder: folder for temporary files of libraries, which Ray gives no time to remove them.
    """

    def __init__(
        self, models: Mapping[str, str], precision: str, limits: Limits, threads: int, folder: str
    ) -> None:
        tempfile.tempdir = folder
        _listen_on_loopback()
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(threads))
        # Several replicas may share a GPU.
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        from rlsp_tf.inference.divergence import DivergenceWarning
        from rlsp_tf.serving.engine import Engine, Progress

        # Clients are told in their answers.
        warnings.simplefilter("ignore", DivergenceWarning)

        self._new_progress = Progress
        self._limits = limits
        self._frames = ThreadPoolExecutor(limits.queue, "frame")
        self._videos = ThreadPoolExecutor(limits.videos, "video")
        self._stops: dict[str, threading.Event] = {}
        self._progress: dict[str, Any] = {}
        self._failure: RLSPError | None = None
        self._reloading = asyncio.Lock()
        self._reloaded: tuple[int, dict[str, str | None]] = (0, {})
        try:
            self._engine = Engine(models, precision=precision, sessions=limits.sessions)
        except RLSPError as error:
            # about() reports it. If the constructor failed, Ray would call it again and again.
            self._failure = error

    async def about(self) -> Any:
        """See :meth:`rlsp_tf.serving.engine.Engine.about`."""
        return self._failure or self._engine.about()

    async def push(self, *arguments: Any) -> Any:
        """See :meth:`rlsp_tf.serving.engine.Engine.push`."""
        return await self._call(self._frames, self._engine.push, *arguments)

    async def flush(self, *arguments: Any) -> Any:
        """See :meth:`rlsp_tf.serving.engine.Engine.flush`."""
        return await self._call(self._frames, self._engine.flush, *arguments)

    async def reload(self, key: str, turn: int) -> tuple[str, dict[str, str | None]]:
        """See :meth:`rlsp_tf.serving.engine.Engine.reload`.

        Args:
            key: text from which Ray chooses the replica.
            turn: the number of the reload. A second call with the same number gives the same answer.

        Returns:
            The name of this replica, and what came of the reload.
        """
        async with self._reloading:
            if turn != self._reloaded[0]:
                reload = asyncio.get_running_loop().run_in_executor(None, self._engine.reload)
                self._reloaded = turn, await reload
        return serve.get_replica_context().replica_id.unique_id, self._reloaded[1]

    async def drop(self, session: str) -> None:
        """See :meth:`rlsp_tf.serving.engine.Engine.drop`."""
        self._engine.drop(session)

    async def video(self, job: str, source: str, target: str, model: str) -> Any:
        """See :meth:`rlsp_tf.serving.engine.Engine.video`; ``job`` names the video in other methods."""
        work = functools.partial(
            self._engine.video,
            pixels=self._limits.pixels,
            seconds=self._limits.seconds,
            stop=self._stops.setdefault(job, threading.Event()),
            progress=self._progress.setdefault(job, self._new_progress()),
        )
        try:
            return await self._call(self._videos, work, source, target, model)
        finally:
            del self._stops[job], self._progress[job]

    async def stop(self, job: str) -> None:
        """Stops a video at its next step, if it is running or waiting."""
        if job in self._stops:
            self._stops[job].set()

    async def progress(self, job: str) -> tuple[int, int | None]:
        """Returns how many frames of a video are finished, and their total number once it is known."""
        progress = self._progress.get(job)
        return (progress.frames, progress.total) if progress else (0, None)

    async def _call(self, pool: ThreadPoolExecutor, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)
        except RLSPError as error:
            return error.with_traceback(None)
        except Exception:
            return ServerFault(
                "the server failed because of a bug; sending the request again will not help.",
                traceback.format_exc(),
            )


def _listen_on_loopback() -> None:
    """Makes Ray Serve open the port of this replica on 127.0.0.1 only, instead of on all interfaces.

    Ray has no option for this. The port is for calls between replicas, which do not happen here.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from ray.serve._private import replica

        bind = replica.add_port_to_grpc_server
        replica.add_port_to_grpc_server = lambda server, address: bind(
            server, address.replace("[::]", "127.0.0.1")
        )


class RayBackend:
    """Calls the replicas; implements :class:`rlsp_tf.serving.app.VideoBackend`.

    Args:
        handle: Ray's handle of the deployment.
        replicas: how many there are.
    """

    def __init__(self, handle: Any, replicas: int) -> None:
        self._handle, self._replicas = handle, replicas
        self._turn = 0

    async def push(
        self, session: str, index: int, model: str, size: tuple[int, int], media_type: str, data: bytes
    ) -> Answer:
        return await self._call("push", session, index, model, size, media_type, data)

    async def flush(self, session: str, index: int, media_type: str) -> Answer:
        return await self._call("flush", session, index, media_type)

    async def drop(self, session: str) -> None:
        await self._call("drop", session)

    async def video(self, job: str, source: str, target: str, model: str) -> tuple[list[str], int]:
        """See :meth:`rlsp_tf.serving.engine.Engine.video`."""
        return await self._call("video", job, source, target, model)

    async def stop(self, job: str) -> None:
        """Ends a video."""
        await self._call("stop", job)

    async def progress(self, job: str) -> tuple[int, int | None]:
        """See :meth:`Replica.progress`."""
        return await self._call("progress", job)

    async def about(self) -> dict[str, dict[str, Any]]:
        """See :meth:`rlsp_tf.serving.engine.Engine.about`."""
        return await self._call("about", "")

    async def reload(self) -> dict[str, str | None]:
        """See :meth:`rlsp_tf.serving.engine.Engine.reload`; a failure of one replica counts for all."""
        self._turn += 1
        answers: dict[str, dict[str, str | None]] = {}
        # Ray has no call for all replicas, so they are called by keys until each has answered.
        for number in range(KEYS * self._replicas):
            replica, outcome = await self._call("reload", f"reload {number}", self._turn)
            answers[replica] = outcome
            if len(answers) == self._replicas:
                break
        merged: dict[str, str | None] = {}
        for outcome in answers.values():
            for name, failure in outcome.items():
                merged[name] = merged.get(name) or failure
        return merged

    async def _call(self, method: str, key: str, *arguments: Any) -> Any:
        """Calls the replica that a key belongs to. The key is also the first argument, unless it is empty."""
        given = (key, *arguments) if key else arguments
        try:
            handle = self._handle.options(method_name=method, session_id=key)
            result = await handle.remote(*given)
        except (RayError, RayServeException) as error:
            if method in ("push", "flush"):
                raise SessionLost("the process that had the session ended; begin another one.") from error
            if method == "video":
                # There is no Retry-After, because the video may be the reason.
                raise ServerFault(
                    "the process that upscaled the video ended; if that happens again, it is because of "
                    "this video: use rlsp upscale."
                ) from error
            raise Refused("the process that did the work ended; try again.", 503, retry_after=10) from error
        if isinstance(result, RLSPError):
            raise result
        return result


def deploy(
    models: Mapping[str, str],
    precision: str,
    limits: Limits,
    *,
    replicas: int,
    threads: int,
    gpus: float,
    folder: str,
) -> RayBackend:
    """Starts replicas on a running Ray, without Ray's HTTP proxy, and waits until they are ready.

    Args:
        models, precision, limits, threads, folder: see :class:`Replica`.
        replicas: number of replicas.
        gpus: number of GPUs for each replica, which may be a fraction.
    """
    # The types of Ray's decorators are only right where they decorate.
    make: Any = serve.deployment
    router: Any = ROUTER
    deployment = make(
        Replica,
        name="replica",
        num_replicas=replicas,
        # The front refuses requests earlier. Flushes, drops and stops are added to frames and videos.
        max_ongoing_requests=2 * (limits.queue + limits.sessions + limits.videos) + 16,
        ray_actor_options={"num_cpus": 1, "num_gpus": gpus},
        request_router_config=RequestRouterConfig(
            request_router_class=router, request_router_kwargs={"num_fallback_replicas": 0}
        ),
        # A long compilation, or a busy disk, must not look like a dead process.
        health_check_timeout_s=60,
        graceful_shutdown_timeout_s=5,
        logging_config={"log_level": "ERROR", "enable_access_log": False},
    )
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
    app = deployment.bind(dict(models), precision, limits, threads, folder)
    return RayBackend(serve.run(app, name="rlsp", route_prefix=None), replicas)
