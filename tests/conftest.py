"""Where tests find data, and what makes them repeatable."""

import importlib.util
import os
import random
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest

# Both are read when TensorFlow and Keras are imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

# An example may be the one that traces a graph, so time says nothing; chance would make a run unrepeatable.
hypothesis.settings.register_profile("rlsp_tf", deadline=None, derandomize=True)
hypothesis.settings.load_profile("rlsp_tf")


def pytest_configure() -> None:
    """Says once, and not for every test module, what is missing where rlsp_tf is not installed."""
    if not (importlib.util.find_spec("rlsp_tf") and importlib.util.find_spec("rlsp_tf.converters")):
        raise pytest.UsageError(
            f"{sys.executable} finds no whole rlsp_tf; run make test, or pip install -e '.[test]'"
        )


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real clips, frames and checkpoints, described in CONTRIBUTING.md."""
    named = os.environ.get("RLSP_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        if named:
            pytest.fail(f"RLSP_DATA names {folder}, which is no folder")
        pytest.skip(f"needs real data; set RLSP_DATA to its folder (there is no {folder})")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _same_every_run():
    """Seeds the global generators; those of Keras and TensorFlow only where a test module uses them."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)
    else:
        random.seed(0)
        np.random.seed(0)
