"""RLSP video super-resolution (Fuoli, Gu, Timofte 2019, arXiv 1909.08080) in TensorFlow and Keras.

Names are imported on first use: ``import rlsp_tf`` alone loads neither TensorFlow nor Keras. These names are
the public ones; everything else in the package is private and may change.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from rlsp_tf._version import __version__ as __version__
from rlsp_tf.system.after_import import after_import

if TYPE_CHECKING:
    from rlsp_tf.errors import RLSPError as RLSPError
    from rlsp_tf.inference.upscaler import StreamingUpscaler as StreamingUpscaler
    from rlsp_tf.network.cell import RLSPCell as RLSPCell
    from rlsp_tf.network.config import PRESETS as PRESETS
    from rlsp_tf.network.config import RLSPConfig as RLSPConfig
    from rlsp_tf.network.model import RLSP as RLSP
    from rlsp_tf.network.model import build_model as build_model
    from rlsp_tf.network.weights import load_model as load_model
    from rlsp_tf.pixels.degradation import degrade as degrade
    from rlsp_tf.upscaling.upscale import upscale as upscale

_HOMES = {
    "PRESETS": "network.config",
    "RLSP": "network.model",
    "RLSPCell": "network.cell",
    "RLSPConfig": "network.config",
    "RLSPError": "errors",
    "StreamingUpscaler": "inference.upscaler",
    "build_model": "network.model",
    "degrade": "pixels.degradation",
    "load_model": "network.weights",
    "upscale": "upscaling.upscale",
}
__all__ = [*_HOMES, "__version__"]

_SAVED = ("network.model", "training.loss", "training.truncated")
"""Modules whose classes are named in .keras files."""


def _register() -> None:
    """Makes known to Keras what it needs to load a .keras file of ours by itself."""
    # Where our own modules are just importing Keras, they cannot be imported. __getattr__ comes back to this.
    if not sys.modules.keys() & {f"{__name__}.network.cell", f"{__name__}.network.model"}:
        _import_saved()


def _import_saved() -> None:
    for home in _SAVED:
        import_module(f"{__name__}.{home}")


# Keras knows classes that were imported, and looks nowhere else. To import them here would import Keras,
# which takes seconds that programs without a network do not have; so they are imported once Keras is there.
after_import("keras", _register)


def __getattr__(name: str) -> object:
    """Imports a public name from its module when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    if "keras" in sys.modules:
        _import_saved()
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
