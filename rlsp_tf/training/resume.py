"""Begins a run in an empty folder, or resumes the run in a folder from its last checkpoint."""

import os
import platform
import sys
import time
from typing import Any

import keras
import numpy as np

from rlsp_tf._version import __version__
from rlsp_tf.errors import RLSPError
from rlsp_tf.network.keras_file import check_weights
from rlsp_tf.training.clips.contact_sheet import write_contact_sheet
from rlsp_tf.training.loss import DECAY
from rlsp_tf.training.material import Material
from rlsp_tf.training.options import TrainingOptions
from rlsp_tf.training.run_folder import RunFolder, differences
from rlsp_tf.training.workers.group import Group

MAY_CHANGE = {"steps": None, "precision": None}
"""Options that may change while a run goes on: another machine may be fast in another precision."""


def open_run(
    path: str | os.PathLike[str], options: TrainingOptions, material: Material, *, resume: bool
) -> RunFolder:
    """Opens the folder of a run after checking that this training may write to it.

    Args:
        path: the folder.
        options: options of the training; all but those in ``MAY_CHANGE`` have to be those that the run began
            with.
        material: clips and photographs; their content has to be that which the run began with.
        resume: whether the folder may hold a run.

    Raises:
        RLSPError: if the folder holds a run and ``resume`` is false, another run, or files of these names.
    """
    run = RunFolder(path)
    if not run.started:
        run.check_free()
        return run
    if not resume:
        raise RLSPError(f"{run.path}: holds a run already; give --resume to continue it, or another folder.")
    # Options that did not exist when the run began have their defaults.
    old, new = {**TrainingOptions().to_dict(), **run.read_config()}, options.to_dict()
    if changed := differences({**old, **MAY_CHANGE}, {**new, **MAY_CHANGE}):
        raise RLSPError(f"{run.path}: began with other options: {'; '.join(changed)}. Give another folder.")
    for use, before in run.read_clips().items():
        now = {clip["name"]: clip["sha256"] for clip in material.index.get(use, [])}
        if changed := differences(before, now):
            raise RLSPError(
                f"{run.path}: the clips for {use} are not those that it began with: {'; '.join(changed)}. "
                "Restore them or give another folder."
            )
    return run


def load_checkpoint(model: keras.Model, run: RunFolder, options: TrainingOptions) -> int:
    """Loads the last checkpoint of a run into a model and returns its step, or 0 if there is none yet.

    Args:
        model: the model, as :func:`rlsp_tf.training.build.compile_model` builds it.
        run: folder of the run.
        options: options of the training.

    Raises:
        RLSPError: if the checkpoint is damaged, or it is too late to change the number of steps.
    """
    if not run.last.exists():
        return 0
    check_weights(run.last)
    try:
        model.load_weights(run.last)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RLSPError(
            f"{run.last}: belongs to another run or is damaged ({reason}); begin another run."
        ) from error
    step = int(model.optimizer.iterations)
    steps = run.read_config()["steps"]
    if steps != options.steps and step > (1 - DECAY) * min(steps, options.steps):
        raise RLSPError(
            f"{run.path}: is at step {step}, too late to change --steps from {steps} to {options.steps}, "
            f"because the learning rate falls over the last {DECAY:.0%} of the steps."
        )
    return step


def record_start(
    run: RunFolder, step: int, options: TrainingOptions, material: Material, group: Group
) -> list[dict[str, float]]:
    """Writes what a run's folder records when training starts, and returns the rows of its log.

    Args:
        run: folder of the run.
        step: step at which training starts. Later rows of the log are removed.
        options: options of the training.
        material: clips and photographs of the training.
        group: workers and devices that train.
    """
    rows = run.cut_log(step)
    if not run.started:
        run.write_json("clips.json", {**material.index, "notes": material.notes})
        write_contact_sheet(run.path / "samples.png", material.sampler)
    # Last, because the run counts as begun when this file is there.
    run.write_json("config.json", options.to_dict())
    run.note_sitting({"step": step, "precision": options.precision, **_environment(group)})
    return rows


def _environment(group: Group) -> dict[str, Any]:
    """Returns the time, the versions and the machine."""
    backend = keras.backend.backend()
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "rlsp_tf": __version__,
        "python": platform.python_version(),
        "keras": keras.__version__,
        backend: sys.modules[backend].__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "workers": group.workers,
        "devices": group.devices,
        "pid": os.getpid(),
    }
