"""Wider networks that begin where narrow ones are."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.networks import SMALL, small_model
from rlsp_tf.errors import RLSPError
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.network.model import build_model, rlsp_layer
from rlsp_tf.network.widen import can_widen, widen
from rlsp_tf.training.build import compile_model
from rlsp_tf.training.options import TrainingOptions


def widened(model, config):
    """A model of a wider shape with the weights of a narrow one."""
    narrow, wide = rlsp_layer(model), build_model(config)
    cell = rlsp_layer(wide).cell
    cell.set_weights(widen(narrow.cell.get_weights(), narrow.config, cell.get_weights(), config))
    return wide


@pytest.mark.parametrize(
    "more", [{"filters": 11}, {"state_filters": 13}, {"filters": 11, "state_filters": 13}]
)
def test_a_wider_network_computes_what_the_narrow_one_does(rng, more):
    model = small_model(rng)
    clip = rng.integers(0, 256, (1, 12, 9, 10, 3)).astype(np.float32)
    expected = model.predict(clip, verbose=0)
    wide = widened(model, replace(SMALL, **more))
    # Zeros that are added change at most how the rest is summed.
    np.testing.assert_allclose(wide.predict(clip, verbose=0), expected, rtol=1e-5, atol=1e-2)
    assert np.ptp(expected) > 1


def test_new_filters_learn_from_the_first_step_on(rng, tmp_path):
    small_model(rng).save(tmp_path / "narrow.keras")
    network = replace(SMALL, filters=11, state_filters=13)
    options = TrainingOptions(
        network=network, init=str(tmp_path / "narrow.keras"), batch=2, frames=3, crop=8, precision="float32"
    )
    model = compile_model(options)
    before = model.get_weights()
    lr, hr = rng.uniform(0, 255, (2, 5, 8, 8, 3)), rng.uniform(0, 255, (2, 3, 32, 32, 3))
    for _ in range(2):
        model.train_on_batch(lr, hr)
    for old, new in zip(before, model.get_weights(), strict=True):
        changed = old != new
        assert changed.any(axis=tuple(range(changed.ndim - 1))).all(), "a filter that learns nothing"


def test_only_more_filters_make_a_network_wider(rng, tmp_path):
    for change in ({"filters": 1}, {"layers": 9}, {"output": "rgb"}, {"frames_after": 0}, {"scale": 2}):
        assert not can_widen(SMALL, replace(SMALL, **change))
    assert can_widen(SMALL, SMALL)
    assert can_widen(RLSPConfig(filters=48), RLSPConfig(filters=64))
    small_model(rng).save(tmp_path / "network.keras")
    with pytest.raises(RLSPError, match=r"network\.keras: is another network .* one with more filters"):
        compile_model(TrainingOptions(network=replace(SMALL, layers=9), init=str(tmp_path / "network.keras")))
