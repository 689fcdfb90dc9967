"""Damaged videos are upscaled as far as they go, or refused: nothing half-written is left, nothing hangs."""

import faulthandler

import av
import numpy as np
import pytest

from helpers.videos import make_video
from rlsp_tf.benchmarks.excerpts import decodable, is_whole
from rlsp_tf.benchmarks.faults.damage import KINDS, damage
from rlsp_tf.errors import RLSPError
from rlsp_tf.upscaling.upscale import upscale

RUNS = 200
TIME_LIMIT = 120
"""Seconds for a run of a second, after which it hangs."""


def survive(source, target, step):
    """Whether a target was written; it is whole then, and if not, nothing is left but the source."""
    before = set(target.parent.iterdir())
    faulthandler.dump_traceback_later(TIME_LIMIT, exit=True)
    try:
        upscale(source, target, step, preset="ultrafast")
    except RLSPError as error:
        sentence = str(error)
        assert source.name in sentence
        assert "\n" not in sentence
        assert set(target.parent.iterdir()) == before
        return False
    finally:
        faulthandler.cancel_dump_traceback_later()
    assert set(target.parent.iterdir()) == before | {target}
    with av.open(str(target)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(video=0)]
    assert frames
    target.unlink()
    return True


@pytest.mark.slow
def test_two_hundred_damaged_files(step, tmp_path):
    """Of four formats, with sound where the container has it."""
    times = range(0, 8 * 3600, 3600)
    kinds = {
        ".mp4": {"audio": ("aac",)},
        ".mkv": {"codec": "libx265"},
        ".ts": {"audio": ("mp2",)},
        ".webm": {"codec": "libvpx-vp9"},
    }
    originals = [make_video(tmp_path / f"film{suffix}", times, **kind) for suffix, kind in kinds.items()]
    originals = [path.read_bytes() for path in originals]
    suffixes = tuple(kinds)
    for file in tmp_path.iterdir():
        file.unlink()
    written = 0
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        which = seed % len(originals)
        source = tmp_path / f"damaged{seed}{suffixes[which]}"
        source.write_bytes(damage(originals[which], KINDS[rng.integers(len(KINDS))], rng))
        written += survive(source, tmp_path / "large.mkv", step)
        source.unlink()
    # Most damage leaves something to see.
    assert RUNS / 4 < written < RUNS


def test_damaged_sound_costs_no_frame(step, tmp_path):
    """A muxer refuses packets of AAC out of MPEG-TS that it cannot make sense of."""
    original = make_video(tmp_path / "film.ts", range(0, 12 * 3600, 3600), audio=("aac",)).read_bytes()
    source, target = tmp_path / "damaged.ts", tmp_path / "large.mkv"
    for seed in (1, 2, 3):
        source.write_bytes(damage(original, "noise", np.random.default_rng(seed)))
        notes = upscale(source, target, step, preset="ultrafast", force=True)
        left_out = f"{source}: is damaged; 1 packets of its sound or other streams were left out."
        assert left_out in notes
        assert is_whole(target) == decodable(source) > 8


@pytest.mark.slow
def test_damaged_real_files(data, step, tmp_path):
    original = (data / "video" / "realshort_320x240.mp4").read_bytes()
    written = 0
    for seed in range(12):
        source = tmp_path / f"damaged{seed}.mp4"
        rng = np.random.default_rng(1000 + seed)
        source.write_bytes(damage(original, KINDS[rng.integers(len(KINDS))], rng))
        written += survive(source, tmp_path / "large.mkv", step)
        source.unlink()
    assert written > 2
