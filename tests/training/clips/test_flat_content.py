import numpy as np
import pytest

from helpers.synthetic import make_clip
from rlsp_tf.training.clips.flat_content import KINDS, draw_flat_clip


@pytest.fixture(scope="module")
def clips():
    """Sixty clips by kind."""
    photos = list(make_clip(2, 160, 160))
    clips: dict[str, list[np.ndarray]] = {}
    for seed in range(60):
        kind, clip = draw_flat_clip(np.random.default_rng(seed), photos, 5, 64, 64)
        assert clip.shape == (5, 64, 64, 3)
        assert clip.dtype == np.uint8
        clips.setdefault(kind, []).append(clip)
    assert clips.keys() == set(KINDS)
    return clips


def test_plain_clips_have_one_colour_often_black(clips):
    assert all((clip == clip[0, 0, 0]).all() for clip in clips["plain"])
    assert any((clip == 0).all() for clip in clips["plain"])
    assert any((clip == 255).all() for clip in clips["plain"])


def test_gradients_have_small_steps(clips):
    for clip in clips["gradient"]:
        assert max(np.abs(np.diff(clip.astype(int), axis=axis)).max() for axis in (1, 2)) <= 3


def test_bars_leave_a_part_of_the_picture(clips):
    for clip in clips["bars"]:
        still = (clip == clip[:1, :1, :1]).all(axis=(0, 3))
        bars = [still.all(axis=axis).mean() for axis in (0, 1)]
        corner_bars = [(clip == clip[:, -1:, -1:]).all(axis=(0, 3)).all(axis=axis).mean() for axis in (0, 1)]
        assert any(0.1 < share < 0.95 for share in (*bars, *corner_bars))


def test_text_moves_as_one(clips):
    moving = 0
    for clip in clips["text"]:
        bright = np.abs(np.diff(clip.astype(int), axis=0)).max()
        moving += bright > 20
    assert moving >= 0.7 * len(clips["text"])


def test_without_photographs_there_are_flat_clips_too():
    kinds = {draw_flat_clip(np.random.default_rng(seed), [], 3, 48, 48)[0] for seed in range(30)}
    assert kinds == set(KINDS)
