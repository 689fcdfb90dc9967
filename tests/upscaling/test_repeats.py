"""Frames that repeat the one before get its result; for the network, the clip is the frames that differ."""

import importlib
from dataclasses import replace
from itertools import groupby

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.stops import StopSoon
from helpers.synthetic import make_clip
from helpers.videos import frame_times, make_video, packets
from rlsp_tf.errors import Interrupted
from rlsp_tf.inference.strips import StripStep
from rlsp_tf.inference.upscaler import StreamingUpscaler
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.media.frames import Frame
from rlsp_tf.media.images import write_png
from rlsp_tf.media.repeats import STILL, mark_repeats
from rlsp_tf.media.shots import detect_shots
from rlsp_tf.upscaling.outputs import Outputs, shots_of
from rlsp_tf.upscaling.plan import join_ranges, make_plan, render_range
from rlsp_tf.upscaling.upscale import Recipe, upscale, upscale_clip

LOSSLESS = EncoderOptions(codec="ffv1")


def film_of(path, pictures, counts, seed=3):
    """A lossless film in which each picture is shown a number of times, at uneven times."""
    clip = np.repeat(make_clip(pictures, 24, 32, seed=seed), counts, axis=0)
    times = np.cumsum(np.random.default_rng(1).integers(2000, 6000, len(clip))).tolist()
    frames = [av.VideoFrame.from_ndarray(frame) for frame in clip]
    return make_video(path, times, size=(32, 24), frames=frames, codec="ffv1")


def decoded(path):
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="yuv420p") for frame in file.decode(video=0)])


class Counted:
    """A step that counts."""

    def __init__(self, step):
        self.__dict__ |= {name: getattr(step, name) for name in ("config", "precision", "itemsize")}
        self.fingerprint, self.initial_state, self._step, self.calls = "", step.initial_state, step, 0

    def __call__(self, window, state):
        self.calls += 1
        return self._step(window, state)


@pytest.mark.parametrize("warm_start", [0, 3])
@pytest.mark.parametrize("counts", [[2] * 6, [1, 3, 1, 1, 2, 4], [7, 1, 1, 1, 1, 7]])
def test_repeats_get_what_the_frames_get_that_they_repeat(counts, warm_start, step, tmp_path):
    once = film_of(tmp_path / "once.mkv", 6, [1] * 6)
    film = film_of(tmp_path / "film.mkv", 6, counts)
    counted = Counted(step)
    upscale(once, tmp_path / "once_large.mkv", step, codec="ffv1", warm_start=warm_start)
    upscale(film, tmp_path / "large.mkv", counted, codec="ffv1", warm_start=warm_start)
    large = decoded(tmp_path / "large.mkv")
    np.testing.assert_array_equal(large, np.repeat(decoded(tmp_path / "once_large.mkv"), counts, axis=0))
    assert counted.calls == 6 + min(warm_start, 5)
    assert frame_times(tmp_path / "large.mkv") == frame_times(film)


def test_with_compute_every_frame_is_computed(step, tmp_path):
    film = film_of(tmp_path / "film.mkv", 3, [3, 3, 3])
    counted = Counted(step)
    upscale(film, tmp_path / "large.mkv", counted, codec="ffv1", warm_start=0, repeats="compute")
    assert counted.calls == 9


class Asked:
    """Frames that are read, and how many have been."""

    def __init__(self, frames):
        self.read, self._frames = 0, frames

    def __iter__(self):
        for frame in self._frames:
            self.read += 1
            yield frame


@pytest.mark.parametrize("warm_start", [0, 4, 8])
@pytest.mark.parametrize("cuts", ["auto", "off"])
def test_a_long_still_does_not_wait_for_its_end(cuts, warm_start, step):
    """Whatever stands still comes out while it does, and the next picture finds the state that it left."""
    clip = make_clip(3, 24, 32, seed=1)
    asked = Asked([Frame((picture,)) for picture in np.repeat(clip, [2, 50, 3], axis=0)])
    upscaler = StreamingUpscaler(step, warm_start=warm_start)
    outputs = Outputs(upscaler)
    late, done, pictures = [], 0, []
    for frame, begins in shots_of(asked, 8, cuts, "copy"):
        if begins:
            assert list(outputs.end_shot()) == []
        entered = upscaler.enter(frame.planes[0]) if frame.planes else None
        for output in outputs.add(replace(frame, planes=()), entered):
            done += len(output.frames)
            pictures += [output.picture] * len(output.frames)
        late.append(asked.read - done)
    pictures += [output.picture for output in outputs.end_shot() for _ in output.frames]
    assert len(pictures) == 55
    assert [len(list(same)) for _, same in groupby(pictures, key=id)] == [2, 50, 3]
    assert max(late[2 + STILL + 4 : 52]) == 0


def test_a_held_picture_is_the_last_of_its_clip_for_the_network(step):
    """Its future is itself, as at the end of a clip, and what follows goes on from the state after it."""
    clip = make_clip(5, 24, 32, seed=1)

    def run(counts):
        upscaler = StreamingUpscaler(step)
        outputs = Outputs(upscaler)
        found = []
        for frame, _ in shots_of([Frame((each,)) for each in np.repeat(clip, counts, 0)], 8, "off", "copy"):
            entered = upscaler.enter(frame.planes[0]) if frame.planes else None
            found += outputs.add(replace(frame, planes=()), entered)
        found += outputs.end_shot()
        return [each.picture.finished(each.frames[0])[0].planes[0] for each in found if each.picture]

    held = run([1, 1, STILL, 1, 1])
    alone = StreamingUpscaler(step)
    expected = [picture for frame in clip[:3] for picture in alone.push(frame)] + alone.end_shot()
    np.testing.assert_array_equal(held[:3], expected)
    assert len(held) == 5
    short = run([1, 1, STILL - 1, 1, 1])
    assert not np.array_equal(held[2], short[2])


