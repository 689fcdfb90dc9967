"""``rlsp benchmark`` of whole runs and clusters: faults, serve, ray, capacity."""

import argparse

from rlsp_tf.cli.benchmark_options import add_measurement, width_height
from rlsp_tf.cli.common import DEFAULT_MODEL, MODEL_HELP, add_command, positive, whole


def add_faults(benchmarks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp benchmark faults``."""
    parser = add_measurement(
        benchmarks,
        "faults",
        "rlsp_tf.benchmarks.faults.run:benchmark_faults",
        help="whether anything is lost when something goes wrong",
        description="""\
Upscales damaged videos, kills runs before every change on the disk and at random moments, sends signals,
fills disks, gives wrong inputs, and upscales a long film while watching its memory; counts how many runs
end as they should and how many frames are lost. Everything happens in a temporary folder and takes more
than an hour.

  rlsp benchmark faults --video film.mp4 other.webm --json faults.json""",
    )
    parser.add_argument(
        "--video",
        dest="videos",
        nargs="+",
        required=True,
        metavar="FILE",
        help="videos; the first should have several hundred frames",
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help=MODEL_HELP)
    for name, default, what in (
        ("--damages", 200, "files to damage"),
        ("--kills", 20, "runs to kill at random moments"),
        ("--minutes", 60, "minutes of the long film"),
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
        help="throughput and latency of a running rlsp serve with more and more clients",
        description="""\
Sends frames to a running server from 1, 2, 4 ... clients at once. Each client has a session, and two
frames of it on their way at a time. Measures frames per second, the time for a frame (median, 99th
percentile, longest), refused requests, lost frames, and the memory of the server.

  rlsp serve --client-share 1
  rlsp benchmark serve --url http://127.0.0.1:8000 --json serve.json
  rlsp benchmark serve --clients 1 --video film.mp4
  rlsp benchmark serve --clients 1 --seconds 3600 --hostile 8         # can they stop it?""",
    )
    parser.add_argument(
        "--url", default="http://127.0.0.1:8000", help="address of the server (default: %(default)s)"
    )
    parser.add_argument(
        "--clients",
        type=positive,
        nargs="+",
        default=[1, 2, 4, 8, 16],
        metavar="N",
        help="numbers of clients, measured one after the other (default: 1 2 4 8 16)",
    )
    parser.add_argument(
        "--size",
        type=width_height,
        default="480x270",
        metavar="WxH",
        help="size of frames (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=positive,
        default=20,
        help="seconds for each number of clients (default: %(default)s)",
    )
    parser.add_argument(
        "--video",
        metavar="FILE",
        help="first compare, in turn, what one client gets for the beginning of this video with what rlsp "
        "upscale makes of it here",
    )
    parser.add_argument(
        "--model", help="with --video: the server's first model, if it is not weights that come with rlsp"
    )
    parser.add_argument(
        "--hostile",
        type=whole(0, 200),
        default=0,
        metavar="N",
        help="clients that try to stop the server meanwhile: with half requests, slow uploads, answers that "
        "they do not read, connections and requests without number, and what is neither HTTP, a frame nor a "
        "video (default: %(default)s)",
    )


def add_ray(benchmarks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp benchmark ray`` and ``capacity``."""
    parser = add_measurement(
        benchmarks,
        "ray",
        "rlsp_tf.benchmarks.cluster:benchmark_ray",
        help="speed of two Ray workers, compared with one worker and with one process",
        description="""\
Upscales four copies of the beginning of VIDEO in one process, with one Ray worker and with two, in turn;
the results have to be equal. Then times planning, computing and joining a clip with one thread, alone
and while another process does the same, which shows what keeps two workers from being twice as fast.

  rlsp benchmark ray film.mp4 --json ray.json""",
    )
    parser.add_argument(
        "video", metavar="VIDEO", help="a video of 72 frames or more whose streams MP4 can hold"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help=MODEL_HELP)
    parser.add_argument("--preset", default="ultrafast", help="preset of the encoder (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=positive, default=3, help="turns of each contender (default: %(default)s)"
    )
    capacity = add_command(
        benchmarks,
        "capacity",
        _benchmark_capacity,
        help="a simulation of many cores with many films, from the result of rlsp benchmark ray",
        description="""\
Estimates what an hour of video costs and how far that scales, from the times that rlsp benchmark ray has
measured. It simulates the program that hands out tasks, workers with one core each, and a shared
storage. It also simulates the runs that were measured, and prints both for comparison.

  rlsp benchmark capacity ray.json --cores 2 10 1000 100000 --bandwidth 10""",
    )
    capacity.add_argument("result", metavar="JSON", help="result of rlsp benchmark ray")
    capacity.add_argument(
        "--cores",
        type=positive,
        nargs="+",
        default=[2, 10, 1000],
        metavar="N",
        help="numbers of cores (default: 2 10 1000)",
    )
    capacity.add_argument(
        "--bandwidth",
        type=positive,
        default=1,
        metavar="GB/S",
        help="bandwidth of the storage (default: %(default)s)",
    )


def _benchmark_capacity(arguments: argparse.Namespace) -> None:
    from rlsp_tf.benchmarks.capacity import describe_capacity
    from rlsp_tf.benchmarks.report import naming_damaged, read_result

    result = read_result(arguments.result, "ray")
    with naming_damaged([arguments.result]):
        text = describe_capacity(result, arguments.cores, 1e9 * arguments.bandwidth)
    print(text)
