"""``rlsp benchmark``: its commands, each a function of another module."""

import argparse
import shlex
import sys
from typing import Any

from rlsp_tf.cli import DEFAULT_MODEL, MODEL_HELP, add_command, start_tensorflow


def add_benchmark(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp benchmark`` with its commands."""
    parser = commands.add_parser(
        "benchmark",
        help="measure speed on this machine, beside others, and what faults do",
        description="""\
Measures speed: all contenders in one run, in turn, each in a process of its own that rests while the
others work, with machine and versions. Other programs that run meanwhile spoil it.

  rlsp benchmark step --authors checkpoints/ --json step.json
  rlsp benchmark train --authors checkpoints/ckpt_rslp_48.meta --data clips/ --json train.json
  rlsp benchmark quality --hr vid4/ --json quality.json
  rlsp benchmark cuts --hr vid4/ --json cuts.json
  rlsp benchmark video film.mp4 --json video.json
  rlsp benchmark serve --url http://127.0.0.1:8000 --json serve.json
  rlsp benchmark report BENCHMARKS.md step.json train.json quality.json video.json serve.json

One of them is not about speed: whether anything gets lost, whatever happens.

  rlsp benchmark faults --video film.mp4 --json faults.json
  rlsp benchmark report RELIABILITY.md faults.json --plot docs/memory.png""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    benchmarks = parser.add_subparsers(metavar="WHAT", required=True)
    _add_benchmark_step(benchmarks)
    _add_benchmark_video(benchmarks)
    _add_benchmark_faults(benchmarks)
    _add_benchmark_serve(benchmarks)
    train = add_command(
        benchmarks,
        "train",
        _benchmark_train,
        help="training steps per second, beside the authors' own graph",
        description="""\
Training steps per second of rlsp train (bfloat16, clips sampled meanwhile) and of the training graph
that the paper's authors published (float32, fed from memory), batches of 4 samples of 10 frames,
32x32 low-resolution pixels. The .meta file of their checkpoint is enough: speed does not depend on
weights.

  rlsp benchmark train --authors ckpt_rlsp_48.meta --data clips/""",
    )
    train.add_argument("--authors", required=True, metavar="META", help="the .meta file of a checkpoint")
    train.add_argument("--data", nargs="+", required=True, metavar="DATA", help="folders of clips, or clips")
    train.add_argument("--cache", metavar="DIR", help="for prepared clips (default: ~/.cache/rlsp_tf)")
    profile = add_command(
        benchmarks,
        "profile",
        _benchmark_profile,
        help="where the time of a step goes",
        description="""\
What oneDNN, with which TensorFlow computes convolutions on x86 processors, tells of a step of 480x270
frames: milliseconds and operations per second of each kind of convolution.

  rlsp benchmark profile --network 7-48""",
    )
    profile.add_argument("--network", default="7-48", metavar="L-F", help="default: %(default)s")
    profile.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    quality = add_command(
        benchmarks,
        "quality",
        _benchmark_quality,
        help="what reduced precision costs in PSNR",
        description="""\
PSNR of luma under the protocol of the paper in float32, bfloat16 and float16, and the cost of the
latter two in dB. rlsp evaluate has more protocols and numbers.

  rlsp benchmark quality --hr vid4/ --model rlsp-7-48.keras --model rlsp-7-64.keras""",
    )
    quality.add_argument("--hr", required=True, metavar="HR", help="the truth, as for rlsp evaluate")
    quality.add_argument(
        "--model",
        action="append",
        help=f"a .keras file or the name of weights; may be repeated (default: {DEFAULT_MODEL})",
    )
    cuts = add_command(
        benchmarks,
        "cuts",
        _benchmark_cuts,
        help="what scene cuts cost, and what starting anew at them saves",
        description="""\
PSNR of the frames after a scene cut with the state of the network carried over it, begun anew, and begun
anew after a warm start; the same where a cut is taken for one that is none; and how many cuts are found
in joined sequences, in sequences with flashes, and in fast pans.

  rlsp benchmark cuts --hr vid4/ --model rlsp-7-48.keras""",
    )
    cuts.add_argument("--hr", required=True, metavar="HR", help="the truth, as for rlsp evaluate")
    cuts.add_argument("--model", default=DEFAULT_MODEL, help=MODEL_HELP)
    for each in (train, profile, quality, cuts):
        _add_json(each)
    report = add_command(
        benchmarks,
        "report",
        _benchmark_report,
        help="write results as a page",
        description="""\
Writes a page of Markdown of what the other benchmarks have written by --json: tables with the command,
machine and versions behind each; and plots, of time against size where rlsp benchmark step was given
--sizes, and of memory against the length of a video. What rlsp benchmark faults has written gets a
page of its own, with a plot of memory over time.

  rlsp benchmark report BENCHMARKS.md step.json train.json quality.json video.json""",
    )
    report.add_argument("out", metavar="OUT", help="the page (.md)")
    report.add_argument("files", metavar="JSON", nargs="+", help="results")
    report.add_argument("--notes", metavar="FILE", help="Markdown to put at the end")
    report.add_argument(
        "--plot", metavar="FILE", default="docs/benchmarks.png", help="the plot (default: %(default)s)"
    )
    report.add_argument("--force", action="store_true", help="replace OUT and FILE if they exist")


def _add_benchmark_step(benchmarks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        benchmarks,
        "step",
        _benchmark_step,
        help="milliseconds per frame of a network, beside the authors' graph and other libraries",
        description="""\
Milliseconds of a step, from 480x270 frames to Full HD luma, without colour and files: ours in float32
and bfloat16, the graph that the paper's authors published, and the same weights in PyTorch, ONNX
Runtime, OpenVINO and LiteRT, each if it is installed: pip install 'rlsp_tf[benchmark]'. All on the CPU.

Before the time is taken every contender has to agree with ours in float32 on a clip: to 0.001 grey
levels in float32, at a cost of at most 0.05 dB in bfloat16 and 0.5 dB in 8 bits. Weights are the
authors' where --authors has them, else random. A ratio is the median over rounds.

  rlsp benchmark step --authors checkpoints/ --json step.json
  rlsp benchmark step --network 7-64 --sizes 160x90 320x180 480x270 640x360 960x540""",
    )
    parser.add_argument(
        "--network",
        action="append",
        metavar="L-F",
        help="layers-filters; may be repeated (default: 7-48, 7-64 and 7-128)",
    )
    parser.add_argument(
        "--authors", metavar="DIR", help="their checkpoints: .meta files, with weights beside or without"
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=_width_height,
        default=[],
        metavar="WxH",
        help="low-resolution frames at which ours is timed, too, one size after the other",
    )
    parser.add_argument(
        "--size",
        type=_width_height,
        default="480x270",
        metavar="WxH",
        help="low-resolution frames at which all are timed (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=_positive, default=7, help="turns of each (default: %(default)s)")
    parser.add_argument("--steps", type=_positive, default=10, help="of a turn (default: %(default)s)")
    _add_json(parser)


def _add_benchmark_video(benchmarks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        benchmarks,
        "video",
        _benchmark_video,
        help="frames per second from file to file, beside its parts alone, and memory",
        description="""\
Milliseconds per frame of rlsp upscale on the first 90 frames of a video, without what starting takes;
and of decoding, the network with colour, and encoding, each alone. Then time and peak memory at several
lengths, up to the whole video.

  rlsp benchmark video film.mp4 --model 7-48 --preset ultrafast""",
    )
    parser.add_argument("video", metavar="VIDEO", help="of 90 frames or more")
    parser.add_argument("--model", default=DEFAULT_MODEL, help=MODEL_HELP)
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="as for rlsp upscale (default: %(default)s)",
    )
    parser.add_argument("--codec", default="libx264", help="encoder (default: %(default)s)")
    parser.add_argument("--preset", default="ultrafast", help="of the encoder (default: %(default)s)")
    _add_json(parser)


def _add_benchmark_faults(benchmarks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        benchmarks,
        "faults",
        _benchmark_faults,
        help="whether anything gets lost, whatever happens",
        description="""\
Damages the beginnings of videos, kills runs at random moments, sends signals, fills disks, gives wrong
inputs, and upscales a long film with an eye on memory; counts what is survived and which frames are
lost. All of it happens in a temporary folder and takes about half an hour.

  rlsp benchmark faults --video film.mp4 other.webm --json faults.json""",
    )
    parser.add_argument(
        "--video", nargs="+", required=True, metavar="FILE", help="the first is of some hundred frames"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help=MODEL_HELP)
    for name, default, what in (
        ("--damages", 200, "files to damage"),
        ("--kills", 20, "runs to kill"),
        ("--minutes", 60, "of the long film"),
    ):
        parser.add_argument(
            name, type=_positive, default=default, metavar="N", help=f"{what} (default: %(default)s)"
        )
    _add_json(parser)


def _add_benchmark_serve(benchmarks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        benchmarks,
        "serve",
        _benchmark_serve,
        help="what a running rlsp serve gives to more and more clients",
        description="""\
Loads a server that runs with 1, 2, 4 ... clients, each of which sends the next frame of its session when
the one before was answered: frames per second, median and 99th percentile of the time of a frame,
requests that were refused, frames that were lost, and the memory of the server.

  rlsp serve --model 7-48
  rlsp benchmark serve --url http://127.0.0.1:8000 --json serve.json""",
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the server (default: %(default)s)")
    parser.add_argument(
        "--clients",
        type=_positive,
        nargs="+",
        default=[1, 2, 4, 8, 16],
        metavar="N",
        help="one number after the other (default: 1 2 4 8 16)",
    )
    parser.add_argument(
        "--size",
        type=_width_height,
        default="480x270",
        metavar="WxH",
        help="of frames (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds", type=_positive, default=20, help="for each number of clients (default: %(default)s)"
    )
    _add_json(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", help="write every number")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")


def _width_height(text: str) -> tuple[int, int]:
    width, cross, height = text.partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"expected WxH, such as 480x270, not {text!r}")
    return int(width), int(height)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, not {text!r}")
    return int(text)


def _benchmark_step(arguments: argparse.Namespace) -> None:
    from rlsp_tf.benchmark_step import NETWORKS, benchmark_step, describe_step

    _check_json(arguments)
    result = benchmark_step(
        arguments.network or NETWORKS,
        authors=arguments.authors,
        sizes=arguments.sizes,
        size=arguments.size,
        rounds=arguments.rounds,
        steps=arguments.steps,
        progress=True,
        command=_command_line(),
    )
    _keep_result(arguments, result, describe_step(result))


def _benchmark_video(arguments: argparse.Namespace) -> None:
    _check_json(arguments)
    from rlsp_tf.benchmark_video import benchmark_video, describe_video

    result = benchmark_video(
        arguments.video,
        model=arguments.model,
        precision=arguments.precision,
        codec=arguments.codec,
        preset=arguments.preset,
        progress=True,
        command=_command_line(),
    )
    _keep_result(arguments, result, describe_video(result))


def _benchmark_faults(arguments: argparse.Namespace) -> None:
    _check_json(arguments)
    from rlsp_tf.benchmark_faults import benchmark_faults, describe_faults

    result = benchmark_faults(
        arguments.video,
        model=arguments.model,
        damages=arguments.damages,
        kills=arguments.kills,
        minutes=arguments.minutes,
        progress=True,
        command=_command_line(),
    )
    _keep_result(arguments, result, describe_faults(result))


def _benchmark_serve(arguments: argparse.Namespace) -> None:
    from rlsp_tf.benchmark_serve import benchmark_serve, describe_serve

    _check_json(arguments)
    result = benchmark_serve(
        arguments.url,
        clients=arguments.clients,
        size=arguments.size,
        seconds=arguments.seconds,
        progress=True,
        command=_command_line(),
    )
    _keep_result(arguments, result, describe_serve(result))


def _benchmark_train(arguments: argparse.Namespace) -> None:
    from rlsp_tf.benchmark_train import benchmark_train, describe_train

    _check_json(arguments)
    result = benchmark_train(
        arguments.authors,
        arguments.data,
        cache=arguments.cache,
        progress=True,
        command=_command_line(),
    )
    _keep_result(arguments, result, describe_train(result))


def _benchmark_profile(arguments: argparse.Namespace) -> None:
    _check_json(arguments)
    from rlsp_tf.benchmark_profile import benchmark_profile, describe_profile

    result = benchmark_profile(arguments.network, precision=arguments.precision, command=_command_line())
    _keep_result(arguments, result, describe_profile(result))


def _benchmark_quality(arguments: argparse.Namespace) -> None:
    _check_json(arguments)
    start_tensorflow()
    from rlsp_tf.benchmark_quality import benchmark_quality, describe_quality

    result = benchmark_quality(
        arguments.hr, arguments.model or [DEFAULT_MODEL], progress=True, command=_command_line()
    )
    _keep_result(arguments, result, describe_quality(result))


def _benchmark_cuts(arguments: argparse.Namespace) -> None:
    _check_json(arguments)
    start_tensorflow()
    from rlsp_tf.benchmark_cuts import benchmark_cuts, describe_cuts

    result = benchmark_cuts(arguments.hr, arguments.model, progress=True, command=_command_line())
    _keep_result(arguments, result, describe_cuts(result))


def _benchmark_report(arguments: argparse.Namespace) -> None:
    from rlsp_tf.benchmark_report import write_report

    write_report(
        arguments.out,
        arguments.files,
        plot=arguments.plot,
        notes=arguments.notes,
        force=arguments.force,
        command=_command_line(),
    )


def _check_json(arguments: argparse.Namespace) -> None:
    """Refuses before the work begins."""
    from rlsp_tf.files import check_target

    if arguments.json:
        check_target(arguments.json, force=arguments.force)


def _keep_result(arguments: argparse.Namespace, result: dict[str, Any], text: str) -> None:
    """Prints a result, and writes it where --json says."""
    from rlsp_tf.files import write_json

    print(text)
    if arguments.json:
        write_json(arguments.json, result, force=arguments.force)


def _command_line() -> str:
    return shlex.join(["rlsp", *sys.argv[1:]])
