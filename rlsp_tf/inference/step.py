"""One step of a network, whatever runs it: Keras, a SavedModel, ONNX Runtime or LiteRT.

In exported networks the client keeps the state. Their step has the inputs ``window``
``(B, H, W, 3 * frames)``, ``hidden`` and ``feedback`` and the outputs ``frame``, ``hidden`` and ``feedback``,
all float32; :class:`rlsp_tf.RLSPCell` says what they hold.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import keras
import numpy as np

from rlsp_tf.inference.backend import compiled_cell, to_array, to_tensor
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.network.model import rlsp_layer


class Step(Protocol):
    """The interface of everything that runs a network frame by frame.

    Attributes:
        config: the network's :class:`rlsp_tf.RLSPConfig`.
        precision: str, in which the convolutions compute, such as ``"bfloat16"``.
        itemsize: int, bytes of a number in that precision.
        fingerprint: str, a SHA-256 of all that decides the results: two steps with the same fingerprint have
            the same shape, weights and precision.
    """

    config: RLSPConfig
    precision: str
    itemsize: int
    fingerprint: str

    def initial_state(self, batch: int, height: int, width: int) -> Any:
        """Returns the state that a clip begins with.

        Args:
            batch: number of clips.
            height: height of the low-resolution frames.
            width: width of the low-resolution frames.
        """

    def __call__(self, window: Sequence[Any], state: Any) -> tuple[Any, Any]:
        """Computes one frame.

        Args:
            window: the present frame and its neighbours, oldest first, each a float32 tensor
                ``(B, H, W, 3)``, RGB 0..255.
            state: what :meth:`initial_state` or the previous step returned. It may be overwritten, so it
                must not be used again.

        Returns:
            The large frame, float32 ``(B, scale*H, scale*W, C)``, and the next state.
        """


class StepWrapper:
    """Base class of steps that add something to another step of the same network.

    Args:
        step: the :class:`Step` that computes.
    """

    def __init__(self, step: Step) -> None:
        self.config, self.fingerprint = step.config, step.fingerprint
        self.precision, self.itemsize = step.precision, step.itemsize
        self._step = step

    def initial_state(self, batch: int, height: int, width: int) -> Any:
        return self._step.initial_state(batch, height, width)

    def __call__(self, window: Sequence[Any], state: Any) -> tuple[Any, Any]:
        return self._step(window, state)

    def shown(self, window: Sequence[Any], state: Any) -> Any:
        """Returns the frame that a step made, from the state that it left: the feedback is that frame.

        Args:
            window: the frames that the step took.
            state: the state that it returned.
        """
        if isinstance(self._step, StepWrapper):
            return self._step.shown(window, state)
        feedback, scale = to_array(state[-1]), self.config.scale
        batch, height, width, _ = feedback.shape
        blocks = feedback.reshape(batch, height, width, scale, scale, -1).transpose(0, 1, 3, 2, 4, 5)
        return blocks.reshape(batch, scale * height, scale * width, -1)


class KerasStep:
    """A :class:`Step` that runs a Keras model on the backend of Keras, compiled for each frame size.

    Args:
        model: a Keras model with an :class:`rlsp_tf.RLSP` layer.
    """

    def __init__(self, model: keras.Model) -> None:
        self._cell = rlsp_layer(model).cell
        self.config: RLSPConfig = self._cell.config
        self.precision: str = self._cell.compute_dtype
        self.itemsize = np.dtype(self.precision).itemsize
        digest = hashlib.sha256(f"{self.config} {self.precision}".encode())
        for weight in self._cell.get_weights():
            digest.update(weight.tobytes())
        self.fingerprint = digest.hexdigest()
        self._step = compiled_cell(self._cell)

    def initial_state(self, batch: int, height: int, width: int) -> Any:
        return self._cell.get_initial_state(batch, height, width)

    def __call__(self, window: Sequence[Any], state: Any) -> tuple[Any, Any]:
        return self._step(tuple(window), state)


def windows(clip: np.ndarray, config: RLSPConfig) -> Iterator[list[Any]]:
    """Iterates over the windows of a clip. Missing neighbours are the first or the last frame again.

    Args:
        clip: uint8 RGB ``(T, H, W, 3)``.
        config: the network's :class:`rlsp_tf.RLSPConfig`.

    Yields:
        For every frame of the clip its window, as a :class:`Step` takes it.
    """
    frames = [to_tensor(frame[None], "float32") for frame in clip]
    for t in range(len(frames)):
        around = range(t - config.frames_before, t + config.frames_after + 1)
        yield [frames[min(max(index, 0), len(frames) - 1)] for index in around]
