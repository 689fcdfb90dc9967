"""What RLSP does as Keras's recurrent layers do: state, masks, reversed time, saving, refusals."""

import keras
import numpy as np
import pytest

from helpers.networks import SMALL, random_weights, small_model
from rlsp_tf.network.cell import RLSPCell
from rlsp_tf.network.model import RLSP, build_model

# The same sums in loops that are compiled differently.
CLOSE = {"atol": 2e-3, "rtol": 0}


def layer_with(rng, shape=(None, None, None, None, 3), **options):
    layer = RLSP(SMALL, dtype="float32", **options)
    layer.build(shape)
    random_weights(layer, np.random.default_rng(3))
    return layer


@pytest.fixture
def clip(rng):
    return rng.uniform(1, 255, (2, 7, 5, 6, 3)).astype("float32")


def test_reversed_time_is_the_reversed_clip(clip, rng):
    expected = layer_with(rng)(clip[:, ::-1])
    np.testing.assert_allclose(layer_with(rng, go_backwards=True)(clip), expected, **CLOSE)
    expected = layer_with(rng, warm_start=2)(clip[:, ::-1])
    np.testing.assert_allclose(layer_with(rng, go_backwards=True, warm_start=2)(clip), expected, **CLOSE)


def test_a_stateful_layer_goes_on_until_it_is_reset(clip, rng):
    whole = layer_with(rng, border="given")(clip)
    stateful = layer_with(rng, (2, None, 5, 6, 3), border="given", stateful=True)
    assert len(stateful.get_weights()) == len(layer_with(rng).get_weights())
    for _ in range(2):
        pieces = [stateful(clip[:, first : first + 3]) for first in range(5)]
        np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, **CLOSE)
        stateful.reset_state()
    with pytest.raises(ValueError, match=r"built for 2 clips of 6x5 got 1 of 6x5"):
        stateful(clip[:1])


def test_a_stateful_model_predicts_statefully(clip, rng):
    inputs = keras.Input(batch_shape=(2, None, 5, 6, 3))
    model = keras.Model(inputs, RLSP(SMALL, stateful=True, return_state=True, dtype="bfloat16")(inputs))
    first = model.predict(clip, verbose=0)
    second = model.predict(clip, verbose=0)
    assert np.abs(first[0] - second[0]).max() > 0.1
    model.layers[1].reset_state()
    np.testing.assert_array_equal(model.predict(clip, verbose=0)[0], first[0])


@pytest.mark.parametrize("options", [{}, {"unroll": True}, {"go_backwards": True}])
def test_masked_frames_are_as_if_they_were_not_there(clip, rng, options):
    mask = np.array([[1, 1, 0, 1, 0, 0, 1], [0, 1, 1, 1, 1, 0, 0]], bool)
    layer = layer_with(rng, return_state=True, **options)
    outputs, *states = layer(clip, mask=mask)
    for index, counts in enumerate(mask):
        expected, *last = layer(clip[index : index + 1, counts])
        order = slice(None, None, -1 if options.get("go_backwards") else 1)
        found = np.asarray(outputs)[index, counts[order]]
        np.testing.assert_allclose(found, expected[0], **CLOSE)
        for state, wanted in zip(states, last, strict=True):
            np.testing.assert_allclose(state[index], wanted[0], **CLOSE)
        # Others repeat the output before them; there is none before the first.
        frames, counted = np.asarray(outputs)[index], counts[order]
        for t in np.flatnonzero(~counted):
            np.testing.assert_array_equal(frames[t], frames[t - 1] if t else np.zeros_like(frames[t]))
    zeros = layer_with(rng, zero_output_for_mask=True, **options)(clip, mask=mask)
    seen = mask[:, ::-1] if options.get("go_backwards") else mask
    np.testing.assert_allclose(zeros, np.where(seen[..., None, None, None], outputs, 0), **CLOSE)


