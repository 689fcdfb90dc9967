"""Exports networks, and runs every export beside the Keras model before it gets its name."""

import os
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.exported import INPUTS, SavedModelStep, card_of
from rlsp_tf.inference.load import load_step
from rlsp_tf.inference.step import KerasStep, Step, windows
from rlsp_tf.network.model import RLSP, rlsp_layer
from rlsp_tf.network.weights import find_weights, load_model
from rlsp_tf.pixels.degradation import degrade
from rlsp_tf.pixels.metrics import decibels, luma, luma_of, mse
from rlsp_tf.pixels.scene import render_scene
from rlsp_tf.system.files import (
    atomic_file,
    atomic_folder,
    check_folder,
    check_target,
    named,
    read_json,
    sha256_of,
    write_json,
)

Format = Literal["saved_model", "litert", "onnx"]
SUFFIXES: dict[Format, str] = {"saved_model": "", "litert": ".tflite", "onnx": ".onnx"}
OURS = named(
    r"rlsp\.json",
    r"saved_model\.pb",
    r"fingerprint\.pb",
    r"variables/variables\.(index|data-\d{5}-of-\d{5})",
    "assets",
)
"""The files in the folder of a SavedModel."""
PRECISIONS: dict[Format, tuple[str, ...]] = {
    "saved_model": ("float32", "bfloat16", "float16"),
    "litert": ("float32", "dynamic", "int8"),
    "onnx": ("float32",),
}
"""The precisions that each format can be written in; the first is the default."""
ROUNDINGS = 4
"""Largest difference between a float32 export and the Keras model, as a multiple of the difference between
the Keras model and the same computation in float64. An export that rounds as well as Keras differs by twice
that at most, and the maximum over a few frames varies. A limit in grey levels would have to depend on the
weights, because larger activations have larger rounding errors."""
TOLERANCE = 1e-3
"""Largest difference between the clip signatures of a SavedModel and Keras, in grey levels. So small because
both run the same operations."""
COST = {"bfloat16": 0.05, "float16": 0.05, "dynamic": 0.5, "int8": 0.5}
"""Largest loss of PSNR that a reduced precision may cause, in dB. With 8 bits it depends on the weights and
on the scene: 0.04 to 0.3 dB with the authors' weights and with those of this project."""
STEPS = 12
"""Number of recurrent steps that an export runs beside the Keras model, since differences could grow."""
SIZES = ((30, 44), (41, 35))
"""Heights and widths of the low-resolution frames to compare with, where the size is open."""
LEAST = 8
"""Smallest accepted height and width of a fixed size."""


