"""Computes the steps of several streams as one batch."""

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from rlsp_tf.inference.step import Step

MAX_BATCH = 8
"""Largest number of streams in a batch."""
CPU_PIXELS = 2**16
"""Largest number of low-resolution pixels in a batch without a GPU, so that input and output of a layer stay
in the cache. In a batch of 4, 7-48 on two cores takes 0.6 of the time of single frames at 128x72, and 1.3 at
480x270."""
SIZES = 8
"""Number of frame sizes for which the compiled step is kept."""


@dataclass
class _Call:
    window: Sequence[tf.Tensor]
    state: Any
    result: "Future[tuple[Any, Any, int]]" = field(default_factory=Future)

    @property
    def signature(self) -> tuple[Any, ...]:
        """Shapes and types of all inputs. Calls with the same signature can be put into one batch."""
        return tuple((tuple(each.shape), str(each.dtype)) for each in (*self.window, *self.state))


class BatchingStep:
    """A :class:`rlsp_tf.inference.step.Step` that many threads can call at the same time.

    One thread computes. Whenever it is free, it takes the call that has waited longest, together with other
    waiting calls of the same frame size. No call waits for others to join it: a single stream is as fast as
    without batching, and batches grow with the load. A batch has 1, 2, 4 or 8 streams, so that few
    graphs are compiled for each frame size. The results are those of single steps, except that a
    convolution may add its terms in another order.

    Args:
        make: function that makes the step; called once for every frame size.
        max_batch: largest number of streams in a batch.
        pixels: largest number of low-resolution pixels in a batch; a single stream may have more.
        sizes: number of frame sizes for which the compiled step is kept, so that memory does not grow with
            every new size. The least recently used size is dropped first.

    Raises:
        RuntimeError: if it is called after :meth:`close`.
    """

    def __init__(
        self,
        make: Callable[[], Step],
        *,
        max_batch: int = MAX_BATCH,
        pixels: float = math.inf,
        sizes: int = SIZES,
    ) -> None:
        self._make, self._max_batch, self._pixels, self._sizes = make, max_batch, pixels, sizes
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
    def batch(self) -> int:
        """Size of the batch of the calling thread's last step; 0 before the first one."""
        return getattr(self._own, "batch", 0)

    def initial_state(self, batch: int, height: int, width: int) -> Any:
        return self._first.initial_state(batch, height, width)

    def __call__(self, window: Sequence[tf.Tensor], state: Any) -> tuple[tf.Tensor, Any]:
        call = _Call(window, state)
        with self._changed:
            if self._closed:
                raise RuntimeError("the step is closed")
            self._waiting.append(call)
            self._changed.notify()
        frame, state, self._own.batch = call.result.result()
        return frame, state

    def close(self) -> None:
        """Computes the waiting calls, then ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while calls := self._next():
            try:
                results = self._run(calls)
            except Exception:
                # There may be too little memory for the batch, but enough for each of its streams.
                for call in calls:
                    try:
                        call.result.set_result(self._run([call])[0])
                    except Exception as error:
                        call.result.set_exception(error)
                continue
            for call, result in zip(calls, results, strict=True):
                call.result.set_result(result)

    def _next(self) -> list[_Call]:
        """Waits for the next batch and returns it; it is empty after :meth:`close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return []
            first = self._waiting[0]
            fit = self._pixels // math.prod(first.window[0].shape[:3])
            alike = [call for call in self._waiting if call.signature == first.signature]
            alike = alike[: int(max(1, min(self._max_batch, fit)))]
            chosen = alike[: 1 << (len(alike).bit_length() - 1)]
            taken = set(map(id, chosen))
            self._waiting = deque(call for call in self._waiting if id(call) not in taken)
            return chosen

    def _run(self, calls: list[_Call]) -> list[tuple[Any, ...]]:
        """Computes a batch; returns frame, state and size of the batch for each call."""
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
