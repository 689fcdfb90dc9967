"""A clip in ranges gives, packet for packet, what it gives in one."""

import json
from fractions import Fraction

import av
import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.videos import gradient, make_video, packets
from rlsp_tf.errors import RLSPError
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.media.images import write_png
from rlsp_tf.upscaling import cluster as ray_engine
from rlsp_tf.upscaling.plan import Plan, join_ranges, make_plan, render_range, targets_of
from rlsp_tf.upscaling.segments import SegmentedSink
from rlsp_tf.upscaling.upscale import Recipe, upscale_clip


def in_ranges(source, target, step, recipe, cuts, length, split=False):
    """Upscales ranges in any order, then joins them; gives the plan."""
    plan = make_plan(source, step, recipe, cuts, length=length, split=split)
    plan = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    work = target.with_name(target.name + ".rlsp")
    work.mkdir()
    for index in np.random.default_rng(0).permutation(len(plan.ranges)).tolist():
        render_range(source, work / target.name, step, recipe, plan, index)
    join_ranges(source, work, target, step, recipe, plan)
    return plan


@pytest.mark.slow
@pytest.mark.parametrize("warm_start", [0, 2, 8])
@pytest.mark.parametrize("segment", [1, 3, 5])
def test_ranges_are_the_film(warm_start, segment, step, tmp_path):
    """Shots shorter and longer than a segment, than twice a segment, and than a warm start."""
    times = np.cumsum(np.random.default_rng(1).integers(2000, 6000, 61)).tolist()
    film = make_video(tmp_path / "film.mp4", times, size=(32, 24), audio=("aac",))
    cuts = frozenset({1, 2, 9, 14, 17, 40, 51, 60})
    recipe = Recipe(warm_start=warm_start, segment=segment, encoder=EncoderOptions(preset="ultrafast"))
    upscale_clip(film, tmp_path / "once.mp4", step, recipe, scene_cuts=cuts)
    plan = in_ranges(film, tmp_path / "ranges.mp4", step, recipe, cuts, 10)
    assert len(plan.ranges) > 2
    assert (tmp_path / "ranges.mp4").read_bytes() == (tmp_path / "once.mp4").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        (".mkv", "libx264", {"g": "7", "bf": "3"}),  # key frames lie elsewhere than cuts
        (".ts", "libx264", {"x264-params": "open-gop=1:keyint=9:bframes=2"}),
        (".webm", "libvpx-vp9", {}),
        (".avi", "mpeg4", {}),
    ],
)
def test_wherever_key_frames_are(suffix, codec, options, step, tmp_path):
    film = make_video(
        tmp_path / f"film{suffix}", range(60), time_base=Fraction(1, 25), codec=codec, options=options
    )
    cuts = frozenset({13, 29, 46})
    recipe = Recipe(warm_start=2, segment=4, encoder=EncoderOptions(codec="ffv1"))
    upscale_clip(film, tmp_path / "once.mkv", step, recipe, scene_cuts=cuts)
    plan = in_ranges(film, tmp_path / "ranges.mkv", step, recipe, cuts, 5)
    assert [part.start for part in plan.ranges] == [0, 13, 29]
    assert packets(tmp_path / "ranges.mkv", "video") == packets(tmp_path / "once.mkv", "video")


def test_times_that_had_to_be_made_are_the_same(step, tmp_path):
    """Frames without time stamps cannot be found by them."""
    film = tmp_path / "film.h264"
    with av.open(str(film), "w", format="h264") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for index in range(30):
            frame = av.VideoFrame.from_ndarray(gradient(index, 32, 24))
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    recipe = Recipe(warm_start=2, segment=4, encoder=EncoderOptions(codec="ffv1"))
    upscale_clip(film, tmp_path / "once.mkv", step, recipe, scene_cuts=frozenset({11, 20}))
    in_ranges(film, tmp_path / "ranges.mkv", step, recipe, frozenset({11, 20}), 5)
    assert packets(tmp_path / "ranges.mkv", "video") == packets(tmp_path / "once.mkv", "video")


