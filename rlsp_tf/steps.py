"""One step of a network, whatever runs it: Keras, a SavedModel, ONNX Runtime, LiteRT.

Outside Python the state is in the hands of the client: a step takes ``window`` ``(B, H, W, 3 * frames)``,
``hidden`` and ``feedback`` and gives ``frame``, ``hidden`` and ``feedback``, all float32; see
:class:`rlsp_tf.RLSPCell` for what they hold.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from rlsp_tf.config import RLSPConfig
from rlsp_tf.errors import RLSPError, first_line
from rlsp_tf.files import read_json, sha256_of
from rlsp_tf.model import load_model, rlsp_layer
from rlsp_tf.precision import fastest_precision

INPUTS = ("window", "hidden", "feedback")
OUTPUTS = ("frame", "hidden", "feedback")
CARD = "rlsp.json"
"""In the folder of a SavedModel; that of a file has its name and ``.json``. Says what was exported."""


class Step(Protocol):
    """Runs a network frame by frame.

    Attributes:
        config: the network's shape.
        precision: of the convolutions, by its name.
        itemsize: bytes per number in them.
        fingerprint: the same for the same numbers only: a SHA-256.
    """

    config: RLSPConfig
    precision: str
    itemsize: int
    fingerprint: str

    def initial_state(self, batch: int, height: int, width: int) -> Any:
        """The state that a clip begins with, for frames of a size at low resolution."""

    def __call__(self, window: Sequence[tf.Tensor], state: Any) -> tuple[tf.Tensor, Any]:
        """One step.

        Args:
            window: the frames around the present one, oldest first, float32 ``(B, H, W, 3)``, RGB 0..255.
            state: from :meth:`initial_state` or the step before.

        Returns:
            The frame, float32 ``(B, scale*H, scale*W, C)``, and the next state.
        """


class StepWrapper:
    """A step around another one, with the same network: the base of those that add something to it.

    Args:
        step: what to compute with.
    """

    def __init__(self, step: Step) -> None:
        self.config, self.fingerprint = step.config, step.fingerprint
        self.precision, self.itemsize = step.precision, step.itemsize
        self._step = step

    def initial_state(self, batch: int, height: int, width: int) -> Any:
        return self._step.initial_state(batch, height, width)

    def __call__(self, window: Sequence[tf.Tensor], state: Any) -> tuple[Any, Any]:
        return self._step(window, state)


class KerasStep:
    """A Keras model, compiled for each size of frames.

    Args:
        model: one with an :class:`rlsp_tf.RLSP` layer.
    """

    def __init__(self, model: keras.Model) -> None:
        self._cell = rlsp_layer(model).cell
        self.config: RLSPConfig = self._cell.config
        self.precision: str = self._cell.compute_dtype
        self.itemsize = tf.as_dtype(self.precision).size
        digest = hashlib.sha256(f"{self.config} {self.precision}".encode())
        for weight in self._cell.get_weights():
            digest.update(weight.tobytes())
        self.fingerprint = digest.hexdigest()
        self._step = tf.function(lambda window, state: self._cell(tf.concat(window, axis=-1), state))

    def initial_state(self, batch: int, height: int, width: int) -> Any:
        return self._cell.get_initial_state(batch, height, width)

    def __call__(self, window: Sequence[tf.Tensor], state: Any) -> tuple[tf.Tensor, Any]:
        return self._step(tuple(window), state)


class _ExportedStep:
    """What exports have in common: names, and a state of zeros."""

    def __init__(self, path: Path) -> None:
        card = read_card(path)
        self.config = RLSPConfig.from_dict(card["config"])
        self.precision: str = card["precision"]
        self.itemsize = 2 if self.precision in ("bfloat16", "float16") else 4
        self.fingerprint = _fingerprint_of(path)

    def _check(self, channels: dict[str, Any]) -> None:
        """Raises unless the inputs' channels, by name, are those of the network that the card describes."""
        config = self.config
        sizes = (3 * config.window, config.hidden_channels, config.feedback_channels)
        if channels != (described := dict(zip(INPUTS, sizes, strict=True))):
            raise ValueError(f"it takes {channels}, its card says {described}")

    def initial_state(self, batch: int, height: int, width: int) -> Any:
        sizes = (self.config.hidden_channels, self.config.feedback_channels)
        return [tf.zeros((batch, height, width, size)) for size in sizes]

    def __call__(self, window: Sequence[tf.Tensor], state: Any) -> tuple[tf.Tensor, Any]:
        inputs = (tf.concat(list(window), axis=-1), *state)
        frame, *state = self._run(dict(zip(INPUTS, inputs, strict=True)))
        return frame, state

    def _run(self, inputs: dict[str, tf.Tensor]) -> Sequence[tf.Tensor]:
        raise NotImplementedError


class SavedModelStep(_ExportedStep):
    """A SavedModel that :func:`rlsp_tf.export.export` has written.

    Args:
        path: its folder.

    Raises:
        RLSPError: if it is another one, or damaged.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._model = tf.saved_model.load(os.fspath(path))
            self._step = self._model.signatures["step"]
            inputs = self._step.structured_input_signature[1]
            self._check({name: spec.shape[-1] for name, spec in inputs.items()})
        except Exception as error:
            raise _damaged(path, error) from error

    def _run(self, inputs: dict[str, tf.Tensor]) -> Sequence[tf.Tensor]:
        outputs = self._step(**inputs)
        return [outputs[name] for name in OUTPUTS]


class OnnxStep(_ExportedStep):
    """An ONNX file that :func:`rlsp_tf.export.export` has written, run by ONNX Runtime.

    Args:
        path: the file.

    Raises:
        RLSPError: if it is another one, or damaged, or onnxruntime is not installed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            import onnxruntime
        except ImportError as error:
            raise RLSPError(
                f"{path}: needs onnxruntime to be run; install it by: pip install 'rlsp_tf[onnx]'."
            ) from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                os.fspath(path), options, providers=["CPUExecutionProvider"]
            )
            self._check({entry.name: entry.shape[-1] for entry in self._session.get_inputs()})
        except Exception as error:
            raise _damaged(path, error) from error

    def _run(self, inputs: dict[str, tf.Tensor]) -> Sequence[tf.Tensor]:
        # In the order of OUTPUTS; the state stays its own arrays, only frames become tensors.
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        frame, *state = self._session.run(None, arrays)
        return [tf.convert_to_tensor(frame), *state]


