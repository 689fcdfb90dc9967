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
            costs them 1 to 2 dB; this makes one up. It cannot be combined with ``border="given"``, a mask or
            ``stateful``.
        go_backwards: bool, whether to run over the clip in reversed time and return its frames in that order,
            the last one first.
        stateful: bool, whether each clip of a batch begins with the state with which the same place of the
            batch before has ended, until :meth:`reset_state`. Batch, height and width have to be known:
            ``keras.Input(batch_shape=(B, None, H, W, 3))``. With ``border="given"``, pieces that overlap by
            their neighbours give what the whole clip gives. Not on JAX, where ``predict`` of Keras forgets
            states.
        zero_output_for_mask: bool, whether frames that are masked have outputs of zeros instead of the output
            of the frame before.

    Call arguments:
        sequences: tensor ``(B, T, H, W, 3)``, RGB 0..255, any numeric dtype.
        initial_state: list ``[hidden, feedback]`` as :meth:`RLSPCell.get_initial_state` makes it, which is
            also the default.
        mask: boolean tensor ``(B, T)``, false for frames that are left out: the others get the outputs that
            they would have if these were not there. ``keras.layers.Masking`` makes ``(B, T, H, W)``, of which
            a frame counts if any of its pixels does.

    Returns:
        Float32 ``(B, T, scale*H, scale*W, C)``, luma 16..235 (C = 1) or RGB 0..255 (C = 3), neither rounded
        nor clipped. With ``border="given"``, T is smaller by the number of neighbours. With
        ``return_state``, a list of this tensor, the hidden state and the feedback.
    """

    unroll: bool
    go_backwards: bool
    cell_type: type[RLSPCell] = RLSPCell
    """Class of the cell."""

    def __init__(
        self,
        config: RLSPConfig,
        *,
        return_state: bool = False,
        unroll: bool = False,
        border: Border = "replicate",
        warm_start: int = 0,
        go_backwards: bool = False,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        if not kwargs.pop("return_sequences", True):
            raise ValueError("RLSP returns every frame of a clip; the last one is outputs[:, -1]")
        if warm_start and border == "given":
            raise ValueError('warm_start cannot be combined with border="given"; leave one of them out')
        if warm_start and stateful:
            raise ValueError("warm_start makes up a past, which stateful has; leave one of them out")
        if stateful and keras.config.backend() == "jax":
            raise ValueError(
                "on JAX, Keras forgets the states of stateful layers in predict(); use return_state and "
                "initial_state"
            )
        policy = kwargs.pop("dtype", None) or keras.config.dtype_policy()
        super().__init__(
            self.cell_type(config, dtype=policy, name="cell"),
            return_sequences=True,
            return_state=return_state,
            unroll=unroll,
            go_backwards=go_backwards,
            stateful=stateful,
            zero_output_for_mask=zero_output_for_mask,
            dtype=policy,
            autocast=False,
            **kwargs,
        )
        self.config = config
        self.border = border
        self.warm_start = warm_start

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        """Creates the weights. Of ``sequences_shape`` only the rank and the number of channels matter.

        With ``stateful`` it also makes the states, for which all but the number of frames has to be known.
        """
        _check_clip(sequences_shape)
        self.cell.build((None, None, None, 3 * self.config.window))
        if self.stateful:
            batch, _, *size, _ = sequences_shape
            if None in (batch, *size):
                raise ValueError(
                    "a stateful RLSP keeps states for one batch size, height and width; give them: "
                    f"keras.Input(batch_shape=(B, None, H, W, 3)), not {tuple(sequences_shape)}"
                )
            self._create_state_variables((batch, *size))
        self.built = True

    def get_initial_state(self, batch_size: Any, height: Any = None, width: Any = None) -> list[Any]:
        """Returns states of zeros, as :meth:`RLSPCell.get_initial_state` does."""
        if isinstance(batch_size, tuple):  # from build, by way of Keras, which knows of nothing else
            batch_size, height, width = batch_size
        return self.cell.get_initial_state(batch_size, height, width)

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        """Runs the cell over every frame; the class docstring describes arguments and result."""
        _check_clip(sequences.shape)
        sequences = ops.cast(sequences, "float32")
        if initial_state is None:
            batch, _, height, width, _ = ops.shape(sequences)
            if self.stateful:
                initial_state = [ops.convert_to_tensor(state) for state in self.states]
                kept, given = initial_state[0].shape, sequences.shape
                if any(given[axis] not in (None, kept[max(axis - 1, 0)]) for axis in (0, 2, 3)):
                    raise ValueError(
                        f"a stateful RLSP that has been built for {kept[0]} clips of {kept[2]}x{kept[1]} got "
                        f"{given[0]} of {given[3]}x{given[2]}; build another one for them"
                    )
            else:
                initial_state = self.get_initial_state(batch, height, width)
        hidden, feedback = initial_state
        initial_state = [ops.cast(hidden, self.cell.compute_dtype), ops.cast(feedback, "float32")]
        if mask is not None:
            if self.warm_start:
                raise ValueError("warm_start cannot be combined with a mask; leave one of them out")
            mask = ops.cast(mask, "bool")
            mask = ops.any(mask, axis=(2, 3)) if len(mask.shape) == 4 else mask
        if self.go_backwards:
            sequences = ops.flip(sequences, axis=1)
            mask = None if mask is None else ops.flip(mask, axis=1)
        if self.warm_start:
            first = sequences[:, : self.warm_start + 1]
            # Windows in reversed time. The first frame is left out, since the clip begins with it, unless it
            # is the only one.
            count = ops.maximum(ops.shape(first)[1] - 1, 1)
            backwards = self._windows(ops.flip(first, axis=1))[:, :count]
            _, _, initial_state = self.inner_loop(backwards, initial_state, None, training)
        windows = self._windows(sequences, mask)
        if mask is not None and self.border == "given":
            mask = mask[:, self.config.frames_before :][:, : ops.shape(windows)[1]]
        _, outputs, states = self.inner_loop(windows, initial_state, mask, training)
        if self.stateful:
            for variable, state in zip(self.states, states, strict=True):
                variable.assign(ops.cast(state, variable.dtype))
        return [outputs, *states] if self.return_state else outputs

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        """Runs the cell over windows ``(B, T, H, W, 3 * window)``, from the first to the last."""
        kept = self.unroll, self.go_backwards
        # Windows are in the right order already. On JAX, Keras masks states of images in loops that are
        # unrolled, and vectors only in others.
        unroll = self.unroll or (mask is not None and keras.config.backend() == "jax")
        self.unroll, self.go_backwards = unroll, False
        try:
            return super().inner_loop(sequences, list(initial_state), mask, training)
        finally:
            self.unroll, self.go_backwards = kept

    def compute_mask(self, sequences: Any, mask: Any = None) -> Any:
        """Returns no mask: every frame has an output."""
        return [None] * (1 + len(self.state_size)) if self.return_state else None

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
        own |= {"go_backwards", "stateful", "zero_output_for_mask"}
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

    def _windows(self, clip: Any, mask: Any = None) -> Any:
        """Puts every frame beside its neighbours on the channel axis: ``(B, T, H, W, 3 * window)``.

        The neighbours are the nearest frames that ``mask`` does not leave out.
        """
        if self.border == "replicate" and mask is not None:
            return self._windows_around(clip, ops.cast(mask, "int32"))
        if self.border == "replicate":
            before, after = self.config.frames_before, self.config.frames_after
            clip = ops.concatenate([clip[:, :1]] * before + [clip] + [clip[:, -1:]] * after, axis=1)
        length = ops.shape(clip)[1] - (self.config.window - 1)
        return ops.concatenate([clip[:, i : i + length] for i in range(self.config.window)], axis=-1)

    def _windows_around(self, clip: Any, counts: Any) -> Any:
        """Does the same for clips some frames of which do not count; ``counts`` is 1 for those that do."""
        batch, time, *frame = ops.shape(clip)
        # Those that count come first, in their order; a frame's number among them says where it is there.
        order = ops.argsort((1 - counts) * time + ops.arange(time, dtype="int32"), axis=1)
        number = ops.cumsum(counts, axis=1) - 1
        last = ops.maximum(ops.sum(counts, axis=1, keepdims=True) - 1, 0)
        frames = ops.reshape(clip, (batch * time, *frame))
        first = ops.arange(batch, dtype="int32")[:, None] * time
        around = range(-self.config.frames_before, self.config.frames_after + 1)
        places = (ops.maximum(ops.minimum(number + offset, last), 0) for offset in around)
        chosen = [ops.take_along_axis(ops.cast(order, "int32"), place, axis=1) for place in places]
        return ops.concatenate([ops.take(frames, first + each, axis=0) for each in chosen], axis=-1)


def _check_clip(shape: Any) -> None:
    """Raises a ValueError unless a clip has the shape that RLSP takes."""
    if len(shape) != 5 or shape[-1] != 3:
        raise ValueError(
            "RLSP takes clips of shape (batch, frames, height, width, 3), RGB 0..255; this one has shape "
            f"{tuple(shape)}"
        )


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
    model = keras.Model(clip, layer(clip), name=f"rlsp_{config.layers}_{config.filters}")
    # Otherwise Keras says what is wrong with a clip by printing its pixels.
    model.input_spec = keras.InputSpec(shape=(None, None, None, None, 3), name="clip")
    return model


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
