"""Cubic resampling: exactness on polynomials, phase, edges, and TensorFlow's own resize."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsp_tf.pixels.resample import cubic_matrix, enlarge_matrix


@given(
    size=st.integers(1, 30),
    out=st.integers(1, 60),
    step=st.floats(0.05, 3),
    origin=st.floats(-3, 3),
)
def test_a_constant_stays_constant(size: int, out: int, step: float, origin: float) -> None:
    matrix = cubic_matrix(size, out, step=step, origin=origin)
    assert matrix.shape == (out, size)
    np.testing.assert_allclose(matrix @ np.full(size, 7.0), 7.0, rtol=1e-12)


@pytest.mark.parametrize("step", [0.25, 0.5, 1.0, 1 / 3])
@pytest.mark.parametrize("origin", [0.0, -0.375, -0.1875, 0.6])
def test_a_parabola_is_read_at_the_stated_positions(step: float, origin: float) -> None:
    # Keys' kernel with a = -0.5 is the one that reproduces second-order polynomials.
    x = np.arange(20.0)
    positions = origin + step * np.arange(int(16 / step))
    inside = (positions >= 1) & (positions <= 18)
    result = cubic_matrix(20, positions.size, step=step, origin=origin) @ (0.3 * x**2 - 2 * x + 5)
    expected = 0.3 * positions**2 - 2 * positions + 5
    np.testing.assert_allclose(result[inside], expected[inside], rtol=1e-10)


def test_low_resolution_samples_stay_where_the_degradation_took_them() -> None:
    values = np.array([3.0, 9.0, 1.0, 5.0])
    np.testing.assert_allclose((enlarge_matrix(4, 4) @ values)[::4], values)


def test_beyond_the_edge_the_edge_sample_is_repeated() -> None:
    np.testing.assert_allclose(cubic_matrix(3, 2, step=1, origin=-9), [[1, 0, 0], [1, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(cubic_matrix(3, 2, step=1, origin=9), [[0, 0, 1], [0, 0, 1]], atol=1e-12)


def test_half_pixel_centres_are_tensorflows_resize_away_from_the_edges(rng: np.random.Generator) -> None:
    import tensorflow as tf

    image = rng.uniform(0, 255, (9, 11))
    rows = cubic_matrix(9, 36, step=0.25, origin=-0.375)
    columns = cubic_matrix(11, 44, step=0.25, origin=-0.375)
    expected = tf.image.resize(image[..., None], (36, 44), "bicubic")[..., 0].numpy()
    # TensorFlow looks its float32 weights up in a table of 1024 positions.
    np.testing.assert_allclose((rows @ image @ columns.T)[8:-8, 8:-8], expected[8:-8, 8:-8], atol=1e-2)


def test_reducing_does_not_alias() -> None:
    stripes = np.tile([0.0, 100.0], 20)
    result = cubic_matrix(40, 20, step=2, origin=0.5) @ stripes
    np.testing.assert_allclose(result[4:-4], 50, atol=1)
