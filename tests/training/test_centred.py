"""The coordinates of training: the same network, in which small steps stay small."""

import keras
import numpy as np

from helpers.networks import SMALL, random_weights
from rlsp_tf.network.cell import RLSPCell
from rlsp_tf.training.centred import UNIT, CentredCell, network_weights, trained_weights


def built(kind):
    cell = kind(SMALL, dtype="float32")
    cell.build((None, None, None, 3 * SMALL.window))
    return cell


def test_weights_come_back_from_the_coordinates_of_training(rng):
    cell = built(RLSPCell)
    random_weights(cell, rng)
    weights = cell.get_weights()
    for back, weight in zip(network_weights(trained_weights(weights, SMALL), SMALL), weights, strict=True):
        # A bias is a difference of numbers of some hundred grey levels.
        np.testing.assert_allclose(back, weight, rtol=1e-6, atol=UNIT * 1e-6)


def test_it_is_the_same_network_at_the_edges_too(rng):
    plain, centred = built(RLSPCell), built(CentredCell)
    random_weights(centred, rng)
    plain.set_weights(network_weights(centred.get_weights(), SMALL))
    window = rng.uniform(0, 255, (2, 6, 7, 3 * SMALL.window)).astype(np.float32)
    states = [rng.uniform(0, 255, (2, 6, 7, size)).astype(np.float32) for size in plain.state_size]
    output, next_states = plain(window, states)
    other, other_states = centred(window, states)
    for ours, theirs in zip([other, *other_states], [output, *next_states], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-3)


def test_a_change_of_a_kernel_leaves_grey_frames_as_they_are(rng):
    """Whatever kernels are, frames and feedback of ``UNIT`` give the trained bias, away from the edges."""
    centred = built(CentredCell)
    random_weights(centred, rng)
    first = centred.convolutions[0]
    grey = np.full((1, 3, 3, SMALL.input_channels), UNIT, np.float32)
    hidden = slice(3 * SMALL.window, 3 * SMALL.window + SMALL.hidden_channels)
    grey[..., hidden] = 0
    output = keras.ops.convert_to_numpy(first(grey))[0, 1, 1]
    bias = keras.ops.convert_to_numpy(first.bias)
    np.testing.assert_allclose(output, UNIT * bias, rtol=1e-4, atol=1e-3)
