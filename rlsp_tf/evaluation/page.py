"""The page of an evaluation: tables, plots and pictures that can be viewed offline.

The page is a folder with ``index.html`` and its pictures. Its template is ``page.html``; Jinja fills it in
and escapes names that come from files. Matplotlib draws the plots.
"""

import math
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlsp_tf.evaluation.side_by_side import Region, find_regions
from rlsp_tf.media.images import write_png
from rlsp_tf.pixels.metrics import EvaluationProtocol
from rlsp_tf.system.files import atomic_folder, named

TRUTH = "ground truth"
CROPS = 3
"""Largest number of magnified crops per sequence."""

METRIC_LABELS = {
    "psnr_y": "PSNR Y [dB]",
    "ssim_y": "SSIM Y",
    "psnr_rgb": "PSNR RGB [dB]",
    "temporal_psnr_y": "temporal PSNR Y [dB]",
}

# Colours of the models in their order, the first for bicubic. People with colour blindness can tell them
# apart (after Okabe and Ito), and they have enough contrast on light and on dark pages.
_LIGHT = ("#6b7280", "#0067a5", "#c2410c", "#00775a", "#a03d7d", "#7a6000", "#5b4bb7")
_DARK = ("#9ca3af", "#5ab4f0", "#ff9457", "#2fc79a", "#e58cc2", "#d9c04a", "#a99bff")
_INK = {"light": "#4b5563", "dark": "#aeb6c2"}


@dataclass(frozen=True)
class Picture:
    """Files of one frame by one method, and of its crops; paths are relative to the page."""

    label: str
    file: str
    crops: tuple[str, ...]


@dataclass(frozen=True)
class ShownFrame:
    """The frame of a sequence that the page shows, by every method and as ground truth."""

    index: int
    height: int
    width: int
    regions: tuple[Region, ...]
    pictures: tuple[Picture, ...]


class PictureRecorder:
    """A :class:`rlsp_tf.evaluation.evaluate.FrameObserver` that collects the pictures of a page.

    For every sequence it keeps the frame in which a model gains most over bicubic (in PSNR of RGB), and in
    it the regions where the models differ most from bicubic. Only the best frame so far is in memory;
    pictures of finished sequences are in a temporary folder, which is removed with the recorder.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="rlsp-report-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._scenes: dict[str, ShownFrame] = {}
        self._sequence: str | None = None
        self._index = 0
        self._gain = -math.inf
        self._images: dict[str, np.ndarray] = {}

    def frame(self, sequence: str, index: int, hr: np.ndarray, outputs: dict[str, np.ndarray]) -> None:
        """Receives one frame; all frames of a sequence must follow each other.

        Args:
            sequence: name of the sequence.
            index: number of the frame, from 0.
            hr: the ground truth, uint8 RGB ``(H, W, 3)``.
            outputs: the frame by every method, in the order of the table, ``"bicubic"`` first.
        """
        if sequence != self._sequence:
            self._finish()
            self._sequence, self._gain = sequence, -math.inf
        gain = _gain(hr, outputs)
        if gain > self._gain:
            self._index, self._gain = index, gain
            self._images = {label: image.copy() for label, image in outputs.items()}
            self._images[TRUTH] = hr.copy()

    def scenes(self, folder: Path) -> dict[str, ShownFrame]:
        """Copies the pictures of all sequences so far into ``folder``.

        Returns:
            The shown frames by the name of their sequence; paths are relative to ``folder``.
        """
        self._finish()
        shutil.copytree(self._folder, folder, dirs_exist_ok=True)
        return dict(self._scenes)

    def _finish(self) -> None:
        """Writes the pictures of the current sequence, if there is one."""
        if self._sequence is None:
            return
        height, width = self._images[TRUTH].shape[:2]
        side = min(max(32, round(min(height, width) / 9)), height, width)
        regions = find_regions(_difference(self._images), side, side, CROPS)
        pictures = []
        folder = Path(f"{len(self._scenes):03d}-{_slug(self._sequence)}")
        (self._folder / folder).mkdir()
        for number, (label, image) in enumerate(self._images.items()):
            file = folder / f"{number:02d}-{_slug(label)}.png"
            write_png(self._folder / file, image)
            crops = []
            for place, region in enumerate(regions, start=1):
                crop = file.with_name(f"{file.stem}-crop-{place}.png")
                write_png(self._folder / crop, region.cut(image))
                crops.append(crop.as_posix())
            pictures.append(Picture(label, file.as_posix(), tuple(crops)))
        self._scenes[self._sequence] = ShownFrame(self._index, height, width, tuple(regions), tuple(pictures))
        self._sequence, self._images = None, {}


OURS = named(
    r"index\.html",
    r"\d{3}-[A-Za-z0-9-]+-psnr-(light|dark)\.svg",
    r"\d{3}-[A-Za-z0-9-]+/\d{2}-[A-Za-z0-9-]+\.png",
)
"""Recognizes the files of a page."""


def write_page(
    folder: str | os.PathLike[str],
    results: Mapping[str, Any],
    recorder: PictureRecorder,
    *,
    force: bool = False,
) -> Path:
    """Writes the page into ``folder``, which appears when it is complete.

    Args:
        folder: the folder to write.
        results: results of :func:`rlsp_tf.evaluation.evaluate.evaluate` under one protocol.
        recorder: has received the frames; sequences that it has not received are shown without pictures.
        force: replace the folder if it exists and holds only files of an earlier page.

    Returns:
        The page, ``folder/index.html``.

    Raises:
        RLSPError: if the folder cannot be written.
    """
    # Imported here, like Matplotlib: only pages need them.
    import jinja2

    models = results["models"]
    with atomic_folder(folder, force=force, ours=OURS) as part:
        scenes = recorder.scenes(part)
        sequences = []
        for number, sequence in enumerate(models[0]["sequences"]):
            name = sequence["name"]
            rows = [_by_name(model, name) for model in models]
            plot = f"{number:03d}-{_slug(name)}-psnr"
            scene = scenes.get(name)
            for theme in ("light", "dark"):
                _plot(
                    part / f"{plot}-{theme}.svg", models, rows, theme, None if scene is None else scene.index
                )
            sequences.append(
                {
                    "name": name,
                    "rows": rows,
                    "frames": len(rows[0]["frames"]),
                    "plot": plot,
                    "plot_text": _plot_text(name, models, rows),
                    "scene": scene,
                    "right": _opposite(rows, scene),
                }
            )
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["metric"] = format_metric
        page = environment.get_template("page.html").render(
            results=results,
            protocol=EvaluationProtocol(**results["protocol"]),
            degradation=results["degradation"]["description"],
            models=models,
            metrics={name: label for name, label in METRIC_LABELS.items() if name in models[0]["mean"]},
            sequences=sequences,
            mean_rows=[model["mean"] for model in models],
            best=_best,
            settings=_settings,
            light=_LIGHT,
            dark=_DARK,
            truth=TRUTH,
        )
        (part / "index.html").write_text(page, "utf-8")
    return Path(folder) / "index.html"


def format_metric(value: Any, metric: str) -> str:
    """Formats a metric for a table: infinity (also ``"inf"``, as in JSON) as ∞, ``None`` as -."""
    if value is None:
        return "-"
    number = float(value)
    if math.isinf(number):
        return "∞"
    return f"{number:.4f}" if metric.startswith("ssim") else f"{number:.3f}"


def _gain(hr: np.ndarray, outputs: Mapping[str, np.ndarray]) -> float:
    """Gain in PSNR of RGB, in dB, of the best model over the first method."""
    errors = [
        float(np.mean(np.square(image.astype(np.float32) - hr), dtype=np.float64))
        for image in outputs.values()
    ]
    ours = min(errors[1:], default=errors[0])
    if ours == 0:
        return math.inf if errors[0] else 0.0
    return 10 * math.log10(errors[0] / ours) if errors[0] else -math.inf


def _difference(images: Mapping[str, np.ndarray]) -> np.ndarray:
    """Squared difference ``(H, W)`` of the models, or without models of the truth, from bicubic."""
    first, *others = images.values()
    difference = np.zeros(first.shape[:2])
    for image in others[:-1] or others:
        difference += np.square(image.astype(np.float32) - first).sum(axis=-1)
    return difference


def _slug(name: str) -> str:
    """Shortens a name to letters, digits and dashes, for files and URLs."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", name).strip("-")[:40] or "unnamed"


