"""One network for many streams: steps that wait at the same time become one step of a batch."""

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from rlsp_tf.inference.step import Step

MOST = 8
"""Streams in a batch, at most."""
CPU_PIXELS = 2**16
"""Low-resolution pixels in a batch where there is no GPU, so that a layer's input and output stay in cache.
In a batch of 4, 7-48 on two cores takes 0.6 of the time of single frames at 128x72, and 1.3 at 480x270."""
SIZES = 8
"""Sizes of frames whose compiled steps are kept; the one that was not used for longest goes first."""


@dataclass
class _Call:
    window: Sequence[tf.Tensor]
    state: Any
    result: "Future[tuple[Any, Any, int]]" = field(default_factory=Future)

    @property
    def form(self) -> tuple[Any, ...]:
        """What calls have in common that can be one: the shapes and types of all that enters."""
        return tuple((tuple(each.shape), str(each.dtype)) for each in (*self.window, *self.state))


class BatchingStep:
    """A :class:`rlsp_tf.inference.step.Step` for many threads at a time.

    A thread of its own computes. What waits when it becomes free goes through the network together, if
    it is of one size; who has waited longest is never passed over. Nothing waits for company: a stream
    alone is as fast as ever, and batches grow with the load. A batch holds 1, 2, 4 ... streams, so
    that there are few graphs for a size of frames. It gives the numbers of single steps, but for the order in
    which a convolution may sum.

    Args:
        make: makes the step to compute with; called anew for every size of frames.
        most: streams in a batch, at most.
        pixels: of all low-resolution frames in a batch, at most; one stream may have more alone.
        sizes: how many sizes of frames stay compiled, so that memory does not grow with every new one.

    Raises:
        RuntimeError: when it is called after :meth:`close`.
    """

    def __init__(
        self,
        make: Callable[[], Step],
        *,
        most: int = MOST,
        pixels: float = math.inf,
        sizes: int = SIZES,
    ) -> None:
        self._make, self._most, self._pixels, self._sizes = make, most, pixels, sizes
        self._first = make()
        self.config, self.fingerprint = self._first.config, self._first.fingerprint
        self.precision, self.itemsize = self._first.precision, self._first.itemsize
        self._steps: OrderedDict[tuple[int, ...], Step] = OrderedDict()
        self._waiting: deque[_Call] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._own = threading.local()
        self._thread = threading.Thread(target=self._work, name="network", daemon=True)
        self._thread.start()

    @property
    def shared(self) -> int:
        """How many streams the last step of the calling thread was for; 0 before the first."""
        return getattr(self._own, "shared", 0)

    def initial_state(self, batch: int, height: int, width: int) -> Any:
        return self._first.initial_state(batch, height, width)

    def __call__(self, window: Sequence[tf.Tensor], state: Any) -> tuple[tf.Tensor, Any]:
        call = _Call(window, state)
        with self._changed:
            if self._closed:
                raise RuntimeError("the step is closed")
            self._waiting.append(call)
            self._changed.notify()
        frame, state, self._own.shared = call.result.result()
        return frame, state

    def close(self) -> None:
        """Computes what waits, then ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while calls := self._next():
            try:
                results = self._run(calls)
            except Exception:
                # A batch may be too much for the memory where each of its streams is not.
                for call in calls:
                    try:
                        call.result.set_result(self._run([call])[0])
                    except Exception as error:
                        call.result.set_exception(error)
                continue
            for call, result in zip(calls, results, strict=True):
                call.result.set_result(result)

    def _next(self) -> list[_Call]:
        """The next batch; empty when there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return []
            first = self._waiting[0]
            fit = self._pixels // math.prod(first.window[0].shape[:3])
            alike = [call for call in self._waiting if call.form == first.form]
            alike = alike[: int(max(1, min(self._most, fit)))]
            chosen = alike[: 1 << (len(alike).bit_length() - 1)]
            taken = set(map(id, chosen))
            self._waiting = deque(call for call in self._waiting if id(call) not in taken)
            return chosen

    def _run(self, calls: list[_Call]) -> list[tuple[Any, ...]]:
        """Frame, state and number of streams, for each call."""
        step = self._step_for(tuple(calls[0].window[0].shape[1:3]))
        if len(calls) == 1:
            return [(*step(calls[0].window, calls[0].state), 1)]
        window = [tf.concat(frames, axis=0) for frames in zip(*(call.window for call in calls), strict=True)]
        state = [tf.concat(parts, axis=0) for parts in zip(*(call.state for call in calls), strict=True)]
        frame, state = step(window, state)
        count = len(calls)
        states = zip(*(tf.split(part, count) for part in state), strict=True)
        frames = tf.split(frame, count)
        return [(own, list(parts), count) for own, parts in zip(frames, states, strict=True)]

    def _step_for(self, size: tuple[int, ...]) -> Step:
        if size not in self._steps:
            while len(self._steps) >= self._sizes:
                self._steps.popitem(last=False)
            self._steps[size] = self._make()
        self._steps.move_to_end(size)
        return self._steps[size]
