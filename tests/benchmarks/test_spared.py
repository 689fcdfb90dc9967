"""What it brings not to compute frames that repeat, and black bars."""

import json

import numpy as np
import pytest

from helpers.networks import small_model
from helpers.videos import make_video
from rlsp_tf.benchmarks.report import describe
from rlsp_tf.benchmarks.spared import LETTERBOX, REPEATS, ClipsTimer, _read, _write, benchmark_spared
from rlsp_tf.errors import RLSPError
from rlsp_tf.media.open import open_source
from rlsp_tf.media.repeats import mark_repeats


@pytest.fixture
def film(tmp_path):
    """A film of 12 pictures, each of which is shown for two frames."""
    make_video(tmp_path / "once.mp4", range(0, 12 * 3600, 3600), size=(64, 48))
    pictures, rate = _read(tmp_path / "once.mp4", 12)
    shown = [picture for picture in pictures for _ in range(2)]
    _write(tmp_path / "film.mp4", shown, rate, tmp_path / "once.mp4")
    return tmp_path / "film.mp4"


@pytest.fixture
def model(tmp_path):
    small_model(np.random.default_rng(0), precision="float32").save(tmp_path / "small.keras")
    return tmp_path / "small.keras"


def test_clips_repeat_frames_to_the_bit_and_have_black_bars(film, model, tmp_path):
    # Bars have 10 of 48 rows, and of each 4 are computed with the picture.
    timer = ClipsTimer(str(film), str(model), "float32", str(tmp_path), 12)
    assert timer.about["pictures"] == {**dict.fromkeys(REPEATS, 1.0), LETTERBOX: 36 / 48}
    clips = {}
    for name in timer.about["pictures"]:
        with open_source(tmp_path / f"{name.replace(' ', '_')}.mkv") as source:
            clips[name] = list(source)
    once = clips["every frame once"]
    for name, times in REPEATS.items():
        assert len(clips[name]) == 12
        assert sum(bool(frame.planes) for frame in mark_repeats(clips[name])) == 12 // times
        for index, frame in enumerate(clips[name]):
            np.testing.assert_array_equal(frame.planes[0], once[index // times].planes[0])
    for frame, plain in zip(clips[LETTERBOX], once, strict=True):
        for plane, original, black, bar in zip(
            frame.planes, plain.planes, (16, 128, 128), (10, 5, 5), strict=True
        ):
            assert (plane[:bar] == black).all()
            assert (plane[-bar:] == black).all()
            np.testing.assert_array_equal(plane[bar:-bar], original[bar:-bar])


def test_both_ways_are_timed_in_every_round(film, model):
    result = benchmark_spared(film, model=model, precision="float32", rounds=2, frames=6)
    assert [clip["name"] for clip in result["clips"]] == [*REPEATS, LETTERBOX]
    for clip in result["clips"]:
        assert len(clip["spared"]) == len(clip["computed"]) == 2
        assert min(*clip["spared"], *clip["computed"], clip["ratio"]) > 0
    printed = describe(json.loads(json.dumps(result)))
    assert f"| {LETTERBOX} | 75 % |" in printed
    assert f"| {result['clips'][1]['ratio']:.2f} |" in printed


def test_a_video_that_is_too_short_is_named(film, model):
    with pytest.raises(RLSPError, match=r"film\.mp4: has 12 frames that differ, too few"):
        benchmark_spared(film, model=model, frames=48)
