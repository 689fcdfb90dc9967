import time

import numpy as np
import pytest

from helpers.clips import index, write_folder
from helpers.synthetic import make_clip
from rlsp_tf.training.clips.sampler import ClipSampler
from rlsp_tf.training.clips.tf_feed import clip_dataset
from rlsp_tf.training.closing import ClosableSampler


@pytest.fixture
def sampler(tmp_path):
    write_folder(tmp_path / "data" / "scene", make_clip(6, 80, 80))
    clips, _ = index(tmp_path / "data", cache=tmp_path / "cache")
    return ClipSampler(clips, batch=2, frames=3, crop=16, seed=1)


def test_the_dataset_gives_the_sampler_s_batches_from_any_step_on(sampler):
    dataset = clip_dataset(sampler, 5, 25)
    # At low resolution with a neighbour at either end.
    assert [spec.shape.as_list() for spec in dataset.element_spec] == [[2, 5, 16, 16, 3], [2, 3, 64, 64, 3]]
    batches = list(dataset.as_numpy_iterator())
    assert len(batches) == 20
    for step, batch in enumerate(batches, start=5):
        for part, expected in zip(batch, sampler.samples(step), strict=True):
            np.testing.assert_array_equal(part, expected)


def test_a_closed_sampler_has_ended_its_calls_and_gives_zeros(sampler):
    """As threads of a pipeline go on with it when training has stopped."""
    samples, running = sampler.samples, []

    def slow_samples(step):
        running.append(step)
        time.sleep(0.2)
        batch = samples(step)
        running.remove(step)
        return batch

    sampler.samples = slow_samples
    closable = ClosableSampler(sampler)
    batches = iter(clip_dataset(closable, 0, 1000))
    first = next(batches)
    # Taking a batch makes room for another, for which a thread calls in a moment.
    for _ in range(100):
        if running:
            break
        next(batches)
    assert running
    closable.close()
    assert not running
    for part, expected in zip(first, samples(0), strict=True):
        np.testing.assert_array_equal(part, expected)
    lr, hr = closable.samples(5)
    assert (lr.shape, hr.shape) == ((2, 5, 16, 16, 3), (2, 3, 64, 64, 3))
    assert not lr.any()
    assert not hr.any()


def test_waiting_is_measured(sampler):
    """A source that is ready in time is not waited for; a slow one is, as long as it seems from outside."""
    quick: list[float] = []
    for _ in clip_dataset(sampler, 0, 20, quick):
        time.sleep(0.05)  # a training step
    assert len(quick) == 20
    assert np.median(quick) < 0.01  # the first batch starts the pipeline

    samples = sampler.samples

    def slow_samples(step):
        time.sleep(0.1)
        return samples(step)

    sampler.samples = slow_samples
    slow: list[float] = []
    outside = []
    batches = iter(clip_dataset(sampler, 0, 12, slow))
    for _ in range(12):
        began = time.monotonic()
        next(batches)
        outside.append(time.monotonic() - began)
    assert max(slow) >= 0.1
    beside = np.subtract(outside, slow)
    # The clocks are read inside; from outside, what they take comes on top.
    assert beside.min() > -0.001
    assert np.median(beside) < 0.03
