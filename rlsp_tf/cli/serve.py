"""The options of ``rlsp serve``."""

import argparse
import ipaddress
from collections.abc import Callable
from pathlib import Path

from rlsp_tf.cli.common import (
    DEFAULT_MODEL,
    add_command,
    add_precision,
    needs_tensorflow,
    number,
    positive,
    whole,
)
from rlsp_tf.errors import UsageError
from rlsp_tf.serving.limits import DEFAULT_LIMITS, LOOPBACK, Limits
from rlsp_tf.system.backends import environment_for


def add_serve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp serve``."""
    parser = add_command(
        commands,
        "serve",
        _serve,
        help="upscale videos and single frames for others, over HTTP",
        description="""\
Upscales over HTTP until Ctrl-C or SIGTERM: whole videos, and single frames in sessions, whose state is kept
by the server. Frames of the same size that come from several clients at the same time are computed
together. It needs pip install 'rlsp_tf[serve]'.

  rlsp serve
  curl -X POST -T film.mp4 http://127.0.0.1:8000/videos -o film-4x.mp4    # answers when it is done
  curl -X POST -T film.mp4 http://127.0.0.1:8000/jobs                     # answers at once
  curl -X POST 'http://127.0.0.1:8000/sessions?width=480&height=270'
  curl -X PUT -T 0.png -H 'Content-Type: image/png' http://127.0.0.1:8000/sessions/NAME/frames/0

What is too large is refused with 413, what is too much at a time with 503 or 429 and Retry-After. /healthz
says whether the server works, /metrics has counters for Prometheus, / shows models and limits.

Without --token-file, everybody who can reach the port may use the server. docs/scale.md describes all
requests and answers.""",
    )
    parser.add_argument(
        "--model",
        action="append",
        help="a .keras file, or the name of weights that come with rlsp. Repeat it for several models: "
        "clients choose by the name of the file without suffix, and get the first one otherwise "
        f"(default: {DEFAULT_MODEL})",
    )
    add_precision(parser)
    parser.add_argument(
        "--replicas",
        type=positive,
        default=1,
        metavar="N",
        help="processes with the networks, among which cores and GPUs are shared; use one for each GPU "
        "(default: %(default)s)",
    )
    _add_access(parser)
    _add_limits(parser)
    parser.add_argument(
        "--jobs",
        metavar="FOLDER",
        help="keep jobs in this folder, so that they go on when the server is started again; without it "
        "they end with the server",
    )
    parser.add_argument(
        "--log",
        choices=("text", "json", "off"),
        default="off",
        help="a line on standard error for each request (default: %(default)s)",
    )
    parser.add_argument(
        "--grace",
        type=number(),
        default=30,
        metavar="SECONDS",
        help="time to finish accepted work after SIGTERM (default: %(default)s)",
    )


def _add_access(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("access")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    group.add_argument(
        "--port",
        type=whole(0, 65535),
        default=8000,
        metavar="PORT",
        help="port to listen on; 0 for any (default: %(default)s)",
    )
    group.add_argument(
        "--token-file",
        metavar="FILE",
        help="a file with one token per line; every request must have one of them, as in "
        "Authorization: Bearer TOKEN",
    )
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="a certificate chain (PEM), for HTTPS")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="the private key of --tls-cert (PEM)")
    group.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which clients call the server, besides localhost and IP addresses; may be repeated. "
        "Requests for other names, and those of other web sites, are refused",
    )
    group.add_argument(
        "--trusted-proxy",
        type=_network,
        action="append",
        metavar="ADDRESS",
        help="the address or network of a proxy whose X-Forwarded-For names the client; may be repeated "
        f"(default: {' and '.join(LOOPBACK)})",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    """Adds an option for each limit that has one; its value is ``limit_`` and the name of the field."""
    group = parser.add_argument_group("limits")

    def add(option: str, kind: Callable[[str], float], unit: str, help: str) -> None:
        field = option.removeprefix("max-").replace("-", "_")
        default = getattr(DEFAULT_LIMITS, field)
        group.add_argument(
            f"--{option}",
            dest=f"limit_{field}",
            type=kind,
            default=default,
            metavar=unit,
            help=f"{help} (default: {f'{default / 2**20:g}' if kind is _megabytes else default})",
        )

    share = "part of the sessions, queue, videos, jobs and connections that one client may have; 1 if all "
    add("client-share", number(0, 1, above=True), "PART", f"{share}requests come from one program of yours")
    add("max-connections", positive, "N", "open connections")
    add("max-rate", positive, "N", "requests per second from one client; each frame is one")
    add("max-sessions", positive, "N", "open sessions")
    idle = "time without an accepted frame after which a session expires"
    add("max-idle", number(above=True), "SECONDS", idle)
    add("max-queue", positive, "N", "frames of all sessions that are computed or wait for it")
    add("max-pixels", positive, "N", "pixels of a frame before it is upscaled; 518400 are 960x540")
    add("max-videos", positive, "N", "videos at a time, transfers included")
    add("max-upload", _megabytes, "MB", "size of a video, in 2^20 bytes")
    add("max-seconds", number(above=True), "SECONDS", "duration of a video")
    add("max-jobs", positive, "N", "jobs, from the upload until they are removed")
    add("max-job-age", number(), "SECONDS", "time after its end until a job is removed with its result")


def _megabytes(text: str) -> int:
    return int(number(above=True)(text) * 2**20)


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected an address such as 10.0.0.7, or a network such as 10.0.0.0/8, not {text!r}"
        ) from None
    return text


def _serve(arguments: argparse.Namespace) -> None:
    paths = arguments.model or [DEFAULT_MODEL]
    models = {Path(path).name.removesuffix(".keras"): path for path in paths}
    if len(models) < len(paths):
        raise UsageError("two of the models have the same name; rename one of the files.")
    if (arguments.tls_cert is None) != (arguments.tls_key is None):
        raise UsageError("--tls-cert and --tls-key belong together; give both of them.")
    needs_tensorflow()
    from rlsp_tf.serving.serve import serve

    with environment_for(arguments.precision):  # for the replicas
        serve(
            models,
            host=arguments.host,
            port=arguments.port,
            precision=arguments.precision,
            replicas=arguments.replicas,
            limits=Limits(
                **{
                    name.removeprefix("limit_"): value
                    for name, value in vars(arguments).items()
                    if name.startswith("limit_")
                }
            ),
            proxies=arguments.trusted_proxy or LOOPBACK,
            hosts=arguments.allowed_host,
            jobs=arguments.jobs,
            token_file=arguments.token_file,
            tls=arguments.tls_cert and (arguments.tls_cert, arguments.tls_key),
            log_format=None if arguments.log == "off" else arguments.log,
            grace=arguments.grace,
        )