def test_a_masking_layer_leaves_out_frames_that_are_padding(clip, rng):
    padded = clip.copy()
    padded[0, 4:] = 0
    padded[1, 2, :2] = 0  # a frame that is partly black is a frame
    layer = layer_with(rng)
    inputs = keras.Input((None, None, None, 3))
    model = keras.Model(inputs, layer(keras.layers.Masking()(inputs)))
    outputs = model.predict(padded, verbose=0)
    np.testing.assert_allclose(outputs[0, :4], layer(padded[:1, :4])[0], **CLOSE)
    np.testing.assert_allclose(outputs[1], layer(padded[1:])[0], **CLOSE)


def test_pieces_with_given_neighbours_are_masked_too(clip, rng):
    mask = np.ones((2, 7), bool)
    mask[:, 4:] = False
    layer = layer_with(rng, border="given")
    outputs = np.asarray(layer(clip, mask=mask))
    np.testing.assert_allclose(outputs[:, :3], np.asarray(layer(clip))[:, :3], **CLOSE)
    np.testing.assert_array_equal(outputs[:, 3:], outputs[:, [2, 2]])


@pytest.mark.parametrize(
    "options",
    [
        {"go_backwards": True},
        {"zero_output_for_mask": True, "unroll": True},
        {"border": "given", "return_state": True},
        {"warm_start": 2},
    ],
)
def test_options_survive_saving(clip, rng, tmp_path, options):
    inputs = keras.Input((7, None, None, 3))
    before = keras.layers.Masking() if "zero_output_for_mask" in options else keras.layers.Identity()
    model = keras.Model(inputs, RLSP(SMALL, **options)(before(inputs)))
    random_weights(model, rng)
    clip[:, 3] = 0
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    expected = model.predict(clip, verbose=0)
    found = loaded.predict(clip, verbose=0)
    for ours, theirs in zip(keras.tree.flatten(found), keras.tree.flatten(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    config = loaded.layers[-1].get_config()
    assert {name: config[name] for name in options} == options


def test_what_cannot_be_combined_is_refused_in_a_sentence(clip, rng):
    for options in ({"border": "given"}, {"stateful": True}):
        with pytest.raises(ValueError, match=r"warm_start .*; leave one of them out"):
            RLSP(SMALL, warm_start=2, **options)
    with pytest.raises(ValueError, match=r"outputs\[:, -1\]"):
        RLSP(SMALL, return_sequences=False)
    with pytest.raises(ValueError, match=r"batch_shape=\(B, None, H, W, 3\)"):
        RLSP(SMALL, stateful=True)(keras.Input((None, None, None, 3)))
    with pytest.raises(ValueError, match="warm_start cannot be combined with a mask"):
        layer_with(rng, warm_start=1)(clip, mask=np.ones((2, 7), bool))
    cell = RLSPCell(SMALL)
    windows = clip[:, :, :, :, [0] * 9]
    with pytest.raises(ValueError, match=r"does not tell it; use rlsp_tf\.RLSP"):
        keras.layers.RNN(cell)(windows)
    state = cell.get_initial_state(2, 5, 6)
    outputs = keras.layers.RNN(cell, return_sequences=True)(windows, initial_state=state)
    assert outputs.shape == (2, 7, 20, 24, 1)


@pytest.mark.parametrize(
    "shape", [(4, 8, 9, 3), (8, 9, 3), (1, 4, 8, 9), (1, 4, 8, 9, 1), (1, 4, 8, 9, 4), (1, 4, 3, 8, 9)]
)
def test_a_model_that_gets_no_clip_says_what_it_wants(shape):
    """Keras says it of a model, and the layer of itself."""
    model = build_model(SMALL)
    wanted = "expected shape=(None, None, None, None, 3)" if len(shape) == 5 else "expected ndim=5"
    for call in (model, lambda clip: model.predict(clip, verbose=0)):
        with pytest.raises(ValueError, match="incompatible with the layer") as failure:
            call(np.zeros(shape, "uint8"))
        message = str(failure.value)
        assert wanted in message
        assert str(shape) in message
        assert len(message) < 300
    with pytest.raises(ValueError, match=r"clips of shape \(batch, frames, height, width, 3\)"):
        RLSP(SMALL)(np.zeros(shape, "float32"))


def test_a_model_still_predicts(rng, clip):
    assert small_model(rng).predict(clip, verbose=0).shape == (2, 7, 20, 24, 1)
