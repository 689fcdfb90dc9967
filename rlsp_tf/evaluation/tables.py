"""Results of an evaluation as tables for the terminal, Markdown, JSON and CSV."""

import csv
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from rlsp_tf.errors import RLSPError
from rlsp_tf.evaluation.evaluate import Results, evaluate
from rlsp_tf.evaluation.page import OURS, PictureRecorder, format_metric, write_page
from rlsp_tf.media.degradations import PAPER, Degradation
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.pixels.metrics import METRICS, EvaluationProtocol
from rlsp_tf.system import files
from rlsp_tf.system.files import atomic_file, check_apart, check_folder, check_target, is_same


@dataclass(frozen=True)
class Published:
    """Numbers on Vid4 from a publication, as printed there.

    Attributes:
        name: name of the method.
        protocol: name of the protocol behind the numbers.
        source: the publication.
        cells: PSNR, or PSNR and SSIM, of luma, by sequence or ``"mean"``.
    """

    name: str
    protocol: str
    source: str
    cells: dict[str, str] = field(default_factory=dict)


_NOTHING = format_metric(None, "psnr_y")
_PAPER = "Fuoli et al. 2019 (arXiv 1909.08080)"
VID4 = ("calendar", "city", "foliage", "walk")
PUBLISHED = (
    Published("RLSP 7-128", "rlsp", _PAPER, {"mean": "27.46"}),
    Published("RLSP 7-256", "rlsp", _PAPER, {"mean": "27.55"}),
    Published(
        "DUF-52L",
        "duf",
        "Jo et al. 2018 (VSR-DUF)",
        {
            "calendar": "24.04 / 0.8110",
            "city": "28.27 / 0.8313",
            "foliage": "26.41 / 0.7709",
            "walk": "30.60 / 0.9141",
        },
    ),
)


def evaluate_to_files(
    hr: str | PathLike[str],
    *,
    degradations: Sequence[Degradation] = (PAPER,),
    json_file: str | PathLike[str] | None = None,
    csv_file: str | PathLike[str] | None = None,
    markdown_file: str | PathLike[str] | None = None,
    report: str | PathLike[str] | None = None,
    force: bool = False,
    progress: bool = True,
    **options: Any,
) -> None:
    """Evaluates, prints tables, and writes the requested files.

    If a sequence fails, or an error ends the evaluation, results so far are printed and written first.

    Args:
        hr: the ground truth; see :func:`rlsp_tf.evaluation.evaluate.evaluate`.
        degradations: how low resolution is made; everything is measured with each of them.
        json_file: file for :func:`write_results_json`.
        csv_file: file for :func:`write_csv`.
        markdown_file: file for :func:`write_markdown`.
        report: folder for :func:`rlsp_tf.evaluation.page.write_page`, for the first results.
        force: replace files and a folder that exist.
        progress: whether to show on standard error how far it is, and notes.
        options: further arguments of :func:`rlsp_tf.evaluation.evaluate.evaluate`.

    Raises:
        RLSPError: if the evaluation fails, or a file cannot be written; the latter is checked before the
            evaluation begins.
    """
    targets = [(write_results_json, json_file), (write_csv, csv_file), (write_markdown, markdown_file)]
    files = [(write, Path(file)) for write, file in targets if file]
    clips = [hr, *options.get("sr", ()), *filter(None, [options.get("lr")])]
    for _, file in files:
        check_target(file, force=force)
        for source in (*clips, *options.get("models", ())):
            if is_same(file, Path(source)):
                raise RLSPError(f"{file}: is the input; give the output another name.")
    if report:
        check_folder(report, force=force, ours=OURS)
        check_apart(report, *clips)
    recorder = PictureRecorder() if report else None
    results: list[Results] = []
    failure: Exception | None = None
    for degradation in degradations:
        done = len(results)

        def keep(latest: list[Results], done: int = done) -> None:
            results[done:] = latest

        try:
            evaluate(
                hr, degradation=degradation, recorder=recorder, finished=keep, progress=progress, **options
            )
        except Exception as error:  # raised again below
            failure = error
            break
    if results:
        print(text_tables(results))
        notes = dict.fromkeys(note for result in results for note in result["notes"])
        for note in notes if progress else ():
            print(f"rlsp: note: {note}", file=sys.stderr)
        for write, file in files:
            write(file, results, force=force)
        if report and recorder:
            write_page(report, results[0], recorder, force=force)
    if failure:
        raise failure


