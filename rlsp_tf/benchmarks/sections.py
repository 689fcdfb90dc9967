"""The sections of a page of results: Markdown for the result of each benchmark."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from rlsp_tf.benchmarks.harness import describe_machine, spread
from rlsp_tf.benchmarks.quality import format_decibels
from rlsp_tf.benchmarks.sections_load import ray_section, serve_section
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
                    spread(each),
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
                    spread(point)
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
                    row += [spread(times, 2), f"{1e3 * cell['batch'] / times['milliseconds']:.1f}"]
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
        rows.append([name, spread({"milliseconds": entry["median"], "rounds": entry["rounds"]})])
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


def _spared(result: Result) -> list[str]:
    width, height = result["size"]
    modes = ("spared", "computed")
    rows = [["", "picture", *(f"{mode}, ms per frame" for mode in modes), "times as fast"]]
    rows.append(["---", *["---:"] * (len(modes) + 2)])
    for clip in result["clips"]:
        times = (spread({"milliseconds": median(clip[mode]), "rounds": clip[mode]}) for mode in modes)
        rows.append([clip["name"], f"{100 * clip['picture']:.0f} %", *times, f"{clip['ratio']:.2f}"])
    return [
        "## What need not be computed",
        "",
        f"`rlsp upscale` of {result['frames']} frames made of `{result['video']}`, {width}x{height}, network "
        f"{result['model']} in {result['precision']}, without the time to start: frames that repeat the one "
        "before and black bars are spared, or computed (`--repeats compute --bars compute`). Medians of the "
        "rounds (least to most), in turn; the last column is the median of the ratios.",
        "",
        *markdown_table(rows),
    ]


SECTIONS: dict[str, Callable[[Result], list[str]]] = {
    "step": _step,
    "gpu": _gpu,
    "video": _video,
    "start": _start,
    "spared": _spared,
    "serve": serve_section,
    "ray": ray_section,
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


def curves_of(sizes: Sequence[Result]) -> dict[str, list[Result]]:
    """Groups times at several sizes by the name of the contender."""
    curves: dict[str, list[Result]] = {}
    for point in sizes:
        curves.setdefault(point["name"], []).append(point)
    return curves


def has_sizes(result: Result) -> bool:
    """Whether a result has times at several sizes."""
    return any(sheet.get("sizes") for sheet in result.get("networks", ()))
