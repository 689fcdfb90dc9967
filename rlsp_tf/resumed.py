"""A network that goes on where an earlier run has stopped."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rlsp_tf.steps import Step, StepWrapper


class ResumedStep(StepWrapper):
    """A step that counts, and leaves out those that an earlier run has computed.

    Frames are pushed through it from the beginning of the clip, so that all that depends on them comes about
    anew; only the network does not run before its turn. It is a :class:`rlsp_tf.steps.Step` that gives
    ``None`` for frames and an empty state where it leaves out.

    Args:
        step: what to compute with.
        done: how many steps have been computed.
        state: gives the state after these, as :meth:`kept` has given it; asked once, if there are any.

    Attributes:
        count: steps so far, with those left out.
    """

    def __init__(self, step: Step, done: int = 0, state: Callable[[], Sequence[np.ndarray]] = list) -> None:
        super().__init__(step)
        self.count = 0
        self._done, self._saved = done, state
        self._state: Any = ()
        self._shape: tuple[int, ...] = ()

    def initial_state(self, batch: int, height: int, width: int) -> Any:
        self._shape = (batch, height, width)
        return self._step.initial_state(batch, height, width) if self.count >= self._done else ()

    def __call__(self, window: Sequence[tf.Tensor], state: Any) -> tuple[Any, Any]:
        self.count += 1
        if self.count > self._done:
            frame, self._state = self._step(window, state)
            return frame, self._state
        self._state = self._restored() if self.count == self._done else ()
        return None, self._state

    def kept(self) -> list[np.ndarray]:
        """The state after the step before, as arrays that later steps do not change."""
        # A tensor never changes, so a view of it will do; states are large.
        return [each.numpy() if tf.is_tensor(each) else each.copy() for each in self._state]

    def _restored(self) -> list[Any]:
        saved = self._saved()
        like = self._step.initial_state(*self._shape) if saved else ()
        state: list[Any] = []
        for array, model in zip(saved, like, strict=True):
            if array.shape != tuple(model.shape):
                raise ValueError(f"a state of shape {array.shape} instead of {tuple(model.shape)}")
            tensor = tf.cast(array, model.dtype)
            state.append(tensor if tf.is_tensor(model) else np.array(tensor))
        return state
