"""``rlsp benchmark`` and its commands; each measurement is a function of :mod:`rlsp_tf.benchmarks`."""

import argparse

from rlsp_tf.cli.benchmark_load import add_faults, add_ray, add_serve
from rlsp_tf.cli.benchmark_options import add_measurement, width_height
from rlsp_tf.cli.common import (
    DEFAULT_MODEL,
    MODEL_HELP,
    PRECISIONS,
    add_command,
    add_precision,
    command_line,
    positive,
)


def add_benchmark(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp benchmark`` with its commands."""
    parser = commands.add_parser(
        "benchmark",
        help="measure speed, quality and reliability on this machine",
        description="""\
Measures speed. All contenders take turns in one run, each in a process of its own that rests while the
others work; results record the machine and all versions. Close other programs first: they distort the
times.

  rlsp benchmark step --authors checkpoints/ --json step.json
  rlsp benchmark gpu --json gpu.json
  rlsp benchmark train --authors checkpoints/ckpt_rslp_48.meta --data clips/ --json train.json
  rlsp benchmark quality --hr vid4/ --json quality.json
  rlsp benchmark cuts --hr vid4/ --json cuts.json
  rlsp benchmark video film.mp4 --json video.json
  rlsp benchmark start film.mp4 --json start.json
  rlsp benchmark spared film.mp4 --json spared.json
  rlsp benchmark serve --url http://127.0.0.1:8000 --json serve.json
  rlsp benchmark ray film.mp4 --json ray.json
  rlsp benchmark report docs/BENCHMARKS.md step.json train.json quality.json video.json serve.json

Two of the benchmarks are not about speed: faults checks that nothing is lost when something goes wrong,
and stability checks that the output of a network stays near its input over long clips.

  rlsp benchmark faults --video film.mp4 --json faults.json
  rlsp benchmark stability --model mine.keras --json stability.json
  rlsp benchmark report docs/RELIABILITY.md faults.json stability.json --plot docs/memory.png""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    benchmarks = parser.add_subparsers(metavar="WHAT", required=True)
    _add_benchmark_step(benchmarks)
    _add_benchmark_gpu(benchmarks)
    _add_benchmark_video(benchmarks)
    _add_benchmark_start(benchmarks)
    _add_benchmark_spared(benchmarks)
    add_faults(benchmarks)
    add_serve(benchmarks)
    add_ray(benchmarks)
    train = add_measurement(
        benchmarks,
        "train",
        "rlsp_tf.benchmarks.train:benchmark_train",
        help="training steps per second, compared with the authors' training graph",
        description="""\
Training steps per second of rlsp train (in the precision that is fastest here, with clips sampled at
the same time) and of the training graph that the paper's authors published (float32, fed from memory),
with batches of 4 samples of 10 frames of 32x32 low-resolution pixels. The .meta file of the authors'
checkpoint is enough, since speed does not depend on weights.

  rlsp benchmark train --authors ckpt_rlsp_48.meta --data clips/""",
    )
    train.add_argument(
        "--authors", required=True, metavar="META", help="the .meta file of one of the authors' checkpoints"
    )
    train.add_argument("--data", nargs="+", required=True, metavar="DATA", help="clips, or folders of clips")
    train.add_argument("--cache", metavar="DIR", help="folder for prepared clips (default: ~/.cache/rlsp_tf)")
    quality = add_measurement(
        benchmarks,
        "quality",
        "rlsp_tf.benchmarks.quality:benchmark_quality",
        help="what reduced precision costs in PSNR",
        description="""\
PSNR of luma under the protocol of the paper in float32, bfloat16, float16 and, on processors with AVX2
or better, int8, and what each costs in dB. rlsp evaluate offers more protocols and metrics.

  rlsp benchmark quality --hr vid4/ --model 7-48 --model authors-7-48.keras""",
        computes=PRECISIONS,
    )
    quality.add_argument("--hr", required=True, metavar="HR", help="the ground truth, as for rlsp evaluate")
    quality.add_argument(
        "--model",
        dest="models",
        action="append",
        help=f"a .keras file, or the name of weights; can be given more than once (default: {DEFAULT_MODEL})",
    )
    cuts = add_measurement(
        benchmarks,
        "cuts",
        "rlsp_tf.benchmarks.cuts:benchmark_cuts",
        help="what scene cuts cost, and what resetting the state at them gains",
        description="""\
PSNR of the frames after a scene cut if the state of the network is carried over, reset, or reset with a
warm start; the same at a place that is mistaken for a cut; and how many cuts are detected in joined
sequences, in sequences with flashes, and in fast pans.

  rlsp benchmark cuts --hr vid4/ --model authors-7-48.keras""",
        computes=("float32",),
    )
    cuts.add_argument("--hr", required=True, metavar="HR", help="the ground truth, as for rlsp evaluate")
    cuts.add_argument("--model", default=DEFAULT_MODEL, help=MODEL_HELP)
    stability = add_measurement(
        benchmarks,
        "stability",
        "rlsp_tf.benchmarks.stability:benchmark_stability",
        help="whether a network's output stays near its input over long clips",
        description="""\
Runs networks in every precision over clips on which recurrent networks may diverge (flat fields,
saturated colours, scrolling text, fades, letterbox bars, flashes, checkerboards, grain and noise, cuts
without a reset, stills, extremes in each channel), and compares their output with bicubic interpolation:
the difference must not grow. Ends with exit code 1 if a network is unstable.

  rlsp benchmark stability
  rlsp benchmark stability --model mine.keras --precision float32 --json stability.json""",
        computes=PRECISIONS,
    )
    stability.add_argument(
        "--model",
        dest="models",
        action="append",
        help="a .keras file, the name of weights, or an export; can be given more than once "
        f"(default: {DEFAULT_MODEL})",
    )
    stability.add_argument(
        "--precision",
        dest="precisions",
        action="append",
        choices=PRECISIONS,
        help="can be given more than once (default: all; int8 only on processors with AVX2 or better)",
    )
    stability.add_argument(
        "--frames", type=positive, default=500, help="length of each clip in frames (default: %(default)s)"
    )
    report = add_command(
        benchmarks,
        "report",
        _benchmark_report,
        help="write results as a page of Markdown",
        description="""\
Writes the results that other benchmarks saved with --json as one page of Markdown: a table for each,
with its command, machine and versions; and plots of time against frame size (if rlsp benchmark step was
given --sizes) and of memory against the length of a video. The result of rlsp benchmark faults gets a
page of its own, with a plot of memory over time; only results of rlsp benchmark stability share it.

  rlsp benchmark report docs/BENCHMARKS.md step.json train.json quality.json video.json""",
    )
    report.add_argument("out", metavar="OUT", help="the page to write (.md)")
    report.add_argument("files", metavar="JSON", nargs="+", help="files that were written with --json")
    report.add_argument("--notes", metavar="FILE", help="a file of Markdown to append")
    report.add_argument(
        "--plot",
        metavar="FILE",
        default="docs/benchmarks.png",
        help="the plot to write (default: %(default)s)",
    )
    report.add_argument("--force", action="store_true", help="replace OUT and the plot if they exist")


def _add_benchmark_step(benchmarks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_measurement(
        benchmarks,
        "step",
        "rlsp_tf.benchmarks.step:benchmark_step",
        help="milliseconds per frame of a network, compared with other libraries",
        description="""\
Milliseconds of one step, from 480x270 frames to Full HD luma, without colour and files, on the CPU:
rlsp_tf in float32, bfloat16 and, on processors with AVX2 or better, int8; the graph that the paper's
authors published; and the same weights in those of PyTorch, ONNX Runtime, OpenVINO and LiteRT that are
installed (pip install 'rlsp_tf[benchmark]').

Before anything is timed, the output of every contender is compared with that of rlsp_tf in float32: it
may differ by 0.001 grey levels in float32, and cost 0.05 dB in bfloat16 and 0.5 dB in 8 bits. Weights
are the authors' if --authors has them, otherwise random. Ratios are medians over rounds.

  rlsp benchmark step --authors checkpoints/ --json step.json
  rlsp benchmark step --network 7-64 --sizes 160x90 320x180 480x270 640x360 960x540""",
    )
    _add_networks(parser)
    parser.add_argument(
        "--authors",
        metavar="DIR",
        help="folder of the authors' checkpoints: .meta files, with or without weights",
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=width_height,
        default=[],
        metavar="WxH",
        help="more sizes of low-resolution frames at which rlsp_tf alone is timed",
    )
    parser.add_argument(
        "--size",
        type=width_height,
        default="480x270",
        metavar="WxH",
        help="size of low-resolution frames at which all are timed (default: %(default)s)",
    )
    _add_turns(parser, 7)


def _add_benchmark_gpu(benchmarks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_measurement(
        benchmarks,
        "gpu",
        "rlsp_tf.benchmarks.gpu:benchmark_gpu",
        help="milliseconds per frame of a network on a GPU, compared with PyTorch",
        description="""\
Milliseconds of one step in bfloat16 on a GPU, without colour, files and transfers: rlsp_tf on the
backend that KERAS_BACKEND names, and, where it is installed, PyTorch with the same random weights,
channels last and recorded as a CUDA graph. Before anything is timed, both have to agree with rlsp_tf in
float32. Without a GPU the CPU computes, and the result says so.

  KERAS_BACKEND=jax XLA_PYTHON_CLIENT_PREALLOCATE=false rlsp benchmark gpu --json gpu.json""",
    )
    _add_networks(parser)
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=width_height,
        metavar="WxH",
        help="sizes of low-resolution frames (default: 480x270 960x540 1920x1080)",
    )
    parser.add_argument(
        "--batches",
        nargs="+",
        type=positive,
        metavar="N",
        help="numbers of clips that are upscaled at once (default: 1 8)",
    )
    _add_turns(parser, 5)


def _add_networks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--network",
        dest="networks",
        action="append",
        metavar="L-F",
        help="layers and filters, such as 7-64; can be given more than once (default: 7-48, 7-64 and 7-128)",
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=DEFAULT_MODEL, help=MODEL_HELP)
    add_precision(parser)


def _add_turns(parser: argparse.ArgumentParser, rounds: int) -> None:
    parser.add_argument(
        "--rounds", type=positive, default=rounds, help="turns of each contender (default: %(default)s)"
    )
    parser.add_argument("--steps", type=positive, default=10, help="steps in a turn (default: %(default)s)")


def _add_benchmark_video(benchmarks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_measurement(
        benchmarks,
        "video",
        "rlsp_tf.benchmarks.video:benchmark_video",
        help="frames per second and memory of rlsp upscale, and time of its parts",
        description="""\
Milliseconds per frame of rlsp upscale on the first 90 frames of a video, without the start-up time; and
of decoding, the network with colour, and encoding, each alone. Then the time and peak memory for
several lengths, up to the whole video.

  rlsp benchmark video film.mp4 --model 7-48 --preset ultrafast""",
    )
    parser.add_argument("video", metavar="VIDEO", help="a video of 90 frames or more")
    _add_model(parser)
    parser.add_argument("--codec", default="libx264", help="video encoder (default: %(default)s)")
    parser.add_argument("--preset", default="ultrafast", help="preset of the encoder (default: %(default)s)")


def _add_benchmark_start(benchmarks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_measurement(
        benchmarks,
        "start",
        "rlsp_tf.benchmarks.start:benchmark_start",
        help="time from starting rlsp upscale to its first frame, and its parts",
        description="""\
Seconds from the start of rlsp upscale to the first frame of a clip of five, of all threads and on the
clock: imports, weights, opening the clip, tracing the network, and the first frame; and of the whole
command.

  rlsp benchmark start film.mp4 --json start.json""",
    )
    parser.add_argument("video", metavar="VIDEO", help="a video, of which the beginning is used")
    _add_model(parser)
    parser.add_argument(
        "--rounds", type=positive, default=5, help="number of processes (default: %(default)s)"
    )


def _add_benchmark_spared(benchmarks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_measurement(
        benchmarks,
        "spared",
        "rlsp_tf.benchmarks.spared:benchmark_spared",
        help="time that is spared where frames repeat and where bars are black",
        description="""\
Milliseconds per frame of rlsp upscale, without the start-up time, with and without --repeats compute
--bars compute, in turn. The clips are made of the first frames of a video that differ from the one
before: each once, twice, and three times, and a picture of 2.39:1 between black bars.

  rlsp benchmark spared film.mp4 --json spared.json""",
    )
    parser.add_argument("video", metavar="VIDEO", help="a video of 48 different frames or more")
    _add_model(parser)


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