@given(counts=st.lists(st.integers(1, 12), min_size=1, max_size=8), depth=st.sampled_from([8, 10]))
@settings(max_examples=25, deadline=None)
def test_every_frame_comes_out_of_the_search_for_cuts_once_and_in_order(counts, depth):
    rng = np.random.default_rng(len(counts))
    pictures = [
        rng.integers(0, 255, (24, 32), np.uint8).astype(np.uint8 if depth == 8 else np.uint16) for _ in counts
    ]
    shown = [each for each, count in zip(pictures, counts, strict=True) for _ in range(count)]
    frames = [Frame((each,), pts=index) for index, each in enumerate(shown)]
    marked = list(detect_shots(mark_repeats(frames), depth))
    assert [frame.pts for frame, _ in marked] == list(range(len(frames)))
    firsts = np.cumsum([0, *counts[:-1]])
    assert [frame.pts for frame, _ in marked if frame.planes] == firsts.tolist()
    assert marked[0][1]
    assert {frame.pts for frame, begins in marked if begins} <= {*firsts.tolist()}


@pytest.mark.parametrize("times", [1, 2, 3])
def test_drawings_on_threes_are_no_cuts(times):
    """Fast motion and a cut, each picture shown several times."""
    clip = np.concatenate([make_clip(12, 60, 80, seed=0)[::2], make_clip(9, 60, 80, seed=1)])
    frames = [Frame((frame,), pts=index) for index, frame in enumerate(np.repeat(clip, times, axis=0))]
    marked = detect_shots(mark_repeats(frames))
    assert [frame.pts for frame, begins in marked if begins] == [0, 6 * times]


def test_a_listed_cut_within_equal_frames_comes_after_them():
    values = enumerate([1, 1, 1, 2, 3])
    frames = [Frame((np.full((4, 4, 3), value, np.uint8),), pts=index) for index, value in values]
    marked = shots_of(frames, 8, frozenset({1, 4}), "copy")
    assert [frame.pts for frame, begins in marked if begins] == [0, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("counts", [[2] * 20, [1, 3, 30, 2, 1, 1, 12, 1, 5, 1] * 2])
def test_ranges_are_the_film(counts, split, step, tmp_path):
    film = film_of(tmp_path / "film.mkv", 20, counts)
    cuts = frozenset(np.cumsum(counts)[[3, 4, 9, 12]].tolist())
    recipe = Recipe(warm_start=2, segment=4, encoder=LOSSLESS)
    upscale_clip(film, tmp_path / "once.mkv", step, recipe, scene_cuts=cuts)
    plan = make_plan(film, step, recipe, cuts, length=5, split=split)
    work = tmp_path / "ranges.mkv.rlsp"
    work.mkdir()
    for index in reversed(range(len(plan.ranges))):
        render_range(film, work / "ranges.mkv", step, recipe, plan, index)
    join_ranges(film, work, tmp_path / "ranges.mkv", step, recipe, plan)
    assert len(plan.ranges) > 2
    assert frame_times(tmp_path / "ranges.mkv") == frame_times(film)
    if not split:
        assert packets(tmp_path / "ranges.mkv", "video") == packets(tmp_path / "once.mkv", "video")


@pytest.mark.slow
@pytest.mark.parametrize("in_strips", [False, True])
def test_a_still_goes_on_after_a_stop(in_strips, step, tmp_path, monkeypatch):
    """A stop is heard while nothing is computed, and its picture is there again afterwards."""
    counts = [2, 40, 1, 1, 3]
    film = film_of(tmp_path / "film.mkv", 5, counts)
    options = {"codec": "ffv1", "segment": 6, "warm_start": 2}
    if in_strips:
        module = importlib.import_module("rlsp_tf.upscaling.upscale")
        monkeypatch.setattr(module, "within_memory", lambda step, *_, **__: StripStep(step, 8))
    upscale(film, tmp_path / "once.mkv", step, **options)
    sittings = 0
    while not (tmp_path / "large.mkv").exists():
        try:
            upscale(film, tmp_path / "large.mkv", step, stop=StopSoon(9 + 7 * sittings), **options)
        except Interrupted:
            sittings += 1
        assert sittings < 30
    assert sittings > 2
    np.testing.assert_array_equal(decoded(tmp_path / "large.mkv"), decoded(tmp_path / "once.mkv"))
    assert frame_times(tmp_path / "large.mkv") == frame_times(film)


def test_transparent_frames_repeat_only_with_their_alpha(step, tmp_path):
    (tmp_path / "lr").mkdir()
    picture = make_clip(1, 12, 16)[0]
    alphas = [np.full((12, 16), value, np.uint8) for value in (255, 255, 90, 90)]
    for index, alpha in enumerate(alphas):
        write_png(tmp_path / "lr" / f"{index}.png", np.dstack([picture, alpha]))
    counted = Counted(step)
    upscale(tmp_path / "lr", tmp_path / "copied", counted, warm_start=0, scene_cuts="off")
    assert counted.calls == 2
    files = sorted((tmp_path / "copied").iterdir())
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes() == files[3].read_bytes()
