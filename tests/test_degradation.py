"""HR to LR: against SciPy's two-dimensional filter, bit by bit, and against the formula by hand."""

import imageio.v3 as iio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter

from rlsp_tf import RLSPError, degrade
from synthetic import make_clip


def scipy_formula(frame, scale=4, sigma=1.5):
    blurred = gaussian_filter(frame.astype(np.float32), sigma=(sigma, sigma, 0))
    return np.clip(np.round(blurred[::scale, ::scale]), 0, np.iinfo(frame.dtype).max).astype(frame.dtype)


def exact_formula(frame):
    """The kept pixels before rounding, in float64, from the definition of the Gaussian and its 13 taps."""
    taps = np.exp(-(np.arange(-6, 7) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()
    padded = np.pad(frame.astype(float), ((6, 6), (6, 6), (0, 0)), mode="symmetric")
    height, width, _ = frame.shape
    lr = np.zeros((len(range(0, height, 4)), len(range(0, width, 4)), 3))
    for dy in range(13):
        for dx in range(13):
            lr += taps[dy] * taps[dx] * padded[dy : dy + height : 4, dx : dx + width : 4]
    return lr


@pytest.mark.parametrize("name", ["calendar", "city", "foliage", "walk"])
def test_vid4_is_what_scipy_gives_bit_by_bit(data, name):
    for path in sorted((data / "vid4" / name).glob("*.png"))[::16]:
        frame = iio.imread(path)
        np.testing.assert_array_equal(degrade(frame), scipy_formula(frame))


def test_vid4_is_the_rounded_gaussian(data):
    frame = iio.imread(sorted((data / "vid4" / "calendar").glob("*.png"))[0])
    # Half a level for rounding; two passes in float32 err by less than 1e-4 at 255.
    assert np.abs(degrade(frame) - exact_formula(frame)).max() <= 0.5 + 1e-4


@st.composite
def frames(draw, dtypes=(np.uint8, np.uint16)):
    height, width = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    return draw(hnp.arrays(draw(st.sampled_from(dtypes)), (height, width, 3)))


@given(frames(), st.integers(1, 5), st.floats(0.3, 4))
def test_any_size_scale_and_sigma_is_what_scipy_gives_bit_by_bit(frame, scale, sigma):
    np.testing.assert_array_equal(
        degrade(frame, scale=scale, sigma=sigma), scipy_formula(frame, scale, sigma)
    )


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 17), (5, 4), (33, 7)])
def test_borders_of_small_frames_are_mirrored(rng, size):
    frame = rng.integers(0, 256, (*size, 3), np.uint8)
    lr = degrade(frame)
    assert lr.shape == exact_formula(frame).shape
    assert np.abs(lr - exact_formula(frame)).max() <= 0.5 + 1e-4


@given(st.integers(0, 65535), st.integers(1, 20), st.integers(1, 20))
def test_a_flat_frame_keeps_its_value(value, height, width):
    lr = degrade(np.full((height, width, 3), value, np.uint16))
    np.testing.assert_array_equal(lr, np.full_like(lr, value))


def test_a_clip_is_degraded_frame_by_frame():
    clip = make_clip(4, 22, 37).reshape(2, 2, 22, 37, 3)
    lr = degrade(clip)
    assert lr.shape == (2, 2, 6, 10, 3)
    for index in np.ndindex(2, 2):
        np.testing.assert_array_equal(lr[index], degrade(clip[index]))


def test_lr_pixel_i_lies_on_hr_pixel_4i():
    frame = np.zeros((41, 41, 3), np.uint8)
    frame[20, 24] = 255
    lr = degrade(frame)[..., 0].astype(int)
    assert np.unravel_index(lr.argmax(), lr.shape) == (5, 6)
    np.testing.assert_array_equal(lr[:, 6], lr[::-1, 6])
    np.testing.assert_array_equal(lr[5, 2:], lr[5, 2:][::-1])


@pytest.mark.parametrize(("scale", "sigma"), [(2, 0.75), (3, 1.125), (4, 1.5), (8, 3.0)])
def test_the_blur_grows_with_the_scale(scale, sigma):
    frame = make_clip(1, 40, 48)[0]
    np.testing.assert_array_equal(degrade(frame, scale=scale), degrade(frame, scale=scale, sigma=sigma))


def test_a_clip_is_not_changed_by_degrading_it():
    clip = make_clip(2, 16, 16)
    before = clip.copy()
    degrade(clip)
    np.testing.assert_array_equal(clip, before)


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        (np.zeros((8, 8, 3), np.float32), r"uint8 or uint16 .* not float32 \(8, 8, 3\)\.$"),
        (np.zeros((8, 8, 4), np.uint8), r"not uint8 \(8, 8, 4\)\.$"),
        (np.zeros((8, 3), np.uint8), r"not uint8 \(8, 3\)\.$"),
        (np.zeros((2, 0, 8, 3), np.uint8), r"8x0 have no pixel\.$"),
    ],
)
def test_what_is_no_frame_is_refused(frames, sentence):
    with pytest.raises(RLSPError, match=sentence):
        degrade(frames)


@pytest.mark.parametrize("options", [{"scale": 0}, {"sigma": 0}, {"sigma": -1.5}])
def test_options_without_meaning_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        degrade(np.zeros((8, 8, 3), np.uint8), **options)
