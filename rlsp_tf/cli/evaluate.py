"""``rlsp evaluate``, ``degrade``, ``compare`` and ``demo``."""

import argparse
import shlex
import sys
from pathlib import Path

from rlsp_tf.cli.common import (
    DEFAULT_MODEL,
    MODEL_HELP,
    add_command,
    add_degradation,
    checked_warm_start,
    start_tensorflow,
)
from rlsp_tf.errors import UsageError


def add_degrade(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp degrade``."""
    parser = add_command(
        commands,
        "degrade",
        _degrade,
        help="make low resolution of a video or a folder, as in the paper or otherwise",
        description="""\
Makes the low-resolution frames on which the paper measures: Gaussian blur of sigma 1.5 (in float,
as the authors' published frames have it), every 4th pixel, rounded to 8 bits. Other degradations
leave what cameras, resizers and codecs leave of a video.

  rlsp degrade vid4/calendar lr/calendar
  rlsp degrade vid4/calendar lr/calendar --degradation crf28
  rlsp degrade film.mp4 film-lr/""",
    )
    parser.add_argument("hr", metavar="HR", help="video file or folder of images at high resolution")
    parser.add_argument("lr", metavar="LR", help="folder (or lossless video file) to be made")
    add_degradation(parser)
    parser.add_argument("--force", action="store_true", help="replace LR if it exists")


def _degrade(arguments: argparse.Namespace) -> None:
    from rlsp_tf.evaluation.degrade_files import degrade_path

    degrade_path(arguments.hr, arguments.lr, degradation=arguments.degradation, force=arguments.force)


def add_evaluate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp evaluate``."""
    parser = add_command(
        commands,
        "evaluate",
        _evaluate,
        help="measure models, or frames that exist, against high resolution",
        description="""\
Degrades HR, as the paper does by default, upscales with every model, and prints PSNR and SSIM, with bicubic
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
    add_degradation(parser)
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
    from rlsp_tf.evaluation.tables import evaluate_to_files
    from rlsp_tf.pixels.metrics import PROTOCOLS

    evaluate_to_files(
        arguments.hr,
        models=arguments.model,
        sr=arguments.sr,
        precisions=arguments.precision or (None,),
        warm_start=checked_warm_start(arguments.warm_start),
        protocols=[PROTOCOLS[name] for name in arguments.protocol or ("rlsp",)],
        degradation=arguments.degradation,
        json_file=arguments.json,
        csv_file=arguments.csv,
        markdown_file=arguments.markdown,
        report=arguments.report,
        force=arguments.force,
        command=shlex.join(["rlsp", *sys.argv[1:]]),
    )


def add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp demo``."""
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
    from rlsp_tf.evaluation.demo import run_demo
    from rlsp_tf.network.weights import load_model

    result = run_demo(arguments.folder, load_model(arguments.model), force=arguments.force)
    print(f"luma PSNR: bicubic {result['bicubic']:.2f} dB, RLSP {result['rlsp']:.2f} dB")
    print(f"the video:            {arguments.folder}/upscaled.mp4")
    print(f"before and after:     {arguments.folder}/before_after.png")


def add_compare(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp compare``."""
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
    from rlsp_tf.evaluation.side_by_side import put_side_by_side
    from rlsp_tf.media.images import is_image

    # What turns the planes of a video into RGB is written in TensorFlow.
    if not all(path.is_dir() or is_image(path) for path in map(Path, (arguments.a, arguments.b))):
        start_tensorflow()
    notes = put_side_by_side(
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
