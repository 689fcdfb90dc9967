"""Trains RLSP from folders of videos, with every backend of Keras that can train."""

import json
import os
from collections.abc import Sequence
from typing import Any

import keras

from rlsp_tf.errors import RLSPError
from rlsp_tf.network.model import build_model
from rlsp_tf.system.files import check_apart
from rlsp_tf.system.signals import Stop
from rlsp_tf.training.build import compile_model
from rlsp_tf.training.feed import feed
from rlsp_tf.training.lead_callback import LeadCallback
from rlsp_tf.training.material import Material, gather_material
from rlsp_tf.training.options import TrainingOptions
from rlsp_tf.training.resume import load_checkpoint, open_run, record_start
from rlsp_tf.training.schedule import TrainingCallback, variables_of
from rlsp_tf.training.workers.group import Group
from rlsp_tf.training.workers.join import join_group


def train(
    data: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    options: TrainingOptions,
    *,
    photographs: Sequence[str | os.PathLike[str]] = (),
    cache: str | os.PathLike[str] | None = None,
    minutes: float | None = None,
    resume: bool = False,
    progress: bool = False,
    group: Group | None = None,
) -> dict[str, Any]:
    """Trains a network, or continues to train it.

    The process may be killed at any time. Called again with ``resume`` and the same arguments, training
    continues from the last checkpoint as if it had not been interrupted, with as many workers and devices as
    there are then.

    Args:
        data: folders of clips; see :func:`rlsp_tf.training.clips.index.index_clips`.
        out: folder of the run; see :mod:`rlsp_tf.training.run_folder`. Only worker 0 reads and writes it.
        options: what to compute.
        photographs: folders of photographs; see
            :func:`rlsp_tf.training.clips.photographs.index_photographs`. They are needed if
            ``options.mixture`` contains photographs. Some are held out for validation.
        cache: folder for prepared clips; by default :func:`rlsp_tf.training.clips.index.default_cache`.
            Clips that have not been used for long are removed from it; see
            :mod:`rlsp_tf.training.clips.cache_cleaning`.
        minutes: stop after this time, counted from the call, and save everything; by default there is no
            limit.
        resume: continue the run in ``out`` if there is one.
        progress: show a progress bar and notes on standard error.
        group: devices and workers to train on; by default those that
            :func:`rlsp_tf.training.workers.join.join_group` finds.

    Returns:
        ``{"step", "steps", "best_psnr", "best", "averaged"}``: the step reached and the number of steps of
        the whole training; the best PSNR of validation in dB, with the state carried (the mean of clips and
        photographs, if both are measured); the file of these weights, and that of the weights averaged over
        the last steps. The last three are ``None`` in workers other than worker 0.

    Raises:
        RLSPError: if the clips cannot be used, the folder holds another run, the workers got different
            options or clips, the batch cannot be divided among the devices, or the loss is not finite.
            Also after SIGINT or SIGTERM to any worker, when everything has been saved.
        WorkerGone: if another worker has ended.
    """
    group = group or join_group()
    stop = Stop(minutes)
    group.check_batch(options.batch, options.pieces)
    if options.reuse > 1 and (keras.backend.backend() != "jax" or group.devices > 1):
        raise RLSPError("--reuse needs KERAS_BACKEND=jax and a single device; leave it out.")
    group.check_same("options", json.dumps(options.to_dict()))
    leads = group.worker == 0
    if leads:
        # The pictures in the run's folder would be found as clips the next time.
        check_apart(out, *data, replaced=False)
    material = gather_material(
        data, photographs, options, cache=cache, progress=progress and leads, group=group
    )
    if leads:
        run = open_run(out, options, material, resume=resume)
    model = compile_model(options, group)
    whole: keras.Model | None = None
    if leads:
        # A model that several devices share cannot be saved, nor be used by worker 0 alone.
        whole = model if group.devices == 1 else compile_model(options)
        step = load_checkpoint(whole, run, options)
        rows = record_start(run, step, options, material, group)
    if whole is not model:
        step = _hand_out(whole, model, group)
    course: dict[str, Any] = {"start": step, "steps": options.steps, "every": options.every, "stop": stop}
    callback = TrainingCallback(group, **course)
    if whole is not None:
        averaged = build_model(options.network, precision=options.precision)
        callback = LeadCallback(
            *(run, material.sampler, material.validators(options), whole, averaged, group),
            rows=rows,
            progress=progress,
            **course,
        )
    if step < options.steps:
        _fit(model, material, callback, step, options, stop, group)
    if callback.interrupted:
        group.leave()
        raise RLSPError(
            f"{out}: stopped by {stop.signal or 'a signal to another worker'} at step {callback.step}; "
            "everything is saved, continue with --resume."
        )
    return {
        "step": callback.step,
        "steps": options.steps,
        "best_psnr": callback.best_psnr,
        "best": str(run.best) if leads else None,
        "averaged": str(run.averaged) if leads else None,
    }


def _hand_out(whole: keras.Model | None, model: keras.Model, group: Group) -> int:
    """Copies the state of worker 0's whole model to the shared model of all workers; returns its step."""
    values = None if whole is None else [variable.numpy() for variable in variables_of(whole)]
    group.hand_out(variables_of(model), values)
    return int(model.optimizer.iterations.numpy())


def _fit(
    model: keras.Model,
    material: Material,
    callback: TrainingCallback,
    start: int,
    options: TrainingOptions,
    stop: Stop,
    group: Group,
) -> None:
    """Trains a model from step ``start`` to the last step on this worker's share of every batch."""
    sampler = material.sampler.share(group.worker, group.workers)
    with (
        stop.on_signals(),
        stop.asked_often(),
        group.training(),
        feed(sampler, start, options.steps, callback.waits, reuse=options.reuse) as batches,
    ):
        model.fit(batches, callbacks=[callback], shuffle=False, verbose=0)
