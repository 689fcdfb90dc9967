import numpy as np
import pytest

from helpers.clips import index, write_folder
from helpers.networks import small_model
from helpers.reference_numpy import rlsp
from helpers.synthetic import make_clip
from rlsp_tf.media.degradations import degradation_named
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.pixels.degradation import degrade
from rlsp_tf.training.clips.photographs import index_photographs
from rlsp_tf.training.validator import FRAMES, Validator, clip_excerpts, photograph_excerpts


@pytest.fixture(scope="module")
def frames():
    return make_clip(7, 60, 72), make_clip(9, 64, 60, seed=1)


@pytest.fixture(scope="module")
def validator(frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("validation")
    for name, clip in zip("ab", frames, strict=True):
        write_folder(folder / "data" / name, clip)
    clips, _ = index(folder / "data", cache=folder / "cache")
    return Validator(clip_excerpts(clips))


def test_the_middle_of_the_first_frames_is_measured(validator, frames):
    """As long and as large as the smallest clip."""
    first, second = frames
    assert validator.hr.shape == (2, 7, 60, 60, 3)
    np.testing.assert_array_equal(validator.hr[0], first[:, :, 6:66])
    np.testing.assert_array_equal(validator.hr[1], second[:7, 2:62])
    # Frames are blurred whole, then cut.
    blurred = degrade(first, scale=1, sigma=1.5)
    np.testing.assert_array_equal(validator.lr[0], blurred[:, ::4, 6:66:4])
    assert FRAMES == 20


@pytest.mark.parametrize(
    "config", [RLSPConfig(filters=6, layers=3), RLSPConfig(filters=5, layers=2, output="rgb")]
)
def test_states_are_carried_or_zeroed(validator, rng, config):
    model = small_model(rng, config)
    weights = model.get_weights()
    # A network that is deaf to its state does with a carried one what any network does with zeros.
    deaf = [weights[0].copy(), *weights[1:]]
    deaf[0][:, :, 9:] = 0
    for clip, carried, zeroed in zip(
        validator.lr, validator.carried(model), validator.zeroed(model), strict=True
    ):
        # float32 against float64, on a scale of 255.
        np.testing.assert_allclose(carried, rlsp(clip[None], weights)[0][0], atol=0.01)
        np.testing.assert_allclose(zeroed, rlsp(clip[None], deaf)[0][0], atol=0.01)
    assert np.abs(validator.carried(model) - validator.zeroed(model)).max() > 1


def test_psnr_is_counted_as_the_protocol_says(validator, rng):
    noisy = validator.hr[..., :1] + rng.normal(0, 3, (2, 7, 60, 60, 1))
    truth = (validator.hr.astype(float) @ [65.738, 129.057, 25.064]) / 256 + 16
    rounded = np.clip(np.round(noisy[..., 0]), 0, 255)
    squares = np.square(rounded - truth)[:, 2:-2, 8:-8, 8:-8].mean(axis=(1, 2, 3))
    assert validator.measure(noisy) == pytest.approx(np.mean(10 * np.log10(255**2 / squares)), abs=1e-9)


def test_luma_is_measured_where_the_output_is_rgb(validator, rng):
    noisy = validator.hr + rng.normal(0, 3, validator.hr.shape)
    weights = np.array([65.738, 129.057, 25.064]) / 256
    difference = (np.clip(np.round(noisy), 0, 255) - validator.hr) @ weights
    squares = np.square(difference)[:, 2:-2, 8:-8, 8:-8].mean(axis=(1, 2, 3))
    assert validator.measure(noisy) == pytest.approx(np.mean(10 * np.log10(255**2 / squares)), abs=1e-9)


def test_clips_are_measured_under_the_degradation_of_the_training(frames, tmp_path):
    write_folder(tmp_path / "data" / "a", frames[0])
    clips, _ = index(tmp_path / "data", cache=tmp_path / "cache")
    excerpts = clip_excerpts(clips, degradation_named("crf30"))
    plain = clip_excerpts(clips)
    np.testing.assert_array_equal(excerpts.hr, plain.hr)
    error = np.abs(excerpts.lr.astype(int) - plain.lr)
    assert error.max() > 3
    # The same frames, not those beside: x264 at 30 is closer than a shift by one pixel.
    assert error.mean() < np.abs(plain.lr[:, :, :, 1:].astype(int) - plain.lr[:, :, :, :-1]).mean()


@pytest.mark.slow
def test_photographs_move_always_alike(tmp_path):
    write_folder(tmp_path / "photos", [make_clip(1, 360, 500, seed=1)[0], make_clip(1, 300, 280, seed=2)[0]])
    photographs, _ = index_photographs([tmp_path / "photos"], cache=tmp_path / "cache")
    excerpts, again = (photograph_excerpts(photographs, 4) for _ in range(2))
    assert excerpts.names == ["frame_000.png", "frame_001.png"]
    assert excerpts.hr.shape == (2, 20, 256, 384, 3)
    np.testing.assert_array_equal(excerpts.hr, again.hr)
    np.testing.assert_array_equal(excerpts.lr, again.lr)
    # Frames are degraded with what is around them: only near their edges does it matter.
    np.testing.assert_array_equal(excerpts.lr[:, :, 2:-2, 2:-2], degrade(excerpts.hr)[:, :, 2:-2, 2:-2])
    assert np.abs(np.diff(excerpts.hr.astype(int), axis=1)).mean(axis=(0, 2, 3, 4)).min() > 0.3


@pytest.mark.parametrize("layers", [2, 3])
def test_filters_that_are_zero_nearly_everywhere_are_counted(validator, rng, layers):
    model = small_model(rng, RLSPConfig(filters=6, layers=layers))
    # Without negative weights, no filter is silent.
    weights = [np.abs(weight) / 10 for weight in model.get_weights()]
    model.set_weights(weights)
    assert validator.silent(model) == 0
    weights[1][:2] = -1e9
    weights[-3][4] = -1e9  # of the hidden state
    model.set_weights(weights)
    assert validator.silent(model) == 3
