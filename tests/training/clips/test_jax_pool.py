"""The pool of samples on an accelerator, and the processes that fill it."""

from itertools import count, islice

import numpy as np
import pytest

from helpers.clips import index, write_folder
from helpers.synthetic import make_clip
from rlsp_tf.media.degradations import VIDEO
from rlsp_tf.pixels.degradation import degrade
from rlsp_tf.training.clips.mixture import MixedSampler, Mixture
from rlsp_tf.training.clips.photographs import index_photographs
from rlsp_tf.training.clips.rendering import SLACK, rendered
from rlsp_tf.training.clips.sampler import ClipSampler

jax_pool = pytest.importorskip("rlsp_tf.training.clips.jax_pool", reason="needs JAX", exc_type=ImportError)

CROP, BATCH, REUSE = 12, 4, 3


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    write_folder(folder / "data" / "one", make_clip(9, 120, 140))
    write_folder(folder / "photos" / "one", make_clip(2, 200, 180, seed=2))
    clips, _ = index(folder / "data", cache=folder / "cache")
    return clips, index_photographs([folder / "photos"], cache=folder / "cache")[0]


@pytest.fixture(scope="module")
def sampler(material):
    return ClipSampler(material[0], batch=BATCH, frames=3, crop=CROP + SLACK, seed=5)


@pytest.fixture(autouse=True)
def small_pool(monkeypatch):
    """Four batches instead of hundreds."""
    monkeypatch.setattr(jax_pool, "POOL", 4 * BATCH)


def batches(sampler, start, stop):
    """The batches of some steps, as NumPy arrays, without processes."""
    new = map(sampler.samples, count(start // REUSE))
    pool = jax_pool.SamplePool(sampler, new, start, reuse=REUSE, waits=[])
    return [tuple(map(np.asarray, pool.samples(step))) for step in range(start, stop)]


@pytest.mark.slow
def test_processes_render_what_the_sampler_makes_in_the_same_order(material):
    clips, photographs = material
    mixture = Mixture(photo_share=0.6, degradation=VIDEO, paper_share=0.3)
    cut = ClipSampler(clips, batch=2, frames=3, crop=CROP, seed=1)
    mixed = MixedSampler(cut, photographs, mixture)
    with rendered(mixed, 7) as new:
        for number, (lr, hr) in enumerate(islice(new, 9), 7):
            expected = mixed.samples(number)
            np.testing.assert_array_equal(lr, expected[0])
            np.testing.assert_array_equal(hr, expected[1])


@pytest.mark.slow
def test_samples_are_turned_in_every_way_and_stay_in_place(sampler):
    """Low-resolution pixel i of a turned sample still lies on high-resolution pixel 4 i."""
    whole = np.concatenate([sampler.samples(number)[1] for number in range(3 + 4)])
    ways = set()
    for lr, hr in batches(sampler, 0, 8):
        assert lr.shape == (BATCH, 5, CROP, CROP, 3)
        assert hr.shape == (BATCH, 3, 4 * CROP, 4 * CROP, 3)
        # Away from the edges, where the sample was blurred with what is beyond them.
        inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
        difference = degrade(hr)[inner].astype(int) - lr[:, 1:-1][inner]
        # Rounding may differ where a mirrored sum is added up in another order.
        assert np.abs(difference).max() <= 1
        assert np.mean(difference != 0) < 1e-3
        ways |= {way for each in hr for way in found_in(each, whole)}
    assert len(ways) == 8


def found_in(crop, samples):
    """The ways ``(vertical, horizontal, transposed)`` in which a crop is a part of one of the samples."""
    for down in (1, -1):
        for across in (1, -1):
            for turned in (False, True):
                back = (crop.swapaxes(1, 2) if turned else crop)[:, ::down, ::across]
                size = back.shape[1]
                for y in range(samples.shape[2] - size + 1):
                    for x in range(samples.shape[3] - size + 1):
                        if (samples[:, :, y : y + size, x : x + size] == back).all(axis=(1, 2, 3, 4)).any():
                            yield down, across, turned


def test_batches_do_not_depend_on_the_step_at_which_training_began(sampler):
    whole = batches(sampler, 0, 14)
    for start in (1, 5, 9):
        for ours, expected in zip(batches(sampler, start, 14), whole[start:], strict=True):
            for part, other in zip(ours, expected, strict=True):
                np.testing.assert_array_equal(part, other)


def test_every_sample_is_used_about_as_often_as_asked(sampler):
    """A pool of 4 batches of which one is replaced every 3 steps: 3 uses of a sample in 12 steps."""
    uses = np.zeros(1000)

    def numbered():
        for number in count():
            lr, hr = sampler.samples(0)
            for place, array in enumerate(lr):
                array[:] = np.uint8(number), np.uint8(place), 0
            yield lr, hr

    pool = jax_pool.SamplePool(sampler, numbered(), 0, reuse=REUSE, waits=[])
    for step in range(300):
        lr, _ = pool.samples(step)
        entered, place, _ = np.asarray(lr)[:, 0, 0, 0].T.astype(int)
        assert (entered >= step // REUSE).all()
        assert (entered < step // REUSE + 4).all()
        assert len(set(zip(entered, place, strict=True))) == BATCH  # none twice in a batch
        np.add.at(uses, BATCH * entered + place, 1)
    settled = uses[4 * BATCH : 4 * 96]
    assert settled.mean() == pytest.approx(REUSE, rel=0.02)
