"""Writes RLSP as a SavedModel, which runs wherever TensorFlow does, without this package.

=================== ==================================================== ==================================
signature           inputs                                               outputs
=================== ==================================================== ==================================
``serving_default`` ``clip`` uint8 ``(B, T, H, W, 3)``, RGB              ``frames`` float32
and ``upscale``                                                          ``(B, T, s*H, s*W, C)``: luma
                                                                         16..235, or RGB 0..255
``upscale_rgb``     ``clip`` likewise                                    ``frames`` uint8
                                                                         ``(B, T, s*H, s*W, 3)``, RGB
``step``            ``window`` float32 ``(B, H, W, 3 * frames)``, RGB    ``frame`` float32
                    0..255, oldest first; ``hidden`` and ``feedback``    ``(B, s*H, s*W, C)``; ``hidden``
                    float32, from ``initial_state`` or the step before   and ``feedback`` for the next step
``initial_state``   ``batch``, ``height``, ``width`` int32, of frames at ``hidden`` ``(B, H, W, F)`` and
                    low resolution                                       ``feedback`` ``(B, H, W, s*s*C)``,
                                                                         float32 zeros
=================== ==================================================== ==================================

Batch, length and frame size are open. s is the network's scale, F the number of channels of its hidden
state, C that of its output.
"""

import os
from typing import Any

import keras
import tensorflow as tf

from rlsp_tf.inference.color_path import RGB_CHROMA
from rlsp_tf.network.model import rlsp_layer
from rlsp_tf.pixels.color import luma_from_bt601, rgb_to_ycbcr, ycbcr_to_rgb
from rlsp_tf.pixels.resample import enlarge_matrix


def write_saved_model(model: keras.Model, folder: str | os.PathLike[str]) -> None:
    """Writes a SavedModel with the signatures of this module's table.

    Args:
        model: a model as :func:`rlsp_tf.load_model` returns it.
        folder: path of the folder to make.
    """
    layer = rlsp_layer(model)
    cell, config = layer.cell, layer.config

    def upscale(clip: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"frames": model(tf.cast(clip, tf.float32))}

    def upscale_rgb(clip: tf.Tensor) -> dict[str, tf.Tensor]:
        rgb = tf.cast(clip, tf.float32)
        frames = model(rgb)
        if config.output == "y":
            frames = _with_chroma(frames, rgb, config.scale)
        return {"frames": tf.cast(tf.clip_by_value(tf.round(frames), 0, 255), tf.uint8)}

    def step(window: tf.Tensor, hidden: tf.Tensor, feedback: tf.Tensor) -> dict[str, tf.Tensor]:
        frame, (hidden, feedback) = cell(window, [hidden, feedback])
        return {"frame": frame, "hidden": tf.cast(hidden, tf.float32), "feedback": feedback}

    def initial_state(batch: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> dict[str, tf.Tensor]:
        hidden, feedback = cell.get_initial_state(batch, height, width)
        return {"hidden": tf.cast(hidden, tf.float32), "feedback": feedback}

    def spec(name: str, *shape: int | None, dtype: Any = tf.float32) -> tf.TensorSpec:
        return tf.TensorSpec(shape, dtype, name=name)

    clip = spec("clip", None, None, None, None, 3, dtype=tf.uint8)
    state = {
        "window": 3 * config.window,
        "hidden": config.hidden_channels,
        "feedback": config.feedback_channels,
    }
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("upscale", upscale, [clip])
    archive.add_endpoint("upscale_rgb", upscale_rgb, [clip])
    archive.add_endpoint("step", step, [spec(name, None, None, None, size) for name, size in state.items()])
    sizes = [spec(name, dtype=tf.int32) for name in ("batch", "height", "width")]
    archive.add_endpoint("initial_state", initial_state, sizes)
    archive.write_out(os.fspath(folder), verbose=False)


def _with_chroma(luma: tf.Tensor, rgb: tf.Tensor, scale: int) -> tf.Tensor:
    """Joins luma ``(B, T, s*H, s*W, 1)`` and the enlarged chroma of RGB ``(B, T, H, W, 3)`` to RGB floats."""
    red, green, blue = tf.unstack(rgb, axis=-1)
    _, cb, cr = rgb_to_ycbcr(red, green, blue, RGB_CHROMA)
    cb, cr = (_enlarge(_enlarge(plane, 2, scale), 3, scale) for plane in (cb, cr))
    y = luma_from_bt601(luma[..., 0], cb, cr, RGB_CHROMA)
    return tf.stack(ycbcr_to_rgb(y, cb, cr, RGB_CHROMA), axis=-1)


def _enlarge(planes: tf.Tensor, axis: int, scale: int) -> tf.Tensor:
    """Enlarges one axis of planes ``(B, T, H, W)`` of any size, as :func:`enlarge_matrix` does.

    Away from the ends of the axis, all output samples at the same position between two input samples have the
    same four weights.
    """
    weights = enlarge_matrix(6, scale)[2 * scale : 3 * scale, 1:5].astype("float32")
    size = tf.shape(planes)[axis]
    around = tf.range(-1, size + 2)
    padded = tf.gather(planes, tf.clip_by_value(around, 0, size - 1), axis=axis)
    taps = tf.stack([tf.gather(padded, tf.range(tap, tap + size), axis=axis) for tap in range(4)], axis=-1)
    phases = tf.matmul(taps, weights, transpose_b=True)
    # (B, T, H, W, phase): move the phases beside the axis that is enlarged, then merge the two.
    order = [0, 1, 2, 4, 3] if axis == 2 else [0, 1, 2, 3, 4]
    shape = tf.tensor_scatter_nd_update(tf.shape(planes), [[axis]], [size * scale])
    return tf.reshape(tf.transpose(phases, order), shape)
