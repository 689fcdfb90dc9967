"""The command line: ``rlsp <command>``. Every command is a function of another module."""

import argparse
import errno
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from rlsp_tf._version import __version__
from rlsp_tf.errors import Interrupted, RLSPError, UsageError, describe_os_error
from rlsp_tf.quiet import quiet_tensorflow

DESCRIPTION = """\
Makes video four times larger in each direction with RLSP (recurrent latent space propagation).

  rlsp upscale holiday.mp4 holiday-4x.mp4 --model rlsp-7-64.keras
  rlsp upscale frames/ frames-4x/ --model rlsp-7-64.keras

Weights of the paper's authors: rlsp-convert download 7-64 weights/
"""

DEFAULT_MODEL = "7-48"
MODEL_HELP = "a .keras file, or the name of weights that come with rlsp (default: %(default)s)"


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``rlsp`` with all its commands."""
    # All of these use what is here.
    from rlsp_tf.benchmark_cli import add_benchmark
    from rlsp_tf.serve_cli import add_serve
    from rlsp_tf.train_cli import add_train
    from rlsp_tf.upscale_cli import add_upscale

    parser = argparse.ArgumentParser(
        prog="rlsp", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add_upscale(commands)
    _add_degrade(commands)
    _add_compare(commands)
    _add_evaluate(commands)
    add_train(commands)
    _add_export(commands)
    add_benchmark(commands)
    add_serve(commands)
    _add_demo(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``rlsp`` and returns its exit code: 0, 1 for a failure, 2 for wrong usage."""
    return run(build_parser(), argv)


def run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parses ``argv``, runs the chosen command and turns expected failures into one sentence.

    Commands are functions of the parsed arguments, set as the default ``command``; see
    :func:`add_command`.
    """
    arguments, more = parser.parse_known_args(argv)
    if more:
        # Where options stand between paths, argparse takes only the first ones.
        if "paths" not in arguments or any(word.startswith("-") and word != "-" for word in more):
            parser.error(f"unrecognized arguments: {' '.join(more)}")
        arguments.paths += more
    if threading.current_thread() is threading.main_thread():
        # Ended like an interruption, so that half-written files go.
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
    """What to say of a failure that is none of the program; ``None`` for others."""
    # Only where it was imported can it be what raised.
    errors = getattr(sys.modules.get("tensorflow"), "errors", None)
    exhausted = (MemoryError, getattr(errors, "ResourceExhaustedError", MemoryError))
    if isinstance(error, exhausted) or getattr(error, "errno", None) == errno.ENOMEM:
        small = "allow it less with --memory" if hasattr(arguments, "memory") else "give it smaller frames"
        return f"there is not enough memory; {small}, or close other programs."
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
    """Adds a command with the options that all commands have."""
    parser = commands.add_parser(
        name, help=help, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    parser.set_defaults(command=command)
    return parser


def positive(text: str) -> int:
    """The type of an option that counts something."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, not {text!r}")
    return int(text)


def start_tensorflow() -> None:
    """Imports TensorFlow quietly and lets it find its devices."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with quiet_tensorflow():
        import tensorflow as tf

        tf.config.list_logical_devices()


def checked_warm_start(frames: int) -> int:
    """``--warm-start`` of a command, if it makes sense."""
    if not 0 <= frames <= 100:
        raise UsageError(f"--warm-start must be from 0 to 100, not {frames}.")
    return frames


def _add_degrade(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "degrade",
        _degrade,
        help="make the paper's low resolution of a video or a folder",
        description="""\
