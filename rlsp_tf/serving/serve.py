"""``rlsp serve``: Ray with the replicas behind, one process with HTTP in front, and an orderly end.

HTTP is not spoken by Ray's own proxy: it keeps bodies in memory for as long as the other side is slow, whole
videos if need be, and so does the replica behind it. In front stands uvicorn, which reads and sends no faster
than the disk and the client, and calls the replicas by Ray Serve's handles.
"""

import asyncio
import contextlib
import importlib.util
import logging
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlsp_tf.errors import RLSPError
from rlsp_tf.serving.limits import LOCAL, USUAL, Limits
from rlsp_tf.system.cores import cores

if TYPE_CHECKING:
    from rlsp_tf.serving.app import Front
    from rlsp_tf.serving.ray_backend import RayBackend

STORE = 2**29
"""Bytes of shared memory in which frames wait between front and replica; more goes to the disk."""


def serve(
    models: Mapping[str, str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    precision: str = "auto",
    replicas: int = 1,
    limits: Limits = USUAL,
    proxies: Sequence[str] = LOCAL,
    grace: float = 30,
) -> None:
    """Serves until SIGINT or SIGTERM, then ends in order: see :class:`rlsp_tf.serving.server.Server`.

    There is no authentication: whoever reaches the port may use it.

    Args:
        models: ``.keras`` files or names of weights, by the names that clients know.
        host: the address to listen on.
        port: likewise; 0 for any that is free.
        precision: as for :func:`rlsp_tf.inference.load.load_step`.
        replicas: processes with the networks; cores and GPUs are shared among them.
        limits: what is taken on.
        proxies: addresses and networks whose ``X-Forwarded-For`` tells who the client is.
        grace: seconds to finish in after the signal.

    Raises:
        RLSPError: if a model cannot be loaded, or the port is taken.
    """
    _check_installed()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listener(host, port))
        made = tempfile.TemporaryDirectory(prefix="rlsp-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(made))
        gpus = stack.enter_context(_ray(folder, replicas))
        from rlsp_tf.serving.ray_backend import deploy

        backend = deploy(
            models,
            precision,
            limits,
            replicas=replicas,
            threads=max(1, cores() // replicas),
            gpus=min(1, gpus / replicas),
            folder=os.fspath(folder),
        )
        (videos := folder / "videos").mkdir()
        asyncio.run(_serve(backend, limits, videos, listener, proxies, grace))


async def _serve(
    backend: "RayBackend",
    limits: Limits,
    folder: Path,
    listener: socket.socket,
    proxies: Sequence[str],
    grace: float,
) -> None:
    from rlsp_tf.serving.app import Front
    from rlsp_tf.serving.server import Server

    models = await backend.about()
    front = Front(backend, models, limits, folder)
    expiring = asyncio.create_task(_expire(front, limits.idle))
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"rlsp: serving {', '.join(models)} on http://{shown}:{port}", flush=True)
    try:
        await Server(front, grace, proxies).serve(sockets=[listener])
    finally:
        expiring.cancel()


async def _expire(front: "Front", idle: float) -> None:
    while True:
        await asyncio.sleep(min(1, idle / 4))
        # A replica that is being replaced now can be told the next time.
        with contextlib.suppress(RLSPError):
            await front.expire()


def _check_installed() -> None:
    """Raises unless all is there; finding out by importing would be too early for what Ray reads."""
    for package in ("ray", "starlette", "uvicorn", "limits", "prometheus_client"):
        if importlib.util.find_spec(package) is None:
            raise RLSPError(
                f"rlsp serve: needs {package} to run; install it by: pip install 'rlsp_tf[serve]'."
            )


def _listener(host: str, port: int) -> socket.socket:
    """A socket, before all that takes time."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise RLSPError(
            f"rlsp serve: cannot listen on {host}:{port} ({reason}); give another by --host or --port."
        ) from error


@contextlib.contextmanager
def _ray(folder: Path, replicas: int) -> Iterator[float]:
    """A Ray of our own, whose files are below ``folder`` and whose processes end with the block.

    Yields:
        How many GPUs it has found.
    """
    # It tells its makers how it is used otherwise.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "ray" not in sys.modules:
        # Ray reads these when it is imported. Its token would be a file in the home folder.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        ray.init(
            address="local",
            num_cpus=replicas,
            object_store_memory=STORE,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=os.fspath(folder / "ray"),
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise RLSPError(
            f"{folder}: Ray cannot start here ({reason}); set TMPDIR to a short path with room on the disk."
        ) from error
    try:
        yield ray.cluster_resources().get("GPU", 0)
    finally:
        ray.shutdown()
