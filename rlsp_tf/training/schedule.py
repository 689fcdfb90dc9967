"""Which step a training is at, when something is to be done, and when it ends: the same in all workers."""

from typing import Any

import keras
import numpy as np

from rlsp_tf.errors import RLSPError
from rlsp_tf.system.signals import Stop
from rlsp_tf.training.workers.group import Group


def steps_of_row(every: int) -> int:
    """Steps from one row of the log to the next: ten rows from one validation to the next.

    Args:
        every: steps between validations.
    """
    return max(1, every // 10)


class TrainingCallback(keras.callbacks.Callback):
    """The callback of a training for workers that only compute.

    Worker 0 has a :class:`LeadCallback` instead, which also validates and saves.

    Args:
        group: of the workers.
        start: step at which this sitting begins.
        steps: at which training is done.
        every: steps between validations, with a checkpoint each; ten rows of the log lie between.
        stop: asked whenever the device is waited for.

    Attributes:
        step: steps done.
        interrupted: whether a signal came, to this worker or another.
        waits: seconds waited for each batch; the feed adds to it.
        best_psnr: of all validations, in dB; ``None`` where there was none.

    Raises:
        RLSPError: out of ``fit``, when the loss or a weight is not a finite number.
    """

    def __init__(self, group: Group, *, start: int, steps: int, every: int, stop: Stop) -> None:
        super().__init__()
        self.step = self._before = start
        self.interrupted = False
        self.waits: list[float] = []
        self.best_psnr: float | None = None
        self._group, self._stop = group, stop
        self._start, self._steps, self._every = start, steps, every

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        # The mean since the row before: not a number as soon as one of its losses is not.
        loss = float(logs["loss"])
        self._before = self.step
        # Several steps may be done at once, where the backend is asked to, and at the end fewer of them.
        self.step = min(self._start + batch + 1, self._steps)
        self._advanced()
        if not np.isfinite(loss):
            self._group.leave()
            self._give_up()
        reason = self._group.largest(2 if self._stop.signal else int(bool(self._stop)))
        self.interrupted = reason == 2
        finish = self.step == self._steps or reason > 0
        validate = self._passed(self._every) or self.step == self._steps
        if finish or validate or self._passed(steps_of_row(self._every)):
            # Backends without state keep variables elsewhere during fit.
            getattr(self.model, "jax_state_sync", lambda: None)()
            values = self._group.read(variables_of(self.model))
            if (finish or validate) and not all(np.isfinite(value).all() for value in values):
                self._group.leave()
                self._give_up()
            with self._group.alone():
                self._report(loss, values, validate=validate, save=finish or validate)
            self.model.reset_metrics()
        if validate and not finish and self._group.largest(int(self._stop.signal is not None)):
            # It came during the validation, which takes a while, and everything is saved.
            self.interrupted = finish = True
        if finish:
            self.model.stop_training = True

    def _advanced(self) -> None:
        """Called after every step, or after several that were done at once."""

    def _report(self, loss: float, values: list[np.ndarray], *, validate: bool, save: bool) -> None:
        """Called for every row of the log, with the mean loss and all variables."""

    def _give_up(self) -> None:
        """Called when a number is not finite any more, in all workers; has to raise."""
        raise RLSPError(f"the loss is not a finite number at step {self.step}; worker 0 says what to do.")

    def _passed(self, every: int) -> bool:
        return self.step // every > self._before // every


def variables_of(model: keras.Model) -> list[Any]:
    """Everything that a checkpoint holds, in the same order for models of the same options."""
    return [*model.variables, *model.optimizer.variables]
