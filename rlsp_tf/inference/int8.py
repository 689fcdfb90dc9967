"""The network in 8 bits, for processors that multiply and add bytes faster than anything else.

Frames, feedback and features are unsigned bytes, kernels signed ones, sums have 32 bits; residual, feedback
and output stay float32. What a byte of a feature stands for is learned before the first frame, on a rendered
scene and its negative: channel c of a layer reaches ``m[c]`` there and gets the range

    r[c] = sqrt(m[c] * max(m))

halfway between one range for all channels, with which kernels round well, and one for each, with which
features do. Since ReLU lets positive factors pass, ranges become part of the kernels that write and read a
channel (Nagel et al. 2019, arXiv 1906.04721, section 4.1). Kernels are rounded one input after the other, and
those that follow make good on the scene what a rounding has changed (GPTQ, Frantar et al. 2022, arXiv
2210.17323); rounded to the nearest, they would cost two to ten times as much PSNR.
"""

import copy
import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.hardware import computes_int8
from rlsp_tf.inference.step import windows
from rlsp_tf.network.cell import RLSPCell, depth_to_space
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.network.model import rlsp_layer
from rlsp_tf.pixels.degradation import degrade
from rlsp_tf.pixels.metrics import cost
from rlsp_tf.pixels.scene import render_scene

Layer = Callable[[tf.Tensor], tf.Tensor]

SCENE = (6, 75, 100)
"""Frames, height and width at low resolution of the scene that ranges are learned on."""
SAMPLES = 8192
"""Places of the scene that kernels are rounded by."""
DAMPING = 1e-3
"""Share of their mean that is added to the inputs' powers, so that large numbers make no rounding good."""
LEAST = 1e-3
"""Share of the largest channel that a channel is taken to reach at least."""
LARGEST_COST = 0.5
"""What 8 bits may cost on the scene, in dB of a typical network; see :func:`rlsp_tf.pixels.metrics.cost`."""


class Int8Convolution(NamedTuple):
    """A convolution from bytes to bytes: ``relu(scale * sum(byte * kernel) + bias)``, rounded.

    Attributes:
        kernel: int8 ``(3, 3, I, O)``, -127..127.
        scale: float32 ``(O,)``. One number for all channels of the output layer, whose sums are neither
            rectified nor rounded.
        bias: float32 ``(O,)``.
    """

    kernel: np.ndarray
    scale: np.ndarray
    bias: np.ndarray

    def to_bytes(self, features: tf.Tensor) -> tf.Tensor:
        """The layer with its ReLU: uint8 ``(B, H, W, I)`` to uint8 ``(B, H, W, O)``."""
        sums = tf.raw_ops.QuantizedConv2DWithBiasAndReluAndRequantize(
            **self._inputs(features), out_type=tf.quint8, min_freezed_output=0.0, max_freezed_output=255.0
        )
        return tf.bitcast(sums.output, tf.uint8)

    def to_float(self, features: tf.Tensor) -> tf.Tensor:
        """The layer without a ReLU: uint8 ``(B, H, W, I)`` to float32 ``(B, H, W, O)``."""
        sums = tf.raw_ops.QuantizedConv2DWithBias(**self._inputs(features), out_type=tf.qint32)
        return tf.cast(tf.bitcast(sums.output, tf.int32), tf.float32) * self.scale[0]

    def _inputs(self, features: tf.Tensor) -> dict[str, Any]:
        # The operations know numbers by the ends of their ranges.
        return {
            "input": tf.bitcast(features, tf.quint8),
            "filter": tf.constant(self.kernel.astype(tf.qint8.as_numpy_dtype), tf.qint8),
            "bias": self.bias,
            "min_input": 0.0,
            "max_input": 255.0,
            "min_filter": -127 * self.scale,
            "max_filter": 127 * self.scale,
            "strides": (1, 1, 1, 1),
            "padding": "SAME",
        }


