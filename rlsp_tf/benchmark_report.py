"""Results of benchmarks as a page of Markdown, with a plot of time against size."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlsp_tf import reliability
from rlsp_tf.benchmark import describe_machine
from rlsp_tf.benchmark_quality import decibels
from rlsp_tf.benchmark_step import TYPICAL, agreement
from rlsp_tf.errors import RLSPError
from rlsp_tf.files import atomic_file, check_target, read_json
from rlsp_tf.results import markdown_table

PLOT = "docs/benchmarks.png"
"""Where the plot goes, unless told otherwise."""
RELIABILITY = "faults"
"""The benchmark that has a page of its own."""

Result = Mapping[str, Any]


def write_report(
    target: str | os.PathLike[str],
    files: Sequence[str | os.PathLike[str]],
    *,
    plot: str | os.PathLike[str] = PLOT,
    notes: str | os.PathLike[str] | None = None,
    force: bool = False,
    command: str = "",
) -> None:
    """Writes one page of the results in several files, a section each, in the order of SECTIONS.

    That of ``rlsp benchmark faults`` has a page of its own, see :mod:`rlsp_tf.reliability`.

    Args:
        target: the page.
        files: JSON that ``rlsp benchmark`` has written.
        plot: a picture, which is made if a result has times at several sizes, memory at several lengths, or
            memory over time.
        notes: a file of Markdown to put at the end.
        force: replace what exists.
        command: what to note as the command behind the page.

    Raises:
        RLSPError: if a file is missing, damaged or of something else, or does not go on one page with the
            others, or the page cannot be written.
    """
    results = [read_result(file) for file in files]
    appendix = _read_notes(notes) if notes else []
    target, plot = Path(target), Path(plot)
    check_target(target, force=force)
    link = Path(os.path.relpath(plot.absolute(), target.absolute().parent)).as_posix()
    if any(result["benchmark"] == RELIABILITY for result in results):
        if len(results) > 1:
            raise RLSPError(f"{os.fspath(files[0])}: results of {RELIABILITY} have a page of their own.")
        with _no_result(files):
            lines = [*reliability.page(results[0], link, command), *appendix, ""]
            with atomic_file(plot, force=force) as part:
                reliability.draw_memory(part, results[0])
        with atomic_file(target, force=force) as part:
            part.write_bytes("\n".join(lines).encode())
        return
    sections = []
    for kind, section in SECTIONS.items():
        for file, result in zip(files, results, strict=True):
            if result["benchmark"] == kind:
                with _no_result([file]):
                    sections += ["", *section(result), "", *_origin(result)]
    lines = ["# Benchmarks", "", "Written by this command, not by hand:", "", "```sh", command, "```"]
    with _no_result(files):
        drawn = [result for result in results if _sizes(result) or "lengths" in result]
        if drawn:
            with atomic_file(plot, force=force) as part:
                draw(part, drawn)
            picture = "Time against the size of frames, memory against the length of a video"
            lines += ["", f"![{picture}]({link})"]
        page = "\n".join([*lines, *sections, *appendix, ""]).encode()
    with atomic_file(target, force=force) as part:
        part.write_bytes(page)


def _read_notes(notes: str | os.PathLike[str]) -> list[str]:
    try:
        return ["", Path(notes).read_text("utf-8").rstrip()]
    except (OSError, UnicodeDecodeError) as error:
        raise RLSPError(f"{os.fspath(notes)}: cannot be read; check the path.") from error


def read_result(file: str | os.PathLike[str]) -> Result:
    """A result that ``rlsp benchmark`` has written.

    Raises:
        RLSPError: if it is missing, damaged, or of a benchmark that has no page.
    """
    result = read_json(file, "write it with rlsp benchmark --json")
    kind = result.get("benchmark") if isinstance(result, dict) else None
    if not isinstance(kind, str):
        raise _damaged([file])
    known = (*SECTIONS, RELIABILITY)
    if kind not in known:
        raise RLSPError(
            f"{os.fspath(file)}: holds the benchmark {kind!r}; there are pages of {', '.join(known)}."
        )
    return result


def draw(path: Path, results: Sequence[Result]) -> None:
    """Draws milliseconds per step against pixels, and peak memory against frames, a panel each.

    Args:
        path: the picture, a ``.png`` say.
        results: of :func:`rlsp_tf.benchmark_step.benchmark_step` with sizes, and of
            :func:`rlsp_tf.benchmark_video.benchmark_video`.
    """
    import matplotlib
    from matplotlib.figure import Figure

    sized = [result for result in results if _sizes(result)]
    videos = [result for result in results if "lengths" in result]
    panels = [(draw, those) for draw, those in ((_draw_sizes, sized), (_draw_lengths, videos)) if those]
    with matplotlib.rc_context({"font.size": 10}):
        figure = Figure(figsize=(6.4 * len(panels), 4.2), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for each, (draw_panel, those) in zip(axes, panels, strict=True):
            draw_panel(each, those)
            each.grid(alpha=0.3, which="both")
            each.legend(fontsize=8)
        figure.savefig(path, dpi=120, metadata={"Software": None})


def _draw_sizes(axes: Any, results: Sequence[Result]) -> None:
    """With bands from the least to the most of the rounds."""
    ticks: dict[float, str] = {}
    curves = [
        (sheet["network"], name, points)
        for result in results
        for sheet in result["networks"]
        for name, points in _curves(sheet["sizes"]).items()
    ]
    for number, (network, name, points) in enumerate(curves):
        points = sorted(points, key=lambda point: point["width"] * point["height"])
        pixels = [point["width"] * point["height"] / 1e3 for point in points]
        ticks |= {x: f"{p['width']}x{p['height']}" for x, p in zip(pixels, points, strict=True)}
        times = [point["milliseconds"] for point in points]
        least, most = zip(*((min(point["rounds"]), max(point["rounds"])) for point in points), strict=True)
        style = "-" if number % 2 else "--"
        (line,) = axes.plot(pixels, times, style, marker="o", markersize=4, label=f"{network} {name}")
        axes.fill_between(pixels, least, most, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(list(ticks), list(ticks.values()), rotation=20)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("low-resolution frame (log scale of pixels)")
    axes.set_ylabel("milliseconds per step")


def _draw_lengths(axes: Any, results: Sequence[Result]) -> None:
    for result in results:
        frames = [each["frames"] for each in result["lengths"]]
        memory = [each["peak"] / 1e9 for each in result["lengths"]]
        label = f"{result['video']}, {result['model']} in {result['precision']}"
        axes.plot(frames, memory, marker="o", markersize=4, label=label)
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])
    axes.set_xlabel("frames of the video")
    axes.set_ylabel("peak memory, GB")


def _step(result: Result) -> list[str]:
    width, height = result["size"]
    steps, warm_up, limits = result["steps"], result["warm_up"], result["limits"]
    lines = [
        "## A step",
        "",
        f"Milliseconds from {width}x{height} frames to one frame of luma, median of the rounds (least to "
        f"most); {steps} steps of each contender in each round, after {warm_up} that do not count. All take "
        "turns in one run, on the CPU, with the same weights, and had to agree with ours in float32: in "
        f"float32 to {limits['float32']}, otherwise at a cost of at most "
        f"{', '.join(f'{limit} in {name}' for name, limit in limits.items() if name != 'float32')} to a "
        f"network of {TYPICAL:g} dB.",
    ]
    for sheet in result["networks"]:
        columns = _rivals(sheet)
        header = ["", "ms", "steps/s", *(f"ratio to {rival}" for rival in columns), "beside ours in float32"]
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
            lines += ["", "Ratios are how many times as fast ours is, median over the rounds."]
        for missing in (*sheet["left_out"], *result["left_out"]):
            lines += ["", f"Left out: {missing['name']} ({missing['reason']})."]
        if sheet["sizes"]:
            curves = _curves(sheet["sizes"])
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
        f"times as fast, in the median of the rounds; {result['waiting']:.1%} of its time it waits for "
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
        rows.append([sheet["name"], sheet["network"], *map(decibels, numbers)])
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
        [*header, *([way, *map(decibels, row.values())] for way, row in result[key].items())]
        for key in ("after", "none")
    )
    found = [["", "frames", "cuts", "found", "found that are none", "off", "auto"], ["---", *["---:"] * 6]]
    for row in result["materials"]:
        counts = (row["frames"], row["cuts"], row["found"], row["wrong"])
        found.append([row["name"], *map(str, counts), *map(decibels, row["psnr"].values())])
    width, height = result["size"]
    return [
        "## Scene cuts",
        "",
        f"PSNR of luma in dB, model {result['model']} in float32, {', '.join(result['sequences'])} at "
        f"{width}x{height}. Frames after a cut, counted from 0, where sequences follow each other; the state "
        f"of the network is carried over, begun anew, or begun anew after {result['warm_start']} frames run "
        "backwards:",
        "",
        *markdown_table(after),
        "",
        "The same in the middle of each sequence, where there is no cut, so that starting anew is a mistake:",
        "",
        *markdown_table(none),
        "",
        "What is found in sequences that follow each other, in each alone, with flashes in it, and in fast "
        "pans over a frame of each; and PSNR of all their frames with `--scene-cuts off` and `auto`:",
        "",
        *markdown_table(found),
    ]


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
        f"{result['ratio']:.2f} times the sum of the parts alone (median of the rounds).",
        "",
        *markdown_table(rows),
        "",
        *markdown_table(lengths),
    ]


def _serve(result: Result) -> list[str]:
    (width, height), (model, about) = result["size"], next(iter(result["models"].items()))
    rows = [
        ["clients", "frames/s", "median [s]", "99 % [s]", "streams/step", "refused", "lost", "memory [MB]"],
        ["---:"] * 8,
    ]
    for each in result["rounds"]:
        latency = each["latency"]
        numbers = (each["rate"], latency["p50"], latency["p99"])
        memory = f"{sum(each['memory'].values()) / 1e6:.0f}"
        lost = str(each["lost"] + each["wrong"])
        texts = [*(f"{number:.2f}" for number in numbers), f"{each['streams']:.1f}"]
        rows.append([str(each["clients"]), *texts, str(each["refused"]), lost, memory])
    sizes = f"{width}x{height} to {about['scale'] * width}x{about['scale'] * height}"
    return [
        "## Serving",
        "",
        f"Network {model} in {about['bits']} bits, frames of {sizes}. Each client has a session and sends "
        f"the next frame when the one before was answered, for {result['seconds']:g} s.",
        "",
        *markdown_table(rows),
    ]


def _profile(result: Result) -> list[str]:
    width, height = result["size"]
    rows = [["primitive", "calls", "ms", "GFLOP/s"], ["---", "---:", "---:", "---:"]]
    for each in result["primitives"]:
        speed = "" if each["gflops"] is None else f"{each['gflops']:.0f}"
        rows.append([each["what"], f"{each['calls']:.0f}", f"{each['milliseconds']:.2f}", speed])
    convolutions = sum(each["milliseconds"] for each in result["primitives"] if each["gflops"] is not None)
    return [
        "## Where the time of a step goes",
        "",
        f"{result['network']} in {result['precision']}, {width}x{height}, as oneDNN tells it: "
        f"{result['milliseconds']:.1f} ms a step, of which its convolutions take {convolutions:.1f} ms "
        "(those that run side by side counted in full).",
        "",
        *markdown_table(rows),
    ]


SECTIONS: dict[str, Callable[[Result], list[str]]] = {
    "step": _step,
    "profile": _profile,
    "video": _video,
    "serve": _serve,
    "train": _train,
    "quality": _quality,
    "cuts": _cuts,
}
"""What writes the section of each benchmark, by its name in the JSON."""


def _origin(result: Result) -> list[str]:
    """The command behind a section, machine and versions."""
    about = [f"{line}." for line in describe_machine(result)]
    return ["```sh", result["command"], "```", "", about[0], "", about[1]]


def _rivals(sheet: Result) -> list[str]:
    return list(dict.fromkeys(entry["to"] for entry in sheet["ratios"]))


def _spread(entry: Result) -> str:
    return f"{entry['milliseconds']:.1f} ({min(entry['rounds']):.1f} to {max(entry['rounds']):.1f})"


def _curves(sizes: Sequence[Result]) -> dict[str, list[Result]]:
    """Times at sizes, by whose they are."""
    curves: dict[str, list[Result]] = {}
    for point in sizes:
        curves.setdefault(point["name"], []).append(point)
    return curves


def _sizes(result: Result) -> bool:
    return any(sheet.get("sizes") for sheet in result.get("networks", ()))


@contextlib.contextmanager
def _no_result(files: Sequence[str | os.PathLike[str]]) -> Iterator[None]:
    """Turns what the content of files may raise into one sentence."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise _damaged(files) from error


def _damaged(files: Sequence[str | os.PathLike[str]]) -> RLSPError:
    named = ", ".join(os.fspath(file) for file in files)
    return RLSPError(f"{named}: no result of rlsp benchmark, or a damaged one; write it again.")
