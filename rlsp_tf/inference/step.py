"""One step of a network, whatever runs it: Keras, a SavedModel, ONNX Runtime, LiteRT.

Outside Python the state is in the hands of the client: a step takes ``window`` ``(B, H, W, 3 * frames)``,
``hidden`` and ``feedback`` and gives ``frame``, ``hidden`` and ``feedback``, all float32; see
:class:`rlsp_tf.RLSPCell` for what they hold.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.network.model import rlsp_layer


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
