import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.clips import index, write_folder
from helpers.synthetic import make_clip
from rlsp_tf.errors import RLSPError
from rlsp_tf.pixels.degradation import degrade
from rlsp_tf.training.clips.sampler import ClipSampler

STEPS = 40


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A clip with a cut after frame 9, and a small one."""
    folder = tmp_path_factory.mktemp("clips")
    dark, bright = make_clip(9, 120, 140) // 2, 127 + make_clip(13, 120, 140, seed=5) // 2
    write_folder(folder / "data" / "two_shots", [*dark, *bright])
    write_folder(folder / "data" / "small", make_clip(8, 64, 70, seed=2))
    clips, _ = index(folder / "data", cache=folder / "cache")
    assert [clip.cuts for clip in clips] == [(), (9,)]
    return clips


@pytest.fixture(scope="module")
def sampler(clips):
    return ClipSampler(clips, batch=4, frames=5, crop=16, seed=7)


def cut(sampler, window):
    lr, hr = (np.empty(shape, np.uint8) for shape in sampler.shapes)
    sampler.cut(window, lr, hr)
    return lr, hr


def apparent_path(window):
    """``(frames, 2)`` offsets as they look in the sample, flipped and transposed."""
    path = np.where(window.flip, -1, 1) * window.offsets
    return path[:, ::-1] if window.transpose else path


def all_windows(sampler):
    return [window for step in range(STEPS) for window in sampler.windows(step)]


def test_samples_are_a_function_of_seed_and_step(sampler, clips):
    again = ClipSampler(clips, batch=4, frames=5, crop=16, seed=7)
    for step in (31, 3):
        for first, second in zip(sampler.samples(step), again.samples(step), strict=True):
            np.testing.assert_array_equal(first, second)
    other = ClipSampler(clips, batch=4, frames=5, crop=16, seed=8)
    assert not np.array_equal(sampler.samples(3)[0], other.samples(3)[0])
    assert not np.array_equal(sampler.samples(3)[0], sampler.samples(4)[0])


@given(workers=st.sampled_from([1, 2, 3, 4, 6, 12]), step=st.integers(0, 10**6), pieces=st.integers(1, 2))
@settings(max_examples=30)
def test_the_shares_of_workers_join_to_the_batch_without_overlap(clips, workers, step, pieces):
    whole = ClipSampler(clips, batch=12, frames=3, crop=16, seed=7, pieces=pieces)
    shares = [whole.share(worker, workers) for worker in range(workers)]
    windows = [window for share in shares for window in share.windows(step)]
    assert [len(share.windows(step)) for share in shares] == [12 // workers] * workers
    assert list(map(repr, windows)) == list(map(repr, whole.windows(step)))
    # Samples are drawn at random places, so that they are twelve; in two shares none would be twice.
    assert len(set(map(repr, windows))) == 12
    for part, *parts in zip(whole.samples(step), *(share.samples(step) for share in shares), strict=True):
        np.testing.assert_array_equal(np.concatenate(parts), part)


def test_low_resolution_is_the_degradation_of_high_resolution(sampler):
    kinds = set()
    for window in all_windows(sampler):
        lr, hr = cut(sampler, window)
        if window.transpose:
            # SciPy blurs columns first, which is not the same in the last bit.
            lr, hr = lr.swapaxes(1, 2), hr.swapaxes(1, 2)
        # The blur reaches 6 pixels: only near its borders does a crop know less than its frame.
        np.testing.assert_array_equal(lr[1:-1, 2:-2, 2:-2], degrade(hr)[:, 2:-2, 2:-2])
        # Beyond the ends, the edge frames again.
        np.testing.assert_array_equal(lr[[0, -1]], lr[[1, -2]])
        kinds.add((*window.flip, window.transpose))
    assert len(kinds) == 8


def test_no_sample_spans_a_cut(sampler):
    straddled = 0
    for window in all_windows(sampler):
        if sampler.clips[window.clip].name == "two_shots":
            assert window.frames.max() < 9 or window.frames.min() >= 9
            straddled += window.frames.max() >= 9
    assert straddled


def test_motion_is_of_many_kinds(sampler):
    windows = all_windows(sampler)
    steps = [np.unique(np.diff(window.frames[1:-1])) for window in windows]
    assert all(len(step) == 1 for step in steps)
    assert {int(step[0]) for step in steps} == {-2, -1, 0, 1, 2}
    panning = [np.ptp(window.offsets, axis=0).max() > 0 for window in windows]
    assert 0.4 < np.mean(panning) < 0.8  # 0.6 are meant to; a few of these stand still by chance
    # A frozen frame always pans, or it would teach nothing about motion.
    assert all(pan for pan, step in zip(panning, steps, strict=True) if step[0] == 0)
    # Every phase of the low-resolution grid occurs.
    phases = {tuple(offset % 4) for window in windows for offset in window.offsets}
    assert len(phases) == 16


def test_crops_stay_inside_and_use_all_of_a_frame(sampler):
    corners = {}
    for window in all_windows(sampler):
        _, height, width = sampler.clips[window.clip].shape
        low = window.offsets - 3 * np.array(window.flip)
        high = window.offsets + 64
        assert low.min() >= 0
        assert (high <= (height, width)).all()
        before = corners.get(window.clip, (low[0], high[0]))
        corners[window.clip] = np.minimum(before[0], low.min(0)), np.maximum(before[1], high.max(0))
    for clip, (low, high) in corners.items():
        assert (low < 4).all()
        assert (np.subtract(sampler.clips[clip].shape[1:], high) < 4).all()


def test_pieces_of_a_sequence_follow_each_other(clips):
    whole = ClipSampler(clips, batch=4, frames=6, crop=16, seed=7)
    pieces = ClipSampler(clips, batch=4, frames=2, crop=16, seed=7, pieces=3)
    for sequence in range(8):
        lr, hr = whole.samples(sequence)
        parts = [pieces.samples(3 * sequence + piece) for piece in range(3)]
        np.testing.assert_array_equal(np.concatenate([part[1] for part in parts], axis=1), hr)
        for piece, (part, _) in enumerate(parts):
            # Neighbours are true ones, but at the ends of the sequence, where lr has edge frames again.
            np.testing.assert_array_equal(part, lr[:, 2 * piece : 2 * piece + 4])
    too_long = ClipSampler(clips, batch=1, frames=3, crop=16, seed=0, pieces=3)
    assert too_long.notes == [f"skipped {clips[0].source}: its longest shot has 8 frames, a sample 9."]


def test_the_curriculum_begins_with_one_velocity_and_ends_with_all_motion(clips):
    """The clips' frames are not large enough for fast pans, which are cut short, so look at short ones."""
    curriculum = ClipSampler(clips[-1:], batch=8, frames=3, crop=8, seed=7, curriculum=1000)
    without = ClipSampler(clips[-1:], batch=8, frames=3, crop=8, seed=7)

    def velocities(step):
        windows = [window for each in range(step, step + 8) for window in curriculum.windows(each)]
        return windows, [np.diff(apparent_path(window)[1:-1], axis=0) for window in windows]

    windows, speeds = velocities(0)
    # However a still is flipped and transposed, it pans alike.
    assert len({(*window.flip, window.transpose) for window in windows}) == 8
    assert all(len(set(window.frames)) == 1 for window in windows)
    assert (np.array(speeds) == [1, 2]).all()
    windows, speeds = velocities(690)
    assert all(len(set(window.frames)) == 1 for window in windows)
    assert np.array(speeds).min() == -5
    assert np.array(speeds).max() == 5
    windows, _ = velocities(850)
    # Half of the windows are others, 70 % of which are no stills: 0.35 of 64, give or take three deviations.
    assert 0.17 < np.mean([len(set(window.frames)) > 1 for window in windows]) < 0.53
    for ours, theirs in zip(curriculum.windows(1000), without.windows(1000), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_flat_crops_are_left_out(tmp_path):
    frames = np.full((6, 200, 200, 3), 90, np.uint8)
    frames[:, :100, :100] = make_clip(6, 100, 100)
    write_folder(tmp_path / "data" / "corner", frames)
    clips, _ = index(tmp_path / "data", cache=tmp_path / "cache")
    sampler = ClipSampler(clips, batch=8, frames=3, crop=8, seed=0)
    for step in range(10):
        _, hr = sampler.samples(step)
        assert (hr.reshape(8, -1).std(axis=1) > 0).all()


def test_frozen_crops_are_left_out_unless_they_pan(tmp_path):
    frames = np.repeat(make_clip(1, 200, 200), 8, axis=0)
    frames[:, :100, :100] = make_clip(8, 100, 100, seed=3)
    write_folder(tmp_path / "data" / "still", frames)
    clips, _ = index(tmp_path / "data", cache=tmp_path / "cache")
    sampler = ClipSampler(clips, batch=8, frames=3, crop=8, seed=0)
    for window in all_windows(sampler):
        _, hr = cut(sampler, window)
        assert np.abs(np.diff(hr.astype(int), axis=0)).max() > 0


def test_unusable_clips_are_named(tmp_path):
    write_folder(tmp_path / "data" / "good", make_clip(5, 64, 64))
    write_folder(tmp_path / "data" / "short", make_clip(4, 64, 64))
    write_folder(tmp_path / "data" / "small", make_clip(5, 64, 63), suffix=".jpg")
    write_folder(tmp_path / "data" / "flat", np.full((5, 64, 64, 3), 7, np.uint8))
    clips, _ = index(tmp_path / "data", cache=tmp_path / "cache", halve="never")
    sampler = ClipSampler(clips, batch=1, frames=5, crop=16, seed=0)
    assert [clip.name for clip in sampler.clips] == ["good"]
    assert sampler.notes == [
        f"skipped {tmp_path}/data/flat: all its frames are flat.",
        f"skipped {tmp_path}/data/short: its longest shot has 4 frames, a sample 5.",
        f"skipped {tmp_path}/data/small: its frames are 63x64, a crop 64x64.",
    ]
    with pytest.raises(RLSPError, match=r"(?s)no clip is large and long enough.*all its frames are flat"):
        ClipSampler(clips[:1], batch=1, frames=5, crop=16, seed=0)
