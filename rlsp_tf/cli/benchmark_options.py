"""What the commands of ``rlsp benchmark`` share: common options, and how a measurement is run."""

import argparse
import os
from collections.abc import Sequence
from importlib import import_module

from rlsp_tf.cli.common import add_command, command_line, start_tensorflow
from rlsp_tf.errors import RLSPError
from rlsp_tf.system.backends import environment_for
from rlsp_tf.system.quiet import quiet_tensorflow


def add_measurement(
    benchmarks: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    function: str,
    help: str,
    description: str,
    *,
    computes: Sequence[str] = (),
) -> argparse.ArgumentParser:
    """Adds a command that measures something, prints the result as Markdown and saves it with ``--json``.

    Args:
        benchmarks: the commands of ``rlsp benchmark``.
        name: the name of the command.
        function: the function that measures, as ``module:name``. It is called with ``progress``,
            ``command`` and the command's own options as keywords, without those that were not given. If
            its result has sentences under ``"failures"``, the command ends with exit code 1.
        help, description: texts for ``--help``.
        computes: the precisions in which the function computes in this process, with TensorFlow, unless
            its options say which. Empty if other processes compute.
    """
    parser = add_command(benchmarks, name, _measure, help=help, description=description)
    parser.add_argument("--json", metavar="FILE", help="write the result with every number as JSON")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    parser.set_defaults(function=function, computes=computes)
    return parser


def _measure(arguments: argparse.Namespace) -> None:
    from rlsp_tf.system.files import check_target, write_json

    options = {name: value for name, value in vars(arguments).items() if value is not None}
    for name in ("command", "parser", "debug", "force", "json", "function", "computes"):
        options.pop(name, None)
    if arguments.json:
        check_target(arguments.json, force=arguments.force)
    if arguments.computes:
        start_tensorflow(*(options.get("precisions") or arguments.computes))
    module, name = arguments.function.split(":")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with quiet_tensorflow():  # some measurements import it, though they compute in other processes
        measure = getattr(import_module(module), name)
    with environment_for(options.get("precision")):  # for the processes that it starts
        result = measure(**options, progress=True, command=command_line())
    from rlsp_tf.benchmarks.report import describe

    print(describe(result))
    if arguments.json:
        write_json(arguments.json, result, force=arguments.force)
    if failures := result.get("failures"):
        raise RLSPError(" ".join(failures))


def width_height(text: str) -> tuple[int, int]:
    """The argparse type of a width and height, such as 480x270."""
    width, cross, height = text.partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"expected WxH, such as 480x270, not {text!r}")
    return int(width), int(height)
