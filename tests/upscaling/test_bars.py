"""Films with black bars: the bars stay, whatever is shown in them, and interruptions change nothing."""

import av
import numpy as np
import pytest

from helpers.stops import StopSoon
from helpers.synthetic import make_clip
from helpers.videos import frame_times, make_video, packets
from rlsp_tf.errors import Interrupted
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.media.images import write_png
from rlsp_tf.media.open import open_source
from rlsp_tf.media.samples import sample_frames
from rlsp_tf.upscaling.plan import join_ranges, make_plan, render_range
from rlsp_tf.upscaling.upscale import Recipe, upscale, upscale_clip

LOSSLESS = EncoderOptions(codec="ffv1")
SIZE = (64, 56)


def letterboxed(frames=24, subtitles=range(0)):
    """Pictures of 24 rows with bars of 16 above and below, and white words below in some frames."""
    clip = np.clip(make_clip(frames, SIZE[1], SIZE[0], seed=2), 40, 255)
    clip[:, :16] = clip[:, 40:] = 0
    clip[subtitles.start : subtitles.stop, 50:53, 10:50:2] = 230
    return clip


@pytest.fixture
def film(tmp_path):
    """A film with bars, a cut, and subtitles within the second shot."""
    clip = letterboxed(24, range(16, 19))
    clip[10:, 16:40] = clip[10:, 39:15:-1]
    frames = [av.VideoFrame.from_ndarray(frame) for frame in clip]
    # Key frames, which are sampled, have no subtitles.
    options = {"g": "5", "crf": "0", "sc_threshold": "0"}
    times = range(0, 24 * 3600, 3600)
    return make_video(tmp_path / "film.mkv", times, size=SIZE, frames=frames, options=options)


def luma_of(path):
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray(format="yuv420p") for frame in file.decode(video=0)]
    return np.stack([frame[: frame.shape[0] * 2 // 3] for frame in frames])


class Sizes:
    """A step that notes the heights of the frames that it computes."""

    def __init__(self, step):
        self.__dict__ |= {name: getattr(step, name) for name in ("config", "precision", "itemsize")}
        self.fingerprint, self.initial_state, self._step, self.heights = "", step.initial_state, step, []

    def __call__(self, window, state):
        self.heights.append(window[0].shape[1])
        return self._step(window, state)


def test_the_network_computes_the_picture_unless_the_bars_show_something(film, step, tmp_path):
    sizes = Sizes(step)
    cuts = frozenset({10})
    upscale(film, tmp_path / "large.mkv", sizes, codec="ffv1", warm_start=0, scene_cuts=cuts)
    assert len(sizes.heights) == 24
    # From frame 15 on, whose window shows the first subtitle, to the end of the shot.
    assert set(sizes.heights[15:]) == {56}
    (height,) = set(sizes.heights[:15])
    assert 24 < height <= 40
    upscale(film, tmp_path / "all.mkv", sizes, codec="ffv1", warm_start=0, scene_cuts=cuts, bars="compute")
    assert sizes.heights[24:] == [56] * 24
    large, whole = luma_of(tmp_path / "large.mkv"), luma_of(tmp_path / "all.mkv")
    assert large.shape == whole.shape
    # Before the words, bars are black; words themselves are those of the network.
    assert large[:15, : 4 * 8].max() <= 17
    assert (large[16:19, 4 * 50 : 4 * 53].max(axis=(1, 2)) > 100).all()
    assert frame_times(tmp_path / "large.mkv") == frame_times(film)


@pytest.mark.slow
def test_interrupted_or_in_ranges_it_is_the_same(film, step, tmp_path):
    cuts, recipe = frozenset({10}), Recipe(warm_start=2, segment=3, encoder=LOSSLESS)
    upscale_clip(film, tmp_path / "once.mkv", step, recipe, scene_cuts=cuts)
    sittings = 0
    while not (tmp_path / "sittings.mkv").exists():
        try:
            stop = StopSoon(5 + 5 * sittings)
            upscale_clip(film, tmp_path / "sittings.mkv", step, recipe, scene_cuts=cuts, stop=stop)
        except Interrupted:
            sittings += 1
    assert sittings > 2
    np.testing.assert_array_equal(luma_of(tmp_path / "sittings.mkv"), luma_of(tmp_path / "once.mkv"))
    plan = make_plan(film, step, recipe, cuts, length=5)
    assert len(plan.ranges) == 2
    work = tmp_path / "ranges.mkv.rlsp"
    work.mkdir()
    for index in range(2):
        render_range(film, work / "ranges.mkv", step, recipe, plan, index)
    join_ranges(film, work, tmp_path / "ranges.mkv", step, recipe, plan)
    assert packets(tmp_path / "ranges.mkv", "video") == packets(tmp_path / "once.mkv", "video")


def test_a_folder_is_sampled_from_all_over(tmp_path):
    clip = letterboxed(5)
    (tmp_path / "lr").mkdir()
    for index, frame in enumerate(clip):
        write_png(tmp_path / "lr" / f"{index}.png", frame)
    with open_source(tmp_path / "lr") as source:
        np.testing.assert_array_equal(list(sample_frames(source)), clip)
        np.testing.assert_array_equal(list(sample_frames(source, 2)), clip[[0, 3]])
        assert len(list(source)) == 5


def test_a_video_is_sampled_at_its_key_frames_and_still_read_from_its_beginning(film):
    with open_source(film) as source:
        samples = list(sample_frames(source))
        assert len(samples) == 16
        assert all(sample.shape == (56, 64, 3) and sample.dtype == np.uint8 for sample in samples)
        assert len({sample.tobytes() for sample in samples}) == 5
        assert len(list(source)) == 24
