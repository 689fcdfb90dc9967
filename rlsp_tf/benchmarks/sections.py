"""The sections of a page of results: Markdown for the result of each benchmark."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from rlsp_tf.benchmarks.cluster import STAGES
from rlsp_tf.benchmarks.harness import describe_machine
from rlsp_tf.benchmarks.quality import format_decibels
from rlsp_tf.benchmarks.start import seconds_of
from rlsp_tf.benchmarks.step import agreement
from rlsp_tf.evaluation.tables import markdown_table
from rlsp_tf.pixels.metrics import TYPICAL

Result = Mapping[str, Any]


def _step(result: Result) -> list[str]:
    width, height = result["size"]
    steps, warm_up, limits = result["steps"], result["warm_up"], result["limits"]
    lines = [
        "## A step",
        "",
        f"Milliseconds from {width}x{height} frames to one frame of luma, median of the rounds (least to "
        f"most); {steps} steps of each contender in each round, after {warm_up} that do not count. All take "
        "turns in one run, on the CPU, with the same weights, and had to agree with rlsp_tf in float32: in "
        f"float32 to {limits['float32']}, otherwise at a cost of at most "
        f"{', '.join(f'{limit} in {name}' for name, limit in limits.items() if name != 'float32')} to a "
        f"network of {TYPICAL:g} dB.",
    ]
    for sheet in result["networks"]:
        columns = _rivals(sheet)
        header = [
            "",
            "ms",
            "steps/s",
            *(f"ratio to {rival}" for rival in columns),
            "compared with rlsp_tf in float32",
        ]
        rows = [header, ["---", *["---:"] * (len(header) - 2), "---"]]
        for each in sheet["contenders"]:
            ratios = {entry["to"]: entry["ratio"] for entry in sheet["ratios"] if entry["of"] == each["name"]}
            rows.append(
                [
                    each["name"],
                    _spread(each),
                    f"{1e3 / each['milliseconds']:.1f}",
                    *(f"{ratios[rival]:.2f}" if rival in ratios else "" for rival in columns),
                    agreement(each),
                ]
            )
        lines += [
            "",
            f"### {sheet['network']}",
            "",
            f"Weights: {sheet['weights']}.",
            "",
            *markdown_table(rows),
        ]
        if columns:
            lines += ["", "Ratios say how many times as fast rlsp_tf is, as the median over the rounds."]
        lines += _left_out(sheet, result)
        if sheet["sizes"]:
            curves = curves_of(sheet["sizes"])
            sizes = dict.fromkeys((point["width"], point["height"]) for point in sheet["sizes"])
            rows = [["ms at", *curves], ["---", *["---:"] * len(curves)]]
            for width, height in sizes:
                cells = [
                    _spread(point)
                    for points in curves.values()
                    for point in points
                    if (point["width"], point["height"]) == (width, height)
                ]
                rows.append([f"{width}x{height}", *cells])
            lines += ["", *markdown_table(rows)]
    return lines


def _gpu(result: Result) -> list[str]:
    lines = [
        "## A step on a GPU",
        "",
        f"On {result['device']}: milliseconds of a step in bfloat16, median of the rounds (least to most); "
        f"{result['steps']} steps of each contender in each round, after {result['warm_up']} that do not "
        "count. Both take turns in one run, with the same random weights. Frames are those of all clips of "
        "the batch.",
    ]
    for sheet in result["networks"]:
        names = [each["name"] for each in sheet["contenders"]]
        columns = [title for name in names for title in (f"{name} [ms]", "frames/s")]
        rows = [["frames", "batch", *columns, "ratio"], ["---", *["---:"] * (len(columns) + 2)]]
        for cell in sheet["cells"]:
            row = [f"{cell['width']}x{cell['height']}", str(cell["batch"])]
            for name in names:
                if times := cell["times"].get(name):
                    row += [_spread(times, 2), f"{1e3 * cell['batch'] / times['milliseconds']:.1f}"]
                else:
                    row += ["", ""]
            rows.append([*row, "" if cell["ratio"] is None else f"{cell['ratio']:.2f}"])
        lines += ["", f"### {sheet['network']} on a GPU", "", *markdown_table(rows)]
        agreed = (f"{each['name']} {agreement(each)}" for each in sheet["contenders"])
        lines += ["", f"Compared with rlsp_tf in float32: {', '.join(agreed)}.", *_left_out(sheet, result)]
    return lines


def _train(result: Result) -> list[str]:
    rows = [["", "steps/s", ""], ["---", "---:", "---"]]
    for name in ("authors", "ours"):
        rates = result[name]["rounds"]
        spread = f"{result[name]['steps_per_second']:.2f} ({min(rates):.2f} to {max(rates):.2f})"
        rows.append([name, spread, result[name]["what"]])
    return [
        "## Training",
        "",
        f"{result['network']}, {result['step']}; steps per second, median of "
        f"{len(result['ours']['rounds'])} rounds (least to most), in turn. Ours is {result['ratio']:.2f} "
        f"times as fast (median of the rounds), and spends {result['waiting']:.1%} of its time waiting for "
        "clips.",
        "",
        *markdown_table(rows),
    ]


def _quality(result: Result) -> list[str]:
    sheets = result["models"]
    reduced = list(sheets[0]["cost"])
    rows = [
        ["", "network", *sheets[0]["psnr"], *(f"cost of {name}" for name in reduced)],
        ["---", "---", *["---:"] * (len(sheets[0]["psnr"]) + len(reduced))],
    ]
    for sheet in sheets:
        numbers = [*sheet["psnr"].values(), *sheet["cost"].values()]
        rows.append([sheet["name"], sheet["network"], *map(format_decibels, numbers)])
    return [
        "## Quality",
        "",
        f"PSNR of luma in dB under the protocol `{result['protocol']}`, mean of "
        f"{', '.join(result['sequences'])}.",
        "",
        *markdown_table(rows),
    ]


def _cuts(result: Result) -> list[str]:
    frames = list(next(iter(result["after"].values())))
    header = [["", *frames], ["---", *["---:"] * len(frames)]]
    after, none = (
        [*header, *([way, *map(format_decibels, row.values())] for way, row in result[key].items())]
        for key in ("after", "none")
    )
    found = [["", "frames", "cuts", "found", "wrongly found", "off", "auto"], ["---", *["---:"] * 6]]
    for row in result["materials"]:
        counts = (row["frames"], row["cuts"], row["found"], row["wrong"])
        found.append([row["name"], *map(str, counts), *map(format_decibels, row["psnr"].values())])
    width, height = result["size"]
    return [
        "## Scene cuts",
        "",
        f"PSNR of luma in dB, model {result['model']} in float32, {', '.join(result['sequences'])} at "
        f"{width}x{height}. Frames after a cut between joined sequences, counted from 0; the state of the "
        f"network is carried over, reset, or reset with a warm start of {result['warm_start']} frames:",
        "",
        *markdown_table(after),
        "",
        "The same in the middle of each sequence, where there is no cut, so that a reset is a mistake:",
        "",
        *markdown_table(none),
        "",
        "Cuts that are found in joined sequences, in single sequences, in sequences with flashes, and in "
        "fast pans over a frame; and PSNR of all their frames with `--scene-cuts off` and `auto`:",
        "",
        *markdown_table(found),
    ]


def format_differences(clip: Mapping[str, Any]) -> tuple[str, str]:
    """Formats the differences of a clip in the first and in the last frames."""
    first, last = (
        f"{format_levels(clip[key])} ({format_levels(clip[f'{key}_rms'])})" for key in ("first", "last")
    )
    return first, last


def format_levels(value: float | None) -> str:
    """Formats grey levels with one decimal; ``not finite`` for ``None``."""
    return "not finite" if value is None else f"{value:.1f}" if value < 1e6 else f"{value:.0e}"


def _stability(result: Result) -> list[str]:
    window, frames = result["window"], result["frames"]
    width, height = result["size"]
    lines = [
        "## Stability",
        "",
        "Largest difference of the output from bicubic interpolation, in grey levels (in brackets the root "
        f"mean square over a frame), in the first {window} and in the last {window} of {frames} frames of "
        f"{width}x{height}, without a reset of the state. It must not grow.",
    ]
    sheets: dict[str, list[Any]] = {}
    for sheet in result["models"]:
        sheets.setdefault(f"{sheet['name']} ({sheet['network']})", []).append(sheet)
    for title, own in sheets.items():
        rows = [["", *(sheet["precision"] for sheet in own)], ["---", *["---:"] * len(own)]]
        for clips in zip(*(sheet["clips"] for sheet in own), strict=True):
            cells = (
                " to ".join(format_differences(clip)) + ("" if clip["stable"] else " (unstable)")
                for clip in clips
            )
            rows.append([clips[0]["name"], *cells])
        lines += ["", f"### {title}", "", *markdown_table(rows)]
    if result["notes"]:
        lines += ["", "Left out: " + " ".join(result["notes"])]
    return lines


def _video(result: Result) -> list[str]:
    (width, height), scale = result["size"], result["scale"]
    times = result["milliseconds"]
    rows = [["", "ms per frame"], ["---", "---:"]]
    for name, entry in times.items():
        rows.append([name, _spread({"milliseconds": entry["median"], "rounds": entry["rounds"]})])
    lengths = [["frames", "seconds", "peak memory [GB]"], ["---:"] * 3]
    for each in result["lengths"]:
        lengths.append([str(each["frames"]), f"{each['seconds']:.1f}", f"{each['peak'] / 1e9:.2f}"])
    sizes = f"{width}x{height} to {scale * width}x{scale * height}"
    return [
        "## A video",
        "",
        f"`{result['video']}`, {sizes}, network {result['model']} in {result['precision']}, "
        f"{result['codec']} with preset {result['preset']}: {1e3 / times['whole']['median']:.1f} frames per "
        "second. The whole, in which the parts overlap, takes "
        f"{result['ratio']:.2f} times as long as the parts alone together (median of the rounds).",
        "",
        *markdown_table(rows),
        "",
        *markdown_table(lengths),
    ]


def _start(result: Result) -> list[str]:
    width, height = result["size"]
    rows = [["", "CPU s", "s"], ["---", "---:", "---:"]]
    named = {**result["parts"], "to the first frame": result["first"]}
    named["the command, from start to end"] = result["command_line"]
    for name, times in named.items():
        rows.append([name, *(f"{seconds:.2f}" for seconds in seconds_of(times))])
    return [
        "## The start",
        "",
        f"`rlsp upscale` of {result['frames']} frames of `{result['video']}`, {width}x{height}, network "
        f"{result['model']} in {result['precision']}: seconds of all threads and on the clock, medians of "
        f"{len(result['first']['cpu'])} rounds.",
        "",
        *markdown_table(rows),
    ]


def _serve(result: Result) -> list[str]:
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


def _serve_attacked(rounds: Sequence[Result]) -> list[str]:
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


def _serve_compared(compared: Result) -> list[str]:
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


def _ray(result: Result) -> list[str]:
    (width, height), scale = result["size"], result["scale"]
    rows = [["", "ms per frame", f"s for {result['many']} frames of each", f"for {result['few']}"]]
    rows.append(["---", *["---:"] * 3])
    for name, each in result["contenders"].items():
        times = (_spread({"milliseconds": median(each[key]), "rounds": each[key]}) for key in ("many", "few"))
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


SECTIONS: dict[str, Callable[[Result], list[str]]] = {
    "step": _step,
    "gpu": _gpu,
    "video": _video,
    "start": _start,
    "serve": _serve,
    "ray": _ray,
    "train": _train,
    "quality": _quality,
    "cuts": _cuts,
    "stability": _stability,
}
"""Functions that write the section of each benchmark, by its name in the JSON."""


def origin_of(result: Result) -> list[str]:
    """Lines with the command, machine and versions of a result."""
    about = [f"{line}." for line in describe_machine(result)]
    return ["```sh", result["command"], "```", "", about[0], "", about[1]]


def _rivals(sheet: Result) -> list[str]:
    return list(dict.fromkeys(entry["to"] for entry in sheet["ratios"]))


def _left_out(sheet: Result, result: Result) -> list[str]:
    """Lines that name the contenders left out of a network's part of a result, and of all of it, and why."""
    missing = (*sheet["left_out"], *result["left_out"])
    return [line for each in missing for line in ("", f"Left out: {each['name']} ({each['reason']}).")]


def _spread(entry: Result, digits: int = 1) -> str:
    median, least, most = (
        f"{time:.{digits}f}" for time in (entry["milliseconds"], min(entry["rounds"]), max(entry["rounds"]))
    )
    return f"{median} ({least} to {most})"


def curves_of(sizes: Sequence[Result]) -> dict[str, list[Result]]:
    """Groups times at several sizes by the name of the contender."""
    curves: dict[str, list[Result]] = {}
    for point in sizes:
        curves.setdefault(point["name"], []).append(point)
    return curves


def has_sizes(result: Result) -> bool:
    """Whether a result has times at several sizes."""
    return any(sheet.get("sizes") for sheet in result.get("networks", ()))
