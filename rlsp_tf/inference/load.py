"""From a file or a name to a step, in the precision asked for."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras

from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.exported import EXPORTS, SavedModelStep, _ExportedStep
from rlsp_tf.inference.hardware import fastest_precision
from rlsp_tf.inference.step import KerasStep, Step
from rlsp_tf.network.weights import load_model


def load_step(path_or_name: str | os.PathLike[str], *, precision: str | None = None) -> Step:
    """Makes a network ready to run frame by frame.

    Args:
        path_or_name: a ``.keras`` file or the name of a weight set, as :func:`rlsp_tf.load_model` takes
            them; or an export: the folder of a SavedModel, an ``.onnx`` or a ``.tflite`` file.
        precision: see :func:`rlsp_tf.load_model`; or ``"auto"``: the fastest here that costs nearly nothing,
            see :func:`rlsp_tf.inference.hardware.fastest_precision`; or ``"int8"``, see
            :mod:`rlsp_tf.inference.int8`. Exports have theirs.

    Raises:
        RLSPError: if it is none of these or damaged, if an export is to have another precision, or if the
            network cannot be run in 8 bits.
    """
    path = Path(path_or_name)
    kind: type[_ExportedStep] | None = EXPORTS.get(path.suffix.lower())
    if (path / "saved_model.pb").is_file():
        kind = SavedModelStep
    if kind is None:
        return step_maker(partial(load_model, path_or_name), precision)()
    step = kind(path)
    if precision not in (None, "auto") and precision != step.precision:
        raise RLSPError(f"{path}: was exported in {step.precision}; export it again to have {precision}.")
    return step


def step_maker(load: Callable[..., keras.Model], precision: str | None) -> Callable[[], Step]:
    """What makes steps of one Keras model, each of which compiles for itself.

    Args:
        load: gives the model in the precision that it is called with, as ``precision``.
        precision: as for :func:`load_step`.

    Raises:
        RLSPError: if the network cannot be loaded, or not be run in 8 bits.
    """
    if precision == "auto":
        precision = fastest_precision()
    if precision == "int8":
        # Here, because what ranges are learned on takes half a second to import.
        from rlsp_tf.inference.int8 import Int8Step

        return Int8Step(load(precision="float32")).fresh_copy
    return partial(KerasStep, load(precision=precision))
