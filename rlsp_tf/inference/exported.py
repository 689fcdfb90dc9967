"""Runs networks that ``rlsp export`` has written: SavedModel, ONNX and LiteRT."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from rlsp_tf.errors import RLSPError, first_line
from rlsp_tf.inference.backend import backend, to_array, to_tensor
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.system.files import read_json, sha256_of

INPUTS = ("window", "hidden", "feedback")
OUTPUTS = ("frame", "hidden", "feedback")
CARD = "rlsp.json"
"""Name of the card in the folder of a SavedModel. The card says what was exported; that of a file is called
like the file, with ``.json`` added."""


class ExportedStep:
    """Base class of the steps that run exports: reads the card, and names inputs and outputs.

    Args:
        path: path of the export.

    Attributes:
        size: height and width of the frames that the export takes; ``None`` if it takes any.

    Raises:
        RLSPError: if the export or its card is missing, or the card is damaged.
    """

    def __init__(self, path: Path) -> None:
        card = read_card(path)
        self.config = RLSPConfig.from_dict(card["config"])
        self.precision: str = card["precision"]
        self.itemsize = 2 if self.precision in ("bfloat16", "float16") else 4
        self.size: list[int] | None = card.get("size")
        self.fingerprint = _fingerprint_of(path)

    def _check(self, channels: dict[str, Any]) -> None:
        """Checks the numbers of channels of the inputs, by name, against the network on the card.

        Raises:
            ValueError: if they are those of another network.
        """
        if channels != (described := dict(zip(INPUTS, self._channels, strict=True))):
            raise ValueError(f"it takes {channels}, its card says {described}")

    @property
    def _channels(self) -> tuple[int, int, int]:
        """Numbers of channels of the inputs."""
        config = self.config
        return 3 * config.window, config.hidden_channels, config.feedback_channels

    def initial_state(self, batch: int, height: int, width: int) -> Any:
        sizes = (self.config.hidden_channels, self.config.feedback_channels)
        return [ops.zeros((batch, height, width, size), "float32") for size in sizes]

    def __call__(self, window: Sequence[Any], state: Any) -> tuple[Any, Any]:
        inputs = (ops.concatenate(list(window), axis=-1), *state)
        frame, *state = self._run(dict(zip(INPUTS, inputs, strict=True)))
        return frame, state

    def _run(self, inputs: dict[str, Any]) -> Sequence[Any]:
        """Computes one step: tensors named as in ``INPUTS``, to tensors in the order of ``OUTPUTS``."""
        raise NotImplementedError


class SavedModelStep(ExportedStep):
    """A step that runs a SavedModel written by :func:`rlsp_tf.exporting.export.export`.

    Args:
        path: the folder of the SavedModel.

    Raises:
        RLSPError: if it is damaged, or not from ``rlsp export``.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if backend() != "tensorflow":
            raise RLSPError(
                f"{path}: a SavedModel runs on TensorFlow alone, and KERAS_BACKEND is {backend()}; leave "
                "that out, or give the .keras file."
            )
        import tensorflow as tf

        try:
            self._model = tf.saved_model.load(os.fspath(path))
            self._step = self._model.signatures["step"]
            inputs = self._step.structured_input_signature[1]
            self._check({name: spec.shape[-1] for name, spec in inputs.items()})
        except Exception as error:
            raise _damaged(path, error) from error

    def _run(self, inputs: dict[str, Any]) -> Sequence[Any]:
        outputs = self._step(**inputs)
        return [outputs[name] for name in OUTPUTS]


class OnnxStep(ExportedStep):
    """A step that runs an ONNX file written by :func:`rlsp_tf.exporting.export.export`, in ONNX Runtime.

    Args:
        path: path of the ``.onnx`` file.

    Raises:
        RLSPError: if it is damaged, or not from ``rlsp export``, or onnxruntime is not installed.
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

    def _run(self, inputs: dict[str, Any]) -> Sequence[Any]:
        # The outputs come in the order of OUTPUTS. Only the frame has to become a tensor.
        arrays = {name: to_array(value) for name, value in inputs.items()}
        frame, *state = self._session.run(None, arrays)
        return [to_tensor(frame), *state]


class LiteRTStep(ExportedStep):
    """A step that runs a LiteRT file written by :func:`rlsp_tf.exporting.export.export`.

    Args:
        path: path of the ``.tflite`` file.

    Raises:
        RLSPError: if it is damaged, or not from ``rlsp export``, or ai-edge-litert is not installed.
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
            runner = self._interpreter.get_signature_runner("step")
            inputs, outputs = runner.get_input_details(), runner.get_output_details()
            self._check({name: int(entry["shape"][-1]) for name, entry in inputs.items()})
            self._inputs = [int(inputs[name]["index"]) for name in INPUTS]
            self._outputs = [int(outputs[name]["index"]) for name in OUTPUTS]
        except Exception as error:
            raise _damaged(path, error) from error
        self._size: tuple[int, ...] = ()

    def __call__(self, window: Sequence[Any], state: Any) -> tuple[Any, Any]:
        self._fit(tuple(window[0].shape[:3]))
        # Into the interpreter's own memory: as a tensor, everything would be copied twice.
        taken = self._interpreter.tensor(self._inputs[0])()
        for index, frame in enumerate(window):
            taken[..., 3 * index : 3 * index + 3] = to_array(frame)
        del taken
        for index, each in zip(self._inputs[1:], state, strict=True):
            np.copyto(self._interpreter.tensor(index)(), to_array(each))
        self._interpreter.invoke()
        frame, *state = map(self._interpreter.get_tensor, self._outputs)
        return to_tensor(frame), state

    def _fit(self, size: tuple[int, ...]) -> None:
        """Resizes the inputs to a batch size, height and width, if they have others."""
        if size == self._size:
            return
        for index, channels in zip(self._inputs, self._channels, strict=True):
            self._interpreter.resize_tensor_input(index, (*size, channels))
        self._interpreter.allocate_tensors()
        self._size = size


EXPORTS = {".onnx": OnnxStep, ".tflite": LiteRTStep}
"""The class that runs an exported file, by its suffix; a folder is a SavedModel."""


def card_of(export: Path) -> Path:
    """Returns the path of an export's card."""
    return export / CARD if export.is_dir() else export.with_name(f"{export.name}.json")


def read_card(export: Path) -> dict[str, Any]:
    """Reads the card of an export.

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
    """Returns a SHA-256 over all files of an export."""
    files = sorted(path for path in export.rglob("*") if path.is_file()) if export.is_dir() else [export]
    return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()


def _damaged(path: Path, error: Exception) -> RLSPError:
    """Makes the error for an export that its runtime cannot load."""
    return RLSPError(f"{path}: cannot be loaded ({first_line(error)}); export it again with rlsp export.")
