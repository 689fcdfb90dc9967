"""What all commands share: how their parsers are made, common options, and how failures end."""

import argparse
import contextlib
import errno
import math
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from rlsp_tf._version import __version__
from rlsp_tf.errors import Interrupted, RLSPError, UsageError, describe_os_error
from rlsp_tf.system.backends import BACKENDS, chosen_backend, environment_for
from rlsp_tf.system.lean import lean_imports
from rlsp_tf.system.quiet import quiet_tensorflow

if TYPE_CHECKING:
    from rlsp_tf.media.degradations import Degradation

PRECISIONS = ("float32", "bfloat16", "float16", "int8")
DEFAULT_MODEL = "7-48"
MODEL_HELP = "a .keras file, or the name of weights that come with rlsp (default: %(default)s)"


def make_parser(
    program: str,
    description: str,
    *commands: "Callable[[argparse._SubParsersAction[argparse.ArgumentParser]], None]",
) -> argparse.ArgumentParser:
    """Makes the parser of a program with commands.

    Args:
        program: name of the program.
        description: text for ``--help``.
        commands: functions that add a command each.
    """
    parser = argparse.ArgumentParser(
        prog=program, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    added = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in commands:
        add(added)
    return parser


def run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parses ``argv``, runs the chosen command and turns expected failures into one sentence.

    Args:
        parser: its commands were added by :func:`add_command`.
        argv: the arguments; those of this process by default.

    Returns:
        The exit code: 0, 1 for a failure, 2 for wrong usage, 130 for an interruption.
    """
    arguments, more = parser.parse_known_args(argv)
    if more:
        # Where options stand between paths, argparse recognizes only the paths before them.
        if "paths" not in arguments or any(word.startswith("-") and word != "-" for word in more):
            arguments.parser.error(f"unrecognized arguments: {' '.join(more)}")
        arguments.paths += more
    if threading.current_thread() is threading.main_thread():
        # SIGTERM ends a command as Ctrl-C does, so that half-written files are removed.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        arguments.command(arguments)
    except Interrupted as error:
        return _fail(parser, str(error), 130)
    except KeyboardInterrupt:
        return _fail(parser, "interrupted; nothing was written under the final name.", 130)
    except Exception as error:
        sentence = sentence_of(error, arguments)
        if sentence is None or arguments.debug:
            raise
        return _fail(parser, sentence, 2 if isinstance(error, UsageError) else 1)
    return 0


def sentence_of(error: Exception, arguments: argparse.Namespace) -> str | None:
    """The sentence that describes a failure; ``None`` for a bug, which deserves its traceback."""
    # TensorFlow can only have raised if it was imported.
    errors = getattr(sys.modules.get("tensorflow"), "errors", None)
    exhausted = (MemoryError, getattr(errors, "ResourceExhaustedError", MemoryError))
    if isinstance(error, exhausted) or getattr(error, "errno", None) == errno.ENOMEM:
        advice = "choose a smaller --memory" if hasattr(arguments, "memory") else "use smaller frames"
        return f"there is not enough memory; {advice}, or close other programs."
    if isinstance(error, RLSPError):
        return str(error)
    return describe_os_error(error) if isinstance(error, OSError) else None


def add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    command: Callable[[argparse.Namespace], None],
    help: str,
    description: str,
) -> argparse.ArgumentParser:
    """Adds a command with the options that every command has.

    Args:
        commands: where to add it.
        name: the name of the command.
        command: called with the parsed arguments.
        help, description: texts for ``--help``.
    """
    parser = commands.add_parser(
        name, help=help, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback if the command fails")
    parser.set_defaults(command=command, parser=parser)
    return parser


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """The argparse type of an option that is a whole number.

    Args:
        least: the least that it may be.
        most: the most that it may be; no limit if not given.
    """
    span = f"of at least {least}" if most is None else f"from {least} to {most}"

    def convert(text: str) -> int:
        number = int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None
        if number is None or number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"expected a whole number {span}, not {text!r}")
        return number

    return convert


positive = whole(1)
"""The argparse type of an option that is a whole number of at least 1."""


def number(least: float = 0, most: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """The argparse type of an option that is a finite number.

    Args:
        least: the least that it may be.
        most: the most that it may be.
        above: whether it has to be more than ``least``.
    """
    span = f"above {least:g}" if above else f"of at least {least:g}"
    if most < math.inf:
        span = f"above {least:g} and up to {most:g}" if above else f"from {least:g} to {most:g}"

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        # A comparison with NaN is false.
        if not (math.isfinite(value) and least <= value <= most) or (above and value == least):
            raise argparse.ArgumentTypeError(f"expected a number {span}, not {text!r}")
        return value

    return convert


def clock(text: str) -> Fraction:
    """The argparse type of a time, such as 83.5, 1:23.5 or 01:02:03, in seconds."""
    if not re.fullmatch(r"(\d{1,7}|\d{1,4}:[0-5]?\d|\d{1,3}:[0-5]?\d:[0-5]?\d)(\.\d{1,9})?", text):
        raise argparse.ArgumentTypeError(f"expected a time such as 83.5, 1:23.5 or 01:02:03, not {text!r}")
    seconds = Fraction(0)
    for part in text.split(":"):
        seconds = 60 * seconds + Fraction(part)
    return seconds


def add_precision(parser: argparse.ArgumentParser, help: str = "as for rlsp upscale (default: auto)") -> None:
    """Adds ``--precision``, the number format of the convolutions."""
    parser.add_argument("--precision", choices=("auto", *PRECISIONS), default="auto", help=help)


def add_degradation(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Adds ``--degradation``, a :class:`rlsp_tf.media.degradations.Degradation`.

    Args:
        parser: where to add it.
        several: whether it can be given more than once. Then it is a list, or ``None`` if it is not given.
    """

    def named(name: str) -> "Degradation":
        from rlsp_tf.media.degradations import degradation_named

        try:
            return degradation_named(name)
        except RLSPError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    parser.add_argument(
        "--degradation",
        type=named,
        action="append" if several else "store",
        default=None if several else "paper",
        metavar="NAME",
        help="how low-resolution frames are made: paper; video, which varies like the videos that people "
        "have; crf0 to crf51, which adds compression by x264 at that CRF to paper; or x265-crf23, vp9-crf23, "
        "mpeg4-crf23 and the like, other codecs as strong as that"
        + ("; can be given more than once" if several else "")
        + " (default: paper)",
    )


def start_tensorflow(*precisions: str | None) -> None:
    """Does what :func:`start_backend` does, for commands that run on TensorFlow alone.

    Raises:
        RLSPError: if another backend is chosen.
    """
    needs_tensorflow()
    start_backend(*precisions)


def needs_tensorflow() -> None:
    """Raises an ``RLSPError`` if another backend of Keras is chosen than TensorFlow."""
    if (chosen := chosen_backend()) != "tensorflow":
        raise RLSPError(
            f"this command runs on TensorFlow alone, and KERAS_BACKEND is {chosen}; leave that out."
        )


def start_backend(*precisions: str | None) -> None:
    """Imports Keras with the backend that ``KERAS_BACKEND`` names, and starts its devices.

    What they print on standard error meanwhile is held back.

    Args:
        precisions: the precisions that this process will compute in.

    Raises:
        RLSPError: if the backend is not installed, or is none that this package runs on.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if (chosen := chosen_backend()) not in BACKENDS:
        raise RLSPError(f"KERAS_BACKEND is {chosen}; make it one of {', '.join(BACKENDS)}.")
    with environment_for(*precisions), quiet_tensorflow():
        try:
            # JAX itself needs SciPy.
            with lean_imports() if chosen == "tensorflow" else contextlib.nullcontext():
                from rlsp_tf.inference.backend import start
        except ImportError as error:
            if error.name is None or error.name.partition(".")[0] != chosen:
                raise
            others = " or ".join(name for name in BACKENDS if name != chosen)
            raise RLSPError(
                f"{BACKENDS[chosen]} is not installed; install it by: pip install {chosen}, or choose "
                f"another backend of Keras: KERAS_BACKEND={others}."
            ) from error
        start()


def command_line() -> str:
    """The command line as it was typed, which results record."""
    return shlex.join(["rlsp", *sys.argv[1:]])


def print_notes(notes: Iterable[str]) -> None:
    """Prints what a command assumed or left out on standard error."""
    for note in notes:
        print(f"rlsp: note: {note}", file=sys.stderr)


def _fail(parser: argparse.ArgumentParser, sentence: str, code: int) -> int:
    print(f"{parser.prog}: error: {sentence}", file=sys.stderr)
    return code
