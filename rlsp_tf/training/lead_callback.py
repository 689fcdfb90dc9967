"""The callback of worker 0, which logs, validates, saves checkpoints and shows progress."""

import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import keras
import numpy as np
from keras import ops
from PIL import Image

from rlsp_tf.errors import RLSPError
from rlsp_tf.network.model import rlsp_layer
from rlsp_tf.pixels.metrics import decibels, luma, luma_of
from rlsp_tf.pixels.resample import enlarge_matrix
from rlsp_tf.system.files import atomic_file
from rlsp_tf.system.progress import ProgressBar
from rlsp_tf.system.signals import Stop
from rlsp_tf.training.centred import network_weights
from rlsp_tf.training.clips.mixture import MixedSampler
from rlsp_tf.training.clips.sampler import ClipSampler
from rlsp_tf.training.run_folder import RunFolder, best_psnr_of, draw_curve
from rlsp_tf.training.schedule import TrainingCallback, variables_of
from rlsp_tf.training.validator import Validator
from rlsp_tf.training.workers.group import Group


class LeadCallback(TrainingCallback):
    """Callback for worker 0, which also logs, validates and saves.

    Args:
        run: folder of the run.
        sampler: sampler of whole batches, which are saved if the loss is not finite.
        validators: the validator for clips and, if there are photographs, the one for these.
        whole: the model in training or, if several devices share that one, a copy of it that can be saved.
        averaged: a copy of the network to hold the averaged weights.
        group: the workers and devices that train.
        rows: rows of the log so far.
        start, steps, every, stop: see :class:`rlsp_tf.training.schedule.TrainingCallback`.
        progress: show on standard error how far it is.

    Raises:
        RLSPError: in ``fit``, if the loss or a weight is not finite.
    """

    def __init__(
        self,
        run: RunFolder,
        sampler: ClipSampler | MixedSampler,
        validators: Sequence[Validator],
        whole: keras.Model,
        averaged: keras.Model,
        group: Group,
        *,
        rows: Sequence[dict[str, float]],
        start: int,
        steps: int,
        every: int,
        stop: Stop,
        progress: bool = False,
    ) -> None:
        super().__init__(group, start=start, steps=steps, every=every, stop=stop)
        measured = [psnr for psnr in map(best_psnr_of, rows) if psnr is not None]
        self.best_psnr = max(measured, default=None)
        self._run, self._sampler, self._validators = run, sampler, validators
        self._whole, self._averaged = whole, averaged
        self._progress = progress
        self._seconds = rows[-1].get("seconds", 0.0) if rows else 0.0
        self._boards = _Boards(run)
        self._last_row = dict(rows[-1]) if rows else {}

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._bar = ProgressBar(
            total=self._steps, initial=self._start, unit="steps", show=self._progress, smoothing=0.05
        )
        if self._start and self._start % self._every == 0 and best_psnr_of(self._last_row) is None:
            # A signal interrupted the validation at this step.
            self._average()
            self._run.cut_log(self._start - 1)
            self._run.log({**self._last_row, "step": self._start, **self._validate()})
        self._begin_row()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self._bar.close()

    def _advanced(self) -> None:
        self._bar.update(self.step - self._before)

    def _report(self, loss: float, values: list[np.ndarray], *, validate: bool, save: bool) -> None:
        if self._whole is not self.model:
            for variable, value in zip(variables_of(self._whole), values, strict=True):
                variable.assign(value)
        if save:
            self._average()
        self._close_row(loss, validate)
        if save:
            for file, model in ((self._run.averaged, self._averaged), (self._run.last, self._whole)):
                with atomic_file(file, force=True) as part:
                    model.save(part)
        self._begin_row()

    def _begin_row(self) -> None:
        self._row_began, self._row_step, self._row_waits = time.monotonic(), self.step, len(self.waits)

    def _close_row(self, loss: float, validate: bool) -> None:
        seconds = time.monotonic() - self._row_began
        waited = sum(self.waits[self._row_waits :])
        row: dict[str, Any] = {
            "step": self.step,
            "loss": loss,
            "psnr": round(decibels(loss), 4),
            "learning_rate": float(ops.convert_to_numpy(self._whole.optimizer.learning_rate)),
            "steps_per_second": round((self.step - self._row_step) / seconds, 4),
        }
        if self.waits:
            row["waiting"] = round(waited / seconds, 4)
        if validate:
            row |= self._validate()
        self._seconds += time.monotonic() - self._row_began
        row["seconds"] = round(self._seconds, 2)
        self._run.log(row)
        self._boards.write(self.step, row)
        self._bar.set_postfix(
            {
                key: f"{row[key]:.3g}" if key != "psnr" else f"{row[key]:.2f}"
                for key in ("psnr", "waiting")
                if key in row
            }
        )
        if best_psnr_of(row) is not None:
            draw_curve(self._run)
            if self._progress:
                numbers = [
                    f"{what} {row[name]:.3f} dB, {row[name + '_state_zeroed']:.3f} dB with the state zeroed"
                    for what, name in (("clips", "val_psnr"), ("photographs", "val_psnr_photographs"))
                    if name in row
                ]
                ProgressBar.write(f"step {self.step}: validation: {'; '.join(numbers)}", file=sys.stderr)

    def _average(self) -> None:
        """Copies the current averages to the averaged model."""
        self._whole.optimizer.finalize_variable_values(self._averaged.trainable_variables)
        layer = rlsp_layer(self._averaged)
        layer.cell.set_weights(network_weights(layer.cell.get_weights(), layer.config))

    def _validate(self) -> dict[str, float]:
        """Returns columns for the log; none after a signal, unless this is the last step."""
        row = {}
        for validator, name in zip(self._validators, ("val_psnr", "val_psnr_photographs"), strict=False):
            if self._stop.signal and self.step < self._steps:
                return {}
            outputs = validator.carried(self._averaged)
            row[name] = round(validator.measure(outputs), 4)
            row[f"{name}_state_zeroed"] = round(validator.measure(validator.zeroed(self._averaged)), 4)
            if validator is self._validators[0]:
                picture = _compare(validator.lr[0, -1], outputs[0, -1], validator.hr[0, -1])
        with atomic_file(self._run.path / "sample.png", force=True) as part:
            Image.fromarray(picture).save(part)
        self._boards.show(self.step, picture)
        psnr = best_psnr_of(row)
        if psnr is not None and (self.best_psnr is None or psnr > self.best_psnr):
            self.best_psnr = psnr
            with atomic_file(self._run.best, force=True) as part:
                self._averaged.save(part)
        return row

    def _give_up(self) -> None:
        """Saves the batches of the last call and raises an error; the last checkpoint stays."""
        self._bar.close()
        batches = [self._sampler.samples(step) for step in range(self._before, self.step)]
        lr, hr = (np.concatenate(part) for part in zip(*batches, strict=True))
        file = self._run.path / f"not_a_number_step_{self.step}.npz"
        with atomic_file(file, force=True) as part:
            np.savez(part, lr=lr, hr=hr, step=self.step)
        raise RLSPError(
            f"{self._run.path}: the loss is not finite at step {self.step}; its batch was saved as "
            f"{file.name}. Begin another run with a lower --learning-rate or --precision float32."
        )


