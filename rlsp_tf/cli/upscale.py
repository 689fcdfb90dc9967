"""``rlsp upscale``, and ``rlsp clean``, which removes the work folders of interrupted runs."""

import argparse
import contextlib
import functools
import re
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlsp_tf.cli.common import (
    DEFAULT_MODEL,
    MODEL_HELP,
    add_command,
    add_precision,
    clock,
    number,
    positive,
    print_notes,
    sentence_of,
    start_backend,
    whole,
)
from rlsp_tf.cli.summary import Summary, add_loudness, announcement, size_on_disk
from rlsp_tf.errors import Interrupted, RLSPError, UsageError

if TYPE_CHECKING:
    from rlsp_tf.inference.step import Step
    from rlsp_tf.system.signals import Stop
    from rlsp_tf.upscaling.upscale import Recipe


def add_upscale(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp upscale`` and ``rlsp clean``."""
    parser = add_command(
        commands,
        "upscale",
        _upscale,
        help="make a video or a folder of images larger",
        description="""\
Upscales a video file, a folder of images or one image. Every frame keeps its time stamp. Sound,
subtitles and other streams are copied unchanged where the container of OUTPUT supports them, and
converted where that is possible. OUTPUT appears when it is complete, or not at all.

If anything interrupts the work (Ctrl-C, a full disk, a power failure), run the same command again to
continue. Until OUTPUT is complete, finished parts are kept beside it in the folder OUTPUT.rlsp.

  rlsp upscale holiday.mp4 holiday-4x.mp4
  rlsp upscale holiday.mp4 holiday-4x.mkv --codec libx265 --crf 20
  rlsp upscale frames/ frames-4x/ --model weights/authors-7-64.keras
  rlsp upscale holiday.mp4 holiday-hd.mp4 --size 1920x1080
  rlsp upscale holiday.mp4 try.mp4 --start 1:00 --duration 10
  rlsp upscale *.mp4 --out large/ --engine ray
  ffmpeg -i holiday.mp4 -t 60 -c copy -f nut - | rlsp upscale - - | ffplay -""",
    )
    parser.usage = "rlsp upscale INPUT OUTPUT [options]\n       rlsp upscale INPUT ... --out DIR [options]"
    parser.add_argument(
        "paths",
        metavar="INPUT OUTPUT",
        nargs="+",
        help="INPUT: a video file, a folder of images, an image, or - for standard input. OUTPUT: a video "
        "file (mp4, mkv, mov, webm), a folder, an image, or - for Matroska to standard output",
    )
    parser.add_argument(
        "--out", metavar="DIR", help="upscale any number of inputs into this folder, each under its own name"
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: distribute the inputs and their shots over a Ray cluster; requires --out. Inputs and DIR "
        "may then be addresses that fsspec supports, such as s3://bucket/film.mp4 (default: %(default)s)",
    )
    parser.add_argument("--address", help="address of the Ray cluster (default: start one on this machine)")
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="number of workers of the cluster that is started on this machine (default: one for each core)",
    )
    parser.add_argument(
        "--split-shots",
        action="store_true",
        help="with --engine ray: split shots of 800 frames or more into parts that different workers "
        "compute. Each part starts with 24 frames that are not written, so frames near a split differ "
        "slightly from those of a single process",
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help=MODEL_HELP)
    parser.add_argument(
        "--chroma",
        choices=("aligned", "authors"),
        default="aligned",
        help="position of the chroma samples: aligned with the network's luma (default), or shifted by 1.5 "
        "pixels and rounded, as in the RGB frames that the paper's authors published",
    )
    add_precision(
        parser,
        help="number format of the convolutions. auto (default): bfloat16 where the processor or GPU "
        "supports it, float16 on older GPUs, otherwise float32. int8: about twice as fast on processors with "
        "AVX2 or better; costs a few hundredths of a decibel",
    )
    parser.add_argument(
        "--scene-cuts",
        default="auto",
        metavar="auto|off|FILE",
        help="where the network's state is reset: at cuts that are detected (auto, default), nowhere "
        "(off), or at the frames whose numbers, counted from 0, are listed in FILE",
    )
    parser.add_argument(
        "--warm-start",
        type=whole(0, 100),
        default=8,
        metavar="N",
        help="number of frames at the beginning of each shot that are run backwards first, which makes the "
        "first frames of the shot sharper; 0 for none (default: %(default)s)",
    )
    parser.add_argument(
        "--memory",
        type=number(above=True),
        metavar="GB",
        help="memory that may be used, not counting the video encoder (default: half of the free memory); "
        "frames that need more are computed in strips, which looks the same",
    )
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--size",
        type=_size,
        metavar="WxH",
        help="make the result as large as fits inside WxH pixels, such as 1920x1080. The picture keeps the "
        "aspect ratio in which it is shown, without black bars, and its pixels become square; videos get "
        "even sizes. The network makes the picture 4 times larger in each direction, and Lanczos "
        "interpolation brings that to the size (default: what the network makes)",
    )
    sizes.add_argument(
        "--height", type=positive, metavar="H", help="the same by the height alone, such as 1080"
    )
    sizes.add_argument(
        "--scale",
        type=_scale,
        metavar="N",
        help="make the result N times as wide and as high as the input: from 1 to 16, such as 2, 1.5 or 8/3. "
        "Pixels keep their form",
    )
    parser.add_argument(
        "--start",
        type=clock,
        default=Fraction(0),
        metavar="TIME",
        help="begin with the first frame at or after this time, such as 83.5, 1:23.5 or 01:02:03; times are "
        "counted from the first frame, and those of images by --rate (default: the beginning)",
    )
    parser.add_argument(
        "--duration",
        type=clock,
        metavar="TIME",
        help="end so long after --start; sound, subtitles and chapters are cut alike (default: the end)",
    )
    parser.add_argument(
        "--deinterlace",
        action="store_true",
        help="deinterlace the frames that are marked as interlaced, with FFmpeg's filter bwdif",
    )
    parser.add_argument(
        "--repeats",
        choices=("copy", "compute"),
        default="copy",
        help="what frames get that are equal to the one before, as in animation and recordings of screens: a "
        "copy of its result (default), or one that is computed again, which takes longer and is not better",
    )
    parser.add_argument(
        "--bars",
        choices=("interpolate", "compute"),
        default="interpolate",
        help="how black bars around the picture are enlarged: by interpolation as long as nothing is shown "
        "in them (default), or by the network, which takes longer",
    )
    parser.add_argument(
        "--codec",
        help="FFmpeg's name of the video encoder (default: libvpx-vp9 for .webm, otherwise libx264)",
    )
    parser.add_argument(
        "--crf",
        type=int,
        default=18,
        help="quality: 0 is lossless, 18 looks lossless, 51 is the worst (63 for VP9 and AV1) (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--preset",
        help="encoding speed against file size, from ultrafast to veryslow (default: the encoder's own)",
    )
    parser.add_argument(
        "--rate",
        type=_rate,
        help="frames per second of a video made from images: a number, a fraction such as 24000/1001, or a "
        "name that FFmpeg uses: film, ntsc-film, pal, ntsc (default: 25)",
    )
    parser.add_argument(
        "--no-resume",
        action="store_true",
        help="start from the beginning, even if an interrupted run can be continued",
    )
    parser.add_argument("--force", action="store_true", help="replace OUTPUT if it exists")
    add_loudness(parser)
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
"""Frames per second of video standards, by the names that FFmpeg gives them."""


def _rate(text: str) -> Fraction:
    rate = RATES.get(text.lower())
    # Fraction accepts 1e999999999 too, and would compute for hours.
    if rate is None and re.fullmatch(r"\d{1,9}(\.\d{1,9})?|\d{1,9}[/:]\d{1,9}", text):
        with contextlib.suppress(ZeroDivisionError):
            rate = Fraction(text.replace(":", "/"))
    if rate is None or not Fraction(1, 1000) <= rate <= 1000:
        raise argparse.ArgumentTypeError(
            f"expected frames per second from 0.001 to 1000, such as 24, 24000/1001 or ntsc, not {text!r}"
        )
    return rate


def _size(text: str) -> tuple[int, int]:
    if not (match := re.fullmatch(r"([1-9]\d{0,5})[xX]([1-9]\d{0,5})", text)):
        raise argparse.ArgumentTypeError(f"expected width x height such as 1920x1080, not {text!r}")
    return int(match[1]), int(match[2])


def _scale(text: str) -> Fraction:
    scale = Fraction(0)
    if re.fullmatch(r"\d{1,6}(\.\d{1,9})?|\d{1,6}/\d{1,6}", text):
        with contextlib.suppress(ZeroDivisionError):
            scale = Fraction(text)
    if not 1 <= scale <= 16:
        raise argparse.ArgumentTypeError(
            f"expected a number from 1 to 16 such as 2, 1.5 or 8/3, not {text!r}"
        )
    return scale


def _upscale(arguments: argparse.Namespace) -> None:
    cuts = arguments.scene_cuts
    if cuts not in ("auto", "off"):
        from rlsp_tf.media.shots import read_cuts

        cuts = read_cuts(Path(cuts))
    if not arguments.out and len(arguments.paths) != 2:
        raise UsageError("give INPUT and OUTPUT, or any number of inputs and --out.")
    if arguments.engine == "ray" and not arguments.out:
        raise UsageError("--engine ray puts results into a folder; give --out.")
    ray_options = {
        "--address": arguments.address,
        "--workers": arguments.workers,
        "--split-shots": arguments.split_shots,
    }
    if arguments.engine != "ray" and (given := [name for name, value in ray_options.items() if value]):
        raise UsageError(f"{given[0]} needs --engine ray; add that, or leave out {given[0]}.")
    if arguments.workers is not None and arguments.address:
        raise UsageError("--workers cannot be combined with --address; leave one of them out.")
    summary = Summary(arguments)
    summary.check_stdout([] if arguments.out else arguments.paths[1:])
    from rlsp_tf.media.interval import Interval

    interval = Interval(arguments.start, arguments.duration)
    start_backend(arguments.precision)
    from rlsp_tf.media.encoders import EncoderOptions
    from rlsp_tf.upscaling.size import Size
    from rlsp_tf.upscaling.upscale import Recipe

    recipe = Recipe(
        chroma=arguments.chroma,
        encoder=EncoderOptions(arguments.codec, arguments.crf, arguments.preset, arguments.rate),
        warm_start=arguments.warm_start,
        deinterlace=arguments.deinterlace,
        repeats=arguments.repeats,
        bars=arguments.bars,
        size=Size(arguments.size, arguments.height, arguments.scale),
        interval=interval,
    )
    options = {
        "scene_cuts": cuts,
        "memory": None if arguments.memory is None else arguments.memory * 1e9,
        "force": arguments.force,
        "resume": not arguments.no_resume,
        "progress": not summary.quiet,
    }
    if arguments.engine == "ray":
        notes = _upscale_on_cluster(arguments, recipe, options, summary)
    else:
        notes = _upscale_here(arguments, recipe, options, summary)
    summary.end(notes)
    if summary.failed:
        for sentence in summary.failed[:-1]:
            print(f"rlsp: error: {sentence}", file=sys.stderr)
        raise RLSPError(summary.failed[-1])


def _upscale_on_cluster(
    arguments: argparse.Namespace, recipe: "Recipe", options: dict[str, Any], summary: Summary
) -> list[str]:
    from rlsp_tf.upscaling.cluster import upscale_all
    from rlsp_tf.upscaling.plan import targets_of

    summary.failed, notes = upscale_all(
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
    if not summary.failed:
        for source, target in zip(arguments.paths, targets_of(arguments.paths, arguments.out), strict=True):
            summary.made(target, input=source)
    return notes


def _upscale_here(
    arguments: argparse.Namespace, recipe: "Recipe", options: dict[str, Any], summary: Summary
) -> list[str]:
    from rlsp_tf.inference.hardware import int8_is_fastest
    from rlsp_tf.inference.load import device_of, load_step
    from rlsp_tf.system.signals import Stop
    from rlsp_tf.upscaling.plan import targets_of

    pairs = [arguments.paths]
    if arguments.out:
        pairs = list(zip(arguments.paths, targets_of(arguments.paths, arguments.out), strict=True))
    stop = Stop()
    notes: list[str] = []
    with stop.on_signals(grace=2):
        step = load_step(arguments.model, precision=arguments.precision)

        @functools.cache  # once for all inputs, and not before one of them was found to be right
        def introduce() -> None:
            device, unused = device_of(step)
            said = f"computing on {device} in {step.precision}"
            if arguments.precision == "auto" and step.precision == "float32" and int8_is_fastest():
                said += (
                    "; --precision int8 begins later and takes less than half the time, for 0.02 to 0.05 dB"
                )
            summary.say(said)
            if unused and not summary.quiet:
                print_notes([unused])
            summary.say_details(
                {"model": arguments.model, "network": step.config.name, "SHA-256": step.fingerprint}
                | recipe.settings()
                | {"--scene-cuts": arguments.scene_cuts}
            )

        for source, target in pairs:
            try:
                notes += _upscale_one(source, target, step, recipe, options, summary, stop, introduce)
            except Interrupted:
                raise
            except Exception as error:
                sentence = sentence_of(error, arguments)
                if not arguments.out or sentence is None:
                    raise
                summary.failed.append(sentence)
    return notes


def _upscale_one(
    source: str,
    target: str,
    step: "Step",
    recipe: "Recipe",
    options: dict[str, Any],
    summary: Summary,
    stop: "Stop",
    introduce: Callable[[], None],
) -> list[str]:
    """Upscales a clip, and says before and after it what is made of it; returns notes.

    ``introduce`` says what is the same for all clips.
    """
    from rlsp_tf.inference.load import device_of
    from rlsp_tf.upscaling.estimate import estimate
    from rlsp_tf.upscaling.upscale import upscale_clip

    expected = None
    # What is there already is refused, or was completed by a run that was killed right after.
    free = options["force"] or not size_on_disk(Path(target))
    if not summary.quiet and "-" not in (source, target) and free:
        given = {name: options[name] for name in ("memory", "force", "resume")}
        expected = estimate(source, target, step, recipe, **given)
        introduce()
        summary.say(announcement(expected))

    def tick() -> None:
        introduce()
        summary.tick()

    summary.begin()
    notes = upscale_clip(source, target, step, recipe, stop=stop, tick=tick, **options)
    facts: dict[str, Any] = {"device": device_of(step)[0], "precision": step.precision}
    facts |= {} if expected is None else {"expected": expected.to_dict()}
    kept = expected.finished if expected else 0
    summary.made(target, kept=kept, input=source, **facts)
    return notes


def _add_clean(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "clean",
        _clean,
        help="remove the work folders of interrupted runs that were never continued",
        description="""\
Searches FOLDER and all folders in it for work folders of rlsp upscale (OUTPUT.rlsp), and removes
those to which nothing has been written for some days. Folders of runs that are at work are kept.

  rlsp clean ~/Videos
  rlsp clean ~/Videos --older-than 0""",
    )
    parser.add_argument("folder", metavar="FOLDER", help="folder in which outputs were to be written")
    parser.add_argument(
        "--older-than",
        type=number(),
        default=7,
        metavar="DAYS",
        help="days without a change (default: %(default)s)",
    )


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
            print(f"{work.path}: also holds files that rlsp upscale did not write; they are kept")
