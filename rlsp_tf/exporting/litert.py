"""Writes one step of RLSP as a LiteRT (TensorFlow Lite) file, for phones and small devices."""

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from rlsp_tf.inference.exported import INPUTS, OUTPUTS
from rlsp_tf.network.model import rlsp_layer


def write_litert(
    model: keras.Model,
    file: str | os.PathLike[str],
    *,
    precision: str,
    size: tuple[int, int] | None,
    examples: Callable[[], Iterable[dict[str, np.ndarray]]],
) -> None:
    """Writes one step, with a batch size of 1, as the signature ``step``.

    Inputs and outputs have the names of :mod:`rlsp_tf.inference.step`, and are float32 in all precisions.

    Args:
        model: a float32 model as :func:`rlsp_tf.load_model` returns it.
        file: path of the file to write.
        precision: ``"float32"``; ``"dynamic"`` stores weights in 8 bits; ``"int8"`` also computes in 8 bits.
        size: ``(height, width)`` of the low-resolution frames to fix. With ``None`` the interpreter takes any
            size after its inputs have been resized.
        examples: function that returns inputs of steps, by name, on which int8 learns the ranges of
            activations.
    """
    layer = rlsp_layer(model)
    cell, config = layer.cell, layer.config
    channels = (3 * config.window, config.hidden_channels, config.feedback_channels)
    signature = [
        tf.TensorSpec((1, *(size or (None, None)), count), tf.float32, name=name)
        for name, count in zip(INPUTS, channels, strict=True)
    ]

    @tf.function(input_signature=signature, autograph=False)
    def step(window: tf.Tensor, hidden: tf.Tensor, feedback: tf.Tensor) -> dict[str, tf.Tensor]:
        _, (hidden, feedback) = cell(window, [hidden, feedback])
        # LiteRT has this operation; the cell's own way needs tensors of six axes.
        frame = tf.nn.depth_to_space(feedback, config.scale)
        return {"frame": frame, "hidden": hidden, "feedback": feedback}

    # Weights become constants, because LiteRT cannot read variables while it learns ranges.
    frozen = convert_variables_to_constants_v2(step.get_concrete_function())

    @tf.function(input_signature=signature, autograph=False)
    def named(window: tf.Tensor, hidden: tf.Tensor, feedback: tf.Tensor) -> dict[str, tf.Tensor]:
        # The frozen function returns a list in alphabetical order of the names.
        return dict(zip(sorted(OUTPUTS), frozen(window, hidden, feedback), strict=True))

    module = tf.Module()
    module.step = named
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"step": module.step})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["step"])
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "int8":
            converter.representative_dataset = lambda: (("step", example) for example in examples())
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        Path(file).write_bytes(converter.convert())
