"""RLSP over time: the cell repeated over a clip, as a Keras layer and as a Keras model.

Third of the four modules that are the network; :mod:`rlsp_tf.network.weights` comes last and fills the model
with trained weights.
"""

from typing import Any, Literal

import keras
from keras import ops

from rlsp_tf.network.cell import RLSPCell
from rlsp_tf.network.config import RLSPConfig

Border = Literal["replicate", "given"]
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
"""The Keras dtype policy of each precision; all of them keep weights and outputs in float32."""


@keras.saving.register_keras_serializable(package="rlsp_tf")
class RLSP(keras.layers.RNN):
    """Runs the RLSP cell over a clip, like ``keras.layers.LSTM`` runs its cell over a sequence.

    The number of frames, their height and their width are free, and may change from call to call. Where the
    first and the last frames of a clip lack neighbours, the first or last frame is repeated, as the authors
    do. Training is by back-propagation through time.

    Args:
        config: an :class:`rlsp_tf.RLSPConfig`.
        return_state: bool, whether to return the last hidden state and feedback, too.
        unroll: bool, whether to trace every step of a clip of known length instead of a loop. Training steps
            become faster, tracing takes longer.
        border: ``"replicate"`` repeats the first and the last frame as described above. With ``"given"``, the
            first ``frames_before`` and the last ``frames_after`` frames of a clip serve as neighbours only
            and have no output of their own; use it where a clip is a piece of a longer one.
        warm_start: int, number of frames after the first that the cell sees in reverse order before the clip
            begins: t = ``warm_start`` ... 1, then 0, 1, 2 ... The first frames of a clip have no past, which
            costs them 1 to 2 dB; this makes one up. It cannot be combined with ``border="given"``.

    Call arguments:
        sequences: tensor ``(B, T, H, W, 3)``, RGB 0..255, any numeric dtype.
        initial_state: list ``[hidden, feedback]`` as :meth:`RLSPCell.get_initial_state` makes it, which is
            also the default.

    Returns:
        Float32 ``(B, T, scale*H, scale*W, C)``, luma 16..235 (C = 1) or RGB 0..255 (C = 3), neither rounded
        nor clipped. With ``border="given"``, T is smaller by the number of neighbours. With
        ``return_state``, a list of this tensor, the hidden state and the feedback.
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
        """Creates the weights. Of ``sequences_shape`` only the rank and the number of channels matter."""
        if len(sequences_shape) != 5 or sequences_shape[-1] != 3:
            raise ValueError(f"expected a clip of shape (B, T, H, W, 3), got {tuple(sequences_shape)}")
        self.cell.build((None, None, None, 3 * self.config.window))
        self.built = True

    def get_initial_state(self, batch_size: Any, height: Any, width: Any) -> list[Any]:
        """Returns states of zeros, as :meth:`RLSPCell.get_initial_state` does."""
        return self.cell.get_initial_state(batch_size, height, width)

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        """Runs the cell over every frame; the class docstring describes arguments and result."""
        sequences = ops.cast(sequences, "float32")
        if initial_state is None:
            batch, _, height, width, _ = ops.shape(sequences)
            initial_state = self.get_initial_state(batch, height, width)
        if self.warm_start:
            first = sequences[:, : self.warm_start + 1]
            # Windows in reversed time. The first frame is left out, since the clip begins with it, unless it
            # is the only one.
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
        """Returns the shape of the output, with ``return_state`` also those of the states.

        Unknown dimensions stay ``None``.
        """
        batch, time, *frame = sequences_shape
        if self.border == "given" and time is not None:
            time -= self.config.window - 1
        output, states = self.cell.compute_output_shape((batch, *frame))
        output = (batch, time, *output[1:])
        return [output, *states] if self.return_state else output

    def compute_output_spec(self, sequences: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns shapes and dtypes without running the loop, for symbolic calls of unknown length."""
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
        """Puts every frame beside its neighbours on the channel axis: ``(B, T, H, W, 3 * window)``."""
        if self.border == "replicate":
            before, after = self.config.frames_before, self.config.frames_after
            clip = ops.concatenate([clip[:, :1]] * before + [clip] + [clip[:, -1:]] * after, axis=1)
        length = ops.shape(clip)[1] - (self.config.window - 1)
        return ops.concatenate([clip[:, i : i + length] for i in range(self.config.window)], axis=-1)


def build_model(config: RLSPConfig, *, precision: str | None = None, unroll: bool = False) -> keras.Model:
    """Makes a Keras model of an untrained RLSP network.

    ``model.predict(clip)`` takes ``(B, T, H, W, 3)``, uint8 or float 0..255, and returns
    ``(B, T, scale*H, scale*W, C)`` float32.

    Args:
        config: an :class:`rlsp_tf.RLSPConfig`.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"``, in which the convolutions compute; by
            default what Keras's global dtype policy says.
        unroll: bool, as in :class:`RLSP`.

    Raises:
        ValueError: if ``precision`` is unknown.
    """
    clip = keras.Input((None, None, None, 3), dtype="float32", name="clip")
    layer = RLSP(config, unroll=unroll, dtype=policy_of(precision), name="rlsp")
    return keras.Model(clip, layer(clip), name=f"rlsp_{config.layers}_{config.filters}")


def policy_of(precision: str | None) -> str | None:
    """Returns the Keras dtype policy of a precision's name; ``None`` stays ``None``.

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
    """Returns the :class:`RLSP` layer of a model.

    Raises:
        ValueError: if the model has no such layer.
    """
    for layer in model.layers:
        if isinstance(layer, RLSP):
            return layer
    raise ValueError(f"model {model.name!r} has no RLSP layer")
