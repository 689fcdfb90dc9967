"""Loads a network from a file or by name, ready to run frame by frame in a chosen precision."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras

from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.backend import backend
from rlsp_tf.inference.exported import EXPORTS, ExportedStep, SavedModelStep
from rlsp_tf.inference.hardware import device_named, fastest_precision, unused_gpu
from rlsp_tf.inference.step import KerasStep, Step
from rlsp_tf.network.weights import load_model


def load_step(path_or_name: str | os.PathLike[str], *, precision: str | None = None) -> Step:
    """Loads a network to run it frame by frame.

    Args:
        path_or_name: path of a ``.keras`` file or name of a weight set, as for :func:`rlsp_tf.load_model`; or
            path of an export: the folder of a SavedModel, an ``.onnx`` or a ``.tflite`` file.
        precision: a precision of :func:`rlsp_tf.load_model`; ``"auto"`` for the fastest one on this machine
            that costs nearly nothing (:func:`rlsp_tf.inference.hardware.fastest_precision`); or ``"int8"``
            (:mod:`rlsp_tf.inference.int8`). An export can only run in the precision it was written in.

    Raises:
        RLSPError: if the file is missing, damaged or of another kind, if ``precision`` is not that of the
            export, or if the network cannot run in 8 bits.
    """
    path = Path(path_or_name)
    kind: type[ExportedStep] | None = EXPORTS.get(path.suffix.lower())
    if (path / "saved_model.pb").is_file():
        kind = SavedModelStep
    if kind is None:
        return step_maker(partial(load_model, path_or_name), precision)()
    step = kind(path)
    if precision not in (None, "auto") and precision != step.precision:
        raise RLSPError(f"{path}: was exported in {step.precision}; export it again to have {precision}.")
    return step


def device_of(step: Step) -> tuple[str, str | None]:
    """Describes what a step computes on; and in a sentence the GPU that it could use and does not, if any."""
    if isinstance(step, KerasStep | SavedModelStep):
        return device_named(), unused_gpu()
    named = device_named(gpu=False)
    if device_named() == named:
        return named, None
    return named, (
        f"{step.precision} of this kind is computed by the CPU, although there is a GPU; a .keras file with "
        "--precision auto makes use of it."
    )


def step_maker(load: Callable[..., keras.Model], precision: str | None) -> Callable[[], Step]:
    """Loads a Keras model and returns a function that makes steps of it, each compiled separately.

    Args:
        load: function that returns the model; called with the keyword ``precision``.
        precision: as for :func:`load_step`.

    Raises:
        RLSPError: if the network cannot be loaded, or cannot run in 8 bits.
    """
    if precision == "auto":
        precision = fastest_precision()
    if precision == "int8":
        if backend() != "tensorflow":
            raise RLSPError(
                f"int8 needs TensorFlow, and KERAS_BACKEND is {backend()}; leave that out, or use "
                "--precision auto."
            )
        # Imported here because SciPy and Pillow, which render the scene, take half a second to import.
        from rlsp_tf.inference.int8 import Int8Step

        return Int8Step(load(precision="float32")).fresh_copy
    return partial(KerasStep, load(precision=precision))
