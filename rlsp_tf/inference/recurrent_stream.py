"""Runs a network over a stream of frames and carries its state from frame to frame."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import keras

from rlsp_tf.inference.step import KerasStep, Step


class RecurrentStream:
    """Computes frame by frame what :class:`rlsp_tf.RLSP` computes for a whole clip.

    The first frame stands in for its missing past, the last one for its missing future. The output lags
    ``frames_after`` frames behind the input, and at the start of a clip ``warm_start`` more.

    Args:
        model: a Keras model with an :class:`rlsp_tf.RLSP` layer, or a :class:`rlsp_tf.inference.step.Step`.
        warm_start: int, number of frames after the first that the network sees in reverse order before the
            clip begins; as for :class:`rlsp_tf.RLSP`.
    """

    def __init__(self, model: keras.Model | Step, *, warm_start: int = 0) -> None:
        self._step = KerasStep(model) if isinstance(model, keras.Model) else model
        self.config = self._step.config
        self._warm_start = warm_start
        self.reset()

    def reset(self) -> None:
        """Forgets the clip: the next frame is the first of another one."""
        self._window: deque[Any] = deque(maxlen=self.config.window)
        self._state: Any = None
        self._first: list[Any] = []
        # Steps to leave out, because their outputs came when a picture was held.
        self._done = 0

    def push(self, frame: Any) -> Iterator[Any]:
        """Takes the next frame and yields the outputs that are ready.

        Each output is computed only when it is asked for, so that the several large frames with which a shot
        begins take no more memory than one. Take all of them before pushing another frame.

        Args:
            frame: float32 tensor ``(B, H, W, 3)``, RGB 0..255, of one shape throughout the clip.

        Yields:
            Float32 tensors ``(B, scale*H, scale*W, C)``, the outputs of :class:`rlsp_tf.RLSPCell`: none, one,
            or after a warm start several.
        """
        if self._state is not None:
            yield from self._advance(frame)
            return
        self._first.append(frame)
        if len(self._first) > self._warm_start:
            yield from self._begin()

    def hold(self) -> Iterator[Any]:
        """Yields the outputs that wait for a future frame, as if the latest frame stayed; the clip goes on.

        If a warm start still waits for frames, it takes those that there are. When frames come again, the
        state is that of the latest output.

        Yields:
            Tensors as from :meth:`push`, so that every frame pushed has had its output.
        """
        if self._first:
            yield from self._begin()
        last = self._window[-1]
        for _ in range(self.config.frames_after):
            yield from self._advance(last)
        self._done = self.config.frames_after

    def flush(self) -> Iterator[Any]:
        """Ends the clip: yields the outputs that were still waiting for a future frame, then resets.

        Yields:
            Tensors as from :meth:`push`, so that every frame pushed has had its output.
        """
        if self._first:
            yield from self._begin()
        if self._window:
            last = self._window[-1]
            for _ in range(self.config.frames_after):
                yield from self._advance(last)
        self.reset()

    def _begin(self) -> Iterator[Any]:
        """Starts the clip with the frames collected for the warm start."""
        frames, self._first = self._first, []
        self._state = self._step.initial_state(*frames[0].shape[:3])
        last = len(frames) - 1
        for t in (range(last, 0, -1) or (0,)) if self._warm_start else ():
            # Time is reversed, so the window goes from later to earlier frames.
            around = range(t + self.config.frames_before, t - self.config.frames_after - 1, -1)
            window = [frames[min(max(index, 0), last)] for index in around]
            self._state = self._step(window, self._state)[1]
        self._window.extend(frames[:1] * self.config.frames_before)
        for frame in frames:
            yield from self._advance(frame)

    def _advance(self, frame: Any) -> Iterator[Any]:
        self._window.append(frame)
        if self._done:
            self._done -= 1
        elif len(self._window) == self.config.window:
            output, self._state = self._step(self._window, self._state)
            yield output
