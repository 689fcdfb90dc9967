"""Runs a network in 8 bits, for processors that multiply and add bytes faster than any other numbers.

Frames, feedback and features are unsigned bytes, kernels signed bytes, and sums have 32 bits. The residual,
the feedback that is kept as state, and the output stay float32.

The range of numbers that the 256 bytes of a feature stand for is learned before the first frame, on a
rendered scene, its negative, and frames of one colour. Frames of one colour are among them because features
are largest where a bright frame ends, beside the zeros that convolutions pad with; ranges that are too small
for them cost up to 50 grey levels there. If channel c of a layer reaches at most ``m[c]``, its range is

    r[c] = sqrt(m[c] * max(m))

which is halfway between one range for all channels, with which kernels round well, and one range for each
channel, with which features round well. ReLU commutes with positive factors, so ranges become part of the
kernels that write and read a channel (Nagel et al. 2019, arXiv 1906.04721, section 4.1).

Processors without VNNI add the products of two neighbouring input channels in 16 bits, so kernels are small
enough for that, on all processors, which keeps results the same.

Kernels are rounded one input after the other. Each rounding error is compensated by the inputs that follow,
so that the sums on the learning clips change least (GPTQ, Frantar et al. 2022, arXiv 2210.17323). Rounding to
the nearest would cost two to ten times as much PSNR.
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
WHITE_FRAMES = 2
"""Number of white frames that ranges are learned on, too. The second one has seen the state of the first;
more of them would crowd the scene out of the samples on which kernels are rounded."""
SATURATED = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 255, 255), (255, 0, 255), (255, 255, 0))
"""Colours of further frames that ranges are learned on, one of each."""
SATURATED_SHARE = 0.6
"""Share of their features that must fit into the ranges. All of them would double the loss of PSNR on other
content; with none, edges of blue, red and magenta frames are off by 50 and more grey levels."""
SAMPLES = 8192
"""Number of random positions in the learning clips on which kernels are rounded."""
DAMPING = 1e-3
"""Share of the mean power of the inputs that is added to each, which keeps compensations small (GPTQ)."""
PAIR = 128
"""Largest sum of the numbers of one sign in a pair of input channels of a kernel: 255 times that fits into 16
bits. Limiting all numbers to half their range instead would round them twice as coarsely."""
SMALLEST_MAXIMUM = 1e-3
"""Smallest maximum of a channel, as a share of the largest one in its layer; inactive channels have less."""
LARGEST_COST = 0.5
"""Largest loss of PSNR on the learning clips without saturated frames, in dB, as
:func:`rlsp_tf.pixels.metrics.cost` estimates it."""


class Int8Convolution(NamedTuple):
    """A convolution of bytes: ``relu(scale * sum(byte * kernel) + bias)``, rounded to bytes.

    Attributes:
        kernel: int8 ``(3, 3, I, O)``, -127..127, with the limit :data:`PAIR`.
        scale: float32 ``(O,)``. In the output layer, which has no ReLU and is not rounded, all are equal.
        bias: float32 ``(O,)``.
    """

    kernel: np.ndarray
    scale: np.ndarray
    bias: np.ndarray

    def to_bytes(self, features: tf.Tensor) -> tf.Tensor:
        """Computes a layer with its ReLU: uint8 ``(B, H, W, I)`` to uint8 ``(B, H, W, O)``."""
        sums = tf.raw_ops.QuantizedConv2DWithBiasAndReluAndRequantize(
            **self._inputs(features), out_type=tf.quint8, min_freezed_output=0.0, max_freezed_output=255.0
        )
        return tf.bitcast(sums.output, tf.uint8)

    def to_float(self, features: tf.Tensor) -> tf.Tensor:
        """Computes a layer without ReLU: uint8 ``(B, H, W, I)`` to float32 ``(B, H, W, O)``."""
        sums = tf.raw_ops.QuantizedConv2DWithBias(**self._inputs(features), out_type=tf.qint32)
        return tf.cast(tf.bitcast(sums.output, tf.int32), tf.float32) * self.scale[0]

    def _inputs(self, features: tf.Tensor) -> dict[str, Any]:
        """Returns the arguments that TensorFlow's two operations have in common."""
        # The operations take scales as the ends of the ranges that bytes stand for.
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
    """A :class:`rlsp_tf.inference.step.Step` that runs a Keras model in 8 bits, compiled for each frame size.

    The hidden state is uint8. Frames are rounded to bytes for the network, but not for the residual. All sums
    are of integers, so strips equal whole frames bit for bit.

    Args:
        model: a float32 model with an :class:`rlsp_tf.RLSP` layer.

    Raises:
        RLSPError: if the processor or TensorFlow cannot multiply bytes, or the weights lose more than
            ``LARGEST_COST`` on the learning clips.
    """

    precision = "int8"
    itemsize = 1

    def __init__(self, model: keras.Model) -> None:
        if not computes_int8():
            raise RLSPError(
                "this processor has no instructions for 8 bits (AVX2 or better), without which int8 is not "
                "faster; use --precision auto."
            )
        self._cell = rlsp_layer(model).cell
        self.config: RLSPConfig = self._cell.config
        clips = _learning_clips(self.config.scale)
        inputs, frames = _learn(self._cell, clips)
        shares = np.ones(len(frames))
        shares[-len(SATURATED) :] = SATURATED_SHARE
        if not np.isfinite(frames).all():
            raise RLSPError(
                "the output of this network has NaN or infinity, so its weights are damaged; give other ones."
            )
        self.convolutions = quantize(self._cell, inputs, shares)
        *others, output = self.convolutions
        layers = [*(each.to_bytes for each in others), output.to_float]
        self._step = tf.function(partial(_advance, self._cell, layers, _to_bytes), autograph=False)
        digest = hashlib.sha256(f"{self.config} {self.precision}".encode())
        for array in (array for convolution in self.convolutions for array in convolution):
            digest.update(array.tobytes())
        self.fingerprint = digest.hexdigest()
        try:
            found = _run(self._step, self.initial_state, clips, self.config)
        except (tf.errors.InvalidArgumentError, tf.errors.InternalError, tf.errors.NotFoundError) as error:
            raise RLSPError(
                "this TensorFlow does not compute in 8 bits, since its oneDNN is missing or turned off; set "
                "TF_ENABLE_ONEDNN_OPTS to 1 before it is imported, or use --precision auto."
            ) from error
        if (lost := cost((found - frames)[shares == 1])) > LARGEST_COST:
            raise RLSPError(
                f"in 8 bits this network loses {lost:.2f} dB, more than {LARGEST_COST}; use --precision auto."
            )

    def fresh_copy(self) -> "Int8Step":
        """Returns a step with the same numbers that is not compiled yet; nothing is learned again."""
        step = copy.copy(self)
        step._step = tf.function(self._step.python_function, autograph=False)
        return step

    def initial_state(self, batch: int, height: int, width: int) -> Any:
        return [
            tf.zeros((batch, height, width, self.config.hidden_channels), tf.uint8),
            tf.zeros((batch, height, width, self.config.feedback_channels)),
        ]

    def __call__(self, window: Sequence[tf.Tensor], state: Any) -> tuple[tf.Tensor, Any]:
        return self._step(tuple(window), state)


