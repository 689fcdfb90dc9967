"""Small networks with random weights, for tests."""

import asyncio
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from rlsp_tf.inference.hardware import computes_int8
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.network.model import RLSP, build_model
from rlsp_tf.training.centred import CentredCell

SMALL = RLSPConfig(filters=6, layers=3)
needs_bytes = pytest.mark.skipif(not computes_int8(), reason="this processor does not multiply bytes")


def random_weights(layer: Any, rng: np.random.Generator) -> None:
    """Weights that keep a signal of 0..255 at about that size through every layer, biases included."""
    weights = []
    for weight in layer.get_weights():
        spread = 0.7 / np.sqrt(np.prod(weight.shape[:-1])) if weight.ndim == 4 else 2.0
        weights.append(rng.normal(0, spread, weight.shape).astype("float32"))
    layer.set_weights(weights)


def small_model(rng: np.random.Generator, config: RLSPConfig = SMALL, **kwargs: Any) -> keras.Model:
    """An RLSP model with :func:`random_weights`."""
    model = build_model(config, **kwargs)
    random_weights(model, rng)
    return model


class CentredRLSP(RLSP):
    """The layer in the coordinates of training, with the gradients of the backend."""

    cell_type = CentredCell


def echo(gain: float) -> keras.Model:
    """A network that adds ``gain`` times its last output to the luma of the frame."""
    config = RLSPConfig(filters=2, layers=2)
    model = small_model(np.random.default_rng(0), config, precision="float32")
    weights = [np.zeros_like(weight) for weight in model.get_weights()]
    first_feedback = 3 * config.window + config.hidden_channels
    weights[0][1, 1, first_feedback, 0] = 1
    weights[-2][1, 1, 0] = gain
    model.set_weights(weights)
    return model


class Direct:
    """Calls a served network in threads, as a replica does."""

    def __init__(self, network: Any) -> None:
        self.network = network

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*arguments: Any) -> Any:
            return await asyncio.to_thread(getattr(self.network, name), *arguments)

        return call
