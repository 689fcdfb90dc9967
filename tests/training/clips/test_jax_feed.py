from dataclasses import replace

import numpy as np
import pytest

from helpers.clips import index, write_folder
from helpers.synthetic import make_clip
from rlsp_tf.training.clips.sampler import ClipSampler

device_clips = pytest.importorskip(
    "rlsp_tf.training.clips.jax_feed", reason="needs JAX", exc_type=ImportError
)


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    """Of clips of several sizes, as they follow each other in memory."""
    folder = tmp_path_factory.mktemp("clips")
    write_folder(folder / "data" / "one", make_clip(6, 90, 101))
    write_folder(folder / "data" / "two", make_clip(9, 84, 80, seed=1))
    write_folder(folder / "data" / "three", make_clip(7, 80, 130, seed=2))
    clips, _ = index(folder / "data", cache=folder / "cache")
    return ClipSampler(clips, batch=4, frames=5, crop=16, seed=3)


def test_batches_are_those_that_the_host_cuts(sampler):
    on_device = device_clips.DeviceClips(sampler)
    kinds = set()
    for step in range(60):
        for part, expected in zip(on_device.samples(step), sampler.samples(step), strict=True):
            assert part.dtype == np.uint8
            np.testing.assert_array_equal(np.asarray(part), expected)
        kinds |= {(window.clip, *window.flip, window.transpose) for window in sampler.windows(step)}
    assert len(kinds) == 3 * 8  # every clip, flipped and transposed in every way


def test_clips_that_do_not_fit_stay_with_the_host(sampler):
    assert device_clips.fits(sampler.clips)
    assert not device_clips.fits([replace(sampler.clips[0], shape=(10_000_000, 1080, 1920))])