def quantize(cell: RLSPCell, inputs: Sequence[np.ndarray], shares: np.ndarray) -> list[Int8Convolution]:
    """Converts a network's convolutions to 8 bits.

    Args:
        cell: the network in float32.
        inputs: what every layer but the last reads on the learning clips, float32 ``(N, H, W, I)``. The last
            layer reads the same as the one before.
        shares: ``(N,)``, how much of the features of each frame must fit into the ranges.

    Returns:
        The convolutions of all layers. A byte of a feature stands for a share of its range, a byte of the
        window or the feedback for itself.
    """
    config = cell.config
    hidden = slice(3 * config.window, 3 * config.window + config.hidden_channels)
    ranges = [_ranges(each, shares) for each in inputs]
    ranges[0] = np.full(config.input_channels, 255.0)
    ranges[0][hidden] = _ranges(inputs[0][..., hidden], shares)
    # The ranges of the channels that each layer reads and writes.
    read = [*ranges, ranges[-1]]
    written = [*ranges[1:], ranges[0][hidden], np.full(config.feedback_channels, 255.0)]
    convolutions = []
    for index, layer in enumerate(cell.convolutions):
        kernel, bias = (np.asarray(weight, np.float64) for weight in layer.get_weights())
        features = inputs[min(index, len(inputs) - 1)]
        unit, per_byte = read[index] / 255, 255 / written[index]
        kernel = (kernel * unit[:, None] * per_byte).reshape(-1, len(bias))
        scale = np.maximum(_smallest_scale(kernel, len(unit)), np.finfo(np.float32).tiny)
        if layer is cell.convolutions[-1]:
            scale = np.full_like(scale, scale.max())
        samples = np.rint(_patches(features) / np.tile(unit, 9)).clip(0, 255)
        rounded = _round(kernel, scale, samples, len(unit))
        convolutions.append(
            Int8Convolution(
                rounded.reshape(layer.kernel.shape).astype(np.int8),
                scale.astype(np.float32),
                (bias * per_byte).astype(np.float32),
            )
        )
    return convolutions