def test_real_cuts_are_found_once_for_all(step, tmp_path, rng):
    shots = [
        np.kron(rng.integers(0, 240, (3, 4, 3), np.uint8), np.ones((8, 8, 1), np.uint8)) for _ in range(4)
    ]
    frames = [av.VideoFrame.from_ndarray(shot + np.uint8(index)) for shot in shots for index in range(12)]
    film = make_video(
        tmp_path / "film.mkv", range(0, 48 * 3600, 3600), size=(32, 24), frames=frames, codec="ffv1"
    )
    recipe = Recipe(warm_start=2, segment=4)
    upscale_clip(film, tmp_path / "once.mp4", step, recipe)
    plan = in_ranges(film, tmp_path / "ranges.mp4", step, recipe, "auto", 10)
    assert [part.start for part in plan.ranges] == [0, 12, 24, 36]
    assert (tmp_path / "ranges.mp4").read_bytes() == (tmp_path / "once.mp4").read_bytes()


def test_folders_of_images_come_in_ranges_too(step, tmp_path):
    (tmp_path / "lr").mkdir()
    for index in range(12):
        write_png(tmp_path / "lr" / f"{index}.png", gradient(index, 16, 12))
    recipe = Recipe(segment=2)
    upscale_clip(tmp_path / "lr", tmp_path / "once", step, recipe, scene_cuts=frozenset({5}))
    in_ranges(tmp_path / "lr", tmp_path / "ranges", step, recipe, frozenset({5}), 3)
    for file in (tmp_path / "once").iterdir():
        assert (tmp_path / "ranges" / file.name).read_bytes() == file.read_bytes()


@pytest.fixture(scope="module")
def take(tmp_path_factory):
    """A film of 70 frames with a cut at frame 5, then none."""
    path = tmp_path_factory.mktemp("take") / "film.mkv"
    return make_video(path, range(0, 70 * 3600, 3600), size=(32, 24))


def lossless(path):
    with av.open(str(path)) as file:
        return [(frame.pts, frame.to_ndarray(format="yuv420p")) for frame in file.decode(video=0)]


@pytest.mark.slow
@pytest.mark.parametrize("run_up", [2, 6, 1000])
def test_a_long_shot_is_split_after_a_run_up(run_up, take, step, tmp_path, monkeypatch):
    """A part is what a run gives that begins where its run-up does."""
    monkeypatch.setattr("rlsp_tf.upscaling.plan.RUN_UP", run_up)
    recipe, cuts = Recipe(warm_start=2, segment=4, encoder=EncoderOptions(codec="ffv1")), frozenset({5})
    plan = in_ranges(take, tmp_path / "ranges.mkv", step, recipe, cuts, 10, split=True)
    assert [part.start for part in plan.ranges] == [0, 20, 40, 60]
    assert [part.read.start for part in plan.ranges] == [
        0,
        *(max(5, start - run_up) for start in (20, 40, 60)),
    ]
    split = lossless(tmp_path / "ranges.mkv")
    assert len(split) == 70
    for part in plan.ranges:
        # Everything before a cut is forgotten, so a cut stands for the beginning of a clip.
        target = tmp_path / f"from_{part.read.start}.mkv"
        upscale_clip(take, target, step, recipe, scene_cuts=cuts | {part.read.start}, force=True)
        expected = lossless(target)
        for (time, frame), (ours, output) in zip(
            expected[part.start : part.stop], split[part.start : part.stop], strict=True
        ):
            assert ours == time
            np.testing.assert_array_equal(output, frame)


def test_a_shot_is_split_only_where_asked_to_be(take, step):
    recipe = Recipe(segment=1)
    assert len(make_plan(take, step, recipe, frozenset({30}), length=10).ranges) == 2
    ranges = make_plan(take, step, recipe, frozenset({18, 30}), length=10, split=True).ranges
    assert [(part.start, part.run_up) for part in ranges] == [(0, 0), (18, 0), (30, 0), (50, 20)]


@pytest.mark.slow
def test_a_part_with_a_run_up_goes_on_where_it_was(take, step, tmp_path, monkeypatch):
    recipe = Recipe(warm_start=2, segment=4, encoder=EncoderOptions(codec="ffv1"))
    plan = in_ranges(take, tmp_path / "once.mkv", step, recipe, frozenset(), 10, split=True)
    work, target = tmp_path / "work", tmp_path / "work" / "large.mkv"
    work.mkdir()
    written = []
    write = SegmentedSink.write

    def stumble(sink, frame):
        written.append(frame)
        if len(written) == 11:
            raise RLSPError("the power fails")
        write(sink, frame)

    monkeypatch.setattr(SegmentedSink, "write", stumble)
    with pytest.raises(RLSPError, match="power"):
        render_range(take, target, step, recipe, plan, 2)
    for index in range(len(plan.ranges)):
        render_range(take, target, step, recipe, plan, index)
    assert len(written) == 11 + 70 - 8
    join_ranges(take, work, tmp_path / "large.mkv", step, recipe, plan)
    assert packets(tmp_path / "large.mkv", "video") == packets(tmp_path / "once.mkv", "video")