class Int8Step:
    """A Keras model in 8 bits, compiled for each size of frames: a :class:`rlsp_tf.inference.step.Step`.

    The hidden state is uint8. The window is rounded to bytes, the residual is not. All sums are of integers,
    so strips give what whole frames give, bit for bit.

    Args:
        model: one with an :class:`rlsp_tf.RLSP` layer, in float32.

    Raises:
        RLSPError: if the processor or TensorFlow does not multiply bytes, or the weights lose more than
            ``LARGEST_COST`` on the scene.
    """

    precision = "int8"
    itemsize = 1

    def __init__(self, model: keras.Model) -> None:
        if not computes_int8():
            raise RLSPError(
                "this processor has no instructions for 8 bits (AVX512-VNNI, AVX-VNNI or AMX-INT8), without "
                "which int8 is not faster; use --precision auto."
            )
        self._cell = rlsp_layer(model).cell
        self.config: RLSPConfig = self._cell.config
        clips = _scene(self.config.scale)
        inputs, frames = _learn(self._cell, clips)
        if not np.isfinite(frames).all():
            raise RLSPError("this network gives something else than numbers; its weights are damaged.")
        self.convolutions = quantize(self._cell, inputs)
        *others, output = self.convolutions
        layers = [*(each.to_bytes for each in others), output.to_float]
        self._step = tf.function(partial(_advance, self._cell, layers, _to_bytes))
        digest = hashlib.sha256(f"{self.config} {self.precision}".encode())
        for array in (array for convolution in self.convolutions for array in convolution):
            digest.update(array.tobytes())
        self.fingerprint = digest.hexdigest()
        try:
            found = _run(self._step, self.initial_state, clips, self.config)
        except (tf.errors.InvalidArgumentError, tf.errors.InternalError, tf.errors.NotFoundError) as error:
            raise RLSPError(
                "this TensorFlow does not compute in 8 bits, since its oneDNN is missing or turned off; use "
                "--precision auto."
            ) from error
        if (lost := cost(found - frames)) > LARGEST_COST:
            raise RLSPError(
                f"in 8 bits this network loses {lost:.2f} dB, more than {LARGEST_COST}; use --precision auto."
            )

    def fresh_copy(self) -> "Int8Step":
        """A step of the same numbers that has not been compiled yet; nothing is learned anew."""
        step = copy.copy(self)
        step._step = tf.function(self._step.python_function)
        return step

    def initial_state(self, batch: int, height: int, width: int) -> Any:
        return [
            tf.zeros((batch, height, width, self.config.hidden_channels), tf.uint8),
            tf.zeros((batch, height, width, self.config.feedback_channels)),
        ]

    def __call__(self, window: Sequence[tf.Tensor], state: Any) -> tuple[tf.Tensor, Any]:
        return self._step(tuple(window), state)


def quantize(cell: RLSPCell, inputs: Sequence[np.ndarray]) -> list[Int8Convolution]:
    """A network's convolutions in 8 bits.

    Args:
        cell: the network, in float32.
        inputs: of every layer but the last, which has that of the one before: float32 ``(N, H, W, I)``, what
            it reads when the network runs.

    Returns:
        One for each layer. Features are bytes of learned ranges; window and feedback stand for themselves.
    """
    config = cell.config
    hidden = slice(3 * config.window, 3 * config.window + config.hidden_channels)
    ranges = [_ranges(each) for each in inputs]
    ranges[0] = np.full(config.input_channels, 255.0)
    ranges[0][hidden] = _ranges(inputs[0][..., hidden])
    # What a byte stands for in what every layer reads, and in what it writes.
    read = [*ranges, ranges[-1]]
    written = [*ranges[1:], ranges[0][hidden], np.full(config.feedback_channels, 255.0)]
    convolutions = []
    for index, layer in enumerate(cell.convolutions):
        kernel, bias = (np.asarray(weight, np.float64) for weight in layer.get_weights())
        features = inputs[min(index, len(inputs) - 1)]
        unit, per_byte = read[index] / 255, 255 / written[index]
        kernel = (kernel * unit[:, None] * per_byte).reshape(-1, len(bias))
        scale = np.maximum(np.abs(kernel).max(axis=0), np.finfo(np.float32).tiny * 127) / 127
        if layer is cell.convolutions[-1]:
            scale = np.full_like(scale, scale.max())
        rounded = _round(kernel, scale, np.rint(_patches(features) / np.tile(unit, 9)).clip(0, 255))
        convolutions.append(
            Int8Convolution(
                rounded.reshape(layer.kernel.shape).astype(np.int8),
                scale.astype(np.float32),
                (bias * per_byte).astype(np.float32),
            )
        )
    return convolutions


