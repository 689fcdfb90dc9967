"""``rlsp evaluate``, ``degrade``, ``compare`` and ``demo``."""

import argparse

from rlsp_tf.cli.common import (
    DEFAULT_MODEL,
    MODEL_HELP,
    PRECISIONS,
    add_command,
    add_degradation,
    command_line,
    start_backend,
    whole,
)
from rlsp_tf.cli.summary import Summary, add_loudness, add_quiet
from rlsp_tf.errors import UsageError


def add_degrade(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp degrade``."""
    parser = add_command(
        commands,
        "degrade",
        _degrade,
        help="make low-resolution frames, as in the paper or as cameras and codecs leave them",
        description="""\
Makes low-resolution frames with the degradation of the paper: Gaussian blur with sigma 1.5 (computed
in float, as in the frames that the authors published), every 4th pixel, rounded to 8 bits. Other
degradations leave what cameras, resizers and codecs leave of a video.

  rlsp degrade vid4/calendar lr/calendar
  rlsp degrade vid4/calendar lr/calendar --degradation crf28
  rlsp degrade film.mp4 film-lr/""",
    )
    parser.add_argument("hr", metavar="HR", help="video file or folder of images at high resolution")
    parser.add_argument("lr", metavar="LR", help="folder of images or lossless video file to write")
    add_degradation(parser)
    parser.add_argument("--force", action="store_true", help="replace LR if it exists")
    add_loudness(parser)


def _degrade(arguments: argparse.Namespace) -> None:
    from rlsp_tf.evaluation.degrade_files import degrade_path

    summary = Summary(arguments)
    summary.begin()
    notes = degrade_path(
        arguments.hr,
        arguments.lr,
        degradation=arguments.degradation,
        force=arguments.force,
        progress=not summary.quiet,
        tick=summary.tick,
    )
    summary.made(arguments.lr, input=arguments.hr)
    summary.end(notes)


def add_evaluate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp evaluate``."""
    parser = add_command(
        commands,
        "evaluate",
        _evaluate,
        help="measure PSNR and SSIM of models or of existing frames",
        description="""\
Degrades HR, by default as the paper does, upscales it with every model, and prints PSNR and SSIM of
each model and of bicubic interpolation. HR is a video file, a folder of frames, or a folder with several
of these. With --sr, existing frames are measured, beside the models or alone: RGB images, or grey images
that hold luma. With --lr, low resolution is not made but given: the sets that were reduced by MATLAB's
bicubic interpolation, or what a camera has recorded.

Protocols: rlsp (the paper's: crop 8, without the first and last two frames, PSNR of the mean MSE of a
sequence), duf (that of VSR-DUF and most tables: crop 8, mean over frames), full (no crop, all frames).

  rlsp evaluate --model 7-48 --hr vid4/
  rlsp evaluate --model 7-48 --model mine.keras --hr vid4/ --report report/
  rlsp evaluate --model 7-48 --hr vid4/ --degradation paper --degradation crf23 --degradation vp9-crf28
  rlsp evaluate --model 7-48 --hr vid4/ --lr vid4-bicubic/
  rlsp evaluate --sr their_frames/calendar --hr vid4/calendar --protocol duf --json calendar.json""",
    )
    parser.add_argument("--hr", required=True, metavar="HR", help="the high-resolution ground truth")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        help="a .keras file, or the name of weights; can be given more than once",
    )
    parser.add_argument(
        "--sr",
        action="append",
        default=[],
        help="existing frames to measure, laid out like HR; can be given more than once",
    )
    parser.add_argument(
        "--lr",
        metavar="DIR",
        help="low resolution to upscale instead of HR made smaller, laid out like HR; every sequence has as "
        "many frames, the width and height of HR divided by the scale and rounded down",
    )
    parser.add_argument(
        "--protocol",
        action="append",
        choices=("rlsp", "duf", "full"),
        help="how to measure; can be given more than once (default: rlsp)",
    )
    add_degradation(parser, several=True)
    parser.add_argument(
        "--precision",
        action="append",
        choices=PRECISIONS,
        help="number format of the convolutions; can be given more than once (default: as saved)",
    )
    parser.add_argument(
        "--warm-start",
        type=whole(0, 100),
        metavar="N",
        help="measure every model a second time, with the first N frames of each sequence run backwards "
        "first (the paper's numbers are without)",
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="write every number as JSON; a list of objects if there are several protocols or degradations",
    )
    parser.add_argument("--csv", metavar="FILE", help="write every number as CSV")
    parser.add_argument(
        "--markdown", metavar="FILE", help="write the tables, with weights and versions, as Markdown"
    )
    parser.add_argument("--report", metavar="DIR", help="write a web page with tables, plots and pictures")
    parser.add_argument(
        "--force", action="store_true", help="replace the files and the folder that these options name"
    )
    add_quiet(parser)


