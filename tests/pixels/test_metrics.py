"""PSNR and SSIM against formulas written out by hand; what each protocol counts."""

import imageio.v3 as iio
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.signal import convolve2d

from helpers.synthetic import make_clip
from rlsp_tf.errors import RLSPError
from rlsp_tf.pixels.color import ColorSpec, rgb_to_ycbcr
from rlsp_tf.pixels.metrics import PROTOCOLS, EvaluationProtocol, Meter, cost, decibels, luma, psnr, ssim

INFINITY = float("inf")


def formula_psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


def formula_ssim(a, b):
    """Wang et al. 2004, equation 13, with a window in two dimensions and nothing beyond the edges."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()

    def local_mean(image):
        return convolve2d(image, window, mode="valid")

    a, b = a.astype(float), b.astype(float)
    mean_a, mean_b = local_mean(a), local_mean(b)
    var_a = local_mean(a * a) - mean_a**2
    var_b = local_mean(b * b) - mean_b**2
    covariance = local_mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similar = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return np.mean(similar / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))


planes = hnp.arrays(np.uint8, st.tuples(st.integers(11, 24), st.integers(11, 24)))


@given(planes, st.integers(1, 12))
def test_psnr_of_a_constant_offset(plane, offset):
    other = plane.astype(int) + offset
    assert psnr(plane, other) == pytest.approx(20 * np.log10(255 / offset), rel=1e-12)
    assert psnr(other, plane) == psnr(plane, other)


@given(planes, st.randoms(use_true_random=False))
def test_psnr_is_the_formula(plane, random):
    other = np.random.default_rng(random.getrandbits(32)).integers(0, 256, plane.shape, dtype=np.uint8)
    assume((plane != other).any())
    # Unsigned bytes must not wrap around when they are subtracted.
    assert psnr(plane, other) == pytest.approx(formula_psnr(plane, other), rel=1e-12)


@given(planes)
def test_identical_images_are_infinitely_good(plane):
    assert psnr(plane, plane) == INFINITY
    assert ssim(plane, plane) == 1.0


@given(planes, st.randoms(use_true_random=False))
def test_ssim_is_the_formula_on_noise(plane, random):
    other = np.random.default_rng(random.getrandbits(32)).integers(0, 256, plane.shape, dtype=np.uint8)
    assert ssim(plane, other) == pytest.approx(formula_ssim(plane, other), abs=1e-10)


def test_ssim_is_the_formula_on_real_frames(data):
    hr = iio.imread(data / "vid4" / "walk" / "0004.png")
    sr = iio.imread(data / "rlsp-original" / "frames" / "7-64" / "walk_y" / "frame_0004.png")
    value = ssim(luma(hr), sr)
    assert value == pytest.approx(formula_ssim(luma(hr), sr), abs=1e-12)
    assert value > 0.88  # these belong together: a shift of one pixel makes it 0.84, one frame 0.77


def test_ssim_needs_one_window():
    plane = np.zeros((11, 11))
    assert ssim(plane, plane) == 1.0
    with pytest.raises(ValueError, match="win_size"):
        ssim(plane[:10], plane[:10])


def test_luma_is_bt601(rng):
    frame = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    expected, _, _ = rgb_to_ycbcr(*np.moveaxis(frame.astype(float), -1, 0), ColorSpec("bt601", False))
    # The authors' weights are rounded to 1/256000.
    np.testing.assert_allclose(luma(frame), expected, atol=1e-3)
    assert luma(frame).dtype == np.float64


@pytest.fixture
def clips(rng):
    """The truth, a noisy version of it, and luma of both."""
    hr = make_clip(7, 40, 44)
    sr = np.clip(hr + rng.normal(0, 1 + np.arange(7)[:, None, None, None], hr.shape), 0, 255)
    sr = np.rint(sr).astype(np.uint8)
    return hr, sr, luma(hr), luma(sr)


def measured(protocol, hr, sr, hr_y, sr_y):
    meter = Meter(protocol.crop)
    for frame in zip(hr_y, sr_y, hr, sr, strict=True):
        meter.add(*frame)
    return protocol.summarize(meter.frames)


@pytest.mark.parametrize(("name", "crop", "drop"), [("rlsp", 8, 2), ("duf", 8, 0), ("full", 0, 0)])
def test_each_protocol_counts_its_frames_and_pixels(clips, name, crop, drop):
    hr, sr, hr_y, sr_y = (clip[drop : 7 - drop, crop : 40 - crop, crop : 44 - crop] for clip in clips)
    summary = measured(PROTOCOLS[name], *clips)

    frames = summary.pop("frames")
    assert [frame.pop("index") for frame in frames] == list(range(drop, 7 - drop))
    assert frames[0].pop("temporal_psnr_y") is None
    frames[0]["temporal_psnr_y"] = INFINITY  # stands for the missing difference, and adds nothing
    hr_steps, sr_steps = np.diff(hr_y, axis=0), np.diff(sr_y, axis=0)
    by_hand = {
        "psnr_y": [formula_psnr(*pair) for pair in zip(hr_y, sr_y, strict=True)],
        "ssim_y": [formula_ssim(*pair) for pair in zip(hr_y, sr_y, strict=True)],
        "psnr_rgb": [formula_psnr(*pair) for pair in zip(hr, sr, strict=True)],
        "temporal_psnr_y": [INFINITY, *map(formula_psnr, hr_steps, sr_steps)],
    }
    for metric, expected in by_hand.items():
        np.testing.assert_allclose([frame[metric] for frame in frames], expected, rtol=1e-9, err_msg=metric)

    if name == "rlsp":
        whole = {"psnr_y": (hr_y, sr_y), "psnr_rgb": (hr, sr), "temporal_psnr_y": (hr_steps, sr_steps)}
        expected = {metric: formula_psnr(*pair) for metric, pair in whole.items()}
        expected["ssim_y"] = np.mean(by_hand["ssim_y"])
    else:
        by_hand["temporal_psnr_y"].pop(0)
        expected = {metric: np.mean(values) for metric, values in by_hand.items()}
    assert summary == pytest.approx(expected, rel=1e-9)


def test_the_order_of_logarithm_and_mean_matters(clips):
    of_mean = measured(EvaluationProtocol("a", mean="sequence MSE"), *clips)["psnr_y"]
    mean_of = measured(EvaluationProtocol("b", mean="mean over frames"), *clips)["psnr_y"]
    assert mean_of - of_mean > 1  # the frames of this clip differ a lot; on Vid4 it is a few hundredths


def test_a_steady_error_costs_no_temporal_psnr(clips):
    hr, _, hr_y, _ = clips
    summary = measured(PROTOCOLS["full"], hr, hr, hr_y, hr_y + 4.0)
    assert summary["temporal_psnr_y"] > 250  # float64 errs
    assert summary["psnr_y"] == pytest.approx(decibels(16.0))


def test_luma_in_bytes_does_not_wrap_around():
    rgb = np.zeros((2, 12, 12, 3), np.uint8)
    dark, bright = np.full((2, 12, 12), [[[10]], [[200]]], np.uint8)
    summary = measured(PROTOCOLS["full"], rgb, rgb, np.stack([bright, dark]), np.stack([dark, dark]))
    assert summary["psnr_y"] == INFINITY
    assert summary["temporal_psnr_y"] == pytest.approx(20 * np.log10(255 / 190))


def test_one_frame_has_no_temporal_psnr(clips):
    summary = measured(PROTOCOLS["full"], *(clip[:1] for clip in clips))
    assert summary["temporal_psnr_y"] is None
    assert len(summary["frames"]) == 1


def test_a_sequence_that_is_dropped_whole_is_refused(clips):
    with pytest.raises(RLSPError, match="drops 2 frames at each end, which leaves none of 4"):
        measured(PROTOCOLS["rlsp"], *(clip[:4] for clip in clips))
    assert len(measured(PROTOCOLS["rlsp"], *(clip[:5] for clip in clips))["frames"]) == 1


@pytest.mark.parametrize(("height", "width", "fits"), [(27, 27, True), (26, 40, False), (40, 26, False)])
def test_frames_need_room_for_one_window_inside_the_crop(height, width, fits):
    meter, rgb = Meter(crop=8), np.zeros((height, width, 3), np.uint8)
    if fits:
        meter.add(luma(rgb), luma(rgb), rgb, rgb)
        assert meter.frames[0].mse_y == 0
    else:
        with pytest.raises(RLSPError, match=f"{width}x{height} are too small for a crop border of 8"):
            meter.add(luma(rgb), luma(rgb), rgb, rgb)
    assert len(meter.frames) == fits


def test_a_protocol_says_what_it_is():
    assert PROTOCOLS["rlsp"].describe() == (
        "8 pixels cropped at every edge, first and last 2 frames dropped, output rounded to 8 bits, "
        "PSNR of the sequence's MSE"
    )
    assert EvaluationProtocol("mine", rounding=False).describe() == (
        "no crop, all frames, output not rounded, mean PSNR of the frames"
    )
    assert all(protocol.source for protocol in PROTOCOLS.values())


def test_a_cost_is_what_independent_errors_take_from_27_db(rng):
    # The formula by hand: errors of as much power as those of 27 dB double it.
    sigma = 255 / 10 ** (27 / 20)
    assert cost(np.full((3, 4), sigma)) == pytest.approx(10 * np.log10(2))
    assert cost(np.zeros(5, np.float32)) == 0
