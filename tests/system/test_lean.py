"""TensorFlow is imported without what it does not need, and that can be imported afterwards."""

import subprocess
import sys

import pytest

from rlsp_tf.system.lean import lean_imports

CODE = """
import gc, sys
from rlsp_tf.cli.common import start_tensorflow
start_tensorflow()
print(*sys.modules.keys() & {"jax", "matplotlib", "scipy"})
import keras, numpy, scipy.ndimage
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
model.predict(numpy.ones((1, 2)), verbose=0)
print(gc.isenabled())
"""


def test_a_command_starts_without_what_it_does_not_use():
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n") == ["", "True", ""]


def test_imports_work_again_after_the_block(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "scipy"]:
        monkeypatch.delitem(sys.modules, name)
    with lean_imports(), pytest.raises(ImportError):
        import scipy
    import scipy

    assert scipy.__version__


def test_what_is_loaded_and_the_backend_of_keras_stay(monkeypatch):
    loaded = object()
    monkeypatch.setitem(sys.modules, "matplotlib", loaded)
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with lean_imports():
        assert sys.modules["matplotlib"] is loaded
        assert "jax" not in sys.modules
    assert sys.modules["matplotlib"] is loaded
