"""RLSP video super-resolution (Fuoli, Gu, Timofte 2019, arXiv 1909.08080) in TensorFlow and Keras.

Names are imported on first use: ``import rlsp_tf`` alone loads neither TensorFlow nor Keras.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from rlsp_tf._version import __version__ as __version__

if TYPE_CHECKING:
    from rlsp_tf.cell import RLSPCell as RLSPCell
    from rlsp_tf.config import PRESETS as PRESETS
    from rlsp_tf.config import RLSPConfig as RLSPConfig
    from rlsp_tf.degradation import degrade as degrade
    from rlsp_tf.errors import RLSPError as RLSPError
    from rlsp_tf.model import RLSP as RLSP
    from rlsp_tf.model import build_model as build_model
    from rlsp_tf.model import load_model as load_model
    from rlsp_tf.streaming import StreamingUpscaler as StreamingUpscaler
    from rlsp_tf.upscale import upscale as upscale

_HOMES = {
    "PRESETS": "config",
    "RLSP": "model",
    "RLSPCell": "cell",
    "RLSPConfig": "config",
    "RLSPError": "errors",
    "StreamingUpscaler": "streaming",
    "build_model": "model",
    "degrade": "degradation",
    "load_model": "model",
    "upscale": "upscale",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> object:
    """Imports a public name from its module when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        # The import system binds loaded submodules by this; upscale has to stay the function.
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
