"""``rlsp serve``: starts Ray with the networks, and one process in front of it that speaks HTTP.

Ray's own HTTP proxy is not used, since it and the replicas keep whole requests and answers in memory while a
client is slow. The front, which runs uvicorn, reads and sends no faster than the disk and the client do, and
calls the replicas through handles of Ray Serve.
"""

import asyncio
import contextlib
import importlib.util
import ipaddress
import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rlsp_tf.errors import RLSPError, first_line
from rlsp_tf.serving.limits import DEFAULT_LIMITS, LOOPBACK, Limits
from rlsp_tf.system.cores import cores
from rlsp_tf.system.listener import listen

if TYPE_CHECKING:
    from rlsp_tf.serving.access import Access
    from rlsp_tf.serving.ray_backend import RayBackend

OBJECT_STORE = 2**29
"""Bytes of shared memory for frames between front and replicas. Ray writes further frames to the disk."""


def serve(
    models: Mapping[str, str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    precision: str = "auto",
    replicas: int = 1,
    limits: Limits = DEFAULT_LIMITS,
    proxies: Sequence[str] = LOOPBACK,
    hosts: Sequence[str] = (),
    jobs: str | os.PathLike[str] | None = None,
    token_file: str | os.PathLike[str] | None = None,
    tls: tuple[Path, Path] | None = None,
    log_format: Literal["text", "json"] | None = None,
    grace: float = 30,
) -> None:
    """Serves until SIGINT or SIGTERM, then finishes: see :class:`rlsp_tf.serving.server.Server`.

    Args:
        models: ``.keras`` files or names of weights, by the names that clients use.
        host: address to listen on.
        port: port to listen on; 0 for any free one.
        precision: precision of the networks; see :func:`rlsp_tf.inference.load.load_step`.
        replicas: number of processes with the networks. Cores and GPUs are shared among them.
        limits: limits on what is accepted.
        proxies: addresses and networks of proxies whose ``X-Forwarded-For`` names the client.
        hosts: names of the server, besides ``localhost`` and IP addresses; see
            :class:`rlsp_tf.serving.access.CheckAccess`.
        jobs: folder for jobs, which continue when a server with the same folder is started again.
        token_file: file with one token per line, one of which every request must have. By default everybody
            who can reach the port may use the server.
        tls: certificate chain and private key, as PEM files.
        log_format: ``"text"`` or ``"json"`` to log requests to standard error.
        grace: seconds after the signal in which accepted work is finished.

    Raises:
        RLSPError: if a model, the tokens, the certificate or the port cannot be used.
    """
    _check_installed()
    from rlsp_tf.serving.access import Access, read_tokens
    from rlsp_tf.serving.folder import jobs_folder, server_folder
    from rlsp_tf.serving.server import check_tls, log_to_stderr

    access = Access(hosts, read_tokens(token_file) if token_file is not None else ())
    check_tls(tls)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen(host, port, "rlsp serve"))
        log_to_stderr()
        if not access.tokens and not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
            print(
                f"rlsp: everybody who can reach {host} may use the server; --token-file prevents that.",
                file=sys.stderr,
            )
        folder = stack.enter_context(server_folder())
        kept = stack.enter_context(jobs_folder(Path(jobs) if jobs is not None else folder / "jobs"))
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
        run = _serve(backend, limits, videos, kept, listener, proxies, access, tls, log_format, grace)
        asyncio.run(run)


async def _serve(
    backend: "RayBackend",
    limits: Limits,
    folder: Path,
    jobs: Path,
    listener: socket.socket,
    proxies: Sequence[str],
    access: "Access",
    tls: tuple[Path, Path] | None,
    log_format: Literal["text", "json"] | None,
    grace: float,
) -> None:
    from rlsp_tf.serving.app import App
    from rlsp_tf.serving.server import Server

    models = await backend.about()
    app = App(backend, models, limits, folder, jobs_folder=jobs, access=access, log_format=log_format)
    server = Server(app, grace, proxies, tls)
    host, port = listener.getsockname()[:2]
    scheme, shown = "https" if tls else "http", f"[{host}]" if ":" in host else host
    print(f"rlsp: serving {', '.join(models)} on {scheme}://{shown}:{port}", flush=True)
    await server.serve(sockets=[listener])


def _check_installed() -> None:
    """Raises an exception if a package is missing.

    Importing them would be too early: Ray reads its environment when it is imported.
    """
    for package in ("ray", "starlette", "uvicorn", "limits", "prometheus_client"):
        if importlib.util.find_spec(package) is None:
            raise RLSPError(
                f"rlsp serve: needs {package} to run; install it by: pip install 'rlsp_tf[serve]'."
            )


@contextlib.contextmanager
def _ray(folder: Path, replicas: int) -> Iterator[float]:
    """Starts Ray for this server alone. Its files are below ``folder``; its processes end with the block.

    Yields:
        The number of GPUs that it has found.
    """
    # Otherwise Ray reports its usage to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "ray" not in sys.modules:
        # Ray reads these when it is imported. Without the token, it would write one into the home folder.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # The switch for systems on which Ray has no clusters: all its ports are on 127.0.0.1 then, those of
        # its metrics too, which ask for no token.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        # Otherwise a process of Ray looks every tenth of a second whether there should be other replicas.
        os.environ.setdefault("RAY_SERVE_CONTROL_LOOP_INTERVAL_S", "1")
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        ray.init(
            address="local",
            num_cpus=replicas,
            object_store_memory=OBJECT_STORE,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=os.fspath(folder / "ray"),
            # By default a replica is at niceness 15, where everything else on the machine goes first, its own
            # clients too.
            _system_config={"worker_niceness": 0},
        )
    except Exception as error:  # Ray raises Exception itself if one of its processes is not up in time
        raise RLSPError(
            f"{folder}: Ray cannot start here ({first_line(error)}); set TMPDIR to a short path with room on "
            "the disk, and try again when the machine is less busy."
        ) from error
    try:
        yield ray.cluster_resources().get("GPU", 0)
    finally:
        ray.shutdown()
