"""One network for many streams: batches give what single steps give, and nobody is passed over."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from helpers.networks import small_model
from helpers.synthetic import make_clip
from helpers.videos import make_video
from rlsp_tf.inference.step import KerasStep
from rlsp_tf.inference.upscaler import StreamingUpscaler
from rlsp_tf.serving.batching import BatchingStep
from rlsp_tf.upscaling.upscale import upscale


class Held(KerasStep):
    """A step whose first call waits until it is let go, and that notes the batches."""

    def __init__(self, model, sizes=None):
        super().__init__(model)
        self.begun, self.go = threading.Event(), threading.Event()
        self.sizes = [] if sizes is None else sizes

    def __call__(self, window, state):
        if not self.begun.is_set():
            self.begun.set()
            assert self.go.wait(20)
        self.sizes.append(tuple(window[0].shape[:3]))
        return super().__call__(window, state)


def waiting(step, count):
    """Waits until so many calls wait."""
    deadline = time.monotonic() + 20
    while len(step._waiting) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def window(rng, height=9, width=12):
    return [tf.constant(rng.uniform(0, 255, (1, height, width, 3)), tf.float32) for _ in range(3)]


def run_together(held, calls, **options):
    """All calls but the first wait while the first is at work; gives results and the number of streams."""
    step = BatchingStep(lambda: held, **options)

    def one(call):
        return (*step(*call), step.batch)

    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(one, calls[0])]
        assert held.begun.wait(20)
        for number, call in enumerate(calls[1:], 1):
            futures.append(pool.submit(one, call))
            waiting(step, number)
        held.go.set()
        results = [future.result() for future in futures]
    step.close()
    return results


def test_steps_that_wait_become_one_and_give_what_they_give_alone(rng):
    model = small_model(rng, precision="float32")
    alone = KerasStep(model)
    calls = []
    for _ in range(6):
        # States of streams that are under way differ.
        _, state = alone(window(rng), alone.initial_state(1, 9, 12))
        calls.append((window(rng), state))
    held = Held(model)
    results = run_together(held, calls)
    assert held.sizes == [(1, 9, 12), (4, 9, 12), (1, 9, 12)]
    assert [shared for *_, shared in results] == [1, 4, 4, 4, 4, 1]
    for call, (frame, state, _) in zip(calls, results, strict=True):
        expected, following = alone(*call)
        # The same float32 operations; a convolution may sum in another order.
        np.testing.assert_allclose(frame, expected, atol=1e-3)
        for mine, theirs in zip(state, following, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-3)


def test_only_like_sizes_go_together_and_the_oldest_goes_first(rng):
    model = small_model(rng, precision="float32")
    sizes = [(9, 12), (5, 7), (9, 12), (5, 7), (9, 12)]
    calls = [(window(rng, *size), KerasStep(model).initial_state(1, *size)) for size in sizes]
    held = Held(model)
    run_together(held, calls)
    assert held.sizes == [(1, 9, 12), (2, 5, 7), (2, 9, 12)]


def test_a_batch_has_no_more_pixels_than_it_may(rng):
    model = small_model(rng, precision="float32")
    calls = [(window(rng), KerasStep(model).initial_state(1, 9, 12)) for _ in range(4)]
    held = Held(model)
    run_together(held, calls, pixels=2 * 9 * 12)
    assert [batch for batch, *_ in held.sizes] == [1, 2, 1]
    held = Held(model)
    run_together(held, calls, pixels=1)
    assert [batch for batch, *_ in held.sizes] == [1, 1, 1, 1]


def test_where_a_batch_fails_its_steps_are_tried_one_by_one(rng):
    model = small_model(rng, precision="float32")

    class Small(Held):
        def __call__(self, window, state):
            if window[0].shape[0] > 1:
                raise tf.errors.ResourceExhaustedError(None, None, "too much")
            if np.asarray(window[0]).max() == 0:
                raise ValueError("black")
            return super().__call__(window, state)

    state = KerasStep(model).initial_state(1, 9, 12)
    calls = [(window(rng), state) for _ in range(3)]
    results = run_together(Small(model), calls)
    assert [shared for *_, shared in results] == [1, 1, 1]
    black = [tf.zeros((1, 9, 12, 3))] * 3
    with pytest.raises(ValueError, match="black"):
        run_together(Small(model), [calls[0], calls[1], (black, state)])


def test_no_more_sizes_stay_compiled_than_are_asked_for(rng):
    model = small_model(rng, precision="float32")
    made = []

    def make():
        made.append(KerasStep(model))
        return made[-1]

    step = BatchingStep(make, sizes=2)
    for height in (4, 5, 4, 6, 4, 5):
        step(window(rng, height), step.initial_state(1, height, 12))
    step.close()
    assert len(made) == 1 + 4  # one to ask; 4, 5, 6, and 5 once more
    with pytest.raises(RuntimeError, match="closed"):
        step(window(rng), step.initial_state(1, 9, 12))


def test_a_video_and_streams_share_the_network(tmp_path, rng):
    """Whatever the threads do, every one gets what it would get alone."""
    model = small_model(rng, precision="float32")
    make_video(tmp_path / "in.mp4", pts=range(0, 12 * 3600, 3600))
    upscale(tmp_path / "in.mp4", tmp_path / "alone", model)
    clips = [make_clip(5, 48, 64, seed) for seed in range(3)]
    step = BatchingStep(lambda: KerasStep(model))

    def run(clip, model):
        upscaler = StreamingUpscaler(model)
        return [frame for each in clip for frame in upscaler.push(each)] + upscaler.flush()

    with ThreadPoolExecutor(4) as pool:
        video = pool.submit(upscale, tmp_path / "in.mp4", tmp_path / "shared", step)
        streams = [pool.submit(run, clip, step) for clip in clips]
        video.result()
        for clip, stream in zip(clips, streams, strict=True):
            # Sums in another order may be rounded the other way.
            difference = np.abs(np.stack(stream.result()).astype(int) - np.stack(run(clip, model)))
            assert difference.max() <= 1
    step.close()
    names = [path.name for path in sorted((tmp_path / "alone").iterdir())]
    assert len(names) == 12
    for name in names:
        frames = [tf.io.decode_png((tmp_path / kind / name).read_bytes()) for kind in ("alone", "shared")]
        assert np.abs(np.subtract(*(frame.numpy().astype(int) for frame in frames))).max() <= 1
