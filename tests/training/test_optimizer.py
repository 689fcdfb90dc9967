import keras
import numpy as np
import pytest
from keras import ops

from rlsp_tf.training.optimizer import COEFFICIENTS, ITERATIONS, MOMENTUM, KernelMuon, orthogonal

KERNEL = (3, 3, 7, 5)


def newton_schulz(matrix):
    """As in the source of Muon: the matrix itself is iterated."""
    a, b, c = COEFFICIENTS
    x = matrix.astype(np.float64)
    x /= np.linalg.norm(x)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x


def trained(optimizer, start, gradients):
    """Returns the variable after each step."""
    variable = keras.Variable(start)
    optimizer.build([variable])
    values = []
    for gradient in gradients:
        optimizer.apply([ops.convert_to_tensor(gradient)])
        values.append(ops.convert_to_numpy(variable))
    return values


@pytest.mark.parametrize("shape", [(63, 5), (5, 5), (9, 48)])
def test_orthogonal_is_the_published_iteration(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype("float32")
    result = ops.convert_to_numpy(orthogonal(ops.convert_to_tensor(matrix)))
    # What float32 rounds, 6e-8, is multiplied by up to 3.4445**5 = 485 where singular values are near zero.
    np.testing.assert_allclose(result, newton_schulz(matrix), rtol=0, atol=1e-4)


def test_orthogonal_has_the_directions_of_the_matrix_and_singular_values_near_1():
    rng = np.random.default_rng(1)
    u, _ = np.linalg.qr(rng.normal(size=(63, 5)))
    v, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    matrix = (u * [1, 0.3, 0.1, 0.03, 0.01]) @ v.T * 1e6
    result = ops.convert_to_numpy(orthogonal(ops.convert_to_tensor(matrix.astype("float32"))))
    inside = u.T @ result @ v
    assert np.diag(inside).min() > 0.65
    assert np.diag(inside).max() < 1.25
    np.testing.assert_allclose(inside, np.diag(np.diag(inside)), rtol=0, atol=1e-3)
    np.testing.assert_allclose(u @ inside @ v.T, result, rtol=0, atol=1e-3)


def test_a_filter_without_gradient_stays_as_it_is():
    start = np.random.default_rng(2).normal(size=KERNEL).astype("float32")
    gradient = np.random.default_rng(3).normal(size=KERNEL).astype("float32")
    gradient[..., 2] = 0
    (value,) = trained(KernelMuon(0.01), start, [gradient])
    np.testing.assert_array_equal(value[..., 2], start[..., 2])
    assert (value[..., [0, 1, 3, 4]] != start[..., [0, 1, 3, 4]]).all()


def test_steps_of_a_kernel():
    rng = np.random.default_rng(4)
    start = rng.normal(size=KERNEL)
    gradients = 1e3 * rng.normal(size=(4, *KERNEL)).astype("float32")
    values = trained(KernelMuon(0.01), start.astype("float32"), gradients)
    value, momentum = start, np.zeros(KERNEL)
    for gradient, result in zip(gradients, values, strict=True):
        # As in the source of Muon, where momentum is a sum instead of an average.
        momentum = MOMENTUM * momentum + gradient
        step = newton_schulz((gradient + MOMENTUM * momentum).reshape(-1, KERNEL[-1])).reshape(KERNEL)
        value = value - 0.01 * 0.2 * np.sqrt(63) * step
        np.testing.assert_allclose(result, value, rtol=0, atol=2e-6)


def test_a_bias_is_trained_by_adam():
    rng = np.random.default_rng(5)
    start = rng.normal(size=5).astype("float32")
    gradients = rng.normal(size=(4, 5)).astype("float32")
    options = {"learning_rate": 0.01, "beta_2": 0.99, "use_ema": True}
    results = trained(KernelMuon(**options), start, gradients)
    np.testing.assert_array_equal(results, trained(keras.optimizers.Adam(**options), start, gradients))
