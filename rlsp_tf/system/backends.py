"""Which backend of Keras is chosen, without importing Keras, which takes seconds."""

import contextlib
import os
import sys
from collections.abc import Iterator

BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
"""The backends of Keras that this package runs on: names of packages, and what people call them."""


def chosen_backend() -> str:
    """Returns the name of Keras's backend without importing Keras: what ``KERAS_BACKEND`` says."""
    if keras := sys.modules.get("keras"):
        return str(keras.config.backend())
    return os.environ.get("KERAS_BACKEND") or "tensorflow"


def variables_for(*precisions: str | None) -> dict[str, str]:
    """Returns the environment variables that TensorFlow must find at its start for some precisions.

    Bytes are multiplied by oneDNN. On processors without AVX-512, TensorFlow leaves oneDNN off unless it is
    told otherwise, since float32 is slower with it there. Variables that are set already keep their values.
    """
    needed = {"TF_ENABLE_ONEDNN_OPTS": "1"} if "int8" in precisions else {}
    return {name: os.environ.get(name, value) for name, value in needed.items()}


@contextlib.contextmanager
def environment_for(*precisions: str | None) -> Iterator[None]:
    """Sets :func:`variables_for` precisions while the block imports TensorFlow or starts processes."""
    added = {name: value for name, value in variables_for(*precisions).items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
