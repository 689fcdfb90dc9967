"""``rlsp preview``."""

import argparse
from fractions import Fraction

from rlsp_tf.cli.common import DEFAULT_MODEL, MODEL_HELP, add_command, add_precision, clock, start_backend
from rlsp_tf.cli.summary import Summary, add_loudness


def add_preview(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp preview``."""
    parser = add_command(
        commands,
        "preview",
        _preview,
        help="show one moment of a video before and after, in seconds",
        description="""\
Upscales one moment of a video, with a few frames before it that the network needs, and puts it beside what
a player shows at that size (bicubic interpolation). The region that differs most is magnified below. Only
what lies near the moment is read, so this takes seconds, however long the video is.

  rlsp preview holiday.mp4                        # writes holiday-preview.png
  rlsp preview holiday.mp4 --at 1:23 --out before-after.png
  rlsp preview holiday.mp4 --at 1:23 --seconds 3  # writes holiday-preview.mp4
  rlsp preview frames/ --model weights/authors-7-64.keras""",
    )
    parser.add_argument("input", metavar="INPUT", help="a video file, a folder of images, or an image")
    parser.add_argument(
        "--at",
        type=clock,
        metavar="TIME",
        help="seconds since the beginning, or minutes:seconds, or hours:minutes:seconds; of images, each "
        "lasts 1/25 s (default: a third of INPUT, or later if there is nothing to see)",
    )
    parser.add_argument(
        "--seconds", type=_duration, metavar="S", help="make a video of so many seconds instead of a picture"
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="the .png, or with --seconds the video, to write (default: the name of INPUT with -preview, in "
        "the current folder)",
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help=MODEL_HELP)
    add_precision(parser)
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    add_loudness(parser)


def _duration(text: str) -> Fraction:
    if not (seconds := clock(text)):
        raise argparse.ArgumentTypeError("expected more than 0 seconds")
    return seconds


def _preview(arguments: argparse.Namespace) -> None:
    summary = Summary(arguments)
    start_backend(arguments.precision)
    from rlsp_tf.evaluation.preview_files import default_target, write_preview
    from rlsp_tf.inference.load import device_of, load_step
    from rlsp_tf.media.interval import clock_time

    target = arguments.out or default_target(arguments.input, arguments.seconds)
    step = load_step(arguments.model, precision=arguments.precision)
    summary.begin()
    at, notes = write_preview(
        arguments.input,
        target,
        step,
        at=arguments.at,
        seconds=arguments.seconds,
        force=arguments.force,
        progress=not summary.quiet and arguments.seconds is not None,
        tick=summary.tick,
    )
    summary.made(target, input=arguments.input, at=at)
    device, unused = device_of(step)
    moment = f"{'from' if arguments.seconds else 'at'} {clock_time(at)}"
    summary.say(f"{arguments.input} {moment}, computed on {device} in {step.precision}")
    summary.say_details({"model": arguments.model, "network": step.config.name, "SHA-256": step.fingerprint})
    summary.end([*notes, *([unused] if unused else [])])
