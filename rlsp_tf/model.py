"""RLSP over time as a Keras layer, and the Keras model around it."""

import importlib.resources
import os
from pathlib import Path
from typing import Any, Literal

import keras
from keras import ops

from rlsp_tf.cell import RLSPCell
from rlsp_tf.config import RLSPConfig
from rlsp_tf.errors import RLSPError
from rlsp_tf.files import read_json, sha256_of
from rlsp_tf.keras_file import read_network

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


def load_model(path_or_name: str | os.PathLike[str], *, precision: str | None = None) -> keras.Model:
    """Loads an RLSP model. Nothing that the file names is run; see :mod:`rlsp_tf.keras_file`.

    Args:
        path_or_name: a ``.keras`` file, or the name of a weight set in ``checkpoints/manifest.json``,
            whose file must have the SHA-256 that stands there.
        precision: as in :func:`build_model`; by default what the file was saved with.

    Returns:
        A model as :func:`build_model` makes it, with the file's weights: a layer that was saved in training,
        or with options of its own, such as ``warm_start``, comes back without them.

    Raises:
        RLSPError: if the file is missing, damaged or no RLSP model, or was saved in a precision that is
            none of these.
        ValueError: if ``precision`` is unknown.
    """
    policy_of(precision)
    path = find_weights(path_or_name)
    network = read_network(path)
    if precision is None:
        saved = [name for name, policy in POLICIES.items() if policy == network.policy]
        if not saved:
            raise RLSPError(f"{path}: was saved in {network.policy!r}; give one of {', '.join(POLICIES)}.")
        (precision,) = saved
    model = build_model(network.config, precision=precision)
    model.set_weights(network.weights)
    return model


def checkpoints() -> Path:
    """The folder of the weights that come with the package.

    Raises:
        RLSPError: if it is missing, as where only some of the package's files were copied.
    """
    try:
        return Path(str(importlib.resources.files("rlsp_tf.checkpoints")))
    except ModuleNotFoundError as error:
        raise RLSPError(
            "the weights that come with rlsp_tf are not installed; install it (in its source folder: "
            "pip install -e .), or give a .keras file."
        ) from error


def find_weights(path_or_name: str | os.PathLike[str]) -> Path:
    """The file behind a path or the name of a weight set, checked as :func:`load_model` says."""
    path = Path(path_or_name)
    if path.is_file():
        return path
    if path.is_dir():
        raise RLSPError(f"{path}: is a folder; give a .keras file.")
    manifest = read_manifest()
    entry = manifest.get(str(path_or_name))
    if entry is None:
        known = f", or one of {', '.join(manifest)}" if manifest else " (rlsp-convert makes them)"
        raise RLSPError(f"{path_or_name}: no such file or weight set; give a .keras file{known}.")
    weights = checkpoints() / entry["file"]
    if not weights.is_file():
        raise RLSPError(f"{weights}: is missing; install rlsp_tf again.")
    if sha256_of(weights) != entry["sha256"]:
        raise RLSPError(
            f"{weights}: is not the file in the manifest (SHA-256 differs); install rlsp_tf again."
        )
    return weights


def read_manifest() -> dict[str, dict[str, Any]]:
    """The weight sets that come with the package, by name; see ``checkpoints/README.md``.

    Raises:
        RLSPError: if the manifest is damaged, or names a file in another folder.
    """
    path = checkpoints() / "manifest.json"
    if not path.is_file():
        return {}
    manifest = read_json(path, "install rlsp_tf again")
    try:
        whole = all(
            Path(entry["file"]).name == entry["file"] and isinstance(entry["sha256"], str)
            for entry in manifest.values()
        )
    except (AttributeError, LookupError, TypeError):
        whole = False
    if not whole:
        raise RLSPError(f"{path}: is damaged; install rlsp_tf again.")
    return manifest