class LiteRTStep(_ExportedStep):
    """A LiteRT file that :func:`rlsp_tf.export.export` has written.

    Args:
        path: the file.

    Raises:
        RLSPError: if it is another one, or damaged, or ai-edge-litert is not installed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise RLSPError(
                f"{path}: needs ai-edge-litert to be run; install it by: pip install 'rlsp_tf[litert]'."
            ) from error
        try:
            self._interpreter = Interpreter(os.fspath(path), num_threads=os.cpu_count())
            # Resizes by itself where sizes are open.
            self._runner = self._interpreter.get_signature_runner("step")
            inputs = self._runner.get_input_details()
            self._check({name: int(entry["shape"][-1]) for name, entry in inputs.items()})
        except Exception as error:
            raise _damaged(path, error) from error

    def _run(self, inputs: dict[str, tf.Tensor]) -> Sequence[tf.Tensor]:
        outputs = self._runner(**{name: np.asarray(value) for name, value in inputs.items()})
        # The interpreter's own memory, which the next step overwrites.
        return [tf.convert_to_tensor(outputs[name]) for name in OUTPUTS]


EXPORTS = {".onnx": OnnxStep, ".tflite": LiteRTStep}
"""What runs an exported file, by its suffix; a folder is a SavedModel."""


def load_step(path_or_name: str | os.PathLike[str], *, precision: str | None = None) -> Step:
    """Makes a network ready to run frame by frame.

    Args:
        path_or_name: a ``.keras`` file or the name of a weight set, as :func:`rlsp_tf.load_model` takes
            them; or an export: the folder of a SavedModel, an ``.onnx`` or a ``.tflite`` file.
        precision: see :func:`rlsp_tf.load_model`; or ``"auto"``: the fastest here that costs nearly nothing,
            see :func:`rlsp_tf.precision.fastest_precision`; or ``"int8"``, see :mod:`rlsp_tf.int8`. Exports
            have theirs.

    Raises:
        RLSPError: if it is none of these or damaged, if an export is to have another precision, or if the
            network cannot be run in 8 bits.
    """
    path = Path(path_or_name)
    kind: type[_ExportedStep] | None = EXPORTS.get(path.suffix.lower())
    if (path / "saved_model.pb").is_file():
        kind = SavedModelStep
    if kind is None:
        return step_maker(partial(load_model, path_or_name), precision)()
    step = kind(path)
    if precision not in (None, "auto") and precision != step.precision:
        raise RLSPError(f"{path}: was exported in {step.precision}; export it again to have {precision}.")
    return step


def step_maker(load: Callable[..., keras.Model], precision: str | None) -> Callable[[], Step]:
    """What makes steps of one Keras model, each of which compiles for itself.

    Args:
        load: gives the model in the precision that it is called with, as ``precision``.
        precision: as for :func:`load_step`.

    Raises:
        RLSPError: if the network cannot be loaded, or not be run in 8 bits.
    """
    if precision == "auto":
        precision = fastest_precision()
    if precision == "int8":
        # Here, because what ranges are learned on takes half a second to import.
        from rlsp_tf.int8 import Int8Step

        return Int8Step(load(precision="float32")).again
    return partial(KerasStep, load(precision=precision))


def windows(clip: np.ndarray, config: RLSPConfig) -> Iterator[list[tf.Tensor]]:
    """The window of every frame of a clip, the edge frame again where neighbours are missing.

    Args:
        clip: uint8 RGB ``(T, H, W, 3)``.
        config: of the network.

    Yields:
        Frames as a :class:`Step` takes them.
    """
    frames = [tf.constant(frame[None], tf.float32) for frame in clip]
    for t in range(len(frames)):
        around = range(t - config.frames_before, t + config.frames_after + 1)
        yield [frames[min(max(index, 0), len(frames) - 1)] for index in around]


def card_of(export: Path) -> Path:
    """Where the card of an export lies."""
    return export / CARD if export.is_dir() else export.with_name(f"{export.name}.json")


def read_card(export: Path) -> dict[str, Any]:
    """The card of an export.

    Raises:
        RLSPError: if the export or its card is missing, or the card is damaged.
    """
    card = card_of(export)
    if not export.exists():
        raise RLSPError(f"{export}: no such file or folder; check the path.")
    if not card.exists():
        raise RLSPError(
            f"{export}: its card {card.name} is missing; put it back or export again with rlsp export."
        )
    content = read_json(card, "export again with rlsp export")
    try:
        RLSPConfig.from_dict(content["config"])
        whole = isinstance(content["precision"], str)
    except (ValueError, LookupError, TypeError):
        whole = False
    if not whole:
        raise RLSPError(f"{card}: is damaged; export again with rlsp export.")
    return content


def _fingerprint_of(export: Path) -> str:
    """SHA-256 of all files of an export."""
    files = sorted(path for path in export.rglob("*") if path.is_file()) if export.is_dir() else [export]
    return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()


def _damaged(path: Path, error: Exception) -> RLSPError:
    return RLSPError(f"{path}: cannot be loaded ({first_line(error)}); export it again with rlsp export.")