def _evaluate(arguments: argparse.Namespace) -> None:
    if not arguments.model and not arguments.sr:
        raise UsageError("nothing to measure; give --model or --sr.")
    for option in ("protocol", "degradation"):
        if arguments.report and len(getattr(arguments, option) or ()) > 1:
            raise UsageError(f"--report shows one {option}; give --{option} only once.")
    if arguments.lr is not None and arguments.degradation is not None:
        raise UsageError("--lr gives low resolution and --degradation makes it; leave one of them out.")
    for option in ("precision", "warm_start"):
        if getattr(arguments, option) is not None and not arguments.model:
            raise UsageError(f"--{option.replace('_', '-')} is for models; give --model, or leave it out.")
    for option in ("model", "sr", "protocol", "precision", "degradation"):
        given = [getattr(each, "name", each) for each in getattr(arguments, option) or []]
        if twice := [each for each in dict.fromkeys(given) if given.count(each) > 1]:
            raise UsageError(f"--{option} {twice[0]} is given twice; leave one of them out.")
    if arguments.model:
        start_backend(*(arguments.precision or ()))
    from rlsp_tf.evaluation.tables import evaluate_to_files
    from rlsp_tf.media.degradations import PAPER
    from rlsp_tf.pixels.metrics import PROTOCOLS

    evaluate_to_files(
        arguments.hr,
        models=arguments.model,
        sr=arguments.sr,
        precisions=arguments.precision or (None,),
        lr=arguments.lr,
        warm_start=arguments.warm_start or 0,
        protocols=[PROTOCOLS[name] for name in arguments.protocol or ("rlsp",)],
        degradations=arguments.degradation or (PAPER,),
        json_file=arguments.json,
        csv_file=arguments.csv,
        markdown_file=arguments.markdown,
        report=arguments.report,
        force=arguments.force,
        progress=not arguments.quiet,
        command=command_line(),
    )


def add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp demo``."""
    parser = add_command(
        commands,
        "demo",
        _demo,
        help="render a short clip, upscale it and show the difference",
        description="""\
Renders a moving scene, makes it four times smaller as the paper does, and upscales it again. Writes
the video and a picture of the same details before and after, and prints the PSNR of both.

  rlsp demo""",
    )
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", default="demo", help="the folder to write (default: demo)"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help=MODEL_HELP)
    parser.add_argument("--force", action="store_true", help="replace FOLDER if it exists")
    add_quiet(parser)


def _demo(arguments: argparse.Namespace) -> None:
    start_backend()
    from rlsp_tf.evaluation.demo import run_demo
    from rlsp_tf.network.weights import load_model

    result = run_demo(
        arguments.folder, load_model(arguments.model), force=arguments.force, progress=not arguments.quiet
    )
    print(f"luma PSNR: bicubic {result['bicubic']:.2f} dB, RLSP {result['rlsp']:.2f} dB")
    print(f"the video:            {arguments.folder}/upscaled.mp4")
    print(f"before and after:     {arguments.folder}/before_after.png")


def add_compare(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp compare``."""
    parser = add_command(
        commands,
        "compare",
        _compare,
        help="show two results side by side",
        description="""\
Shows two videos, folders of images or images side by side, with labels, and magnifies the region in
which they differ most. If one is smaller by a whole factor, it is enlarged by bicubic interpolation.

  rlsp compare bicubic.mp4 rlsp.mp4 --out comparison.mp4
  rlsp compare small.mp4 large.mp4 --out comparison.png --frame 20 --labels input RLSP
  rlsp compare a/calendar b/calendar --out calendar.png --crop 180,190,64,48 --zoom 8""",
    )
    parser.add_argument("a", metavar="A", help="video file, folder of images, or image")
    parser.add_argument("b", metavar="B", help="a second one with the same number of frames")
    parser.add_argument(
        "--out",
        required=True,
        help="a .png for a single frame, a video file (mp4, mkv ...), or a folder of frames",
    )
    parser.add_argument(
        "--labels", nargs=2, metavar=("A", "B"), help="texts above the two (default: the names of the files)"
    )
    parser.add_argument(
        "--crop",
        type=_crop,
        metavar="X,Y,W,H",
        help="the region to magnify, in pixels of the larger clip (default: where the clips differ most, "
        "in a video over the first 24 frames)",
    )
    parser.add_argument(
        "--zoom",
        type=int,
        help="factor of the magnification (default: 4, or with --crop the largest that fits)",
    )
    parser.add_argument(
        "--frame", type=int, help="number of the frame that a .png shows, counted from 0 (default: 0)"
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    add_loudness(parser)


def _crop(text: str) -> tuple[int, ...]:
    try:
        x, y, width, height = map(int, text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected X,Y,W,H, four whole numbers, not {text!r}") from error
    return x, y, width, height


def _compare(arguments: argparse.Namespace) -> None:
    from rlsp_tf.evaluation.side_by_side import put_side_by_side

    summary = Summary(arguments)
    summary.begin()
    notes = put_side_by_side(
        arguments.a,
        arguments.b,
        arguments.out,
        labels=arguments.labels,
        crop=arguments.crop,
        zoom=arguments.zoom,
        frame=arguments.frame,
        force=arguments.force,
        progress=not summary.quiet,
        tick=summary.tick,
    )
    summary.made(arguments.out, inputs=[arguments.a, arguments.b])
    summary.end(notes)