class _Boards:
    """Writes files for TensorBoard, if TensorFlow and TensorBoard are installed."""

    def __init__(self, run: RunFolder) -> None:
        self._writer = None
        if keras.backend.backend() == "tensorflow" and find_spec("tensorboard"):
            import tensorflow as tf

            self._summary = tf.summary
            self._writer = tf.summary.create_file_writer(str(run.path / "tensorboard"))

    def write(self, step: int, row: dict[str, float]) -> None:
        if self._writer is not None:
            with self._writer.as_default(step):
                for name, value in row.items():
                    self._summary.scalar(name, value)

    def show(self, step: int, picture: np.ndarray) -> None:
        if self._writer is not None:
            with self._writer.as_default(step):
                self._summary.image("bicubic, network, truth", picture[None])
            self._writer.flush()


def _compare(lr: np.ndarray, output: np.ndarray, hr: np.ndarray) -> np.ndarray:
    """Puts the luma of bicubic interpolation, output and truth side by side: uint8 RGB ``(H, 3 W, 3)``."""
    scale = hr.shape[0] // lr.shape[0]
    vertical, horizontal = (enlarge_matrix(size, scale) for size in lr.shape[:2])
    bicubic = vertical @ luma(lr) @ horizontal.T
    middle = luma_of(output)
    grey = np.concatenate([bicubic, middle, luma(hr)], axis=1)
    return np.repeat(np.rint(np.clip(grey, 0, 255)).astype(np.uint8)[..., None], 3, axis=-1)