def test_a_range_that_is_damaged_in_a_store_is_computed_again(step, tmp_path, monkeypatch):
    """Tasks of a cluster, one after the other; a store of objects is anything that has an address."""
    film = make_video(tmp_path / "film.mkv", range(0, 20 * 3600, 3600), size=(32, 24))
    recipe = Recipe(segment=2, encoder=EncoderOptions(preset="ultrafast"))
    upscale_clip(film, tmp_path / "once.mp4", step, recipe, scene_cuts=frozenset({10}))
    monkeypatch.setattr(ray_engine, "_step_of", lambda model, precision: step)
    store = fsspec.filesystem("memory")
    target = "memory://damaged/large.mp4"
    job = ray_engine.Job(
        str(film), target, "", "float32", recipe, frozenset({10}), None, force=False, resume=True, length=5
    )
    plan = ray_engine._plan(job)
    for index in (0, 1):
        ray_engine._render(job, plan, index)
    segment = "/damaged/large.mp4.rlsp/000001.mp4.rlsp/000000.mp4"
    store.pipe(segment, bytes(store.size(segment)))
    with pytest.raises(
        RLSPError, match=r"000001\.mp4\.rlsp/000000\.mp4 was damaged on the disk; run the command again"
    ):
        ray_engine._join(job, plan)
    for index in (0, 1):
        ray_engine._render(job, plan, index)
    ray_engine._join(job, plan)
    assert store.cat("/damaged/large.mp4") == (tmp_path / "once.mp4").read_bytes()
    assert store.find("/damaged") == ["/damaged/large.mp4"]


def test_a_missing_range_is_said(step, tmp_path):
    film = make_video(tmp_path / "film.mkv", range(0, 20 * 3600, 3600), size=(32, 24))
    recipe = Recipe(segment=2)
    plan = make_plan(film, step, recipe, frozenset({10}), length=5)
    (tmp_path / "work").mkdir()
    render_range(film, tmp_path / "work" / "large.mkv", step, recipe, plan, 0)
    with pytest.raises(RLSPError) as raised:
        join_ranges(film, tmp_path / "work", tmp_path / "large.mkv", step, recipe, plan)
    assert (
        str(raised.value)
        == f"{tmp_path}/large.mkv: the range that begins with frame 10 is missing; run the command again."
    )
    assert not (tmp_path / "large.mkv").exists()


def test_a_run_in_one_does_not_take_over_one_in_ranges(step, tmp_path):
    film = make_video(tmp_path / "film.mkv", range(0, 5 * 3600, 3600), size=(32, 24))
    work = tmp_path / "large.mkv.rlsp"
    work.mkdir()
    (work / "lock").touch()
    (work / "plan.json").write_text("{}")
    with pytest.raises(RLSPError, match="was begun with --engine ray"):
        upscale_clip(film, tmp_path / "large.mkv", step, Recipe())
    assert (work / "plan.json").exists()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
FIELDS = dict.fromkeys(("start", "stop", "cuts", "pts", "check", "run_up", "run_out"), VALUES)


@given(
    VALUES
    | st.fixed_dictionaries(
        {
            "run": VALUES,
            "notes": VALUES,
            "ranges": st.lists(st.fixed_dictionaries(FIELDS), max_size=2) | VALUES,
        }
    )
)
def test_a_plan_of_any_content_is_read_or_refused(value):
    try:
        plan = Plan.from_dict(value)
    except ValueError:
        return
    assert plan.ranges[0].start == 0


def test_results_have_the_names_of_clips():
    assert targets_of(["a/x.mp4", "s3://b/y.avi", "frames/"], "out/") == [
        *("out/x.mp4", "out/y.mkv", "out/frames")
    ]
    with pytest.raises(RLSPError, match=r"b/x\.mp4: its result would get the same name as that of a/x\.mp4"):
        targets_of(["a/x.mp4", "b/x.mp4"], "out")