def _round(kernel: np.ndarray, scale: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """Rounds a kernel ``(K, O)`` to multiples of ``scale`` so that its products with inputs ``(N, K)`` stay.

    What rounding a row changes is made good, in the least squares, by the rows that follow.
    """
    powers = inputs.T @ inputs
    powers[np.diag_indices_from(powers)] += DAMPING * max(np.trace(powers) / len(powers), 1.0)
    factor = np.linalg.cholesky(np.linalg.inv(powers)).T
    rounded, left = np.empty_like(kernel), kernel.copy()
    for row in range(len(kernel)):
        rounded[row] = np.rint(left[row] / scale).clip(-127, 127)
        error = (left[row] - rounded[row] * scale) / factor[row, row]
        left[row + 1 :] -= np.outer(factor[row, row + 1 :], error)
    return rounded


def _ranges(features: np.ndarray) -> np.ndarray:
    """The range of every channel, see the module."""
    reached = features.max(axis=(0, 1, 2)).astype(np.float64)
    most = reached.max() or 1.0
    return np.sqrt(np.maximum(reached, LEAST * most) * most)


def _patches(features: np.ndarray) -> np.ndarray:
    """What a kernel lies on at random places: ``(N, H, W, I)`` to float64 ``(SAMPLES, 9 * I)``."""
    count, height, width, _ = features.shape
    rng = np.random.default_rng(0)
    n, y, x = (rng.integers(0, size, SAMPLES) for size in (count, height, width))
    padded = np.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [padded[n, y + i, x + j] for i in range(3) for j in range(3)]
    return np.concatenate(taps, axis=1).astype(np.float64)


def _scene(scale: int) -> list[np.ndarray]:
    """Clips to learn from, uint8 RGB ``(T, H, W, 3)`` at low resolution."""
    frames, height, width = SCENE
    lr = degrade(np.stack(list(render_scene(frames, height * scale, width * scale))), scale)
    return [lr, 255 - lr]


def _learn(cell: RLSPCell, clips: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """What every layer but the last reads on clips, and the frames that come out, in float32."""
    *others, output = cell.convolutions
    read: list[list[np.ndarray]] = [[] for _ in others]

    def reading(index: int) -> Layer:
        def layer(features: tf.Tensor) -> tf.Tensor:
            read[index].append(features.numpy())
            return tf.nn.relu(others[index](features))

        return layer

    layers = [*map(reading, range(len(others))), output]
    step = partial(_advance, cell, layers, tf.identity)
    frames = _run(step, cell.get_initial_state, clips, cell.config)
    return [np.concatenate(each) for each in read], frames


def _advance(
    cell: RLSPCell, layers: Sequence[Layer], enter: Layer, window: Sequence[tf.Tensor], state: Any
) -> tuple[tf.Tensor, Any]:
    """One step of a cell with other layers than its own; ``enter`` makes frames what the first reads."""
    hidden, feedback = state
    features = tf.concat([*map(enter, window), hidden, enter(feedback)], axis=-1)
    *trunk, to_hidden, to_output = layers
    for layer in trunk:
        features = layer(features)
    feedback = to_output(features) + cell.residual(window[cell.config.frames_before])
    return depth_to_space(feedback, cell.config.scale), [to_hidden(features), feedback]


def _run(
    step: Callable[..., tuple[tf.Tensor, Any]],
    initial_state: Callable[[int, int, int], Any],
    clips: Sequence[np.ndarray],
    config: RLSPConfig,
) -> np.ndarray:
    """All frames that a step makes of clips, each of which begins with a state of its own."""
    frames = []
    for clip in clips:
        state = initial_state(1, *clip.shape[1:3])
        for window in windows(clip, config):
            frame, state = step(window, state)
            frames.append(frame.numpy())
    return np.concatenate(frames)


def _to_bytes(values: tf.Tensor) -> tf.Tensor:
    """Float to uint8, rounded to the nearest and clipped."""
    return tf.saturate_cast(tf.round(values), tf.uint8)
