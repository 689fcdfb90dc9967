"""Which backend of Keras is chosen, without importing Keras, which takes seconds."""

import os
import sys

BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
"""The backends of Keras that this package runs on: names of packages, and what people call them."""


def chosen_backend() -> str:
    """Returns the name of Keras's backend without importing Keras: what ``KERAS_BACKEND`` says."""
    if keras := sys.modules.get("keras"):
        return str(keras.config.backend())
    return os.environ.get("KERAS_BACKEND") or "tensorflow"
