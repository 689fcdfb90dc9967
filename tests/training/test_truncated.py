"""Truncated back-propagation: the same numbers as the whole sequence, with gradients cut."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.networks import SMALL, CentredRLSP, random_weights, small_model
from rlsp_tf.errors import RLSPError
from rlsp_tf.network.model import RLSP, rlsp_layer
from rlsp_tf.network.weights import load_model
from rlsp_tf.training.centred import network_weights
from rlsp_tf.training.truncated import CarriedRLSP

BATCH, FRAMES, PIECES, HEIGHT, WIDTH = 4, 3, 3, 6, 7


@pytest.fixture
def clip(rng):
    return rng.integers(0, 256, (BATCH, FRAMES * PIECES, HEIGHT, WIDTH, 3)).astype(np.float32)


def piece(clip, index):
    """The frames of a piece and their neighbours, edge frames replicated."""
    around = np.arange(index * FRAMES - 1, (index + 1) * FRAMES + 1).clip(0, clip.shape[1] - 1)
    return clip[:, around]


def carried_layer(rng, **kwargs):
    layer = CarriedRLSP(SMALL, dtype="float32", **kwargs)
    layer.build((BATCH, FRAMES + 2, HEIGHT, WIDTH, 3))
    random_weights(layer.cell, rng)
    return layer


def plain_layer(weights, kind=RLSP, **kwargs):
    plain = kind(SMALL, dtype="float32", **kwargs)
    plain.build((None, None, None, None, 3))
    plain.set_weights(weights)
    return plain


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_pieces_give_what_the_whole_sequence_gives_again_and_again(rng, clip, parts):
    layer = carried_layer(rng, pieces=PIECES, parts=parts)
    whole = plain_layer(network_weights(layer.cell.get_weights(), SMALL))(clip).numpy()
    for _ in range(2):
        outputs = [layer(piece(clip, index)).numpy() for index in range(PIECES)]
        # Another batch size may sum in another order.
        np.testing.assert_allclose(np.concatenate(outputs, axis=1), whole, rtol=1e-6, atol=1e-4)


def test_a_sequence_of_one_piece_remembers_nothing(rng, clip):
    layer = carried_layer(rng)
    assert not layer.non_trainable_variables
    first = layer(piece(clip, 0)).numpy()
    layer(piece(clip, 1))
    np.testing.assert_array_equal(layer(piece(clip, 0)).numpy(), first)


def test_gradients_end_where_a_piece_begins(rng, clip):
    layer = carried_layer(rng, pieces=PIECES)
    layer(piece(clip, 0))
    state = [variable.numpy() for variable in layer.carried]
    assert np.abs(state[0]).max() > 1
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(layer(piece(clip, 1)) ** 2)
    gradients = tape.gradient(loss, layer.trainable_weights)
    plain = plain_layer(layer.cell.get_weights(), CentredRLSP, border="given")
    with tf.GradientTape() as tape:
        # The state as a constant.
        loss = tf.reduce_mean(plain(piece(clip, 1), initial_state=state) ** 2)
    for ours, theirs in zip(gradients, tape.gradient(loss, plain.trainable_weights), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_a_layer_is_saved_in_the_middle_of_a_sequence_and_goes_on(rng, clip, tmp_path):
    inputs = keras.Input((FRAMES + 2, HEIGHT, WIDTH, 3), batch_size=BATCH)
    layer = carried_layer(rng, pieces=PIECES, parts=2)
    model = keras.Model(inputs, layer(inputs))
    model(piece(clip, 0))
    model.save(tmp_path / "middle.keras")
    again = keras.Model(inputs, carried_layer(rng, pieces=PIECES, parts=2)(inputs))
    again.load_weights(tmp_path / "middle.keras")
    np.testing.assert_array_equal(again(piece(clip, 1)), model(piece(clip, 1)))
    with pytest.raises(RLSPError, match=r"is the checkpoint of a training; give averaged\.keras"):
        load_model(tmp_path / "middle.keras")


def test_given_neighbours_are_those_that_are_replicated(rng, clip):
    model = small_model(rng)
    given = plain_layer(model.get_weights(), border="given")
    padded = np.concatenate([clip[:, :1], clip, clip[:, -1:]], axis=1)
    np.testing.assert_array_equal(given(padded), rlsp_layer(model)(clip))
    assert given.compute_output_shape((None, 5, None, 7, 3)) == (None, 3, None, 28, 1)
    assert RLSP.from_config(given.get_config()).border == "given"