Makes the low-resolution frames on which the paper measures: Gaussian blur of sigma 1.5 (in float,
as the authors' published frames have it), every 4th pixel, rounded to 8 bits.

  rlsp degrade vid4/calendar lr/calendar
  rlsp degrade film.mp4 film-lr/""",
    )
    parser.add_argument("hr", metavar="HR", help="video file or folder of images at high resolution")
    parser.add_argument("lr", metavar="LR", help="folder (or lossless video file) to be made")
    parser.add_argument("--force", action="store_true", help="replace LR if it exists")


def _degrade(arguments: argparse.Namespace) -> None:
    from rlsp_tf.degradation import degrade_path

    degrade_path(arguments.hr, arguments.lr, force=arguments.force)


def _add_evaluate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "evaluate",
        _evaluate,
        help="measure models, or frames that exist, against high resolution",
        description="""\
Degrades HR as the paper does, upscales with every model, and prints PSNR and SSIM, with bicubic
interpolation beside. HR is a video file, a folder of frames, or a folder with several of these. With
--sr, frames that exist are measured instead: RGB, or grey images that hold luma.

Protocols: rlsp (of the paper: crop 8, without the first and last two frames, PSNR of the sequence's
MSE), duf (of VSR-DUF and most tables: crop 8, mean over frames), full (no crop, all frames).

  rlsp evaluate --model rlsp-7-64.keras --hr vid4/
  rlsp evaluate --model rlsp-7-64.keras --model mine.keras --hr vid4/ --report report/
  rlsp evaluate --sr their_frames/calendar --hr vid4/calendar --protocol duf --json calendar.json""",
    )
    parser.add_argument("--hr", required=True, metavar="HR", help="the truth")
    parser.add_argument(
        "--model", action="append", default=[], help="a .keras file or the name of weights; may be repeated"
    )
    parser.add_argument(
        "--sr", action="append", default=[], help="frames to measure, laid out like HR; may be repeated"
    )
    parser.add_argument(
        "--protocol", action="append", choices=("rlsp", "duf", "full"), help="may be repeated (default: rlsp)"
    )
    parser.add_argument(
        "--precision",
        action="append",
        choices=("float32", "bfloat16", "float16", "int8"),
        help="of the models; may be repeated (default: as saved)",
    )
    parser.add_argument(
        "--warm-start",
        type=int,
        default=0,
        metavar="N",
        help="measure every model a second time, with N frames run backwards before a sequence begins (the "
        "paper's numbers are without)",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write every number; a list of objects if there are several protocols"
    )
    parser.add_argument("--csv", metavar="FILE", help="write every number as a table")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables and how they came about")
    parser.add_argument("--report", metavar="DIR", help="make a page with tables, plots and pictures")
    parser.add_argument("--force", action="store_true", help="replace what these options name if it exists")


def _evaluate(arguments: argparse.Namespace) -> None:
    if not arguments.model and not arguments.sr:
        raise UsageError("give --model or --sr.")
    if arguments.report and len(arguments.protocol or ()) > 1:
        raise UsageError("--report shows one protocol; give one.")
    if arguments.model:
        start_tensorflow()
    from rlsp_tf.metrics import PROTOCOLS
    from rlsp_tf.results import evaluate_to_files

    evaluate_to_files(
        arguments.hr,
        models=arguments.model,
        sr=arguments.sr,
        precisions=arguments.precision or (None,),
        warm_start=checked_warm_start(arguments.warm_start),
        protocols=[PROTOCOLS[name] for name in arguments.protocol or ("rlsp",)],
        json_file=arguments.json,
        csv_file=arguments.csv,
        markdown_file=arguments.markdown,
        report=arguments.report,
        force=arguments.force,
        command=shlex.join(["rlsp", *sys.argv[1:]]),
    )


def _add_export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "export",
        _export,
        help="write a network for other programs and languages",
        description="""\
Writes a network so that it runs without rlsp, and runs the result beside the original before it gets
its name: what was found is in the card, OUT/rlsp.json or OUT.json.

  saved_model  TensorFlow, TensorFlow Serving: clips to luma or RGB, and single steps; any size
  litert       phones and small devices: single steps with the state in the caller's hands
  onnx         ONNX Runtime and many others: likewise

  rlsp export 7-48 rlsp-7-48/ --format saved_model
  rlsp export 7-48 rlsp-7-48.tflite --format litert --precision dynamic --size 270x480
  rlsp export 7-48 rlsp-7-48.onnx --format onnx

docs/deploy.md has clients in Python, C++ and shell. rlsp upscale --model OUT runs exports, too.""",
    )
    parser.add_argument("model", metavar="MODEL", help="a .keras file, or the name of weights")
    parser.add_argument("out", metavar="OUT", help="folder (saved_model) or file (.tflite, .onnx)")
    parser.add_argument("--format", required=True, choices=("saved_model", "litert", "onnx"))
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16", "dynamic", "int8"),
        help="default: float32. saved_model: or bfloat16, float16; litert: or dynamic (weights in 8 bits), "
        "int8 (computes in 8 bits)",
    )
    parser.add_argument(
        "--size", type=_size, metavar="HxW", help="fix the size of low-resolution frames (litert, onnx)"
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")


def _size(text: str) -> tuple[int, int]:
    height, cross, width = text.partition("x")
    if not (cross and height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected HxW, such as 270x480, not {text!r}")
    return int(height), int(width)


def _export(arguments: argparse.Namespace) -> None:
    start_tensorflow()
    from rlsp_tf.export import export

    with quiet_tensorflow():
        card = export(
            arguments.model,
            arguments.out,
            format=arguments.format,
            precision=arguments.precision,
            size=arguments.size,
            force=arguments.force,
        )
    print(f"{arguments.out}: {card['format']} in {card['precision']}, run beside the Keras model:")
    for found in card["verification"]:
        print(
            f"  {found['width']}x{found['height']}, {found['steps']} steps: at most "
            f"{found['max_difference']:.2g} grey levels apart; {found['psnr']:.3f} dB, Keras in float32 "
            f"{found['psnr_float32']:.3f} dB"
        )


def _add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "demo",
        _demo,
        help="render a small clip, upscale it and show the difference",
        description="""\
Renders a moving scene, makes it four times smaller as the paper does, and upscales it again. Writes
the video and a picture that shows the same details before and after, and prints PSNR for both.

  rlsp demo""",
    )
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", default="demo", help="to be made (default: demo)"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help=MODEL_HELP)
    parser.add_argument("--force", action="store_true", help="replace FOLDER if it exists")


def _demo(arguments: argparse.Namespace) -> None:
    start_tensorflow()
    from rlsp_tf.demo import run_demo
    from rlsp_tf.model import load_model

    result = run_demo(arguments.folder, load_model(arguments.model), force=arguments.force)
    print(f"luma PSNR: bicubic {result['bicubic']:.2f} dB, RLSP {result['rlsp']:.2f} dB")
    print(f"the video:            {arguments.folder}/upscaled.mp4")
    print(f"before and after:     {arguments.folder}/before_after.png")


def _add_compare(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "compare",
        _compare,
        help="put two results side by side",
        description="""\
Puts two videos, folders of images or images side by side, with labels, and magnifies the region in
which they differ most. If one is smaller by a whole factor, it is enlarged by bicubic interpolation.

  rlsp compare bicubic.mp4 rlsp.mp4 --out comparison.mp4
  rlsp compare small.mp4 large.mp4 --out comparison.png --frame 20 --labels input RLSP
  rlsp compare a/calendar b/calendar --out calendar.png --crop 180,190,64,48 --zoom 8""",
    )
    parser.add_argument("a", metavar="A", help="video file, folder of images, or image")
    parser.add_argument("b", metavar="B", help="likewise, with the same frames")
    parser.add_argument(
        "--out", required=True, help="a .png for a still, a video file (mp4, mkv ...), or a folder of frames"
    )
    parser.add_argument("--labels", nargs=2, metavar=("A", "B"), help="texts above (default: names of files)")
    parser.add_argument(
        "--crop",
        type=_crop,
        metavar="X,Y,W,H",
        help="what to magnify, in pixels of the larger one (default: where they differ most; in a video over "
        "its first second or so)",
    )
    parser.add_argument("--zoom", type=int, help="by how much (default: 4, or what fits for a given --crop)")
    parser.add_argument("--frame", type=int, help="which frame a still shows, from 0 (default: 0)")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")


def _crop(text: str) -> tuple[int, ...]:
    numbers = tuple(int(number) for number in text.split(","))
    if len(numbers) != 4:
        raise argparse.ArgumentTypeError(f"expected X,Y,W,H, four whole numbers, not {text!r}")
    return numbers


def _compare(arguments: argparse.Namespace) -> None:
    from rlsp_tf.compare import compare
    from rlsp_tf.images import is_image

    # What turns the planes of a video into RGB is written in TensorFlow.
    if not all(path.is_dir() or is_image(path) for path in map(Path, (arguments.a, arguments.b))):
        start_tensorflow()
    notes = compare(
        arguments.a,
        arguments.b,
        arguments.out,
        labels=arguments.labels,
        crop=arguments.crop,
        zoom=arguments.zoom,
        frame=arguments.frame,
        force=arguments.force,
        progress=True,
    )
    for note in notes:
        print(f"rlsp: note: {note}", file=sys.stderr)


def _fail(parser: argparse.ArgumentParser, sentence: str, code: int) -> int:
    print(f"{parser.prog}: error: {sentence}", file=sys.stderr)
    return code
