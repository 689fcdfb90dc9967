"""Continues a clip where an earlier run stopped, without computing the frames before."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rlsp_tf.inference.backend import dtype_of, to_array, to_tensor
from rlsp_tf.inference.step import Step, StepWrapper


class Stretch(NamedTuple):
    """A range of consecutive steps to compute.

    Attributes:
        after: int, number of steps before the first step of the range.
        until: int, number of the last step, counted from 1; ``None`` for no end.
        state: function that returns the state for the first step, as :meth:`ResumedStep.kept` returned it; an
            empty list if that step begins a shot.
    """

    after: int
    until: int | None
    state: Callable[[], Sequence[np.ndarray]]

    def __contains__(self, number: object) -> bool:
        """Returns whether the step with this number, counted from 1, is in the range."""
        assert isinstance(number, int)
        return self.after < number and (self.until is None or number <= self.until)


EVERYTHING = (Stretch(0, None, list),)
"""One range with all steps, from the beginning of a clip."""


class Stopped(Exception):
    """Raised by a :class:`ResumedStep` whose ``stop`` said yes, instead of computing."""


class ResumedStep(StepWrapper):
    """A step that counts, and skips the steps that an earlier run has computed.

    All frames of the clip go through it from the beginning, so that shot cuts, windows and colour are found
    as in the first run; only the network is skipped. For a skipped step it returns ``None`` instead of a
    frame, and the state from which the next range goes on, or an empty one. Where a range goes on from a
    saved state, the frame of the step before is there, too, as frames that repeat it may follow.

    Args:
        step: the :class:`rlsp_tf.inference.step.Step` that computes.
        stretches: ranges of steps to compute, in ascending order and with a gap between each two.
        stop: function called before every step; if it returns true, :class:`Stopped` is raised.

    Attributes:
        count: int, number of steps so far, skipped ones included.
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

    def __call__(self, window: Sequence[Any], state: Any) -> tuple[Any, Any]:
        self.ask()
        self.count += 1
        if self._computes(self.count):
            frame, self._state = self._step(window, state)
            return frame, self._state
        saved = next((each.state() for each in self._stretches if each.after == self.count), ())
        self._state = self._restored(saved)
        return self.shown(window, self._state) if saved else None, self._state

    def ask(self) -> None:
        """Raises :class:`Stopped` if the work is to stop."""
        if self._stop():
            raise Stopped

    def kept(self) -> list[np.ndarray]:
        """Returns the state after the latest step, as arrays that later steps do not change."""
        # The next step overwrites arrays, and on JAX tensors. Arrays made of tensors are copies.
        return [each.copy() if isinstance(each, np.ndarray) else to_array(each) for each in self._state]

    def _computes(self, number: int) -> bool:
        return any(number in stretch for stretch in self._stretches)

    def _restored(self, saved: Sequence[np.ndarray]) -> list[Any]:
        """Converts saved arrays to a state as the step takes it."""
        like = self._step.initial_state(*self._shape) if saved else ()
        state: list[Any] = []
        for array, model in zip(saved, like, strict=True):
            # Height and width may be those of a part of the frame.
            if array.shape[::3] != tuple(model.shape)[::3]:
                raise ValueError(f"a state of shape {array.shape} instead of {tuple(model.shape)}")
            restored = array.astype(dtype_of(model))
            state.append(restored if isinstance(model, np.ndarray) else to_tensor(restored))
        return state
