"""One time step of RLSP, as a Keras RNN cell: the equation of the paper.

Second of the four modules that are the network; :mod:`rlsp_tf.network.model` comes next and runs the cell
over a clip.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.pixels.color import LUMA_OFFSET, PAPER_WEIGHTS


@keras.saving.register_keras_serializable(package="rlsp_tf")
class RLSPCell(keras.layers.Layer):
    r"""Recurrent latent space propagation, one time step (Fuoli et al. 2019, section 3, figure 2).

    Let ``x`` be the RGB frames, ``h`` the hidden state and ``y`` the feedback, which is the output of the
    previous step folded to low resolution. L is the number of layers, s the scale, and C the number of
    channels of the output. Then::

        l  = concat(x[t-1], x[t], x[t+1], h, y)
        l  = relu(conv3x3(l))                  layer0 ... layer(L-2), each of ``filters`` channels
        h' = relu(conv3x3(l))                  layer(L-1), ``state_filters`` channels
        y' = conv3x3(l) + residual(x[t])       layer(L), s*s*C channels
        output = depth_to_space(y', s)

    For luma output (C = 1) the residual is the BT.601 luma of the present frame,
    ``(65.738 R + 129.057 G + 25.064 B) / 256 + 16``, repeated s*s times; for RGB output (C = 3) it is the
    frame itself, repeated s*s times. Convolutions pad with zeros. The paper folds each output with
    ``space_to_depth`` to feed it back; here ``y'`` is kept folded, which is the same.

    Args:
        config: an :class:`rlsp_tf.RLSPConfig`.

    Call arguments:
        inputs: tensor ``(B, H, W, 3 * window)``, the RGB frames of the window, 0..255, side by side on the
            channel axis, oldest first.
        states: list ``[hidden, feedback]``: tensors ``(B, H, W, state_filters)`` in the compute dtype and
            ``(B, H, W, s*s*C)`` in float32; :meth:`get_initial_state` makes the first ones.

    Returns:
        ``(output, [hidden, feedback])``. The output is float32 ``(B, s*H, s*W, C)``, luma 16..235 or RGB
        0..255, neither rounded nor clipped. Convolutions run in the compute dtype of the Keras dtype policy;
        residual, feedback and output are always float32.
    """

    convolution: type[keras.layers.Conv2D] = keras.layers.Conv2D
    """Class of the layers."""

    def __init__(self, config: RLSPConfig, **kwargs: Any) -> None:
        # Autocasting would round frames to the compute dtype before the residual is taken.
        super().__init__(autocast=False, **kwargs)
        self.config = config
        self.state_size = [config.hidden_channels, config.feedback_channels]
        channels = [config.filters] * (config.layers - 1)
        channels += [config.hidden_channels, config.feedback_channels]
        initializers: list[Any] = ["he_normal"] * len(channels)
        initializers[0] = _FirstKernel(config)
        # So small that the output of an untrained network is nearly its residual.
        initializers[-1] = keras.initializers.VarianceScaling(2e-4, "fan_in", "untruncated_normal")
        self.convolutions = [
            self.convolution(
                count,
                3,
                padding="same",
                data_format="channels_last",
                kernel_initializer=initializer,
                dtype=self.dtype_policy,
                name=f"layer{index}",
            )
            for index, (count, initializer) in enumerate(zip(channels, initializers, strict=True))
        ]

    def build(self, input_shape: tuple[int | None, ...], states_shape: Any = None) -> None:
        """Creates the weights. Of ``input_shape`` only the number of channels matters."""
        config = self.config
        if input_shape[-1] != 3 * config.window:
            raise ValueError(
                f"expected a window of {config.window} RGB frames ({3 * config.window} channels), "
                f"got {input_shape[-1]} channels"
            )
        *trunk, hidden, output = self.convolutions
        channels = config.input_channels
        for layer in trunk:
            layer.build((None, None, None, channels))
            channels = config.filters
        hidden.build((None, None, None, channels))
        output.build((None, None, None, channels))
        self.built = True

    def get_initial_state(self, batch_size: Any = None, height: Any = None, width: Any = None) -> list[Any]:
        """Returns the state that a clip begins with: a hidden state and a feedback of zeros.

        Args:
            batch_size: int or integer tensor, number of clips.
            height: int or integer tensor, height of the low-resolution frames.
            width: int or integer tensor, width of the low-resolution frames.

        Returns:
            ``[hidden, feedback]`` as :meth:`call` takes them.

        Raises:
            ValueError: if there is no size, as ``keras.layers.RNN`` gives none.
        """
        if height is None or width is None:
            raise ValueError(
                "a state of RLSPCell is as large as the frames, which keras.layers.RNN does not tell it; use "
                "rlsp_tf.RLSP(config), or give initial_state=cell.get_initial_state(batch, height, width)"
            )
        return [
            ops.zeros((batch_size, height, width, self.config.hidden_channels), dtype=self.compute_dtype),
            ops.zeros((batch_size, height, width, self.config.feedback_channels), dtype="float32"),
        ]

    def call(self, inputs: Any, states: Any) -> tuple[Any, list[Any]]:
        """Computes one time step; the class docstring describes arguments and result."""
        window = ops.cast(inputs, "float32")
        return self.finish(window, self.activations(window, states))

    def activations(self, window: Any, states: Any) -> list[Any]:
        """Returns the outputs of all layers but the last, after the ReLU, in the compute dtype.

        The first ones have shape ``(B, H, W, filters)``, the last one ``(B, H, W, state_filters)``.

        Args:
            window, states: ``inputs`` and ``states`` of :meth:`call`.
        """
        hidden, feedback = states
        features = self.enter([ops.cast(part, self.compute_dtype) for part in (window, hidden, feedback)])
        _, *trunk, to_hidden, _ = self.convolutions
        outputs = [ops.relu(features)]
        for layer in trunk:
            outputs.append(ops.relu(layer(outputs[-1])))
        return [*outputs, ops.relu(to_hidden(outputs[-1]))]

    def finish(self, window: Any, activations: Sequence[Any]) -> tuple[Any, list[Any]]:
        """Computes the rest of a step; the result is as that of :meth:`call`.

        Args:
            window: tensor as ``inputs`` of :meth:`call`, in float32.
            activations: what :meth:`activations` returns for the window.
        """
        config = self.config
        *_, features, hidden = activations
        first = 3 * config.frames_before
        change = ops.cast(self.convolutions[-1](features), "float32")
        feedback = change + self.residual(window[..., first : first + 3])
        return depth_to_space(feedback, config.scale), [hidden, feedback]

    def enter(self, parts: Sequence[Any]) -> Any:
        """Joins the inputs of a step on the channel axis and applies the first convolution.

        Args:
            parts: window, hidden state and feedback, tensors ``(B, H, W, ...)`` in the compute dtype.

        Returns:
            Tensor ``(B, H, W, filters)`` in the same dtype, before the ReLU.
        """
        return self.convolutions[0](ops.concatenate(parts, axis=-1))

    def residual(self, frame: Any) -> Any:
        """Returns the residual, to which the result of the last convolution is added.

        Args:
            frame: the present frame, float32 ``(B, H, W, 3)``, RGB 0..255.

        Returns:
            Float32 ``(B, H, W, s*s*C)``, folded to low resolution.
        """
        repeats = self.config.scale**2
        if self.config.output == "rgb":
            return ops.tile(frame, (1, 1, 1, repeats))
        return ops.repeat(luma(frame), repeats, axis=-1)

    def compute_output_shape(self, input_shape: Any, states_shape: Any = None) -> tuple[Any, list[Any]]:
        """Returns the shapes of ``(output, [hidden, feedback])``; unknown dimensions stay ``None``."""
        batch, height, width = input_shape[:3]
        scale = self.config.scale
        enlarged = (None if side is None else side * scale for side in (height, width))
        states = [(batch, height, width, size) for size in self.state_size]
        return (batch, *enlarged, self.config.output_channels), states

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": self.config.to_dict()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "RLSPCell":
        shape = RLSPConfig.from_dict(config.pop("config"))
        config.pop("autocast", None)
        return cls(shape, **config)


class _FirstKernel(keras.initializers.Initializer):
    """He initialisation for frames and feedback, kernels that sum to zero, and zeros for the hidden state.

    Frames and feedback hold numbers of 0..255. Plain He filters respond mostly to their mean, the brightness,
    and hardly to structure; unlearning that takes most of a training.

    At first the hidden state is noise. A network that reads it learns within hundreds of steps to switch it
    off, and then has none to learn with. What is not read does no harm until it is of use.
    """

    def __init__(self, config: RLSPConfig) -> None:
        self._window = 3 * config.window
        self._hidden = config.hidden_channels

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        kernel = keras.initializers.HeNormal()(shape, dtype)
        window, hidden, feedback = ops.split(kernel, [self._window, self._window + self._hidden], axis=2)
        window, feedback = (
            part - ops.mean(part, axis=(0, 1, 2), keepdims=True) for part in (window, feedback)
        )
        return ops.concatenate([window, ops.zeros_like(hidden), feedback], axis=2)


def luma(rgb: Any) -> Any:
    """Converts RGB to BT.601 luma, in which the authors train and the paper measures PSNR.

    Args:
        rgb: tensor ``(..., 3)``, 0..255, any numeric dtype.

    Returns:
        Float32 tensor ``(..., 1)``, 16..235, not rounded.
    """
    red, green, blue = (ops.cast(channel, "float32") for channel in ops.split(rgb, 3, axis=-1))
    return red * PAPER_WEIGHTS[0] + green * PAPER_WEIGHTS[1] + blue * PAPER_WEIGHTS[2] + LUMA_OFFSET


def depth_to_space(packed: Any, scale: int) -> Any:
    """Unfolds ``(B, H, W, scale**2 * C)`` to ``(B, scale*H, scale*W, C)``, as ``tf.nn.depth_to_space`` does.

    On a CPU, reshaping and transposing is several times faster than TensorFlow's operation when there is one
    output channel.
    """
    batch, height, width, depth = ops.shape(packed)
    channels = depth // scale**2
    blocks = ops.reshape(packed, (batch, height, width, scale, scale, channels))
    return ops.reshape(
        ops.transpose(blocks, (0, 1, 3, 2, 4, 5)), (batch, height * scale, width * scale, channels)
    )
