"""``rlsp benchmark``: its commands, each a function of another module."""

import argparse

from rlsp_tf.cli.benchmark_load import add_faults, add_ray, add_serve
from rlsp_tf.cli.benchmark_options import add_measurement, command_line, width_height
from rlsp_tf.cli.common import DEFAULT_MODEL, MODEL_HELP, add_command, positive


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
  rlsp benchmark ray film.mp4 --json ray.json
  rlsp benchmark report docs/BENCHMARKS.md step.json train.json quality.json video.json serve.json

Two of them are not about speed: whether anything gets lost, whatever happens, and whether weights stay
near their input for as long as a clip lasts.

  rlsp benchmark faults --video film.mp4 --json faults.json
  rlsp benchmark stability --model mine.keras --json stability.json
  rlsp benchmark report docs/RELIABILITY.md faults.json --plot docs/memory.png""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    benchmarks = parser.add_subparsers(metavar="WHAT", required=True)
    _add_benchmark_step(benchmarks)
    _add_benchmark_video(benchmarks)
    add_faults(benchmarks)
    add_serve(benchmarks)
    add_ray(benchmarks)
    train = add_measurement(
        benchmarks,
        "train",
        "rlsp_tf.benchmarks.train:benchmark_train",
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
    quality = add_measurement(
        benchmarks,
        "quality",
        "rlsp_tf.benchmarks.quality:benchmark_quality",
        help="what reduced precision costs in PSNR",
        description="""\
PSNR of luma under the protocol of the paper in float32, bfloat16, float16 and, where the processor
multiplies bytes, int8, and what these cost in dB. rlsp evaluate has more protocols and numbers.

  rlsp benchmark quality --hr vid4/ --model rlsp-7-48.keras --model rlsp-7-64.keras""",
        tensorflow=True,
    )
    quality.add_argument("--hr", required=True, metavar="HR", help="the truth, as for rlsp evaluate")
    quality.add_argument(
        "--model",
        dest="models",
        action="append",
        help=f"a .keras file or the name of weights; may be repeated (default: {DEFAULT_MODEL})",
    )
    cuts = add_measurement(
        benchmarks,
        "cuts",
        "rlsp_tf.benchmarks.cuts:benchmark_cuts",
        help="what scene cuts cost, and what starting anew at them saves",
        description="""\
PSNR of the frames after a scene cut with the state of the network carried over it, begun anew, and begun
anew after a warm start; the same where a cut is taken for one that is none; and how many cuts are found
in joined sequences, in sequences with flashes, and in fast pans.

  rlsp benchmark cuts --hr vid4/ --model rlsp-7-48.keras""",
        tensorflow=True,
    )
    cuts.add_argument("--hr", required=True, metavar="HR", help="the truth, as for rlsp evaluate")
    cuts.add_argument("--model", default=DEFAULT_MODEL, help=MODEL_HELP)
    stability = add_measurement(
        benchmarks,
        "stability",
        "rlsp_tf.benchmarks.stability:benchmark_stability",
        help="whether weights stay near their input for as long as a clip lasts",
        description="""\
Runs weights in every precision over clips on which recurrent networks may run away (flat fields,
saturated colours, scrolling text, fades, letterbox bars, flashes, checkerboards, grain and noise, cuts
without a new start, stills, extremes in each channel), and compares with bicubic interpolation: the
departure must not grow. Ends with exit code 1 if weights are unstable.

  rlsp benchmark stability
  rlsp benchmark stability --model mine.keras --precision float32 --json stability.json""",
        tensorflow=True,
    )
    stability.add_argument(
        "--model",
        dest="models",
        action="append",
        help=f"a .keras file, the name of weights, or an export; may be repeated (default: {DEFAULT_MODEL})",
    )
    stability.add_argument(
        "--precision",
        dest="precisions",
        action="append",
        choices=("float32", "bfloat16", "float16", "int8"),
        help="may be repeated (default: all, int8 where the processor multiplies bytes)",
    )
    stability.add_argument("--frames", type=positive, default=500, help="of each clip (default: %(default)s)")
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

  rlsp benchmark report docs/BENCHMARKS.md step.json train.json quality.json video.json""",
    )
    report.add_argument("out", metavar="OUT", help="the page (.md)")
    report.add_argument("files", metavar="JSON", nargs="+", help="results")
    report.add_argument("--notes", metavar="FILE", help="Markdown to put at the end")
    report.add_argument(
        "--plot", metavar="FILE", default="docs/benchmarks.png", help="the plot (default: %(default)s)"
    )
    report.add_argument("--force", action="store_true", help="replace OUT and FILE if they exist")


def _add_benchmark_step(benchmarks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_measurement(
        benchmarks,
        "step",
        "rlsp_tf.benchmarks.step:benchmark_step",
        help="milliseconds per frame of a network, beside the authors' graph and other libraries",
        description="""\
Milliseconds of a step, from 480x270 frames to Full HD luma, without colour and files: ours in float32,
bfloat16 and, where the processor multiplies bytes, int8, the graph that the paper's authors published,
and the same weights in PyTorch, ONNX Runtime, OpenVINO and LiteRT, each if it is installed:
pip install 'rlsp_tf[benchmark]'. All on the CPU.

Before the time is taken every contender has to agree with ours in float32 on a clip: to 0.001 grey
levels in float32, at a cost of at most 0.05 dB in bfloat16 and 0.5 dB in 8 bits. Weights are the
authors' where --authors has them, else random. A ratio is the median over rounds.

  rlsp benchmark step --authors checkpoints/ --json step.json
  rlsp benchmark step --network 7-64 --sizes 160x90 320x180 480x270 640x360 960x540""",
    )
    parser.add_argument(
        "--network",
        dest="networks",
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
        type=width_height,
        default=[],
        metavar="WxH",
        help="low-resolution frames at which ours is timed, too, one size after the other",
    )
    parser.add_argument(
        "--size",
        type=width_height,
        default="480x270",
        metavar="WxH",
        help="low-resolution frames at which all are timed (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=positive, default=7, help="turns of each (default: %(default)s)")
    parser.add_argument("--steps", type=positive, default=10, help="of a turn (default: %(default)s)")


def _add_benchmark_video(benchmarks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_measurement(
        benchmarks,
        "video",
        "rlsp_tf.benchmarks.video:benchmark_video",
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
        choices=("auto", "float32", "bfloat16", "float16", "int8"),
        default="auto",
        help="as for rlsp upscale (default: %(default)s)",
    )
    parser.add_argument("--codec", default="libx264", help="encoder (default: %(default)s)")
    parser.add_argument("--preset", default="ultrafast", help="of the encoder (default: %(default)s)")


def _benchmark_report(arguments: argparse.Namespace) -> None:
    from rlsp_tf.benchmarks.report import write_report

    write_report(
        arguments.out,
        arguments.files,
        plot=arguments.plot,
        notes=arguments.notes,
        force=arguments.force,
        command=command_line(),
    )
