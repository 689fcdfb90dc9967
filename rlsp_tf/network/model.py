"""RLSP over time as a Keras layer, and the Keras model around it."""

from typing import Any, Literal

import keras
from keras import ops

from rlsp_tf.network.cell import RLSPCell
from rlsp_tf.network.config import RLSPConfig

Border = Literal["replicate", "given"]
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
"""Precisions by name, and the Keras dtype policy behind each; all keep weights and outputs in float32."""


@keras.saving.register_keras_serializable(package="rlsp_tf")
class RLSP(keras.layers.RNN):
    """The RLSP cell run over a clip.

    Any number of frames, height and width at run time. At both ends of the clip the missing
    neighbours of a frame are the edge frame again, as the authors have it. Trains by
    back-propagation through time.

    Args:
        config: the network's shape.
        return_state: also return the last hidden state and feedback.
        unroll: trace every step of a clip of known length instead of looping (faster training
            steps, longer tracing).
        border: ``"replicate"`` as above; or ``"given"``: the first ``frames_before`` and the last
            ``frames_after`` frames of a clip are neighbours only and give no output, so that a clip
            can be a piece of a longer one.
        warm_start: so many frames after the first are run backwards in time before the clip begins: t =
            ``warm_start`` ... 1, then 0, 1, 2 ... Without a past, the first frames of a clip are 1 to 2 dB
            below the others; this gives them one. Not with ``border="given"``.

    Call arguments:
        sequences: ``(B, T, H, W, 3)``, RGB 0..255, any numeric dtype.
        initial_state: ``[hidden, feedback]`` as :meth:`RLSPCell.get_initial_state` makes them;
            zeros by default.

    Returns:
        ``(B, T, scale*H, scale*W, C)`` float32 (T less the neighbours if these are given), luma
        16..235 (C = 1) or RGB 0..255 (C = 3), neither rounded nor clipped; with ``return_state``, a
        list of that, hidden and feedback.
    """

    def __init__(
        self,
        config: RLSPConfig,
        *,
        return_state: bool = False,
        unroll: bool = False,
        border: Border = "replicate",
        warm_start: int = 0,
        **kwargs: Any,
    ) -> None:
        policy = kwargs.pop("dtype", None) or keras.config.dtype_policy()
        super().__init__(
            RLSPCell(config, dtype=policy, name="cell"),
            return_sequences=True,
            return_state=return_state,
            unroll=unroll,
            dtype=policy,
            autocast=False,
            **kwargs,
        )
        self.config = config
        self.border = border
        self.warm_start = warm_start

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        """Creates the weights; only rank and channels of ``sequences_shape`` matter."""
        if len(sequences_shape) != 5 or sequences_shape[-1] != 3:
            raise ValueError(f"expected a clip of shape (B, T, H, W, 3), got {tuple(sequences_shape)}")
        self.cell.build((None, None, None, 3 * self.config.window))
        self.built = True

    def get_initial_state(self, batch_size: Any, height: Any, width: Any) -> list[Any]:
        """Zero states; see :meth:`RLSPCell.get_initial_state`."""
        return self.cell.get_initial_state(batch_size, height, width)

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        """Runs the cell over every frame; see the class."""
        sequences = ops.cast(sequences, "float32")
        if initial_state is None:
            batch, _, height, width, _ = ops.shape(sequences)
            initial_state = self.get_initial_state(batch, height, width)
        if self.warm_start:
            first = sequences[:, : self.warm_start + 1]
            # Neighbours in reversed time; without the frame with which the clip begins, unless it is alone.
            count = ops.maximum(ops.shape(first)[1] - 1, 1)
            backwards = self._windows(ops.flip(first, axis=1))[:, :count]
            _, _, initial_state = self.inner_loop(
                sequences=backwards, initial_state=list(initial_state), mask=mask, training=training
            )
        _, outputs, states = self.inner_loop(
            sequences=self._windows(sequences),
            initial_state=list(initial_state),
            mask=mask,
            training=training,
        )
        return [outputs, *states] if self.return_state else outputs

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        """Shape of the output, and of the states with ``return_state``; unknown sides stay ``None``."""
        batch, time, *frame = sequences_shape
        if self.border == "given" and time is not None:
            time -= self.config.window - 1
        output, states = self.cell.compute_output_shape((batch, *frame))
        output = (batch, time, *output[1:])
        return [output, *states] if self.return_state else output

    def compute_output_spec(self, sequences: Any, *args: Any, **kwargs: Any) -> Any:
        """Shapes and dtypes without running the loop, so that symbolic calls of unknown length work."""
        shapes = self.compute_output_shape(sequences.shape)
        if not self.return_state:
            return keras.KerasTensor(shapes, dtype="float32")
        dtypes = ("float32", self.cell.compute_dtype, "float32")
        return [keras.KerasTensor(shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]

    def get_config(self) -> dict[str, Any]:
        own = {"name", "trainable", "dtype", "return_state", "unroll"}
        config = {key: value for key, value in super().get_config().items() if key in own}
        return {
            **config,
            "border": self.border,
            "warm_start": self.warm_start,
            "config": self.config.to_dict(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "RLSP":
        return cls(RLSPConfig.from_dict(config.pop("config")), **config)

    def _windows(self, clip: Any) -> Any:
        """Frames beside their neighbours on the channel axis: ``(B, T, H, W, 3 * window)``."""
        if self.border == "replicate":
            before, after = self.config.frames_before, self.config.frames_after
            clip = ops.concatenate([clip[:, :1]] * before + [clip] + [clip[:, -1:]] * after, axis=1)
        length = ops.shape(clip)[1] - (self.config.window - 1)
        return ops.concatenate([clip[:, i : i + length] for i in range(self.config.window)], axis=-1)


def build_model(config: RLSPConfig, *, precision: str | None = None, unroll: bool = False) -> keras.Model:
    """A Keras model of an untrained RLSP network.

    ``model.predict(clip)`` takes ``(B, T, H, W, 3)``, uint8 or float 0..255, and gives
    ``(B, T, scale*H, scale*W, C)`` float32.

    Args:
        config: the network's shape.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"`` for the convolutions; by default
            Keras's global dtype policy.
        unroll: see :class:`RLSP`.

    Raises:
        ValueError: if ``precision`` is unknown.
    """
    clip = keras.Input((None, None, None, 3), dtype="float32", name="clip")
    layer = RLSP(config, unroll=unroll, dtype=policy_of(precision), name="rlsp")
    return keras.Model(clip, layer(clip), name=f"rlsp_{config.layers}_{config.filters}")


def policy_of(precision: str | None) -> str | None:
    """The Keras dtype policy of a precision's name; ``None`` stays ``None``.

    Raises:
        ValueError: if the name is unknown.
    """
    if precision is None:
        return None
    try:
        return POLICIES[precision]
    except KeyError:
        raise ValueError(f"precision must be one of {', '.join(POLICIES)}, not {precision!r}") from None


def rlsp_layer(model: keras.Model) -> RLSP:
    """The :class:`RLSP` layer of a model.

    Raises:
        ValueError: if there is none.
    """
    for layer in model.layers:
        if isinstance(layer, RLSP):
            return layer
    raise ValueError(f"model {model.name!r} has no RLSP layer")
