"""Imports TensorFlow in half the time, without packages that it only looks for because they are installed."""

import contextlib
import gc
import os
import sys
from collections.abc import Iterator

UNUSED = ("cv2", "jax", "matplotlib", "pandas", "scipy")
"""Packages that TensorFlow and Keras import where they find them, for converters, plots and data that nothing
here uses. JAX and Matplotlib alone take as long as Keras."""


@contextlib.contextmanager
def lean_imports() -> Iterator[None]:
    """Makes imports of :data:`UNUSED` fail within the block, as if these were not installed.

    It is for a process of our own: where users import TensorFlow themselves, plots of Keras must work.
    Packages that are loaded already stay, and JAX does where it is the backend of Keras. All can be imported
    again after the block.

    Within the block no garbage is searched for, and what was loaded is left out of every later search:
    modules stay until the end of the process, where the search alone would take a second.
    """
    needed = os.environ.get("KERAS_BACKEND")
    hidden = [name for name in UNUSED if name != needed and name not in sys.modules]
    collects = gc.isenabled()
    gc.disable()
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
        gc.freeze()
        if collects:
            gc.enable()
