"""Damaged videos are upscaled as far as they go, or refused: nothing half-written is left, nothing hangs."""

import faulthandler

import av
import numpy as np
import pytest

from networks import SMALL, small_model
from rlsp_tf.errors import RLSPError
from rlsp_tf.steps import KerasStep
from rlsp_tf.upscale import upscale
from videos import make_video

RUNS = 200
LIMIT = 120
"""Seconds for a run of a second, after which it hangs."""


@pytest.fixture(scope="module")
def step():
    return KerasStep(small_model(np.random.default_rng(0), SMALL))


def damage(content, rng):
    """Cut off, bits flipped, a stretch zeroed, removed, doubled or noisy: what disks and networks do."""
    content = bytearray(content)
    kind = rng.integers(6)
    start = int(rng.integers(len(content)))
    stop = min(len(content), start + int(rng.integers(1, 2000)))
    if kind == 0:
        del content[start:]
    elif kind == 1:
        for place in rng.integers(0, len(content), rng.integers(1, 40)):
            content[place] ^= 1 << rng.integers(8)
    elif kind == 2:
        content[start:stop] = bytes(stop - start)
    elif kind == 3:
        del content[start:stop]
    elif kind == 4:
        content[start:start] = content[start:stop]
    else:
        content[start:stop] = rng.bytes(stop - start)
    return bytes(content)


def survive(source, target, step):
    """Whether a target was written; it is whole then, and if not, nothing is left but the source."""
    before = set(target.parent.iterdir())
    faulthandler.dump_traceback_later(LIMIT, exit=True)
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
        source.write_bytes(damage(originals[which], rng))
        written += survive(source, tmp_path / "large.mkv", step)
        source.unlink()
    # Most damage leaves something to see.
    assert RUNS / 4 < written < RUNS


def test_damaged_real_files(data, step, tmp_path):
    original = (data / "video" / "realshort_320x240.mp4").read_bytes()
    written = 0
    for seed in range(12):
        source = tmp_path / f"damaged{seed}.mp4"
        source.write_bytes(damage(original, np.random.default_rng(1000 + seed)))
        written += survive(source, tmp_path / "large.mkv", step)
        source.unlink()
    assert written > 2
