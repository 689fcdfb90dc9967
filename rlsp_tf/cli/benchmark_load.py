"""``rlsp benchmark`` of whole runs and clusters: faults, serve, ray, capacity."""

import argparse

from rlsp_tf.cli.benchmark_options import add_measurement, width_height
from rlsp_tf.cli.common import DEFAULT_MODEL, MODEL_HELP, add_command, positive


def add_faults(benchmarks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp benchmark faults``."""
    parser = add_measurement(
        benchmarks,
        "faults",
        "rlsp_tf.benchmarks.faults.run:benchmark_faults",
        help="whether anything gets lost, whatever happens",
        description="""\
Damages the beginnings of videos, kills runs at every change of the disk and at random moments, sends
signals, fills disks, gives wrong inputs, and upscales a long film with an eye on memory; counts what is
survived and which frames are lost. All of it happens in a temporary folder and takes more than an hour.

  rlsp benchmark faults --video film.mp4 other.webm --json faults.json""",
    )
    parser.add_argument(
        "--video",
        dest="videos",
        nargs="+",
        required=True,
        metavar="FILE",
        help="the first is of some hundred frames",
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help=MODEL_HELP)
    for name, default, what in (
        ("--damages", 200, "files to damage"),
        ("--kills", 20, "runs to kill at random moments"),
        ("--minutes", 60, "of the long film"),
    ):
        parser.add_argument(
            name, type=positive, default=default, metavar="N", help=f"{what} (default: %(default)s)"
        )


def add_serve(benchmarks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp benchmark serve``."""
    parser = add_measurement(
        benchmarks,
        "serve",
        "rlsp_tf.benchmarks.serve:benchmark_serve",
        help="what a running rlsp serve gives to more and more clients",
        description="""\
Loads a server that runs with 1, 2, 4 ... clients, each of which sends the next frame of its session when
the one before was answered: frames per second, median and 99th percentile of the time of a frame,
requests that were refused, frames that were lost, and the memory of the server.

  rlsp serve --client-share 1
  rlsp benchmark serve --url http://127.0.0.1:8000 --json serve.json""",
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the server (default: %(default)s)")
    parser.add_argument(
        "--clients",
        type=positive,
        nargs="+",
        default=[1, 2, 4, 8, 16],
        metavar="N",
        help="one number after the other (default: 1 2 4 8 16)",
    )
    parser.add_argument(
        "--size",
        type=width_height,
        default="480x270",
        metavar="WxH",
        help="of frames (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds", type=positive, default=20, help="for each number of clients (default: %(default)s)"
    )


def add_ray(benchmarks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp benchmark ray`` and ``capacity``."""
    parser = add_measurement(
        benchmarks,
        "ray",
        "rlsp_tf.benchmarks.cluster:benchmark_ray",
        help="two workers of Ray beside one, and beside one process",
        description="""\
Upscales four clips, the beginning of VIDEO, in one process, by one worker of Ray and by two, in turn; the
results have to be the same. Then times planning, computing and joining a clip with one thread, alone and
with another one beside it, which tells what keeps two workers from being twice as fast.

  rlsp benchmark ray film.mp4 --json ray.json""",
    )
    parser.add_argument("video", metavar="VIDEO", help="of 72 frames or more, that MP4 takes")
    parser.add_argument("--model", default=DEFAULT_MODEL, help=MODEL_HELP)
    parser.add_argument("--preset", default="ultrafast", help="of the encoder (default: %(default)s)")
    parser.add_argument("--rounds", type=positive, default=3, help="turns of each (default: %(default)s)")
    capacity = add_command(
        benchmarks,
        "capacity",
        _benchmark_capacity,
        help="what many cores would do with many films, simulated from that",
        description="""\
What an hour of video takes, and how far it scales, from what rlsp benchmark ray has measured: a simulation
of the program that hands out tasks, workers of one core, and a storage through which everything goes. It
simulates the measured runs, too, and prints both.

  rlsp benchmark capacity ray.json --cores 2 10 1000 100000 --bandwidth 10""",
    )
    capacity.add_argument("result", metavar="JSON", help="of rlsp benchmark ray")
    capacity.add_argument(
        "--cores", type=positive, nargs="+", default=[2, 10, 1000], metavar="N", help="(default: 2 10 1000)"
    )
    capacity.add_argument(
        "--bandwidth",
        type=positive,
        default=1,
        metavar="GB/S",
        help="of the storage (default: %(default)s)",
    )


def _benchmark_capacity(arguments: argparse.Namespace) -> None:
    from rlsp_tf.benchmarks.capacity import describe_capacity
    from rlsp_tf.benchmarks.report import no_result, read_result

    result = read_result(arguments.result, "ray")
    with no_result([arguments.result]):
        text = describe_capacity(result, arguments.cores, 1e9 * arguments.bandwidth)
    print(text)
