"""``rlsp upscale``, and ``rlsp clean`` for what it leaves when it is interrupted."""

import argparse
import contextlib
import re
import sys
from fractions import Fraction
from pathlib import Path

from rlsp_tf.cli.common import (
    DEFAULT_MODEL,
    MODEL_HELP,
    add_command,
    checked_warm_start,
    sentence_of,
    start_tensorflow,
)
from rlsp_tf.errors import Interrupted, RLSPError, UsageError


def add_upscale(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp upscale`` and ``rlsp clean``."""
    parser = add_command(
        commands,
        "upscale",
        _upscale,
        help="make a video or a folder of images larger",
        description="""\
Upscales a video file, a folder of images or one image. Every frame keeps its time stamp; sound,
subtitles and other streams are copied as they are where the container of OUTPUT takes them, else
converted where that can be done.
OUTPUT appears when it is complete, or not at all.

Whatever interrupts the work (Ctrl-C, a full disk, a power failure), the same command goes on where it
was. Until OUTPUT is complete, a folder OUTPUT.rlsp beside it holds what is finished.

  rlsp upscale holiday.mp4 holiday-4x.mp4 --model rlsp-7-64.keras
  rlsp upscale holiday.mp4 holiday-4x.mkv --model rlsp-7-64.keras --codec libx265 --crf 20
  rlsp upscale frames/ frames-4x/ --model rlsp-7-64.keras
  rlsp upscale *.mp4 --out large/ --engine ray
  ffmpeg -i holiday.mp4 -t 60 -c copy -f nut - | rlsp upscale - - | ffplay -""",
    )
    parser.usage = "rlsp upscale INPUT OUTPUT [options]\n       rlsp upscale INPUT ... --out DIR [options]"
    parser.add_argument(
        "paths",
        metavar="INPUT OUTPUT",
        nargs="+",
        help="INPUT: video file, folder of images, image, or - for standard input. OUTPUT: video file (mp4, "
        "mkv, mov, webm), folder, image, or - for Matroska to standard output",
    )
    parser.add_argument(
        "--out", metavar="DIR", help="a folder for the results of any number of inputs, under their names"
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: inputs and their shots are shared out to a cluster of Ray; with --out. Addresses that "
        "fsspec knows, such as s3://bucket/film.mp4, are welcome (default: %(default)s)",
    )
    parser.add_argument(
        "--address", help="of the cluster (default: one is started here, with a worker for each core)"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="of the cluster that is started here instead"
    )
    parser.add_argument(
        "--split-shots",
        action="store_true",
        help="with --engine ray: share out shots of 800 frames and more in parts, each after a run-up of 24 "
        "frames; where parts meet, frames are then only nearly those of one process",
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help=MODEL_HELP)
    parser.add_argument(
        "--chroma",
        choices=("aligned", "authors"),
        default="aligned",
        help="where chroma is sampled: aligned with the network's luma (default), or 1.5 pixels off and "
        "rounded as in the authors' own RGB frames",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16", "int8"),
        default="auto",
        help="of the convolutions; auto (default): bfloat16 where the processor or GPU computes in it, "
        "float16 on older GPUs, else float32. int8: in about half the time of bfloat16 where the processor "
        "multiplies bytes (VNNI), for some hundredths of a decibel",
    )
    parser.add_argument(
        "--scene-cuts",
        default="auto",
        metavar="auto|off|FILE",
        help="where the network starts anew: at cuts that are found (default), nowhere, or at the frames "
        "whose numbers stand in FILE, counted from 0",
    )
    parser.add_argument(
        "--warm-start",
        type=int,
        default=8,
        metavar="N",
        help="frames of each shot that are run backwards in time before it begins, which makes its first "
        "frames sharper; 0 for none (default: %(default)s)",
    )
    parser.add_argument(
        "--memory",
        type=float,
        metavar="GB",
        help="what may be used, beside the lookahead of an encoder (default: half of what is free); large "
        "frames are computed in strips, which look the same",
    )
    parser.add_argument(
        "--deinterlace",
        action="store_true",
        help="make whole frames of those that are marked as interlaced, by FFmpeg's filter bwdif",
    )
    parser.add_argument(
        "--codec", help="video encoder, by FFmpeg's name (default: libvpx-vp9 for .webm, else libx264)"
    )
    parser.add_argument(
        "--crf",
        type=int,
        default=18,
        help="quality: 0 is lossless, 18 looks so, 51 is worst, 63 for VP9 and AV1 (default: %(default)s)",
    )
    parser.add_argument("--preset", help="speed against size, ultrafast to veryslow (default: the encoder's)")
    parser.add_argument(
        "--rate",
        type=_rate,
        help="frames per second for a folder of images, as a number, a fraction such as 24000/1001, or one "
        "of FFmpeg's names: film, ntsc-film, pal, ntsc (default: 25)",
    )
    parser.add_argument(
        "--no-resume", action="store_true", help="begin anew, whatever an interrupted run has left"
    )
    parser.add_argument("--force", action="store_true", help="replace OUTPUT if it exists")
    _add_clean(commands)


RATES = {
    "film": Fraction(24),
    "ntsc-film": Fraction(24000, 1001),
    "pal": Fraction(25),
    "qpal": Fraction(25),
    "spal": Fraction(25),
    "ntsc": Fraction(30000, 1001),
    "qntsc": Fraction(30000, 1001),
    "sntsc": Fraction(30000, 1001),
}
"""Frames per second by FFmpeg's names for video standards."""


def _rate(text: str) -> Fraction:
    rate = RATES.get(text.lower())
    # Fraction itself takes 1e999999999, and would compute for hours.
    if rate is None and re.fullmatch(r"\d{1,9}(\.\d{1,9})?|\d{1,9}[/:]\d{1,9}", text):
        with contextlib.suppress(ZeroDivisionError):
            rate = Fraction(text.replace(":", "/"))
    if rate is None or not Fraction(1, 1000) <= rate <= 1000:
        raise argparse.ArgumentTypeError(
            f"expected frames per second from 0.001 to 1000, such as 24, 24000/1001 or ntsc, not {text!r}"
        )
    return rate


def _upscale(arguments: argparse.Namespace) -> None:
    warm_start = checked_warm_start(arguments.warm_start)
    cuts = arguments.scene_cuts
    if cuts not in ("auto", "off"):
        from rlsp_tf.media.shots import read_cuts

        cuts = read_cuts(Path(cuts))
    if not arguments.out and len(arguments.paths) != 2:
        raise UsageError("give INPUT and OUTPUT, or any number of inputs and --out.")
    if arguments.engine == "ray" and not arguments.out:
        raise UsageError("--engine ray puts results into a folder; give --out.")
    of_ray = {
        "--address": arguments.address,
        "--workers": arguments.workers,
        "--split-shots": arguments.split_shots,
    }
    if arguments.engine != "ray" and (given := [name for name, value in of_ray.items() if value]):
        raise UsageError(f"{given[0]} is of --engine ray; add that or leave it out.")
    if arguments.workers is not None and (arguments.workers < 1 or arguments.address):
        raise UsageError("--workers is at least 1, and only where --address names no cluster.")
    start_tensorflow()
    from rlsp_tf.inference.load import load_step
    from rlsp_tf.media.encoders import EncoderOptions
    from rlsp_tf.system.signals import Stop
    from rlsp_tf.upscaling.upscale import Recipe, upscale_clip

    recipe = Recipe(
        chroma=arguments.chroma,
        encoder=EncoderOptions(arguments.codec, arguments.crf, arguments.preset, arguments.rate),
        warm_start=warm_start,
        deinterlace=arguments.deinterlace,
    )
    options = {
        "scene_cuts": cuts,
        "memory": None if arguments.memory is None else arguments.memory * 1e9,
        "force": arguments.force,
        "resume": not arguments.no_resume,
        "progress": True,
    }
    failed: list[str] = []
    if arguments.engine == "ray":
        from rlsp_tf.upscaling.cluster import upscale_all

        failed, notes = upscale_all(
            arguments.paths,
            arguments.out,
            arguments.model,
            precision=arguments.precision,
            recipe=recipe,
            address=arguments.address,
            workers=arguments.workers,
            split=arguments.split_shots,
            **options,
        )
    else:
        pairs = [arguments.paths]
        if arguments.out:
            from rlsp_tf.upscaling.plan import targets_of

            pairs = list(zip(arguments.paths, targets_of(arguments.paths, arguments.out), strict=True))
            Path(arguments.out).mkdir(exist_ok=True)
        stop, notes = Stop(), []
        with stop.on_signals(grace=2):
            step = load_step(arguments.model, precision=arguments.precision)
            for source, target in pairs:
                try:
                    notes += upscale_clip(source, target, step, recipe, stop=stop, **options)
                except Interrupted:
                    raise
                except Exception as error:
                    sentence = sentence_of(error, arguments)
                    if not arguments.out or sentence is None:
                        raise
                    failed.append(sentence)
    for note in notes:
        print(f"rlsp: note: {note}", file=sys.stderr)
    if failed:
        for sentence in failed[:-1]:
            print(f"rlsp: error: {sentence}", file=sys.stderr)
        raise RLSPError(failed[-1])


def _add_clean(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "clean",
        _clean,
        help="remove what interrupted runs have left and nobody went on with",
        description="""\
Searches FOLDER and what is below it for the work folders of rlsp upscale (OUTPUT.rlsp), and removes
those that nothing has been written to for some days. Those of runs at work stay.

  rlsp clean ~/Videos
  rlsp clean ~/Videos --older-than 0""",
    )
    parser.add_argument("folder", metavar="FOLDER", help="where outputs were to be")
    parser.add_argument("--older-than", type=float, default=7, metavar="DAYS", help="(default: %(default)s)")


def _clean(arguments: argparse.Namespace) -> None:
    from rlsp_tf.upscaling.work_folder import stale_folders

    root = Path(arguments.folder)
    if not root.is_dir():
        raise RLSPError(f"{root}: no such folder; check the path.")
    for work in stale_folders(root, days=arguments.older_than):
        journal, size = work.read(), work.size()
        work.remove()
        print(f"removed {work.path}: {journal.frames if journal else 0} frames, {size / 1e6:.1f} MB")
        if work.path.is_dir():
            print(f"{work.path}: holds what is not of rlsp upscale; that stays")
