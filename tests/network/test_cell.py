"""RLSPCell against the NumPy reference, one step at a time."""

import keras
import numpy as np
import pytest

from helpers import reference_numpy
from helpers.networks import random_weights
from rlsp_tf.network.cell import RLSPCell, depth_to_space, luma
from rlsp_tf.network.config import RLSPConfig

CONFIGS = [
    RLSPConfig(filters=6, layers=3),
    RLSPConfig(filters=5, layers=2, state_filters=7, scale=2, output="rgb"),
    RLSPConfig(filters=4, layers=4, scale=3, frames_before=2, frames_after=0),
]


def cell_with_random_weights(
    config: RLSPConfig, rng: np.random.Generator, dtype: str = "float32"
) -> RLSPCell:
    cell = RLSPCell(config, dtype=dtype)
    cell.build((None, None, None, 3 * config.window))
    random_weights(cell, rng)
    return cell


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.name}x{c.scale}{c.output}")
def test_one_step_equals_the_reference(config: RLSPConfig, rng: np.random.Generator) -> None:
    cell = cell_with_random_weights(config, rng)
    shape = (2, 5, 7)
    frames = rng.uniform(0, 255, (config.window, *shape, 3)).astype("float32")
    hidden = rng.uniform(0, 50, (*shape, config.hidden_channels)).astype("float32")
    feedback = rng.uniform(0, 255, (*shape, config.feedback_channels)).astype("float32")

    output, (new_hidden, new_feedback) = cell(np.concatenate(list(frames), axis=-1), [hidden, feedback])

    features = np.concatenate([*frames, hidden, feedback], axis=-1).astype("float64")
    weights = cell.get_weights()
    *trunk, to_hidden, to_output = zip(weights[0::2], weights[1::2], strict=True)
    for kernel, bias in trunk:
        features = np.maximum(reference_numpy.conv3x3(features, kernel, bias), 0)
    present = frames[config.frames_before].astype("float64")
    if config.output == "y":
        present = (present @ reference_numpy.RGB_TO_LUMA + 16)[..., None]
    residual = np.concatenate([present] * config.scale**2, axis=-1)
    expected = reference_numpy.conv3x3(features, *to_output) + residual
    # float32 carries 24 bits: values of a few hundred, summed over some hundred products.
    np.testing.assert_allclose(new_feedback, expected, atol=2e-3)
    np.testing.assert_allclose(
        new_hidden, np.maximum(reference_numpy.conv3x3(features, *to_hidden), 0), atol=2e-3
    )
    np.testing.assert_allclose(output, reference_numpy.depth_to_space(expected, config.scale), atol=2e-3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_depth_to_space_undoes_space_to_depth(scale: int, channels: int, rng: np.random.Generator) -> None:
    image = rng.normal(size=(2, 3 * scale, 5 * scale, channels)).astype("float32")
    packed = reference_numpy.space_to_depth(image, scale)
    np.testing.assert_array_equal(depth_to_space(packed, scale), image)


def test_luma_of_black_grey_and_white() -> None:
    rgb = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0]], "float32")
    # White is 235 up to the authors' coefficients, which sum to 219.859 / 256 instead of 219 / 255.
    expected = [[16], [16 + 255 * 219.859 / 256], [16 + 255 * 65.738 / 256]]
    np.testing.assert_allclose(luma(rgb), expected, rtol=1e-6)


def test_keeps_the_rnn_cell_protocol(rng: np.random.Generator) -> None:
    cell = cell_with_random_weights(RLSPConfig(filters=6, layers=2), rng)
    assert cell.state_size == [6, 16]
    states = cell.get_initial_state(2, 3, 4)
    assert [tuple(state.shape) for state in states] == [(2, 3, 4, 6), (2, 3, 4, 16)]
    assert all(not np.any(state) for state in states)
    output, new_states = cell(np.zeros((2, 3, 4, 9), "float32"), states)
    assert tuple(output.shape) == (2, 12, 16, 1)
    assert [tuple(state.shape) for state in new_states] == [tuple(state.shape) for state in states]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_leaves_residual_and_output_in_float32(policy: str, rng: np.random.Generator) -> None:
    cell = RLSPCell(RLSPConfig(filters=6, layers=2), dtype=policy)
    cell.build((None, None, None, 9))
    cell.set_weights([np.zeros_like(weight) for weight in cell.get_weights()])
    frame = rng.uniform(0, 255, (1, 3, 4, 3)).astype("float32")
    output, (hidden, feedback) = cell(np.concatenate([frame] * 3, axis=-1), cell.get_initial_state(1, 3, 4))
    # With zero weights the output is the residual alone, and no bit of it may be lost.
    np.testing.assert_array_equal(output, np.repeat(np.repeat(luma(frame), 4, axis=1), 4, axis=2))
    assert keras.backend.standardize_dtype(feedback.dtype) == "float32"
    assert keras.backend.standardize_dtype(hidden.dtype) == cell.compute_dtype


def test_refuses_a_window_of_another_size() -> None:
    with pytest.raises(ValueError, match="window of 3 RGB frames"):
        RLSPCell(RLSPConfig(filters=4, layers=2)).build((None, 4, 4, 6))
