"""Where tests find data, and what makes them repeatable."""

import importlib.util
import multiprocessing
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

# Both are read when TensorFlow and Keras are imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"
# As TensorFlow does by itself on processors with AVX-512, so that 8 bits are tested on all.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# An example may be the one that traces a graph, so time says nothing; chance would make a run unrepeatable.
hypothesis.settings.register_profile("rlsp_tf", deadline=None, derandomize=True)
hypothesis.settings.load_profile("rlsp_tf")


def pytest_configure() -> None:
    """Says once, and not for every test module, what is missing where rlsp_tf is not installed.

    Prepares the processes of pytest-xdist.
    """
    if not (importlib.util.find_spec("rlsp_tf") and importlib.util.find_spec("rlsp_tf.converters")):
        raise pytest.UsageError(
            f"{sys.executable} finds no whole rlsp_tf; run make test, or pip install -e '.[test]'"
        )
    if "PYTEST_XDIST_WORKER" in os.environ:
        from rlsp_tf.system.cores import ONE_CORE

        # Each has a core for itself; the threads of more would wait for those of the others.
        for name, value in ONE_CORE.items():
            os.environ.setdefault(name, value)
        # They ignore interruptions, and so would all programs that they start.
        signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="session")
def step() -> Any:
    """A small network with random weights, traced once for every size of frames."""
    from helpers.networks import SMALL, small_model
    from rlsp_tf.inference.step import KerasStep

    return KerasStep(small_model(np.random.default_rng(0), SMALL))


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes each ``Worker`` of the benchmarks a fork of a process that has imported TensorFlow.

    A user's begin with nothing, which takes seconds for each; those are in the test of all contenders.
    """
    from rlsp_tf.benchmarks import harness
    from rlsp_tf.upscaling.upscale import Recipe

    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([Recipe.__module__])
    monkeypatch.setattr(harness, "get_context", lambda method: processes)


@pytest.fixture(autouse=True)
def _same_every_run():
    """Seeds the global generators; those of Keras and TensorFlow only where a test module uses them."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)
    else:
        random.seed(0)
        np.random.seed(0)
