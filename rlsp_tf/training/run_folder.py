"""The folder of a training run: what it was told, what it saw, how it went, and where it stands.

==================  ====================================================================
``config.json``     the exact configuration; ``--resume`` compares it
``clips.json``      the clips, with SHA-256, scene cuts and what each was used for
``sittings.jsonl``  one line each time training began or went on: step, versions, machine
``log.csv``         the loss curve and validation
``curve.png``       the same as a picture, where matplotlib is installed
``sample.png``      bicubic, network and truth, side by side, at the last validation
``samples.png``     samples of the first steps, with what was drawn for them
``best.keras``      averaged weights that did best in validation; see :func:`best_psnr_of`
``averaged.keras``  averaged weights at the last checkpoint, whether validation fell on it or not
``last.keras``      everything needed to go on: weights, optimizer slots, averages, step
``tensorboard/``    scalars and images, where tensorboard is installed
==================  ====================================================================
"""

import csv
import json
import math
import os
from collections.abc import Sequence
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
    "steps_per_second",
    "waiting",
    "seconds",
)
"""Of ``log.csv``. Loss and PSNR are means since the row before, ``waiting`` is the share of that time spent
waiting for clips, ``seconds`` the time in training since step 0, over all sittings."""


class RunFolder:
    """See the module.

    Args:
        path: of the folder; it is made if its parent exists.

    Raises:
        RLSPError: if it cannot be made.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.last = self.path / "last.keras"
        self.best = self.path / "best.keras"
        self.averaged = self.path / "averaged.keras"
        self._log = self.path / "log.csv"
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise RLSPError(describe_os_error(error)) from error

    @property
    def started(self) -> bool:
        """Whether a run was begun here."""
        return (self.path / "config.json").exists()

    def check_free(self) -> None:
        """Makes sure that nothing is replaced where no run was begun.

        Raises:
            RLSPError: if files of the names of a run's are here.
        """
        names = ["best.keras", "averaged.keras", "last.keras", "sittings.jsonl"]
        names += ["sample.png", "samples.png", "curve.png"]
        # A log is the first thing that is written, so what is killed then leaves one.
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
        """Writes a JSON file, whole or not at all."""
        write_json(self.path / name, value, force=True)

    def read_config(self) -> dict[str, Any]:
        """The configuration of a run that was begun.

        Raises:
            RLSPError: if it is missing or damaged.
        """
        config = read_json(self.path / "config.json", "begin another run")
        if not isinstance(config, dict) or type(config.get("steps")) is not int:
            raise RLSPError(f"{self.path / 'config.json'}: is damaged; begin another run.")
        return config

    def read_clips(self) -> dict[str, dict[str, str]]:
        """The SHA-256 of the clips and photographs of a run that was begun, by name, for each of their uses.

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

    def begin_log(self) -> None:
        """Begins an empty log."""
        with atomic_file(self._log, force=True) as part:
            _write_rows(part, [])

    def log(self, row: dict[str, Any]) -> None:
        """Adds a row; columns that are not given stay empty."""
        with self._log.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)

    def read_log(self) -> list[dict[str, float]]:
        """The rows of the log, without empty fields and without a last row cut short by a kill.

        Raises:
            RLSPError: if it is damaged otherwise.
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
        """Removes what came after a step, and gives what is left."""
        if not self._log.exists():
            self.begin_log()
        rows = [row for row in self.read_log() if row["step"] <= step]
        with atomic_file(self._log, force=True) as part:
            _write_rows(part, rows)
        return rows


def best_psnr_of(row: dict[str, float]) -> float | None:
    """The number by which the best weights are chosen, in dB.

    Args:
        row: of the log.

    Returns:
        The PSNR of validation with the state carried: the mean of that of clips and that of photographs,
        where both are measured; ``None`` if the row has neither.
    """
    values = [row[name] for name in ("val_psnr", "val_psnr_photographs") if name in row]
    return sum(values) / len(values) if values else None


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """Names what differs between two JSON values, as ``name: old is now new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in {**old, **new}:
            inner = f"{name}.{key}" if name else key
            found += differences(old.get(key), new.get(key), inner)
        return found
    return [] if old == new else [f"{name} was {json.dumps(old)} and is now {json.dumps(new)}"]


def draw_curve(run: RunFolder) -> None:
    """Draws the log into ``curve.png``, if matplotlib is installed."""
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


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "step": int(row["step"])})
