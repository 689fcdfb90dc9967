"""A network that goes on where an earlier run has stopped."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rlsp_tf.inference.step import Step, StepWrapper


class Stretch(NamedTuple):
    """Consecutive steps that are to be computed.

    Attributes:
        after: how many steps come before the first of them.
        until: the number of the last one, counted from 1; ``None`` for no end.
        state: gives the state that the first one takes, as :meth:`ResumedStep.kept` has given it; an empty
            one if the first one begins a shot.
    """

    after: int
    until: int | None
    state: Callable[[], Sequence[np.ndarray]]

    def __contains__(self, number: object) -> bool:
        """Whether the step of a number, counted from 1, is one of them."""
        assert isinstance(number, int)
        return self.after < number and (self.until is None or number <= self.until)


EVERYTHING = (Stretch(0, None, list),)
"""All steps, from the beginning of a clip."""


class Stopped(Exception):
    """Raised instead of a step by a :class:`ResumedStep` that is to stop."""


class ResumedStep(StepWrapper):
    """A step that counts, and leaves out those that an earlier run has computed.

    Frames are pushed through it from the beginning of the clip, so that all that depends on them comes about
    anew; only the network does not run before its turn. It is a :class:`rlsp_tf.inference.step.Step` that
    gives ``None`` for frames and an empty state where it leaves out.

    Args:
        step: what to compute with.
        stretches: which steps are computed, in order and apart from each other.
        stop: asked before every step; if it says yes, :class:`Stopped` is raised instead.

    Attributes:
        count: steps so far, with those left out.
    """

    def __init__(
        self, step: Step, stretches: Sequence[Stretch] = EVERYTHING, stop: Callable[[], bool] = bool
    ) -> None:
        super().__init__(step)
        self.count = 0
        self._stretches, self._stop = stretches, stop
        self._state: Any = ()
        self._shape: tuple[int, ...] = ()

    def initial_state(self, batch: int, height: int, width: int) -> Any:
        self._shape = (batch, height, width)
        return self._step.initial_state(batch, height, width) if self._computes(self.count + 1) else ()

    def __call__(self, window: Sequence[tf.Tensor], state: Any) -> tuple[Any, Any]:
        if self._stop():
            raise Stopped
        self.count += 1
        if self._computes(self.count):
            frame, self._state = self._step(window, state)
            return frame, self._state
        saved = next((each.state() for each in self._stretches if each.after == self.count), ())
        self._state = self._restored(saved)
        return None, self._state

    def kept(self) -> list[np.ndarray]:
        """The state after the step before, as arrays that later steps do not change."""
        # A tensor never changes, so a view of it will do; states are large.
        return [each.numpy() if tf.is_tensor(each) else each.copy() for each in self._state]

    def _computes(self, number: int) -> bool:
        return any(number in stretch for stretch in self._stretches)

    def _restored(self, saved: Sequence[np.ndarray]) -> list[Any]:
        like = self._step.initial_state(*self._shape) if saved else ()
        state: list[Any] = []
        for array, model in zip(saved, like, strict=True):
            if array.shape != tuple(model.shape):
                raise ValueError(f"a state of shape {array.shape} instead of {tuple(model.shape)}")
            state.append(tf.cast(array, model.dtype) if tf.is_tensor(model) else array.astype(model.dtype))
        return state