def _by_name(model: Mapping[str, Any], sequence: str) -> Mapping[str, Any]:
    return next(row for row in model["sequences"] if row["name"] == sequence)


def _best(rows: Sequence[Mapping[str, Any]], metric: str) -> int:
    """Index of the row with the largest value; the first one if several are equal."""
    values = [-math.inf if row[metric] is None else float(row[metric]) for row in rows]
    return values.index(max(values))


def _opposite(rows: Sequence[Mapping[str, Any]], scene: ShownFrame | None) -> int:
    """Index of the picture shown beside bicubic first: the best model, or the truth if none is better."""
    best = _best(rows, "psnr_y")
    return best if best or scene is None else len(scene.pictures) - 1


def _settings(values: Mapping[str, Any]) -> str:
    """Formats a configuration or versions in one line."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _series(row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Frame numbers and luma PSNR of a sequence."""
    indices = [frame.get("index", position) for position, frame in enumerate(row["frames"])]
    return np.array(indices), np.array([float(frame["psnr_y"]) for frame in row["frames"]])


def _plot(
    path: Path, models: Sequence[Any], rows: Sequence[Mapping[str, Any]], theme: str, shown: int | None
) -> None:
    """Draws PSNR over frames; infinite values are triangles at the upper edge."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    ink, colors = _INK[theme], _LIGHT if theme == "light" else _DARK
    # With a fixed salt, the same numbers give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "rlsp_tf", "font.size": 10}):
        figure = Figure(figsize=(5.6, 3.2), layout="constrained")
        axes = figure.add_subplot()
        for number, (model, row) in enumerate(zip(models, rows, strict=True)):
            indices, values = _series(row)
            color = colors[number % len(colors)]
            finite = np.isfinite(values)
            axes.plot(
                indices,
                np.where(finite, values, np.nan),
                color=color,
                linestyle="--" if number == 0 else "-",
                linewidth=1.8,
                marker="o" if len(indices) < 3 else None,
                label=model["name"],
            )
            axes.plot(
                indices[~finite],
                np.ones(np.sum(~finite)),
                "^",
                color=color,
                clip_on=False,
                transform=axes.get_xaxis_transform(),
            )
        if shown is not None:
            axes.axvline(shown, color=ink, linewidth=1, linestyle=":")
        axes.set_xlabel("frame", color=ink)
        axes.set_ylabel(METRIC_LABELS["psnr_y"], color=ink)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        axes.tick_params(colors=ink, length=3)
        axes.grid(color=ink, alpha=0.18, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(ink)
        figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})


def _plot_text(name: str, models: Sequence[Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Describes a plot for people who cannot see it."""
    spans = []
    for model, row in zip(models, rows, strict=True):
        values = _series(row)[1]
        low, high = (format_metric(value, "psnr_y") for value in (values.min(), values.max()))
        spans.append(f"{model['name']} from {low} to {high} dB")
    return f"Luma PSNR of every frame of {name}: {'; '.join(spans)}."
