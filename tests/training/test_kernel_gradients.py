"""Lighter gradients: those of TensorFlow's own back-propagation through time."""

import numpy as np
import pytest
import tensorflow as tf

from helpers.networks import SMALL, CentredRLSP, random_weights
from rlsp_tf.inference.hardware import training_precision
from rlsp_tf.training.kernel_gradients import lighter_gradients
from rlsp_tf.training.truncated import CarriedRLSP


@pytest.fixture
def clip(rng):
    return rng.uniform(0, 255, (4, 8, 9, 7, 3)).astype(np.float32)


def layer_of(kind, clip, precision="float32", **kwargs):
    layer = kind(SMALL, dtype=precision, **kwargs)
    layer.build(clip.shape)
    random_weights(layer.cell, np.random.default_rng(1))
    return layer


def plain_layer(clip, precision="float32"):
    return layer_of(CentredRLSP, clip, precision, border="given", unroll=True)


def gradients(layer, clip):
    @tf.function
    def compute(clip):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(layer(clip) ** 2)
        return tape.gradient(loss, layer.trainable_weights)

    return [gradient.numpy() for gradient in compute(clip)]


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("frames", [2, 3, 6])
def test_they_are_those_of_every_frame_added_up(clip, frames, parts):
    clip = clip[:, : frames + 2]
    ours = gradients(layer_of(CarriedRLSP, clip, parts=parts), clip)
    for one, other in zip(ours, gradients(plain_layer(clip), clip), strict=True):
        # Of the largest, because another order of a sum of thousands leaves its error with the smallest, too.
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


@pytest.mark.skipif(
    training_precision() != "bfloat16", reason="sums of an emulated bfloat16 are themselves in bfloat16"
)
def test_reduced_precision_costs_no_more_than_frame_by_frame(clip):
    exact = gradients(plain_layer(clip), clip)

    def errors(layer):
        return [np.abs(one - other).mean() for one, other in zip(gradients(layer, clip), exact, strict=True)]

    ours, theirs = (
        errors(layer)
        for layer in (
            layer_of(CarriedRLSP, clip, "mixed_bfloat16"),
            plain_layer(clip, "mixed_bfloat16"),
        )
    )
    # Over frames, their roundings to 8 bits cancel out in part; ours are few, and add one at most.
    rounding = [2**-9 * np.abs(gradient).mean() for gradient in exact]
    assert np.all(np.array(ours) < 2 * np.array(theirs) + rounding)


@pytest.mark.slow
def test_layers_are_as_before_afterwards(clip):
    layer = plain_layer(clip)
    before = gradients(layer, clip)
    with pytest.raises(KeyError), lighter_gradients(layer.cell):
        raise KeyError
    for one, other in zip(gradients(layer, clip), before, strict=True):
        np.testing.assert_array_equal(one, other)
