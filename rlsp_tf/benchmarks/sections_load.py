"""The sections of a page of results that are about many clients and many workers: Markdown for each."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from rlsp_tf.benchmarks.cluster import STAGES
from rlsp_tf.benchmarks.harness import spread
from rlsp_tf.evaluation.tables import markdown_table


def serve_section(result: Mapping[str, Any]) -> list[str]:
    """Returns the lines on a server with more and more clients."""
    (width, height), (model, about) = result["size"], next(iter(result["models"].items()))
    rows = [
        [
            "clients",
            "frames/s",
            "median [s]",
            "99 % [s]",
            "longest [s]",
            "streams/step",
            "refused",
            "lost",
            "memory [MB]",
            "files",
        ],
        ["---:"] * 10,
    ]
    for each in result["rounds"]:
        latency = each["latency"]
        numbers = (each["rate"], latency["p50"], latency["p99"], latency["worst"])
        memory = f"{sum(after for *_, after in each['memory'].values()) / 1e6:.0f}"
        lost = str(each["lost"] + each["wrong"])
        texts = [*(f"{number:.2f}" for number in numbers), f"{each['streams']:.1f}"]
        files = str(sum(after for *_, after in each["files"].values()))
        rows.append([str(each["clients"]), *texts, str(each["refused"]), lost, memory, files])
    enemies = ""
    if result["hostile"]:
        attacks = sum(sum(each["attacks"].values()) for each in result["rounds"])
        enemies = f" Meanwhile {result['hostile']} hostile clients made {attacks} attacks."
    sizes = f"{width}x{height} to {about['scale'] * width}x{about['scale'] * height}"
    return [
        "## Serving",
        "",
        f"Network {model} in {about['bits']} bits, frames of {sizes}. Each client has a session "
        f"and two frames on their way, for {result['seconds']:g} s.{enemies}",
        "",
        *markdown_table(rows),
        *(_serve_attacked(result["rounds"]) if result["hostile"] else []),
        *(_serve_compared(result["compared"]) if result["compared"] else []),
    ]


def _serve_attacked(rounds: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [["clients", "", "before", "most", "after"], ["---:", "---", *["---:"] * 3]]
    for each in rounds:
        for process in ("front", "replicas"):
            memory = (f"{value / 1e6:.0f}" for value in each["memory"][process])
            rows.append([str(each["clients"]), f"memory of the {process} [MB]", *memory])
            rows.append([str(each["clients"]), f"files of the {process}", *map(str, each["files"][process])])
    return [
        "",
        f"Meanwhile the server logged {sum(each['log'] for each in rounds)} bytes, and "
        f"{sum(each['broken'] for each in rounds)} connections of clients that are not hostile broke. Its "
        "memory and open files:",
        "",
        *markdown_table(rows),
    ]


def _serve_compared(compared: Mapping[str, Any]) -> list[str]:
    rows = [["", "frames/s", "from", "to", "processor ms/frame", "compared with", "ratio"]]
    rows.append(["---", *["---:"] * 4, "---", "---:"])
    for name, each in compared["contenders"].items():
        rates = (each["rate"], min(each["rates"]), max(each["rates"]))
        against = [each["to"], f"{each['ratio']:.2f}"] if each["to"] else ["", ""]
        rows.append([name, *(f"{rate:.2f}" for rate in rates), f"{each['cpu']:.0f}", *against])
    return [
        "",
        f"One client, in turn with `rlsp upscale` of `{compared['video']}` on the same machine, "
        f"{compared['frames']} frames without those at the beginning; medians of "
        f"{len(each['rates'])} rounds, processor time of all processes:",
        "",
        *markdown_table(rows),
    ]


def ray_section(result: Mapping[str, Any]) -> list[str]:
    """Returns the lines on workers of Ray."""
    (width, height), scale = result["size"], result["scale"]
    rows = [["", "ms per frame", f"s for {result['many']} frames of each", f"for {result['few']}"]]
    rows.append(["---", *["---:"] * 3])
    for name, each in result["contenders"].items():
        times = (spread({"milliseconds": median(each[key]), "rounds": each[key]}) for key in ("many", "few"))
        rows.append([name, f"{1e3 * each['per_frame']:.1f}", *times])
    stages = [["ms per frame", *STAGES], ["---", *["---:"] * len(STAGES)]]
    for key, title in (("alone", "one thread"), ("beside", "while another one works")):
        stages.append([title, *(f"{1e3 * result[key][stage]:.2f}" for stage in STAGES)])
    return [
        "## Workers of Ray",
        "",
        f"{result['clips']} clips, the beginning of `{result['video']}`, {width}x{height} to "
        f"{scale * width}x{scale * height}, network {result['model']} in {result['precision']}, preset "
        f"{result['preset']}; all results are equal byte for byte. Per frame, without the time to start, two "
        f"workers are {result['ratio']:.2f} times as fast as one, and {result['ratio_process']:.2f} times as "
        "fast as one process with a thread for each core (medians of the rounds).",
        "",
        *markdown_table(rows),
        "",
        "What limits two workers: the stages of a clip in one thread, alone and while another thread does "
        f"the same. A worker starts in {result['start']:.1f} s, and Ray takes {1e3 * result['task']:.1f} ms "
        "to hand out a task.",
        "",
        *markdown_table(stages),
    ]
