"""RLSPConfig: names, derived channels, refusals."""

import dataclasses

import pytest

from rlsp_tf.errors import RLSPError
from rlsp_tf.network.config import PRESETS, RLSPConfig


def test_presets_are_the_papers_networks() -> None:
    assert {name: (c.layers, c.filters) for name, c in PRESETS.items()} == {
        "7-48": (7, 48),
        "7-64": (7, 64),
        "7-128": (7, 128),
        "7-256": (7, 256),
    }
    assert all(config.name == name for name, config in PRESETS.items())


def test_channels_of_7_64_are_those_of_the_authors_first_kernel() -> None:
    # Their layer0 kernel is (3, 3, 89, 64): three RGB frames, 64 of hidden state, 16 of feedback.
    assert PRESETS["7-64"].input_channels == 89
    assert PRESETS["7-64"].feedback_channels == 16


def test_rgb_output_and_other_windows_change_the_channels() -> None:
    config = RLSPConfig(filters=8, state_filters=5, scale=3, output="rgb", frames_before=2, frames_after=0)
    assert config.window == 3
    assert config.feedback_channels == 27
    assert config.input_channels == 9 + 5 + 27


def test_survives_a_trip_through_a_dictionary() -> None:
    config = RLSPConfig(filters=3, layers=2, state_filters=4, scale=2, output="rgb", frames_before=0)
    assert RLSPConfig.from_dict(config.to_dict()) == config


def test_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["7-48"].filters = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    "wrong",
    [{"filters": 0}, {"layers": 1}, {"scale": 0}, {"output": "yuv"}, {"frames_before": -1}, {"filters": 4.0}],
)
def test_refuses_what_makes_no_network(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RLSPConfig(**wrong)


def test_refuses_unknown_fields_and_names() -> None:
    with pytest.raises(ValueError, match="colour"):
        RLSPConfig.from_dict({"colour": 3})
    with pytest.raises(RLSPError, match="layers-filters"):
        RLSPConfig.from_name("big")
