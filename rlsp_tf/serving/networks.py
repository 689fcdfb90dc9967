"""The weights that a server computes with, which can be replaced while it computes."""

import contextlib
import functools
import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from rlsp_tf.errors import RLSPError, first_line
from rlsp_tf.inference.load import step_maker
from rlsp_tf.network.weights import load_model
from rlsp_tf.serving.batching import CPU_PIXELS, BatchingStep


@dataclass
class Network:
    """The weights of a model, and how many sessions and videos compute with them.

    Attributes:
        step: computes.
        users: how many need it.
        replaced: whether other weights have taken its place, so that it ends with its last user.
    """

    step: BatchingStep
    users: int = 0
    replaced: bool = False


class Networks:
    """The networks of a server. All methods can be called by many threads.

    Args:
        models: ``.keras`` files or names of weights, by the names by which clients choose.
        precision: see :func:`rlsp_tf.inference.load.load_step`.

    Raises:
        RLSPError: if a model cannot be loaded, looks more than one frame ahead, or cannot be run in 8 bits.
    """

    def __init__(self, models: Mapping[str, str], precision: str) -> None:
        self._models, self._precision = dict(models), precision
        self._lock = threading.Lock()
        self._networks = {name: self._load(path) for name, path in self._models.items()}

    def about(self) -> dict[str, dict[str, Any]]:
        """``{"scale", "latency": in frames, "bits": of the convolutions}`` for each model, by its name."""
        return {
            name: {
                "scale": network.step.config.scale,
                "latency": network.step.config.frames_after,
                "bits": 8 * network.step.itemsize,
            }
            for name, network in self._networks.items()
        }

    def take(self, model: str) -> Network:
        """The present network of a model, for one more user, who must :meth:`release` it."""
        with self._lock:
            network = self._networks[model]
            network.users += 1
            return network

    def release(self, network: Network) -> None:
        """Says that a user no longer needs a network."""
        with self._lock:
            network.users -= 1
            ended = network.replaced and not network.users
        if ended:
            network.step.close()

    @contextlib.contextmanager
    def released(self, network: Network) -> Iterator[None]:
        """Releases a network when the block ends."""
        try:
            yield
        finally:
            self.release(network)

    def reload(self) -> dict[str, str | None]:
        """Loads all models anew. What is at work ends with the weights that it began with.

        Returns:
            For each model, by its name, ``None``, or a sentence that says why the old weights were kept.
        """
        outcome: dict[str, str | None] = {}
        for name, path in self._models.items():
            try:
                new = self._load(path)
            # A file can be damaged in ways that only the libraries know.
            except Exception as error:
                known = isinstance(error, RLSPError)
                outcome[name] = str(error) if known else f"{path}: cannot be loaded ({first_line(error)})."
                continue
            with self._lock:
                old, self._networks[name] = self._networks[name], new
                old.users, old.replaced = old.users + 1, True
            self.release(old)
            outcome[name] = None
        return outcome

    def close(self) -> None:
        """Computes what waits, then ends the threads."""
        for network in self._networks.values():
            network.step.close()

    def _load(self, path: str) -> Network:
        pixels = math.inf if tf.config.list_physical_devices("GPU") else CPU_PIXELS
        step = BatchingStep(step_maker(functools.partial(load_model, path), self._precision), pixels=pixels)
        if step.config.frames_after > 1:
            step.close()
            raise RLSPError(
                f"{path}: looks {step.config.frames_after} frames ahead, but rlsp serve can do with one "
                "only; give another model."
            )
        return Network(step)
