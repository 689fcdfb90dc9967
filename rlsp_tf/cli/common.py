"""What all commands share: how their parsers are made, common options, and how failures end."""

import argparse
import errno
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from rlsp_tf.errors import Interrupted, RLSPError, UsageError, describe_os_error
from rlsp_tf.system.lean import start_tensorflow as start_tensorflow

if TYPE_CHECKING:
    from rlsp_tf.media.degradations import Degradation

DEFAULT_MODEL = "7-48"
MODEL_HELP = "a .keras file, or the name of weights that come with rlsp (default: %(default)s)"


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
            parser.error(f"unrecognized arguments: {' '.join(more)}")
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
    parser.set_defaults(command=command)
    return parser


def positive(text: str) -> int:
    """The argparse type of an option that is a whole number of at least 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, not {text!r}")
    return int(text)


def add_degradation(parser: argparse.ArgumentParser) -> None:
    """Adds ``--degradation``, a :class:`rlsp_tf.media.degradations.Degradation`."""

    def named(name: str) -> "Degradation":
        from rlsp_tf.media.degradations import degradation_named

        try:
            return degradation_named(name)
        except RLSPError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    parser.add_argument(
        "--degradation",
        type=named,
        default="paper",
        metavar="NAME",
        help="how low-resolution frames are made: paper; video, which varies like the videos that people "
        "have; or crf0 to crf51, which adds compression by x264 at that CRF to paper (default: %(default)s)",
    )


def checked_warm_start(frames: int) -> int:
    """Returns the value of ``--warm-start`` if it is from 0 to 100, else raises ``UsageError``."""
    if not 0 <= frames <= 100:
        raise UsageError(f"--warm-start must be from 0 to 100, not {frames}.")
    return frames


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
