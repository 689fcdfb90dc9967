"""What several modules of tests of the server start from."""

import contextlib

import numpy as np
import pytest

from helpers.networks import small_model


@pytest.fixture(scope="module")
def model():
    return small_model(np.random.default_rng(0), precision="float32")


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("serve") / "small.keras"
    model.save(path)
    return path


@pytest.fixture
def serving(tmp_path):
    """Starts servers, see :func:`helpers.served.serving`."""
    from helpers import served

    with contextlib.ExitStack() as servers:

        def serve(*arguments, **options):
            return servers.enter_context(served.serving(tmp_path, *arguments, **options))

        yield serve
