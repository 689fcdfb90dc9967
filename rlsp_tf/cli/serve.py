"""``rlsp serve``: its options."""

import argparse
import ipaddress
from pathlib import Path

from rlsp_tf.cli.common import DEFAULT_MODEL, add_command, positive
from rlsp_tf.errors import UsageError
from rlsp_tf.serving.limits import LOCAL, USUAL, Limits


def add_serve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp serve``."""
    parser = add_command(
        commands,
        "serve",
        _serve,
        help="upscale videos and single frames for others, over HTTP",
        description="""\
Upscales over HTTP, until Ctrl-C or SIGTERM: whole videos, and frames one after the other in sessions, whose
state stays here. Frames of one size that come from several clients at the same time go through the network
together. It takes pip install 'rlsp_tf[serve]'.

  rlsp serve
  curl -X POST -T film.mp4 http://127.0.0.1:8000/videos -o film-4x.mp4
  curl -X POST 'http://127.0.0.1:8000/sessions?width=480&height=270'
  curl -X PUT -T 0.png -H 'Content-Type: image/png' http://127.0.0.1:8000/sessions/NAME/frames/0

What is too large is refused with 413, what is too much at a time with 503 and Retry-After, and a client that
asks too often with 429. /healthz tells whether it works, /metrics counts for Prometheus, / shows models and
limits.

There is no authentication: whoever reaches the port may use it. Leave it on 127.0.0.1, behind a proxy
that knows its users. docs/scale.md has all requests and answers.""",
    )
    parser.add_argument(
        "--model",
        action="append",
        help="a .keras file, or the name of weights that come with rlsp; may be repeated, and clients choose "
        f"by the name of the file without suffix, the first one if they do not (default: {DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16", "int8"),
        default="auto",
        help="as for rlsp upscale (default: %(default)s)",
    )
    parser.add_argument(
        "--replicas",
        type=positive,
        default=1,
        metavar="N",
        help="processes with networks, which share cores and GPUs; one for each GPU (default: %(default)s)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="(default: %(default)s)")
    parser.add_argument(
        "--trusted-proxy",
        type=_network,
        action="append",
        metavar="ADDRESS",
        help="of a proxy, or a network of them, whose X-Forwarded-For tells who the client is; may be "
        f"repeated (default: {' and '.join(LOCAL)})",
    )
    parser.add_argument(
        "--max-rate",
        type=positive,
        default=USUAL.rate,
        metavar="N",
        help="requests a second from one client, frames most of all (default: %(default)s)",
    )
    parser.add_argument(
        "--max-sessions", type=positive, default=USUAL.sessions, metavar="N", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--max-idle",
        type=float,
        default=USUAL.idle,
        metavar="SECONDS",
        help="without a frame, until a session is forgotten (default: %(default)s)",
    )
    parser.add_argument(
        "--max-queue",
        type=positive,
        default=USUAL.queue,
        metavar="N",
        help="frames of all sessions that are at work or wait; more are refused (default: %(default)s)",
    )
    parser.add_argument(
        "--max-pixels",
        type=positive,
        default=USUAL.pixels,
        metavar="N",
        help="of a frame before it is upscaled (default: %(default)s, 960x540)",
    )
    parser.add_argument(
        "--max-videos",
        type=positive,
        default=USUAL.videos,
        metavar="N",
        help="videos that come, are at work or go at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--max-upload",
        type=float,
        default=USUAL.upload / 2**20,
        metavar="MB",
        help="of a video, in 2^20 bytes (default: %(default)g)",
    )
    parser.add_argument(
        "--max-seconds",
        type=float,
        default=USUAL.seconds,
        metavar="SECONDS",
        help="that a video lasts (default: %(default)s)",
    )
    parser.add_argument(
        "--grace",
        type=float,
        default=30,
        metavar="SECONDS",
        help="to finish what was accepted in, after SIGTERM (default: %(default)s)",
    )


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
        raise UsageError("two of the models have one name; rename one of the files.")
    from rlsp_tf.serving.serve import serve

    serve(
        models,
        host=arguments.host,
        port=arguments.port,
        precision=arguments.precision,
        replicas=arguments.replicas,
        limits=Limits(
            rate=arguments.max_rate,
            sessions=arguments.max_sessions,
            idle=arguments.max_idle,
            queue=arguments.max_queue,
            pixels=arguments.max_pixels,
            videos=arguments.max_videos,
            upload=int(arguments.max_upload * 2**20),
            seconds=arguments.max_seconds,
        ),
        proxies=arguments.trusted_proxy or LOCAL,
        grace=arguments.grace,
    )
