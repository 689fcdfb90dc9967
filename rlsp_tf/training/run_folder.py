"""The folder of a training run: its configuration, clips, log and checkpoints.

==================  ====================================================================
``config.json``     the exact configuration, which ``--resume`` compares
``clips.json``      the clips: their SHA-256, scene cuts, and what each is used for
``sittings.jsonl``  a line for each start of the training: step, versions, machine
``log.csv``         loss and validation
``curve.png``       the same as a plot, if matplotlib is installed
``sample.png``      bicubic, network and truth side by side, at the last validation
``samples.png``     samples of the first steps, with captions
``best.keras``      the averaged weights with the best validation; see :func:`best_psnr_of`
``averaged.keras``  the averaged weights at the last checkpoint
``last.keras``      the last checkpoint: weights, state of the optimizer, averages, step
``tensorboard/``    scalars and images, if tensorboard is installed
==================  ====================================================================
"""

import csv
import json
import math
import os
from pathlib import Path
from typing import Any

from rlsp_tf.errors import RLSPError, describe_os_error
from rlsp_tf.system.files import atomic_file, read_json, write_json

COLUMNS = (
    "step",
    "loss",
    "psnr",
    "learning_rate",
    "val_psnr",
    "val_psnr_state_zeroed",
    "val_psnr_photographs",
    "val_psnr_photographs_state_zeroed",
    "silent_filters",
    "steps_per_second",
    "waiting",
    "seconds",
)
"""Columns of ``log.csv``. Loss and PSNR are means since the last row, ``waiting`` is the share of that time
spent waiting for clips, and ``seconds`` is the time of training since step 0, without pauses. See
:meth:`rlsp_tf.training.validator.Validator.silent` for ``silent_filters``."""


class RunFolder:
    """The folder of a run; see the module for its files.

    Args:
        path: path of the folder. It is made if it is missing, with the folders above it.

    Attributes:
        path: path of the folder.
        last, best, averaged: paths of the files of these names.

    Raises:
        RLSPError: if the folder cannot be made.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.last = self.path / "last.keras"
        self.best = self.path / "best.keras"
        self.averaged = self.path / "averaged.keras"
        self._log = self.path / "log.csv"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RLSPError(describe_os_error(error)) from error

    @property
    def started(self) -> bool:
        """Whether the folder holds a run."""
        return (self.path / "config.json").exists()

    def check_free(self) -> None:
        """Checks that a run can begin here without replacing any file.

        Raises:
            RLSPError: if the folder has files with the names of a run's files.
        """
        names = ["best.keras", "averaged.keras", "last.keras", "sittings.jsonl"]
        names += ["sample.png", "samples.png", "curve.png"]
        # A run that was killed while it began may have left a log, which is written first.
        if self._log.exists() and self._log.read_bytes().split(b"\n")[0].decode("latin-1") != ",".join(
            COLUMNS
        ):
            names.append(self._log.name)
        for name in names:
            if os.path.lexists(self.path / name):
                raise RLSPError(
                    f"{self.path}: holds {name}, which would be replaced, but no config.json of a run; give "
                    "another folder."
                )

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file, completely or not at all."""
        write_json(self.path / name, value, force=True)

    def read_config(self) -> dict[str, Any]:
        """Reads the configuration of the run.

        Raises:
            RLSPError: if it is missing or damaged.
        """
        config = read_json(self.path / "config.json", "begin another run")
        if not isinstance(config, dict) or type(config.get("steps")) is not int:
            raise RLSPError(f"{self.path / 'config.json'}: is damaged; begin another run.")
        return config

    def read_clips(self) -> dict[str, dict[str, str]]:
        """Reads the SHA-256 of the clips and photographs of the run.

        Returns:
            The SHA-256 by name, for each use, such as ``"training"``.

        Raises:
            RLSPError: if the index is missing or damaged.
        """
        file = self.path / "clips.json"
        index = read_json(file, "begin another run")
        try:
            uses = [use for use in index if use != "notes"]
            return {
                use: {clip["name"]: clip["sha256"] for clip in index[use]}
                for use in dict.fromkeys(["training", "validation", *uses])
            }
        except (LookupError, TypeError) as error:
            raise RLSPError(f"{file}: is damaged; begin another run.") from error

    def note_sitting(self, facts: dict[str, Any]) -> None:
        """Adds a line to ``sittings.jsonl``."""
        with (self.path / "sittings.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")

    def log(self, row: dict[str, Any]) -> None:
        """Adds a row to the log; missing columns stay empty."""
        with self._log.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)

    def read_log(self) -> list[dict[str, float]]:
        """Reads the rows of the log, without empty fields, and without an incomplete row at the end.

        Raises:
            RLSPError: if the log is damaged in another way.
        """
        rows = []
        try:
            reader = csv.DictReader(self._log.read_text("utf-8").splitlines())
            if set(reader.fieldnames or ()) - set(COLUMNS):
                raise ValueError("other columns")
            for row in reader:
                try:
                    numbers = {key: float(value) for key, value in row.items() if value}
                except (TypeError, ValueError):
                    break
                if not math.isfinite(numbers.get("step", math.nan)):
                    break
                rows.append(numbers)
        except (ValueError, csv.Error) as error:
            raise RLSPError(f"{self._log}: is damaged; remove it or begin another run.") from error
        return rows

    def cut_log(self, step: int) -> list[dict[str, float]]:
        """Removes the rows after a step from the log, which is made if it is missing; returns the others."""
        rows = [row for row in self.read_log() if row["step"] <= step] if self._log.exists() else []
        with atomic_file(self._log, force=True) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, "step": int(row["step"])} for row in rows)
        return rows


def best_psnr_of(row: dict[str, float]) -> float | None:
    """Returns the number by which the best weights are chosen.

    Args:
        row: a row of the log.

    Returns:
        PSNR of validation with the state carried, in dB: the mean of clips and photographs, if both are
        measured; ``None`` if neither is.
    """
    values = [row[name] for name in ("val_psnr", "val_psnr_photographs") if name in row]
    return sum(values) / len(values) if values else None


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """Describes the differences between two JSON values, each as ``name was old and is now new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in {**old, **new}:
            inner = f"{name}.{key}" if name else key
            found += differences(old.get(key), new.get(key), inner)
        return found
    return [] if old == new else [f"{name} was {json.dumps(old)} and is now {json.dumps(new)}"]


def draw_curve(run: RunFolder) -> None:
    """Plots the log as ``curve.png``, if matplotlib is installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    rows = run.read_log()
    figure = Figure((8, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="PSNR of luma, dB")
    for column, label in (
        ("psnr", "training crops"),
        ("val_psnr", "validation"),
        ("val_psnr_state_zeroed", "validation, state zeroed at every frame"),
        ("val_psnr_photographs", "validation on photographs"),
        ("val_psnr_photographs_state_zeroed", "validation on photographs, state zeroed"),
    ):
        points = [(row["step"], row[column]) for row in rows if column in row]
        if points:
            axes.plot(*zip(*points, strict=True), label=label)
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_file(run.path / "curve.png", force=True) as part:
        figure.savefig(part, dpi=120)
