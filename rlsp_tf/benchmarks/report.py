"""Writes results of benchmarks as a page of Markdown with plots."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlsp_tf.benchmarks.faults import page as reliability
from rlsp_tf.benchmarks.sections import SECTIONS, Result, curves_of, has_sizes, origin_of
from rlsp_tf.errors import RLSPError
from rlsp_tf.system.files import atomic_file, check_target, read_json

PLOT = "docs/benchmarks.png"
"""Default path of the plot."""
STYLES = ("--", "-", ":")
"""Styles of lines in plots, in the order in which names appear."""
RELIABILITY = "faults"
"""Name of the benchmark that has a page of its own."""
_ON_RELIABILITY = (RELIABILITY, "stability")


def write_report(
    target: str | os.PathLike[str],
    files: Sequence[str | os.PathLike[str]],
    *,
    plot: str | os.PathLike[str] = PLOT,
    notes: str | os.PathLike[str] | None = None,
    force: bool = False,
    command: str = "",
) -> None:
    """Writes the results in several files as one page, with a section for each, in the order of SECTIONS.

    The result of ``rlsp benchmark faults`` gets a page of its own, on which nothing but results of
    ``rlsp benchmark stability`` follow; see :mod:`rlsp_tf.benchmarks.faults.page`.

    Args:
        target: the page to write.
        files: JSON files that ``rlsp benchmark`` has written.
        plot: image to write if a result has times at several sizes, memory at several lengths, or memory
            over time.
        notes: a file of Markdown to append.
        force: replace files that exist.
        command: the command line to record on the page.

    Raises:
        RLSPError: if a file is missing or damaged, holds something else, or cannot share a page with the
            others; or if the page cannot be written.
    """
    results = [read_result(file) for file in files]
    appendix = _read_notes(notes) if notes else []
    target, plot = Path(target), Path(plot)
    check_target(target, force=force)
    link = Path(os.path.relpath(plot.absolute(), target.absolute().parent)).as_posix()
    sections = []
    for kind, section in SECTIONS.items():
        for file, result in zip(files, results, strict=True):
            if result["benchmark"] == kind:
                with naming_damaged([file]):
                    sections += ["", *section(result), "", *origin_of(result)]
    faults = [result for result in results if result["benchmark"] == RELIABILITY]
    if faults:
        if len(faults) > 1 or any(result["benchmark"] not in _ON_RELIABILITY for result in results):
            raise RLSPError(
                f"{os.fspath(files[0])}: a page has one result of {RELIABILITY}, and beside it only "
                "results of stability; give the others in a call of their own."
            )
        with naming_damaged(files):
            lines = [*reliability.page(faults[0], sections, link, command), *appendix, ""]
            with atomic_file(plot, force=force) as part:
                reliability.draw_memory(part, faults[0])
        with atomic_file(target, force=force) as part:
            part.write_bytes("\n".join(lines).encode())
        return
    lines = ["# Benchmarks", "", "Written by this command, not by hand:", "", "```sh", command, "```"]
    with naming_damaged(files):
        drawn = [result for result in results if has_sizes(result) or "lengths" in result]
        if drawn:
            with atomic_file(plot, force=force) as part:
                draw(part, drawn)
            picture = "Time against the size of frames, memory against the length of a video"
            lines += ["", f"![{picture}]({link})"]
        page = "\n".join([*lines, *sections, *appendix, ""]).encode()
    with atomic_file(target, force=force) as part:
        part.write_bytes(page)


def describe(result: Result) -> str:
    """Formats a result as Markdown: its section, or the beginning of the page of faults."""
    if result["benchmark"] == RELIABILITY:
        return "\n".join(reliability.summary(result))
    return "\n".join([*SECTIONS[result["benchmark"]](result), "", *origin_of(result)])


def _read_notes(notes: str | os.PathLike[str]) -> list[str]:
    try:
        return ["", Path(notes).read_text("utf-8").rstrip()]
    except (OSError, UnicodeDecodeError) as error:
        raise RLSPError(f"{os.fspath(notes)}: cannot be read; check the path.") from error


def read_result(file: str | os.PathLike[str], expected: str | None = None) -> Result:
    """Reads a result that ``rlsp benchmark`` has written.

    Args:
        file: the JSON file.
        expected: name of the benchmark, if only one is accepted.

    Raises:
        RLSPError: if the file is missing or damaged, or holds a benchmark that is unknown or not expected.
    """
    result = read_json(file, "write it with rlsp benchmark --json")
    kind = result.get("benchmark") if isinstance(result, dict) else None
    if not isinstance(kind, str):
        raise _damaged([file])
    if expected not in (None, kind):
        raise RLSPError(f"{os.fspath(file)}: holds a result of {kind!r}; give a result of {expected}.")
    known = (*SECTIONS, RELIABILITY)
    if kind not in known:
        raise RLSPError(
            f"{os.fspath(file)}: holds a result of {kind!r}; give a result of {', '.join(known)}."
        )
    return result


def draw(path: Path, results: Sequence[Result]) -> None:
    """Draws milliseconds per step against pixels, and peak memory against frames, in a panel each.

    Args:
        path: the image file to write, such as a ``.png``.
        results: results of :func:`rlsp_tf.benchmarks.step.benchmark_step` with sizes, and of
            :func:`rlsp_tf.benchmarks.video.benchmark_video`.
    """
    import matplotlib
    from matplotlib.figure import Figure

    sized = [result for result in results if has_sizes(result)]
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
    """Draws a colour for each network, a line style for each precision, and bands over all rounds."""
    ticks: dict[float, str] = {}
    curves = [
        (sheet["network"], name, points)
        for result in results
        for sheet in result["networks"]
        for name, points in curves_of(sheet["sizes"]).items()
    ]
    networks, names = (list(dict.fromkeys(each)) for each in list(zip(*curves, strict=True))[:2])
    for network, name, points in curves:
        points = sorted(points, key=lambda point: point["width"] * point["height"])
        pixels = [point["width"] * point["height"] / 1e3 for point in points]
        ticks |= {x: f"{p['width']}x{p['height']}" for x, p in zip(pixels, points, strict=True)}
        times = [point["milliseconds"] for point in points]
        least, most = zip(*((min(point["rounds"]), max(point["rounds"])) for point in points), strict=True)
        color, style = f"C{networks.index(network)}", STYLES[names.index(name) % len(STYLES)]
        label = f"{network} {name}"
        axes.plot(pixels, times, style, color=color, marker="o", markersize=4, label=label)
        axes.fill_between(pixels, least, most, color=color, alpha=0.2, linewidth=0)
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


@contextlib.contextmanager
def naming_damaged(files: Sequence[str | os.PathLike[str]]) -> Iterator[None]:
    """Turns errors that the content of result files causes into one sentence that names the files."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise _damaged(files) from error


def _damaged(files: Sequence[str | os.PathLike[str]]) -> RLSPError:
    named = ", ".join(os.fspath(file) for file in files)
    return RLSPError(f"{named}: not a result of rlsp benchmark, or damaged; run the benchmark again.")