def write_results_json(path: str | PathLike[str], results: Sequence[Results], *, force: bool = False) -> None:
    """Writes results as JSON: one object for one protocol and degradation, otherwise a list of objects.

    JSON has no infinity, so it is written as the string ``"inf"``, which most languages can convert to a
    number. Metrics that were not measured are ``null``.

    Args:
        path: the file to write.
        results: results of :func:`rlsp_tf.evaluation.evaluate.evaluate`.
        force: replace a file that exists.

    Raises:
        RLSPError: if the file cannot be written.
    """
    plain = _without_infinity(results[0] if len(results) == 1 else list(results))
    files.write_json(path, plain, force=force)


def write_csv(path: str | PathLike[str], results: Sequence[Results], *, force: bool = False) -> None:
    """Writes results as CSV, with a line for every frame, every sequence, and the mean of all.

    Lines of sequences have no ``frame``; lines of means have no ``sequence`` either.

    Args:
        path, results, force: as in :func:`write_results_json`.

    Raises:
        RLSPError: if the file cannot be written.
    """
    with atomic_file(path, force=force) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["protocol", "degradation", "model", "precision", "sequence", "frame", *METRICS])
        for result in results:
            for model in result["models"]:
                names = [result[what]["name"] for what in ("protocol", "degradation")]
                about = [*names, model["name"], model["precision"]]
                lines = [(None, None, model["mean"])]
                for sequence in model["sequences"]:
                    lines.append((sequence["name"], None, sequence))
                    lines += [(sequence["name"], frame["index"], frame) for frame in sequence["frames"]]
                for *place, numbers in lines:
                    writer.writerow([*about, *place, *(numbers[metric] for metric in METRICS)])


def text_tables(results: Sequence[Results]) -> str:
    """Formats results as aligned tables for a terminal."""
    parts = []
    for result in results:
        lines = _aligned(_table(result))
        protocol = EvaluationProtocol(**result["protocol"])
        lines.insert(0, f"Protocol {protocol.name}: {protocol.describe()}.")
        lines.insert(1, f"Degradation {result['degradation']['description']}.")
        parts.append("\n".join([*lines, *_missing(result), "PSNR [dB] / SSIM of luma."]))
    for name, table in _means(results).items():
        parts.append("\n".join([f"Means, protocol {name}:", *_aligned(table)]))
    return "\n\n".join(parts)


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for label, *cells in table:
        aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([label.ljust(widths[0]), *aligned]))
    return lines


