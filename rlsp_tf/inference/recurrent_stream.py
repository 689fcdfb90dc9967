"""The network over a stream of frames, with the state that it carries from one to the next."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from rlsp_tf.inference.step import KerasStep, Step


class RecurrentStream:
    """The network over a stream of frames: what :class:`rlsp_tf.RLSP` gives for the whole clip.

    The first frame has itself as its past, the last one itself as its future. The output lags
    ``frames_after`` frames behind the input, and at the start of a clip ``warm_start`` more.

    Args:
        model: a model that holds an :class:`rlsp_tf.RLSP` layer, or an export of one.
        warm_start: frames after the first that are run backwards in time before the clip begins, so that its
            first frames find a state; see :class:`rlsp_tf.RLSP`.
    """

    def __init__(self, model: keras.Model | Step, *, warm_start: int = 0) -> None:
        self._step = KerasStep(model) if isinstance(model, keras.Model) else model
        self.config = self._step.config
        self._warm_start = warm_start
        self.reset()

    def reset(self) -> None:
        """Forgets the clip: the next frame is the first of another."""
        self._window: deque[tf.Tensor] = deque(maxlen=self.config.window)
        self._state: Any = None
        self._first: list[tf.Tensor] = []

    def push(self, frame: tf.Tensor) -> Iterator[tf.Tensor]:
        """Takes the next frame, gives those that are ready, each computed when it is asked for.

        All of them have to be taken before another frame is pushed. That a shot begins with several, which
        are large, so takes no more memory than one.

        Args:
            frame: float32 ``(B, H, W, 3)``, RGB 0..255, of one shape throughout the clip.

        Yields:
            Tensors ``(B, scale*H, scale*W, C)`` float32, as :class:`rlsp_tf.RLSPCell` gives: none, one, or
            after a warm start several.
        """
        if self._state is not None:
            yield from self._advance(frame)
            return
        self._first.append(frame)
        if len(self._first) > self._warm_start:
            yield from self._begin()

    def flush(self) -> Iterator[tf.Tensor]:
        """Gives the frames that still waited for a future one, and resets.

        Yields:
            As many tensors as :meth:`push` has withheld.
        """
        if self._first:
            yield from self._begin()
        if self._window:
            last = self._window[-1]
            for _ in range(self.config.frames_after):
                yield from self._advance(last)
        self.reset()

    def _begin(self) -> Iterator[tf.Tensor]:
        """Starts with the frames that were kept."""
        frames, self._first = self._first, []
        self._state = self._step.initial_state(*frames[0].shape[:3])
        last = len(frames) - 1
        for t in (range(last, 0, -1) or (0,)) if self._warm_start else ():
            # Time runs backwards: what comes after has been before.
            around = range(t + self.config.frames_before, t - self.config.frames_after - 1, -1)
            window = [frames[min(max(index, 0), last)] for index in around]
            self._state = self._step(window, self._state)[1]
        self._window.extend(frames[:1] * self.config.frames_before)
        for frame in frames:
            yield from self._advance(frame)

    def _advance(self, frame: tf.Tensor) -> Iterator[tf.Tensor]:
        self._window.append(frame)
        if len(self._window) == self.config.window:
            output, self._state = self._step(self._window, self._state)
            yield output