def _smallest_scale(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Returns the smallest step size of each column ``(O,)`` with which a kernel keeps to its limits.

    Args:
        kernel: float64 ``(9 * channels, O)``.
        channels: number of input channels.
    """
    taps = np.pad(kernel.reshape(9, channels, -1), ((0, 0), (0, channels % 2), (0, 0)))
    pairs = [np.maximum(sign * taps, 0).reshape(-1, 2, taps.shape[-1]).sum(axis=1) for sign in (1, -1)]
    return np.maximum(np.abs(kernel).max(axis=0) / 127, np.max(pairs, axis=(0, 1)) / PAIR)


def _round(kernel: np.ndarray, scale: np.ndarray, inputs: np.ndarray, channels: int) -> np.ndarray:
    """Rounds a kernel to multiples of ``scale``, such that its products with the inputs change least.

    The error of each rounded row is compensated by the rows that follow, in the sense of least squares.

    Args:
        kernel: float64 ``(9 * channels, O)``.
        scale: ``(O,)``, step size of each column.
        inputs: float64 ``(N, 9 * channels)``, samples of what the kernel is multiplied with.
        channels: number of input channels.

    Returns:
        The multiples, whole numbers of -127..127, float64 ``(9 * channels, O)``. In each pair of channels
        those of one sign sum up to at most :data:`PAIR`.
    """
    powers = inputs.T @ inputs
    powers[np.diag_indices_from(powers)] += DAMPING * max(np.trace(powers) / len(powers), 1.0)
    factor = np.linalg.cholesky(np.linalg.inv(powers)).T
    rounded, left = np.empty_like(kernel), kernel.copy()
    for row in range(len(kernel)):
        # The second channel of a pair has the room that the first one left.
        taken = rounded[row - 1] if row % channels % 2 else np.zeros(kernel.shape[1])
        lowest, highest = -PAIR - np.minimum(taken, 0), PAIR - np.maximum(taken, 0)
        rounded[row] = np.rint(left[row] / scale).clip(np.maximum(lowest, -127), np.minimum(highest, 127))
        error = (left[row] - rounded[row] * scale) / factor[row, row]
        left[row + 1 :] -= np.outer(factor[row, row + 1 :], error)
    return rounded


def _ranges(features: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Returns the range of every channel, by the formula in the module docstring."""
    reached = (shares[:, None] * features.max(axis=(1, 2))).max(axis=0)
    most = reached.max() or 1.0
    return np.sqrt(np.maximum(reached, SMALLEST_MAXIMUM * most) * most)


def _patches(features: np.ndarray) -> np.ndarray:
    """Cuts 3x3 patches at random positions: ``(N, H, W, I)`` to float64 ``(SAMPLES, 9 * I)``."""
    count, height, width, _ = features.shape
    rng = np.random.default_rng(0)
    n, y, x = (rng.integers(0, size, SAMPLES) for size in (count, height, width))
    padded = np.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [padded[n, y + i, x + j] for i in range(3) for j in range(3)]
    return np.concatenate(taps, axis=1).astype(np.float64)


def _learning_clips(scale: int) -> list[np.ndarray]:
    """Returns the clips that ranges are learned on, uint8 RGB ``(T, H, W, 3)`` at low resolution."""
    frames, height, width = SCENE
    lr = degrade(np.stack(list(render_scene(frames, height * scale, width * scale))), scale)
    flat = [np.full_like(lr[:1], color) for color in SATURATED]
    return [lr, 255 - lr, np.full_like(lr[:WHITE_FRAMES], 255), *flat]


def _learn(cell: RLSPCell, clips: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Runs the network in float32 on clips.

    Returns:
        What every layer but the last reads, each float32 ``(N, H, W, I)``, and the frames that come out.
    """
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
    """Computes one step of a cell with other layers than its own.

    Args:
        cell: the network, of which only the residual is used.
        layers: all convolutions with their ReLU, the output layer without one.
        enter: function that converts frames and feedback to what the first layer reads.
        window: frames as :class:`rlsp_tf.inference.step.Step` takes them.
        state: hidden state and feedback.
    """
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
    """Returns the frames that a step makes of clips, each of which begins with a new state."""
    frames = []
    for clip in clips:
        state = initial_state(1, *clip.shape[1:3])
        for window in windows(clip, config):
            frame, state = step(window, state)
            frames.append(frame.numpy())
    return np.concatenate(frames)


def _to_bytes(values: tf.Tensor) -> tf.Tensor:
    """Rounds floats to the nearest bytes, and clips them."""
    return tf.saturate_cast(tf.round(values), tf.uint8)