def write_markdown(path: str | PathLike[str], results: Sequence[Results], *, force: bool = False) -> None:
    """Writes results as Markdown: a table for every protocol and degradation, the models and the versions.

    If there are several degradations, a table of their means comes first.

    Args:
        path, results, force: as in :func:`write_results_json`.

    Raises:
        RLSPError: if the file cannot be written.
    """
    first = results[0]
    lines = [
        "# Results",
        "",
        "Written by this command, not by hand:",
        "",
        "```sh",
        first["command"],
        "```",
        "",
        "Cells are PSNR [dB] / SSIM of luma. *RGB* is PSNR of all channels, with chroma by bicubic "
        "interpolation. *Temporal* is PSNR of frame differences, of `sr[t] - sr[t-1]` against "
        "`hr[t] - hr[t-1]` in luma: it falls if errors flicker, and does not change with errors that stand "
        "still.",
    ]
    for name, (header, *rows) in _means(results).items():
        lines += ["", f"## Means, protocol `{name}`", ""]
        lines += markdown_table([header, ["---", *["---:"] * (len(header) - 1)], *rows])
    for result in results:
        protocol = EvaluationProtocol(**result["protocol"])
        header, *rows = _table(result)
        heading = f"## Protocol `{protocol.name}`, degradation `{result['degradation']['name']}`"
        lines += ["", heading, "", f"{_capital(protocol.describe())}."]
        lines += ["", f"Degradation {result['degradation']['description']}."]
        lines += ["", f"Source: {protocol.source}."] if protocol.source else []
        lines += ["", *markdown_table([header, ["---", *["---:"] * (len(header) - 1)], *rows])]
        lines += [f"\n{line}" for line in _missing(result)]
        sources: dict[str, list[str]] = {}
        for entry in _published(result):
            sources.setdefault(entry.source, []).append(entry.name)
        lines += [f"\n{', '.join(names)}: as published by {source}." for source, names in sources.items()]
    lines += ["", "## Models", ""]
    rows = [["model", "network", "precision", "SHA-256 of the weights"], ["---"] * 4]
    for model in first["models"]:
        network = RLSPConfig.from_dict(model["config"]).name if model["config"] else _NOTHING
        rows.append([model["name"], network, model["precision"] or _NOTHING, model["sha256"] or _NOTHING])
    lines += markdown_table(rows)
    versions = ", ".join(f"{package} {version}" for package, version in first["versions"].items())
    lines += ["", f"Versions: {versions}."]
    with atomic_file(path, force=force) as part:
        part.write_text("\n".join(lines) + "\n", "utf-8")


def _table(result: Results) -> list[list[str]]:
    """Rows of a table: a row for every sequence; a column for every model and published method."""
    models = result["models"]
    published = _published(result)
    header = ["", *(model["name"] for model in models)]
    table = [[*header, *(f"{entry.name} (published)" for entry in published)]]
    for rows in zip(*(model["sequences"] for model in models), strict=True):
        name = rows[0]["name"]
        table.append([name, *map(_cell, rows), *(entry.cells.get(name, _NOTHING) for entry in published)])
    means = [model["mean"] for model in models]
    table.append(["mean", *map(_cell, means), *(entry.cells.get("mean", _NOTHING) for entry in published)])
    for label, metric in (("mean RGB", "psnr_rgb"), ("mean temporal", "temporal_psnr_y")):
        cells = [format_metric(mean[metric], metric) for mean in means]
        table.append([label, *cells, *[_NOTHING] * len(published)])
    return table


def _means(results: Sequence[Results]) -> dict[str, list[list[str]]]:
    """Means of every model, a row for every degradation, by protocol; nothing for a single degradation."""
    if len({result["degradation"]["name"] for result in results}) < 2:
        return {}
    tables: dict[str, list[list[str]]] = {}
    for result in results:
        models = result["models"]
        table = tables.setdefault(
            result["protocol"]["name"], [["degradation", *(model["name"] for model in models)]]
        )
        table.append([result["degradation"]["name"], *(_cell(model["mean"]) for model in models)])
    return tables


def _cell(numbers: Results) -> str:
    return " / ".join(format_metric(numbers[metric], metric) for metric in ("psnr_y", "ssim_y"))


def _published(result: Results) -> list[Published]:
    """Published numbers for the same sequences and protocol, with the degradation of the paper."""
    names = tuple(sequence["name"] for sequence in result["models"][0]["sequences"])
    same = names == VID4 and result["degradation"]["name"] == PAPER.name
    return [entry for entry in PUBLISHED if same and entry.protocol == result["protocol"]["name"]]


def _missing(result: Results) -> list[str]:
    names = result["unfinished"]
    return [f"Not measured: {', '.join(names)}; the means do not include them."] if names else []


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Formats rows of cells as lines of a Markdown table.

    Args:
        rows: the header, the row of dashes that Markdown needs, and the rest.
    """
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _without_infinity(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinity(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_infinity(item) for item in value]
    return "inf" if isinstance(value, float) and math.isinf(value) else value
