"""Stages that overlap: order kept, bounded, and ended together whichever of them fails."""

import gc
import itertools
import threading
import time
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsp_tf.errors import RLSPError
from rlsp_tf.system.pipeline import AHEAD, Background, Prefetch


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rlsp ")]


def run(items, take, between=lambda item: None):
    """All three stages."""
    with Background("encoding", take) as behind, Prefetch("decoding", items) as ahead:
        for item in ahead:
            between(item)
            behind.put(item)


@given(st.lists(st.integers(), max_size=30))
def test_items_pass_in_order(items):
    taken = []
    run(items, taken.append)
    assert taken == items


def test_nothing_is_kept_when_the_work_is_done():
    """Encoders and decoders hold much memory, and a server makes one after the other."""

    class Encoder(list):
        pass

    gc.disable()
    try:
        encoder = Encoder()
        run(iter("frames"), encoder.append)
        kept = weakref.ref(encoder)
        del encoder
        assert kept() is None
    finally:
        gc.enable()


def test_none_and_exceptions_are_items_like_others():
    items = [None, ValueError("an item"), False]
    with Prefetch("decoding", items) as ahead:
        assert list(ahead) == items


def test_nobody_runs_far_ahead():
    made = 0

    def items():
        nonlocal made
        while True:
            made += 1
            yield made

    with Prefetch("decoding", items()) as ahead:
        for item in ahead:
            time.sleep(0.002)
            # One in the hands of either side, the others in the queue.
            assert made <= item + AHEAD + 2
            if item == 20:
                break
    assert made < 30

    gate = threading.Event()
    with Background("encoding", lambda item: gate.wait()) as behind:
        put = 0

        def fill():
            nonlocal put
            for put in range(1, 20):
                behind.put(put)

        filler = threading.Thread(target=fill)
        filler.start()
        time.sleep(0.3)
        assert put <= AHEAD + 2
        gate.set()
        filler.join()


def test_a_failure_ahead_comes_after_what_was_made_before_it():
    def items():
        yield from range(AHEAD + 2)
        raise RLSPError("film.mp4: is damaged; make it again.")

    taken = []
    with pytest.raises(RLSPError, match=r"film\.mp4: is damaged") as failure:
        run(items(), lambda item: None, taken.append)
    assert taken == list(range(AHEAD + 2))
    assert getattr(failure.value, "__notes__", ["while decoding"]) == ["while decoding"]


@pytest.mark.parametrize("failing", [0, 3, 9])
def test_a_failure_behind_ends_the_stages_before_it(failing):
    taken = []

    def take(item):
        if item == failing:
            raise OSError(28, "No space left on device")
        taken.append(item)

    with pytest.raises(OSError, match="No space left") as failure:
        run(range(10), take)
    assert taken == list(range(failing))
    assert getattr(failure.value, "__notes__", ["while encoding"]) == ["while encoding"]


@pytest.mark.parametrize("failing", ["colour", "encoding"])
def test_of_two_stages_in_a_row_that_which_failed_is_named(failing):
    taken = []

    def fail(stage, item):
        if item == 4 and stage == failing:
            raise OSError(28, "No space left on device")

    def finish(item):
        fail("colour", item)
        encoder.put(item)

    def encode(item):
        fail("encoding", item)
        taken.append(item)

    def work():
        for item in range(50):
            finisher.put(item)

    with (
        pytest.raises(OSError, match="No space left") as failure,
        Background("encoding", encode) as encoder,
        Background("colour", finish, ahead=1) as finisher,
    ):
        work()
    assert taken == list(range(len(taken)))  # what waits may be lost, nothing between
    assert len(taken) <= 4
    assert getattr(failure.value, "__notes__", [f"while {failing}"]) == [f"while {failing}"]


def test_a_failure_between_ends_both_sides():
    taken = []

    def interrupt(item):
        if item == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(itertools.count(), taken.append, interrupt)
    assert taken == list(range(len(taken)))
    assert len(taken) <= 5
