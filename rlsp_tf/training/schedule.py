"""Decides after which steps a training logs, validates, saves and ends; the same in all workers."""

from typing import Any

import keras
import numpy as np

from rlsp_tf.errors import RLSPError
from rlsp_tf.system.signals import Stop
from rlsp_tf.training.workers.group import Group


def steps_of_row(every: int) -> int:
    """Returns the number of steps between two rows of the log, which has ten rows per validation.

    Args:
        every: steps between validations.
    """
    return max(1, every // 10)


class TrainingCallback(keras.callbacks.Callback):
    """Callback for workers that only compute.

    Worker 0 uses a :class:`rlsp_tf.training.lead_callback.LeadCallback`, which also validates and saves.

    Args:
        group: the workers and devices that train.
        start: step at which ``fit`` starts.
        steps: number of steps of the whole training.
        every: steps between validations; see :class:`rlsp_tf.training.options.TrainingOptions`.
        stop: evaluated after each call of the training step.

    Attributes:
        step: number of steps done.
        interrupted: whether a signal stopped this worker or another one.
        waits: seconds that training waited for each batch; the feed appends to it.
        best_psnr: best PSNR of all validations in dB; ``None`` if there was none.

    Raises:
        RLSPError: in ``fit``, if the loss or a weight is not finite.
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
        # The mean since the last row, which is not finite if any of its losses is not.
        loss = float(logs["loss"])
        self._before = self.step
        # A call may have done several steps, and fewer than usual at the end.
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
            # During fit, JAX keeps the values of variables elsewhere.
            getattr(self.model, "jax_state_sync", lambda: None)()
            values = self._group.read(variables_of(self.model))
            if (finish or validate) and not all(np.isfinite(value).all() for value in values):
                self._group.leave()
                self._give_up()
            with self._group.alone():
                self._report(loss, values, validate=validate, save=finish or validate)
            self.model.reset_metrics()
        if validate and not finish and self._group.largest(int(self._stop.signal is not None)):
            # The signal arrived during validation. Everything is saved already.
            self.interrupted = finish = True
        if finish:
            self.model.stop_training = True

    def _advanced(self) -> None:
        """Called after each call of the training step, which may have done several steps."""

    def _report(self, loss: float, values: list[np.ndarray], *, validate: bool, save: bool) -> None:
        """Called for every row of the log, with the mean loss and the values of all variables."""

    def _give_up(self) -> None:
        """Called in all workers when a number is not finite; has to raise an error."""
        raise RLSPError(f"the loss is not finite at step {self.step}; see the message of worker 0.")

    def _passed(self, every: int) -> bool:
        """Whether the last call reached or passed a multiple of ``every`` steps."""
        return self.step // every > self._before // every


def variables_of(model: keras.Model) -> list[Any]:
    """Returns all variables in a checkpoint, in the same order for all models with the same options."""
    return [*model.variables, *model.optimizer.variables]