def export(
    model: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    format: Format,
    precision: str | None = None,
    size: tuple[int, int] | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Writes a network for other programs, and checks that it computes what the Keras model computes.

    The export runs beside the Keras model in float32 for ``STEPS`` recurrent steps on a rendered scene, at
    two frame sizes, or at the fixed one. It gets its name only if the results agree. A float32 export may
    differ by ``ROUNDINGS`` times the rounding error of the Keras model, which is measured by a run in
    float64; for other precisions ``COST`` limits the loss of PSNR.

    Args:
        model: path of a ``.keras`` file or name of a weight set, as for :func:`rlsp_tf.load_model`.
        target: path to write: a folder for a SavedModel, otherwise a file with the suffix of the format. The
            card is written beside a file as ``NAME.json``, and into a SavedModel as ``rlsp.json``.
        format: ``"saved_model"`` for clips and steps of any frame size
            (:mod:`rlsp_tf.exporting.saved_model`); ``"litert"`` or ``"onnx"`` for steps whose state is passed
            in and out (:mod:`rlsp_tf.inference.step`).
        precision: one of the ``PRECISIONS`` of the format; the first one by default.
        size: ``(height, width)`` of the low-resolution frames if it is to be fixed; ``None`` leaves it open.
        force: bool, whether to replace an existing export.

    Returns:
        The content of the card: format, configuration, precision, versions, SHA-256 of the model, and for
        every frame size compared ``{"height", "width", "steps", "max_difference", "psnr", "psnr_float32"}``.
        The difference is in grey levels, PSNR is that of luma in dB. In float32 there is ``"rounding"``, too:
        the largest difference between the Keras model and float64.

    Raises:
        RLSPError: if the target cannot be written, the format does not have this precision or a fixed size, a
            package is missing, or the export differs too much from the Keras model.
    """
    target = Path(target)
    precision = precision or PRECISIONS[format][0]
    _check(target, format, precision, size, force)
    keras_model = load_model(model, precision=precision if format == "saved_model" else "float32")
    in_float32 = load_model(model, precision="float32")
    reference = KerasStep(in_float32)
    exact = KerasStep(_in_float64(in_float32)) if precision == "float32" else None
    weights = find_weights(model)
    card: dict[str, Any] = {
        "format": format,
        "config": reference.config.to_dict(),
        "precision": precision,
        "size": list(size) if size else None,
        "model": {"file": weights.name, "sha256": sha256_of(weights)},
        "versions": {name: metadata.version(name) for name in ("rlsp_tf", "tensorflow", "keras")},
        "date": time.strftime("%Y-%m-%d"),
    }
    writing = (
        atomic_folder(target, force=force, ours=OURS)
        if format == "saved_model"
        else atomic_file(target, force=force)
    )
    with writing as part:
        # The card is written first, because load_step needs it to run the export.
        write_json(card_of(part), card, force=True)
        try:
            _write(keras_model, part, format, precision, size)
            step = load_step(part)
            card["verification"] = [
                _compare(step, reference, exact, precision, *each) for each in ([size] if size else SIZES)
            ]
            if isinstance(step, SavedModelStep):
                card["verification"][0] |= _compare_clip(part, keras_model, *SIZES[0])
            write_json(card_of(part), card, force=True)
            if format != "saved_model":
                os.replace(card_of(part), card_of(target))
        finally:
            if format != "saved_model":
                card_of(part).unlink(missing_ok=True)
    return card


def _check(target: Path, format: Format, precision: str, size: tuple[int, int] | None, force: bool) -> None:
    """Checks the arguments of :func:`export` before anything is computed.

    Raises:
        RLSPError: if the export cannot be written in this way or under this name.
    """
    if precision not in PRECISIONS[format]:
        raise RLSPError(
            f"{target}: {format} is written in {' or '.join(PRECISIONS[format])}, not in {precision}."
        )
    suffix = SUFFIXES[format]
    if target.suffix.lower() != suffix and (suffix or target.suffix.lower() in SUFFIXES.values()):
        expected = f"a file name that ends in {suffix}" if suffix else "the name of a folder"
        raise RLSPError(f"{target}: give {expected} for {format}.")
    if size and format == "saved_model":
        raise RLSPError(f"{target}: a SavedModel takes frames of any size; leave --size out.")
    if size and min(size) < LEAST:
        raise RLSPError(
            f"{target}: frames of {size[1]}x{size[0]} are too small; {LEAST}x{LEAST} is the least."
        )
    if format == "saved_model":
        check_folder(target, force=force, ours=OURS)
        return
    check_target(target, force=force)
    check_target(card_of(target), force=force)
    if card_of(target).exists():
        advice = "it would be replaced by the card of the export; give OUT another name"
        card = read_json(card_of(target), advice)
        if not (isinstance(card, dict) and {"format", "verification"} <= card.keys()):
            raise RLSPError(f"{card_of(target)}: is no card of an export, and {advice}.")


def _write(
    model: keras.Model, part: Path, format: Format, precision: str, size: tuple[int, int] | None
) -> None:
    """Writes the export in its format."""
    # Imported here because each format needs packages that the others do not.
    if format == "saved_model":
        from rlsp_tf.exporting.saved_model import write_saved_model

        write_saved_model(model, part)
    elif format == "onnx":
        from rlsp_tf.exporting.onnx_graph import write_onnx

        write_onnx(model, part, size)
    else:
        from rlsp_tf.exporting.litert import write_litert

        height, width = size or SIZES[0]
        write_litert(
            model, part, precision=precision, size=size, examples=lambda: step_inputs(model, height, width)
        )


def scene(height: int, width: int, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Renders the clip that exports are compared on.

    Args:
        height: height of the low-resolution frames.
        width: width of the low-resolution frames.
        scale: scale of the network.

    Returns:
        The clip at low and at high resolution, uint8 RGB ``(STEPS, height, width, 3)`` and
        ``(STEPS, scale*height, scale*width, 3)``.
    """
    hr = np.stack(list(render_scene(STEPS, height * scale, width * scale)))
    return degrade(hr, scale), hr


def step_inputs(model: keras.Model, height: int, width: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields inputs of steps by their names, on which int8 learns the ranges of activations.

    They are those of the scene, and of white frames, since activations are largest where a bright frame ends.
    """
    step = KerasStep(model)
    lr, _ = scene(height, width, step.config.scale)
    for clip in (lr, np.full_like(lr[:2], 255)):
        state = step.initial_state(1, height, width)
        for window in windows(clip, step.config):
            inputs = (tf.concat(window, axis=-1), *state)
            yield {name: np.asarray(value) for name, value in zip(INPUTS, inputs, strict=True)}
            _, state = step(window, state)


def _compare(
    step: Step, reference: Step, exact: Step | None, precision: str, height: int, width: int
) -> dict[str, Any]:
    """Runs an export and the Keras model on the scene, each with its own state, and compares the results.

    Args:
        step: the export.
        reference: the Keras model in float32.
        exact: the Keras model in float64 if the export is float32, otherwise ``None``.
        precision: precision of the export.
        height: height of the low-resolution frames.
        width: width of the low-resolution frames.

    Returns:
        An entry of the card, as :func:`export` describes it.

    Raises:
        RLSPError: if the results differ too much.
    """
    lr, hr = scene(height, width, reference.config.scale)
    ours, theirs = _run(reference, lr), _run(step, lr)
    psnr, psnr_float32 = (decibels(mse(luma_of(run), luma(hr))) for run in (theirs, ours))
    difference = _distance(theirs, ours)
    found = {
        "height": height,
        "width": width,
        "steps": len(lr),
        "max_difference": difference,
        "psnr": psnr,
        "psnr_float32": psnr_float32,
    }
    if exact is not None:
        found["rounding"] = _distance(ours, _run(exact, lr))
        agrees = difference <= ROUNDINGS * found["rounding"]
        allowed = f"{ROUNDINGS * found['rounding']:.3g} grey levels"
    else:
        agrees = psnr_float32 - psnr <= COST[precision]
        allowed = f"{COST[precision]} dB"
    if not agrees:
        raise RLSPError(
            f"the export differs from the Keras model by {difference:.3g} grey levels and "
            f"{psnr_float32 - psnr:.3f} dB at {width}x{height}, where {allowed} are allowed; "
            "nothing was written. Give another --precision or report this."
        )
    return found


def _run(step: Step, lr: np.ndarray) -> np.ndarray:
    """Upscales a clip and returns its frames, ``(T, scale*H, scale*W, C)``."""
    state, frames = step.initial_state(1, *lr.shape[1:3]), []
    for window in windows(lr, step.config):
        frame, state = step(window, state)
        frames.append(np.asarray(frame)[0])
    return np.stack(frames)


def _distance(run: np.ndarray, other: np.ndarray) -> float:
    """Returns the largest absolute difference between two arrays."""
    return float(np.abs(run - other).max())


def _in_float64(model: keras.Model) -> keras.Model:
    """Makes a model with the same weights that computes in float64, practically exact beside float32."""
    layer = RLSP(rlsp_layer(model).config, dtype="float64")
    clip = keras.Input((None, None, None, 3))
    exact = keras.Model(clip, layer(clip))
    exact.set_weights(model.get_weights())
    return exact


def _compare_clip(folder: Path, model: keras.Model, height: int, width: int) -> dict[str, float]:
    """Compares the clip signatures of a SavedModel with the Keras model and the streaming upscaler.

    Returns:
        The largest difference of each signature, in grey levels, for the card.

    Raises:
        RLSPError: if luma differs by more than ``TOLERANCE``, or RGB, rounded to 8 bits, by more than 1.
    """
    from rlsp_tf.inference.upscaler import StreamingUpscaler

    lr, _ = scene(height, width, rlsp_layer(model).config.scale)
    signatures = tf.saved_model.load(os.fspath(folder)).signatures
    clip = tf.constant(lr[None])
    luma_difference = np.abs(
        signatures["upscale"](clip=clip)["frames"].numpy() - model.predict(clip, verbose=0)
    )
    upscaler = StreamingUpscaler(model)
    rgb = [frame for each in lr for frame in upscaler.push(each)] + upscaler.flush()
    exported = signatures["upscale_rgb"](clip=clip)["frames"].numpy()[0].astype(int)
    found = {
        "max_difference_upscale": float(luma_difference.max()),
        "max_difference_upscale_rgb": float(np.abs(exported - np.stack(rgb)).max()),
    }
    if found["max_difference_upscale"] > TOLERANCE or found["max_difference_upscale_rgb"] > 1:
        raise RLSPError(
            f"the exported clip signatures differ from the Keras model ({found}); nothing was written."
        )
    return found
