"""What the commands of ``rlsp benchmark`` share: options, and what becomes of a result."""

import argparse
import shlex
import sys
from typing import Any


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds --json and --force."""
    parser.add_argument("--json", metavar="FILE", help="write every number")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")


def width_height(text: str) -> tuple[int, int]:
    """The type of an option such as 480x270."""
    width, cross, height = text.partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"expected WxH, such as 480x270, not {text!r}")
    return int(width), int(height)


def check_json(arguments: argparse.Namespace) -> None:
    """Refuses before the work begins."""
    from rlsp_tf.files import check_target

    if arguments.json:
        check_target(arguments.json, force=arguments.force)


def keep_result(arguments: argparse.Namespace, result: dict[str, Any], text: str) -> None:
    """Prints a result, and writes it where --json says."""
    from rlsp_tf.files import write_json

    print(text)
    if arguments.json:
        write_json(arguments.json, result, force=arguments.force)


def command_line() -> str:
    """What was typed, to be noted with a result."""
    return shlex.join(["rlsp", *sys.argv[1:]])
