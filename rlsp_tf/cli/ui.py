"""The options of ``rlsp ui``."""

import argparse
import os

from rlsp_tf.cli.common import DEFAULT_MODEL, add_command, positive, start_backend
from rlsp_tf.errors import UsageError


def add_ui(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp ui``."""
    parser = add_command(
        commands,
        "ui",
        _ui,
        help="show a page on which videos are dropped, compared and upscaled",
        description="""\
Shows a page in the browser: drop a video or pictures, look at a moment before and after, choose size and
quality, start, and download the result. It needs pip install 'rlsp_tf[ui]'.

  rlsp ui
  rlsp ui --host 0.0.0.0 --auth-file accounts.txt    # for others in the network, too

Work goes on when the page is closed, and where it was when rlsp ui is started again. Only this computer
can reach the page unless --host says otherwise. docs/ui.md describes more.""",
    )
    parser.add_argument(
        "--model",
        action="append",
        help="a .keras file, or the name of weights that come with rlsp. Repeat it to let people choose; the "
        f"first one is recommended (default: {DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--folder",
        help="where uploads and results are kept (default: ui in the system's folder for data of rlsp)",
    )
    group = parser.add_argument_group("access")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    group.add_argument(
        "--port", type=int, default=7860, help="port to listen on; 0 for any (default: %(default)s)"
    )
    group.add_argument(
        "--auth-file",
        metavar="FILE",
        help="a file with USER:PASSWORD on each line; everybody has to log in, and sees only what is theirs",
    )
    group.add_argument(
        "--auth",
        metavar="USER:PASSWORD",
        help="an account; other users of this computer can read it in the list of processes, so --auth-file "
        "is better",
    )
    group.add_argument(
        "--share",
        action="store_true",
        help="let others reach the page at a public address, whose requests a server of Gradio's makers "
        "passes on; needs an account",
    )
    group = parser.add_argument_group("limits")
    group.add_argument(
        "--max-upload",
        type=positive,
        default=4096,
        metavar="MB",
        help="size of an upload, in 2^20 bytes (default: %(default)s)",
    )
    group.add_argument(
        "--max-result",
        type=positive,
        default=65536,
        metavar="MB",
        help="size of a result, in 2^20 bytes (default: %(default)s)",
    )
    group.add_argument(
        "--keep",
        type=float,
        default=7,
        metavar="DAYS",
        help="time after its end until a result is removed with its upload (default: %(default)s)",
    )


def _ui(arguments: argparse.Namespace) -> None:
    from rlsp_tf.ui.launch import launch, read_accounts
    from rlsp_tf.ui.limits import Limits

    if arguments.auth and arguments.auth_file:
        raise UsageError("--auth and --auth-file exclude each other; put all accounts into the file.")
    accounts = {}
    if arguments.auth_file:
        accounts = read_accounts(arguments.auth_file)
    elif arguments.auth:
        user, _, password = arguments.auth.partition(":")
        accounts = {user: password}
    if not arguments.keep > 0:
        raise UsageError(f"--keep must be above 0, not {arguments.keep:g}.")
    # A process that upscales needs the memory of a GPU, too.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    start_backend()
    launch(
        host=arguments.host,
        port=arguments.port,
        folder=arguments.folder,
        models=arguments.model or [DEFAULT_MODEL],
        accounts=accounts,
        share=arguments.share,
        limits=Limits(
            upload=arguments.max_upload * 2**20,
            result=arguments.max_result * 2**20,
            keep=arguments.keep * 86400,
        ),
    )
