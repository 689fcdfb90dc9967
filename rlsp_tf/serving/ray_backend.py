"""``rlsp serve`` and Ray Serve: the deployment, and how to reach the replica that has a session."""

import asyncio
import functools
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.config import RequestRouterConfig
from ray.serve.exceptions import RayServeException

from rlsp_tf.errors import RLSPError
from rlsp_tf.serving.limits import Limits, Lost, Refused

ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"
"""Sends every call of a session to one replica, chosen by the session's name alone."""


class Replica:
    """A :class:`rlsp_tf.serving.engine.Network` in a process of its own.

    An ``RLSPError`` is returned, not raised: Ray would dress it in a traceback.

    Args:
        models, precision: see :class:`rlsp_tf.serving.engine.Network`.
        limits: see :class:`rlsp_tf.serving.limits.Limits`.
        threads: of TensorFlow.
        folder: for the temporary files of libraries, which Ray gives no time to remove them.
    """

    def __init__(
        self, models: Mapping[str, str], precision: str, limits: Limits, threads: int, folder: str
    ) -> None:
        tempfile.tempdir = folder
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(threads))
        # Replicas may share a GPU.
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        from rlsp_tf.serving.engine import Network

        self._limits = limits
        self._frames = ThreadPoolExecutor(limits.queue, "frame")
        self._videos = ThreadPoolExecutor(limits.videos, "video")
        self._stops: dict[str, threading.Event] = {}
        self._failure: RLSPError | None = None
        try:
            self._network = Network(models, precision=precision, sessions=limits.sessions)
        except RLSPError as error:
            # To be told by about(); a constructor that fails would be called again and again.
            self._failure = error

    async def about(self) -> Any:
        """See :meth:`rlsp_tf.serving.engine.Network.about`."""
        return self._failure or self._network.about()

    async def push(self, *arguments: Any) -> Any:
        """See :meth:`rlsp_tf.serving.engine.Network.push`."""
        return await self._call(self._frames, self._network.push, *arguments)

    async def flush(self, *arguments: Any) -> Any:
        """See :meth:`rlsp_tf.serving.engine.Network.flush`."""
        return await self._call(self._frames, self._network.flush, *arguments)

    async def drop(self, session: str) -> None:
        """See :meth:`rlsp_tf.serving.engine.Network.drop`."""
        self._network.drop(session)

    async def video(self, job: str, source: str, target: str, model: str) -> Any:
        """See :meth:`rlsp_tf.serving.engine.Network.video`; ``job`` is for :meth:`stop`."""
        stop = self._stops[job] = threading.Event()
        work = functools.partial(
            self._network.video, pixels=self._limits.pixels, seconds=self._limits.seconds, stop=stop
        )
        try:
            return await self._call(self._videos, work, source, target, model)
        finally:
            del self._stops[job]

    async def stop(self, job: str) -> None:
        """Has a video end with its next step, if it is at work or waits."""
        if job in self._stops:
            self._stops[job].set()

    async def _call(self, pool: ThreadPoolExecutor, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)
        except RLSPError as error:
            return error.with_traceback(None)


class RayBackend:
    """Calls replicas; a :class:`rlsp_tf.serving.sessions.Backend`, and videos.

    Args:
        handle: of the deployment.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def push(
        self, session: str, index: int, model: str, size: tuple[int, int], form: str, data: bytes
    ) -> tuple[bytes | None, int]:
        return await self._call("push", session, index, model, size, form, data)

    async def flush(self, session: str, index: int, form: str) -> bytes | None:
        return await self._call("flush", session, index, form)

    async def drop(self, session: str) -> None:
        await self._call("drop", session)

    async def video(self, job: str, source: str, target: str, model: str) -> tuple[list[str], int]:
        """See :meth:`rlsp_tf.serving.engine.Network.video`."""
        return await self._call("video", job, source, target, model)

    async def stop(self, job: str) -> None:
        """Ends a video."""
        await self._call("stop", job)

    async def about(self) -> dict[str, dict[str, Any]]:
        """See :meth:`rlsp_tf.serving.engine.Network.about`."""
        return await self._call("about", "")

    async def _call(self, method: str, key: str, *arguments: Any) -> Any:
        """Calls the replica that a key belongs to; the key is the first argument, if it is anything."""
        given = (key, *arguments) if key else arguments
        try:
            handle = self._handle.options(method_name=method, session_id=key)
            result = await handle.remote(*given)
        except (RayError, RayServeException) as error:
            if method in ("push", "flush"):
                raise Lost("the process that had the session ended; begin another.") from error
            raise Refused("the process that did the work ended; try again.", 503, again=10) from error
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
    """Starts the replicas on a Ray that runs, without Ray's HTTP proxy, and waits until they are ready.

    Args:
        models, precision, limits, threads, folder: see :class:`Replica`.
        replicas: how many.
        gpus: for each, or a part of one.
    """
    # Ray's decorators have types that are only right for decorating.
    make: Any = serve.deployment
    router: Any = ROUTER
    deployment = make(
        Replica,
        name="replica",
        num_replicas=replicas,
        # The front refuses before this is reached: flushes, drops and stops come on top of frames and videos.
        max_ongoing_requests=2 * (limits.queue + limits.sessions + limits.videos) + 16,
        ray_actor_options={"num_cpus": 1, "num_gpus": gpus},
        request_router_config=RequestRouterConfig(
            request_router_class=router, request_router_kwargs={"num_fallback_replicas": 0}
        ),
        # A compilation or a page of swapping must not look like death.
        health_check_timeout_s=60,
        graceful_shutdown_timeout_s=5,
        logging_config={"log_level": "ERROR", "enable_access_log": False},
    )
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
    app = deployment.bind(dict(models), precision, limits, threads, folder)
    return RayBackend(serve.run(app, name="rlsp", route_prefix=None))
