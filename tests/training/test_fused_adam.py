"""TensorFlow's Adam in the place of Keras's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlsp_tf.training.fused_adam import FusedAdam

OPTIONS = {
    "learning_rate": 1e-2,
    "beta_2": 0.99,
    "global_clipnorm": 2.0,
    "use_ema": True,
    "ema_momentum": 0.9,
}
SHAPES = {"kernel": (3, 3, 4, 5), "bias": (5,)}


def train(optimizer, gradients):
    """All variables after steps along these gradients, those of the optimizer, too."""
    weights = [keras.Variable(np.ones(shape, np.float32), name=name) for name, shape in SHAPES.items()]
    optimizer.build(weights)

    @tf.function
    def step(*gradients):
        optimizer.apply(gradients)

    for each in gradients:
        step(*each)
    return {variable.path: variable.numpy() for variable in optimizer.variables}, [w.numpy() for w in weights]


@pytest.fixture
def gradients(rng):
    return [
        [tf.constant(rng.normal(0, 1, shape), tf.float32) for shape in SHAPES.values()] for _ in range(20)
    ]


def test_it_goes_the_same_way(gradients):
    ours, theirs = (train(kind(**OPTIONS), gradients) for kind in (FusedAdam, keras.optimizers.Adam))
    assert list(ours[0]) == list(theirs[0])
    # Far more than float32 rounds off in twenty steps, and far less than a step of 1e-2.
    for one, other in zip([*ours[0].values(), *ours[1]], [*theirs[0].values(), *theirs[1]], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_what_one_has_saved_the_other_goes_on_from(tmp_path):
    def model(kind):
        network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        keras.utils.set_random_seed(0)
        network.layers[0].set_weights([np.full((3, 2), 0.5, np.float32), np.zeros(2, np.float32)])
        network.compile(kind(**OPTIONS), "mse")
        network.optimizer.build(network.trainable_variables)
        return network

    x, y = np.ones((4, 3), np.float32), np.zeros((4, 2), np.float32)
    theirs, ours = model(keras.optimizers.Adam), model(FusedAdam)
    theirs.fit(x, y, epochs=3, verbose=0)
    theirs.save_weights(tmp_path / "last.weights.h5")
    ours.load_weights(tmp_path / "last.weights.h5")
    for network in (theirs, ours):
        network.fit(x, y, epochs=2, verbose=0)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
