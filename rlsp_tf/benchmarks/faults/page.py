"""The page of a result of ``rlsp benchmark faults``, with a plot of memory over time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlsp_tf.benchmarks.faults.damage import KINDS
from rlsp_tf.benchmarks.faults.damaged_files import OUTCOMES
from rlsp_tf.benchmarks.faults.endings import ENDINGS
from rlsp_tf.benchmarks.faults.kills import FRAMES as FEW
from rlsp_tf.benchmarks.faults.kills import SEGMENT
from rlsp_tf.benchmarks.faults.long_film import WARM_UP
from rlsp_tf.benchmarks.faults.run import counts, failures, outcomes
from rlsp_tf.benchmarks.harness import describe_machine
from rlsp_tf.errors import last_line
from rlsp_tf.evaluation.tables import markdown_table

Result = Mapping[str, Any]


def page(result: Result, sections: Sequence[str], picture: str, command: str) -> list[str]:
    """Formats the page as lines of Markdown.

    Args:
        result: result of :func:`rlsp_tf.benchmarks.faults.run.benchmark_faults`.
        sections: lines of further sections.
        picture: link to the plot of :func:`draw_memory`.
        command: the command line to record on the page.
    """
    lines = [*summary(result), "", *_damage(result["damage"]), ""]
    lines += [*_points(result["points"]), "", *_kills(result["kills"])]
    lines += ["", *_situations(result["situations"]), "", *_soak(result["soak"])]
    lines += ["", f"![Memory of the process over the time of the long run]({picture})", *sections]
    lines += ["", "## Commands", "", "Written by these commands, not by hand:", ""]
    return [*lines, "```sh", result["command"], command, "```"]


def summary(result: Result) -> list[str]:
    """Formats the beginning of the page: the findings, the machine, and a table of all parts.

    Args:
        result: result of :func:`rlsp_tf.benchmarks.faults.run.benchmark_faults`.
    """
    lines = ["# Reliability", "", *_meaning(result), ""]
    for line in describe_machine(result):
        lines += [f"{line}.", ""]
    return [*lines, *_summary(result)]


def draw_memory(path: Path, result: Result) -> None:
    """Draws memory over time, with a line of the measured slope.

    Args:
        path: the image file to write, such as a ``.png``.
        result: result of :func:`rlsp_tf.benchmarks.faults.run.benchmark_faults`.
    """
    import matplotlib
    from matplotlib.figure import Figure

    soak = result["soak"]
    seconds, memory = np.array(soak["samples"], float).T
    with matplotlib.rc_context({"font.size": 10}):
        figure = Figure(figsize=(8, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(seconds / 60, memory / 1e6, linewidth=1.2, label="resident memory")
        after = seconds >= WARM_UP * seconds[-1]
        times = seconds[after] - np.median(seconds[after])
        middle = np.median(memory[after]) + soak["slope"] / 3600 * times
        axes.plot(seconds[after] / 60, middle / 1e6, "--", label=f"{soak['slope'] / 1e6:+.1f} MB per hour")
        axes.set_ylim(0, 1.2 * memory.max() / 1e6)
        axes.set_xlabel(f"minutes ({soak['frames']} frames)")
        axes.set_ylabel("MB")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        figure.savefig(path, dpi=120, metadata={"Software": None})


def _meaning(result: Result) -> list[str]:
    parts = counts(result).values()
    tried, survived, lost = (sum(part[name] for part in parts) for name in ("tried", "survived", "lost"))
    kills, points, soak = result["kills"]["kills"], result["points"], result["soak"]
    twice = [kill["twice"] for kill in kills]
    different = sum(kill["different"] for kill in [*kills, *points])
    return [
        f"Of {tried} runs in which something went wrong or could have, {survived} ended as they should: with "
        "all frames that can be decoded in the output, or with one sentence that says what to do and no "
        f"incomplete file. Together they lost {lost} frames.",
        "A run that was killed is continued by the same command. Runs were killed by `kill -9` before each "
        f"of the {len(points)} changes that a run makes on the disk, and at {len(kills)} random moments. In "
        f"the {len(kills) + len(points)} results, {different} packets differ from those of a run that was "
        f"not killed, and at most {max(twice)} frames had to be computed twice.",
        f"A film of {soak['frames']} frames gave {soak['frames'] - soak['lost']} frames. The memory of the "
        f"process was {soak['first'] / 1e6:.0f} MB in the first tenth of the time and "
        f"{soak['last'] / 1e6:.0f} MB in the last.",
    ]


def _summary(result: Result) -> list[str]:
    rows = [["", "tried", "as it should", "frames lost"], ["---", "---:", "---:", "---:"]]
    for name, part in counts(result).items():
        rows.append([name, str(part["tried"]), str(part["survived"]), str(part["lost"])])
    failed = [f"- {line}" for line in failures(result)]
    return [*markdown_table(rows), *(["", "Not as it should:", "", *failed] if failed else [])]


def _damage(damage: Result) -> list[str]:
    runs = damage["runs"]
    formats = list(dict.fromkeys(Path(run["file"]).suffix for run in runs))
    groups = {kind: [run for run in runs if run["kind"] == kind] for kind in KINDS}
    groups |= {suffix: [run for run in runs if Path(run["file"]).suffix == suffix] for suffix in formats}
    header = ["", "files", *OUTCOMES, "frames that decode", "frames written", "frames lost"]
    rows = [header, ["---", *["---:"] * (len(header) - 1)]]
    for name, those in {**groups, "all": runs}.items():
        if those:
            kept = [run for run in those if run["outcome"] == "written"]
            frames = [str(sum(run[key] for run in kept)) for key in ("decodable", "written", "lost")]
            rows.append([name, str(len(those)), *map(str, outcomes(those).values()), *frames])
    refused = [run for run in runs if run["outcome"] == "refused" and run["decodable"]]
    lines = [
        "## Damaged files",
        "",
        f"The first {damage['frames']} frames of each video in its own container, in Matroska and in "
        "MPEG-TS if these can hold it, each damaged at a random place. *Written*: a file that decodes "
        "completely; *refused*: one sentence, and no files left behind; *hung*: no end within "
        f"{damage['limit']:g} s; *half-written*: an incomplete file left behind; *traceback*: anything "
        "else, including a crash. Numbers of frames are those of written files: the frames that FFmpeg "
        "decodes from the damaged file, and those in the result.",
        "",
        *markdown_table(rows),
    ]
    if refused:
        lines += ["", "Refused although some frames decode:", ""]
        lines += [f"- {run['decodable']} frames: {run['said']}" for run in refused]
    return lines


def _points(points: Sequence[Result]) -> list[str]:
    rows = [["killed before", "frames lost", "packets different", "left"], ["---", "---:", "---:", "---"]]
    for point in points:
        left = ", ".join(point["left"]) or "nothing"
        rows.append([f"`{point['name']}`", str(point["lost"]), str(point["different"]), left])
    return [
        "## Kills before every change on the disk",
        "",
        f"`kill -9` before each change that upscaling {FEW} frames in segments of at least {SEGMENT} makes "
        "on the disk, in order; numbers count equal changes. *Half a line* is what a power failure may leave "
        "at the end of a journal. Then the same call again; results are compared as below.",
        "",
        *markdown_table(rows),
    ]


def _kills(kills: Result) -> list[str]:
    header = ["killed after [s]", "frames finished", "computed twice", "frames lost", "packets different"]
    rows = [header, ["---:"] * len(header)]
    for kill in kills["kills"]:
        numbers = [kill[key] for key in ("finished", "twice", "lost", "different")]
        rows.append([f"{kill['after']:.2f}", *map(str, numbers)])
    sums = [str(sum(kill[key] for kill in kills["kills"])) for key in ("twice", "lost", "different")]
    rows.append(["all", "", *sums])
    return [
        "## Kills",
        "",
        f"`kill -9` at a random moment of the {kills['seconds']:.1f} s that {kills['frames']} frames take, "
        "then the same call again. Every packet, including sound, is compared with that of a run that was "
        "not killed. *Computed twice* counts steps of the network.",
        "",
        *markdown_table(rows),
    ]


def _situations(situations: Sequence[Result]) -> list[str]:
    rows = [["", "exit code", "said", "left", "as it should"], ["---", "---:", "---", "---", "---"]]
    for each in situations:
        if "missing" in each:
            rows.append([each["name"], "", f"not tried: {each['missing']}", "", ""])
            continue
        name = f"{each['name']} ({each['how']})" if "how" in each else each["name"]
        said = last_line(each["said"]) + (f" Then {each['then']}." if each["then"] else "")
        left = ", ".join(each["left"])
        rows.append([name, str(each["code"]), said, left, "yes" if each["right"] else "**no**"])
    return [
        "## Situations",
        "",
        "The command line in a folder of its own, where `film.mp4` is the input; *left* lists all files "
        "there afterwards. *As it should* means that it ended with one sentence, all files that were there "
        "are unchanged, and a run that can be continued ends with the whole film, packet by packet. The "
        f"last {len(ENDINGS)} are films whose result is hard to finish. Their ending is tried before the "
        "first frame is computed, and they have to be delivered with all frames and their sound.",
        "",
        *markdown_table(rows),
    ]


def _soak(soak: Result) -> list[str]:
    width, height = soak["size"]
    (long, got), (sound, heard) = soak["duration"], soak["sound"]
    rows = [
        ["", ""],
        ["---", "---"],
        ["film", f"{soak['frames']} frames of {width}x{height}, {soak['minutes']:.1f} minutes"],
        ["time", f"{soak['seconds'] / 60:.1f} minutes, exit code {soak['code']}"],
        ["frames lost", str(soak["lost"])],
        ["frames at another time", str(soak["moved"])],
        ["from the first frame to the last", f"{long:.3f} s in the film, {got:.3f} s in the result"],
        ["packets of sound", f"{sound} in the film, {heard} in the result"],
        ["memory in the first tenth of the time, median", f"{soak['first'] / 1e6:.1f} MB"],
        ["memory in the last tenth, median", f"{soak['last'] / 1e6:.1f} MB"],
        ["memory at its highest", f"{max(each[1] for each in soak['samples']) / 1e6:.1f} MB"],
        [
            f"slope after the first {WARM_UP:.0%}, median over all pairs of measurements",
            f"{soak['slope'] / 1e6:+.1f} MB per hour",
        ],
    ]
    return [
        "## A long film",
        "",
        "A small film, repeated many times, is upscaled with the command line. Its resident memory is "
        "measured every second, and the result is read to its end. In the last seconds segments are "
        "joined: the times of all packets, including sound, are in memory then, in tables of the container "
        "and of rlsp.",
        "",
        *markdown_table(rows),
    ]
