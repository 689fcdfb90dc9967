"""A moment before and after: what a whole run gives, and what the formula of interpolation gives."""

import numpy as np
import pytest

from helpers.networks import SMALL, small_model
from helpers.synthetic import make_clip
from helpers.videos import make_video
from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.upscaler import StreamingUpscaler
from rlsp_tf.media.images import write_png
from rlsp_tf.media.open import open_source
from rlsp_tf.media.pixel_formats import rgb_from_planes
from rlsp_tf.media.shots import detect_shots
from rlsp_tf.media.video_decoder import VideoDecoder
from rlsp_tf.pixels.resample import enlarge_matrix
from rlsp_tf.upscaling.preview import preview_frame, preview_frames
from rlsp_tf.upscaling.upscale import WARM_START


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    for index, image in enumerate(np.concatenate([make_clip(20, 13, 18, 1), make_clip(20, 13, 18, 9)])):
        write_png(folder / f"{index:03d}.png", image)
    return folder


def whole_run(path, step):
    """RGB of all frames as a whole run makes them, and of those of the clip."""
    with open_source(path) as frames:
        upscaler = StreamingUpscaler(step, source=frames.color, warm_start=WARM_START)
        large, small = [], []
        for frame, begins in detect_shots(frames, frames.depth):
            if begins and small:
                large += upscaler.end_shot()
            large += upscaler.push(frame.planes if frames.color else frame.planes[0])
            small.append(rgb_from_planes(frame.planes, frames.color) if frames.color else frame.planes[0])
        return large + upscaler.flush(), small


def bicubic(rgb):
    rows, columns = (enlarge_matrix(size, 4) for size in rgb.shape[:2])
    large = np.einsum("ij,jkc,lk->ilc", rows, rgb.astype(float), columns, optimize=True)
    return np.clip(np.rint(large), 0, 255).astype(np.uint8)


def test_near_the_beginning_of_a_shot_it_is_what_a_whole_run_makes(folder, step):
    large, small = whole_run(folder, step)
    for index in (0, 1, 4, 20, 22, 24):
        moment = preview_frame(folder, step, at=index / 25)
        np.testing.assert_array_equal(moment.after, large[index])
        np.testing.assert_array_equal(moment.before, bicubic(small[index]))
        assert moment.seconds == pytest.approx(index / 25)


@pytest.mark.slow
def test_within_a_video_it_is_nearly_that(data, step):
    path = data / "video" / "realshort_320x240.mp4"
    large, small = whole_run(path, step)
    moment = preview_frame(path, step, at=25 / 30.02)
    difference = moment.after.astype(float) - large[25]
    # By bicubic interpolation it is more than a hundred times as far away.
    assert np.sqrt(np.mean(difference**2)) < 0.5
    assert np.abs(moment.before.astype(float) - bicubic(small[25])).max() <= 1
    assert any("colour matrix" in note for note in moment.notes)


def test_frames_from_a_moment_on(folder, step):
    large, _ = whole_run(folder, step)
    with preview_frames(folder, step, at=18 / 25) as (frames, moments):
        shown = [*moments]
        assert frames.path == folder
    assert [round(25 * moment.seconds) for moment in shown] == [*range(18, 40)]
    for index, moment in enumerate(shown[2:], 20):  # from the cut on
        np.testing.assert_array_equal(moment.after, large[index])


def test_one_image_and_one_of_16_bits(tmp_path, step):
    (image,) = make_clip(1, 9, 7, 3)
    write_png(tmp_path / "one.png", image)
    write_png(tmp_path / "deep.png", image.astype(np.uint16) * 257)
    one, deep = (preview_frame(tmp_path / f"{name}.png", step) for name in ("one", "deep"))
    assert one.after.shape == one.before.shape == (36, 28, 3)
    assert one.after.dtype == deep.after.dtype == np.uint8
    np.testing.assert_array_equal(one.before, deep.before)
    assert np.abs(one.after.astype(int) - deep.after).max() <= 1
    with pytest.raises(RLSPError, match=r"one.png: has no frame at 0:01.000"):
        preview_frame(tmp_path / "one.png", step, at=1)


def test_by_default_it_shows_something(tmp_path, step):
    black, clip = np.zeros((25, 16, 20, 3), np.uint8), make_clip(20, 16, 20, 2)
    for index, image in enumerate([*black, *clip]):
        write_png(tmp_path / f"{index:02d}.png", image)
    # A third is frame 15, half is frame 22, two thirds is frame 30.
    assert preview_frame(tmp_path, step).seconds == pytest.approx(30 / 25)
    dark = make_video(tmp_path / "dark.mkv", codec="ffv1", frames=None, size=(32, 16))
    assert preview_frame(dark, step).seconds == pytest.approx(8 / 25)


def test_transparent_images(tmp_path, rng, step):
    (image,) = make_clip(1, 9, 7, 3)
    alpha = np.full((9, 7, 1), 255, np.uint8)
    alpha[:4] = 0
    hidden = image.copy()
    hidden[:4] = 0
    write_png(tmp_path / "a.png", np.dstack([image, alpha]))
    write_png(tmp_path / "b.png", np.dstack([hidden, alpha]))
    one, other = (preview_frame(tmp_path / f"{name}.png", step).after for name in ("a", "b"))
    np.testing.assert_array_equal(one, other)


def test_a_keras_model_and_its_step_give_the_same(folder, rng):
    from rlsp_tf.inference.step import KerasStep

    model = small_model(rng, SMALL)
    one, other = (preview_frame(folder, network, at=0.2).after for network in (model, KerasStep(model)))
    np.testing.assert_array_equal(one, other)


def frame_at(path, at, step):
    moment = preview_frame(path, step, at=at)
    return round(moment.seconds * 25), moment


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize(
    "keys", [pytest.param(1, marks=pytest.mark.slow), 10, pytest.param(250, marks=pytest.mark.slow)]
)
def test_the_frame_is_the_one_that_a_player_shows_then(tmp_path, step, suffix, keys):
    start = 90000
    path = make_video(
        tmp_path / f"film.{suffix}", range(start, start + 60 * 3600, 3600), gop_size=keys, max_b_frames=2
    )
    with open_source(path) as frames:
        clip = [rgb_from_planes(frame.planes, frames.color) for frame in frames]
    for at, index in ((0, 0), (0.02, 0), (0.04, 1), (1.0, 25), (1.039, 25), (2.36, 59), (2.39, 59)):
        found, moment = frame_at(path, at, step)
        assert found == index, at
        assert np.abs(moment.before.astype(int) - bicubic(clip[index])).max() <= 1


def test_a_moment_after_the_end_is_refused(tmp_path, step):
    path = make_video(tmp_path / "film.mp4", range(0, 60 * 3600, 3600))
    with pytest.raises(RLSPError, match=r"film.mp4: lasts until 0:02.400, so it has no frame at 0:02.410"):
        preview_frame(path, step, at=2.41)
    with pytest.raises(RLSPError, match=r"film.mp4: has no frame at 1:00:00.000, since it ends before"):
        preview_frame(path, step, at=3600)


def test_only_what_lies_near_the_moment_is_decoded(tmp_path, step, monkeypatch):
    path = make_video(tmp_path / "film.mp4", range(0, 500 * 3600, 3600), gop_size=25)
    decoded = []
    usual = VideoDecoder._time_of
    monkeypatch.setattr(
        VideoDecoder, "_time_of", lambda self, frame: decoded.append(frame) or usual(self, frame)
    )
    preview_frame(path, step, at=16)
    # From a key frame on; after the moment, those that a warm start and the search for cuts look at.
    assert len(decoded) <= 25 + 25
