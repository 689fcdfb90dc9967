"""Which backend of Keras is chosen, without importing Keras, which takes seconds."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping

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
    told otherwise, since float32 is slower with it there.
    """
    needed = {"TF_ENABLE_ONEDNN_OPTS": "1"} if "int8" in precisions else {}
    return {name: value for name, value in needed.items() if name not in os.environ}


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for packages that the block imports and processes that it starts."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
