"""Training RLSP from folders of videos.

Runs on every backend of Keras that can train: with TensorFlow, clips come through tf.data
(:mod:`rlsp_tf.training.clips.tf_feed`), elsewhere through a Keras ``PyDataset``. Both give the same batches.
"""

import contextlib
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import keras
import numpy as np

from rlsp_tf._version import __version__
from rlsp_tf.errors import RLSPError, UsageError
from rlsp_tf.network.config import PRESETS, RLSPConfig
from rlsp_tf.network.keras_file import check_weights
from rlsp_tf.network.model import build_model, policy_of, rlsp_layer
from rlsp_tf.network.weights import load_model
from rlsp_tf.network.widen import can_widen, widen
from rlsp_tf.system.files import check_apart
from rlsp_tf.system.signals import Stop
from rlsp_tf.training.clips.cache_cleaning import clean_cache
from rlsp_tf.training.clips.clip import Clip, Halving
from rlsp_tf.training.clips.contact_sheet import write_contact_sheet
from rlsp_tf.training.clips.index import index_clips, split_clips
from rlsp_tf.training.clips.mixture import CLIPS_ONLY, MixedSampler, Mixture
from rlsp_tf.training.clips.photographs import Photograph, index_photographs, split_photographs
from rlsp_tf.training.clips.sampler import ClipSampler
from rlsp_tf.training.closing import ClosableSampler
from rlsp_tf.training.cpu import parts_of
from rlsp_tf.training.lead_callback import LeadCallback
from rlsp_tf.training.loss import CLIP_NORM, DECAY, WarmUpAndDecay, frame_loss
from rlsp_tf.training.run_folder import RunFolder, differences
from rlsp_tf.training.schedule import TrainingCallback, steps_of_row, variables_of
from rlsp_tf.training.truncated import CarriedRLSP
from rlsp_tf.training.validator import Validator, clip_excerpts, photograph_excerpts
from rlsp_tf.training.workers.group import Group
from rlsp_tf.training.workers.join import join_group

AT_ONCE = (10, 5, 2, 1)
"""Steps between looks at the loss and at signals, for which the device has to be waited for: after each step,
on two cores, that would take a thirtieth of the time."""
PIXELS_AT_ONCE = 10 * 8 * 7 * 32**2
"""Low-resolution pixels of these steps at most where processors train, so that they take seconds."""


@dataclass(frozen=True)
class TrainingOptions:
    """Everything that decides what a training computes, beside its clips.

    Attributes:
        network: the network's shape.
        batch: samples per step.
        frames: frames per sample.
        pieces: samples that follow each other, with the state carried over and no gradients; see
            :class:`rlsp_tf.training.truncated.CarriedRLSP`.
        curriculum: steps over which motion becomes what it is in clips; see
            :class:`rlsp_tf.training.clips.sampler.ClipSampler`.
        crop: side of a sample in low-resolution pixels.
        steps: length of the training.
        learning_rate: the largest; see :class:`WarmUpAndDecay`.
        precision: of the convolutions; weights, their averages and the loss are float32 always.
        seed: of weights and samples.
        halve: see :func:`rlsp_tf.training.clips.index.index_clips`.
        held_out: names of the clips for validation; see :func:`rlsp_tf.training.clips.index.split_clips`.
        init: a ``.keras`` file, or the name of a weight set, whose weights to begin with; its network may
            have fewer filters, see :mod:`rlsp_tf.network.widen`.
        every: steps between validations, with a checkpoint each; ten rows of the log lie between.
        mixture: what samples are made of, and how they are degraded.

    Raises:
        UsageError: if a number is out of range.
    """

    network: RLSPConfig = PRESETS["7-48"]
    batch: int = 8
    frames: int = 7
    pieces: int = 1
    curriculum: int = 0
    crop: int = 32
    steps: int = 100_000
    learning_rate: float = 1e-3
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    seed: int = 0
    halve: Halving = "auto"
    held_out: tuple[str, ...] | None = None
    init: str | None = None
    every: int = 1000
    mixture: Mixture = CLIPS_ONLY

    def __post_init__(self) -> None:
        for name, least in (
            ("batch", 1),
            ("frames", 2),
            ("pieces", 1),
            ("curriculum", 0),
            ("crop", 8),
            ("steps", 1),
            ("seed", 0),
            ("every", 1),
        ):
            if getattr(self, name) < least:
                raise UsageError(f"--{name} must be at least {least}, not {getattr(self, name)}.")
        if not 0 < self.learning_rate < 1:
            raise UsageError(f"--learning-rate must be between 0 and 1, not {self.learning_rate}.")

    def sampler(
        self, clips: ClipSampler, photographs: Sequence[Photograph] = ()
    ) -> ClipSampler | MixedSampler:
        """What gives the batches, of what :meth:`clip_sampler` draws and of photographs."""
        if self.mixture.clips_only:
            return clips
        return MixedSampler(clips, photographs, self.mixture)

    def clip_sampler(self, clips: Sequence[Clip]) -> ClipSampler:
        """What draws samples from clips."""
        return ClipSampler(
            clips,
            batch=self.batch,
            frames=self.frames,
            crop=self.crop,
            seed=self.seed,
            pieces=self.pieces,
            curriculum=self.curriculum,
            neighbours=(self.network.frames_before, self.network.frames_after),
        )

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON can hold them."""
        held_out = None if self.held_out is None else sorted(self.held_out)
        mixture = {**asdict(self.mixture), "degradation": self.mixture.degradation.to_dict()}
        return {
            **asdict(self),
            "network": self.network.to_dict(),
            "held_out": held_out,
            "mixture": mixture,
        }


class ClipSequence(keras.utils.PyDataset):
    """What :func:`rlsp_tf.training.clips.tf_feed.clip_dataset` gives, for backends other than TensorFlow.

    Args:
        samples: gives the batch of a step.
        start, stop: steps, counted from 0.
        workers: threads that call it ahead of training; 1 calls it between the steps.
    """

    def __init__(self, samples: Callable[[int], Any], start: int, stop: int, *, workers: int) -> None:
        super().__init__(workers=workers, max_queue_size=8)
        self._samples, self._start, self._stop = samples, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self._samples(self._start + index)


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
    """Trains a network, or goes on with it.

    The run can be killed at any moment: with ``resume`` and the same arguments it goes on from the last
    checkpoint as if nothing had happened, with as many workers and devices as there are then.

    Args:
        data: folders of clips; see :func:`rlsp_tf.training.clips.index.index_clips`.
        out: the run's folder; see :mod:`rlsp_tf.training.run_folder`. Worker 0 alone reads and writes it.
        options: what to compute.
        photographs: folders of photographs; see :func:`rlsp_tf.training.clips.photographs.index_photographs`.
            They are needed where ``options.mixture`` has a share of them. Some are held out, and validation
            then measures them, too.
        cache: for clips made ready; by default :func:`rlsp_tf.training.clips.index.default_cache`. What
            nobody has used for long is removed from it; see :mod:`rlsp_tf.training.clips.cache_cleaning`.
        minutes: stop after this time, counted from the call, with everything saved.
        resume: go on where the run stopped, or begin it if it is not there.
        progress: show a progress bar and notes on standard error.
        group: the devices and workers to train on; by default what :func:`join_group` returns.

    Returns:
        ``{"step", "steps", "best_psnr", "best", "averaged"}``: where it stands, the best validation PSNR in
        dB (with the state carried; the mean of clips and photographs, where both are measured), the file of
        those weights, and that of the averages over the last steps; ``None`` for all three in other workers
        than 0.

    Raises:
        RLSPError: if clips cannot be used, the folder holds another run, the workers were given different
            things, the batch cannot be divided among the devices, or the loss is not a number any more.
            Also after SIGINT or SIGTERM to any worker, when everything is saved.
        WorkerGone: if another worker has ended.
    """
    group = group or join_group()
    stop = Stop(minutes)
    group.check_batch(options.batch, options.pieces)
    leads = group.worker == 0
    progress = progress and leads
    if leads:
        # Pictures of a run among the clips would be one of them the next time.
        check_apart(out, *data, replaced=False)
    with _in_turn(group):
        clips, notes = index_clips(
            data, cache=cache, scale=options.network.scale, halve=options.halve, progress=progress
        )
        photos: tuple[list[Photograph], list[Photograph]] = [], []
        if photographs:
            found, more = index_photographs(photographs, cache=cache, progress=progress)
            photos = split_photographs(found)
            notes += more
        elif options.mixture.photo_share:
            raise RLSPError("a share of photographs is asked for, but none are given; give --photos.")
        notes += clean_cache(cache)
    training, validation = split_clips(clips, options.held_out)
    clip_sampler = options.clip_sampler(training)
    notes += clip_sampler.notes
    sampler = options.sampler(clip_sampler, photos[0])
    if progress:
        for note in notes:
            print(f"rlsp: note: {note}", file=sys.stderr)
    index = {"training": _record(clip_sampler.clips), "validation": _record(validation)}
    if photographs:
        index["training photographs"], index["validation photographs"] = map(_record, photos)
    group.check_same("options", json.dumps(options.to_dict()))
    group.check_same("clips", json.dumps([clip["sha256"] for use in index.values() for clip in use]))

    if leads:
        run = RunFolder(out)
        if run.started:
            _check_same(run, options, index, resume)
        else:
            run.check_free()
    model = compile_model(options, group)
    whole: keras.Model | None = None
    if leads:
        # Devices that share a model cannot save it, and worker 0 cannot validate with it alone.
        whole = model if group.devices == 1 else compile_model(options)
        step = _restore(whole, run, options)
        rows = run.cut_log(step)
        if not run.started:
            run.write_json("clips.json", {**index, "notes": notes})
            write_contact_sheet(run.path / "samples.png", sampler)
        # Last, because it says that the run was begun.
        run.write_json("config.json", options.to_dict())
        run.note_sitting({"step": step, **_environment(group)})
    if whole is not model:
        values = None if whole is None else [variable.numpy() for variable in variables_of(whole)]
        group.hand_out(variables_of(model), values)
        step = int(model.optimizer.iterations.numpy())
    course: dict[str, Any] = {"start": step, "steps": options.steps, "every": options.every, "stop": stop}
    callback = TrainingCallback(group, **course)
    if whole is not None:
        averaged = build_model(options.network, precision=options.precision)
        degradation = options.mixture.degradation
        validators = [Validator(clip_excerpts(validation, degradation))]
        if photographs:
            validators.append(Validator(photograph_excerpts(photos[1], options.network.scale, degradation)))
        callback = LeadCallback(
            *(run, sampler, validators, whole, averaged, group),
            rows=rows,
            progress=progress,
            **course,
        )
    if step < options.steps:
        part = sampler.share(group.worker, group.workers)
        with (
            stop.on_signals(),
            stop.asked_often(),
            group.training(),
            feed(part, step, options.steps, callback.waits) as batches,
        ):
            model.fit(batches, callbacks=[callback], shuffle=False, verbose=0)
    if callback.interrupted:
        group.leave()
        raise RLSPError(
            f"{out}: stopped by {stop.signal or 'a signal to another worker'} at step {callback.step}; "
            "everything is saved, go on with --resume."
        )
    return {
        "step": callback.step,
        "steps": options.steps,
        "best_psnr": callback.best_psnr,
        "best": None if whole is None else str(run.best),
        "averaged": None if whole is None else str(run.averaged),
    }


def network_of(name: str | None, output: Literal["y", "rgb"] | None, init: str | None) -> RLSPConfig:
    """The network that a command line means: its own words first, then ``init``, then 7-48 for luma.

    Args:
        name: such as ``"7-64"``.
        output: ``"y"`` or ``"rgb"``.
        init: a ``.keras`` file.

    Raises:
        RLSPError: if the name has another form or the file is no RLSP model.
    """
    config = PRESETS["7-48"] if init is None else rlsp_layer(load_model(init)).config
    if name is not None and name != config.name:
        config = RLSPConfig.from_name(name)
    return config if output is None else replace(config, output=output)


def compile_model(options: TrainingOptions, group: Group | None = None) -> keras.Model:
    """The network to be trained, with loss and optimizer, at step 0.

    Args:
        options: what to compute.
        group: devices that share it; by default it is for one.
    """
    group = group or Group()
    with group.scope():
        return _compile_model(options, group)


def _compile_model(options: TrainingOptions, group: Group) -> keras.Model:
    keras.utils.set_random_seed(options.seed)
    batch = options.batch // group.replicas
    before, after = options.network.frames_before, options.network.frames_after
    clip = keras.Input(
        (before + options.frames + after, options.crop, options.crop, 3),
        batch_size=batch,
        dtype="float32",
        name="clip",
    )
    on_cpu = keras.backend.backend() == "tensorflow" and not keras.distribution.list_devices("gpu")
    layer = CarriedRLSP(
        options.network,
        pieces=options.pieces,
        parts=parts_of(batch) if on_cpu and group.replicas == 1 else 1,
        dtype=policy_of(options.precision),
        name="rlsp",
    )
    model = keras.Model(clip, layer(clip))
    if options.init is not None:
        initial = rlsp_layer(load_model(options.init))
        if not can_widen(initial.config, options.network):
            raise RLSPError(
                f"{options.init}: is another network ({initial.config}); give its --network, or one with "
                "more filters."
            )
        cell = layer.cell
        cell.set_weights(
            widen(initial.cell.get_weights(), initial.config, cell.get_weights(), options.network)
        )
    optimizer = group.adam(
        learning_rate=WarmUpAndDecay(options.learning_rate, options.steps),
        beta_2=0.99,
        global_clipnorm=CLIP_NORM,
        use_ema=True,
        # Averages over a thousand steps; a short run cannot wait that long.
        ema_momentum=max(0.5, min(0.999, 1 - 20 / options.steps)),
    )
    optimizer.build(model.trainable_variables)
    tensorflow = keras.backend.backend() == "tensorflow"
    pixels = options.batch * options.frames * options.crop**2 if _on_processors() else 0
    at_once = next(steps for steps in AT_ONCE if steps * pixels <= PIXELS_AT_ONCE or steps == 1)
    model.compile(
        optimizer,
        group.loss(frame_loss),
        # XLA makes this several times slower on a CPU under TensorFlow.
        jit_compile=False if tensorflow else "auto",
        # The replicas of TensorFlow cannot loop over steps. A row of the log is never in the middle.
        steps_per_execution=1 if group.replicas > 1 else math.gcd(at_once, steps_of_row(options.every)),
    )
    return model


@contextlib.contextmanager
def feed(sampler: ClipSampler | MixedSampler, start: int, stop: int, waits: list[float]) -> Iterator[Any]:
    """The batches of the steps from ``start`` to ``stop``, as the backend likes them best.

    After the block, nothing is at work on batches any more.
    """
    if keras.backend.backend() == "jax" and isinstance(sampler, ClipSampler):
        from rlsp_tf.training.clips.jax_feed import DeviceClips, fits

        if fits(sampler.clips):
            # The device works on while the host says what to cut next; a thread would be in its way.
            yield ClipSequence(DeviceClips(sampler).samples, start, stop, workers=1)
            return
    closable = ClosableSampler(sampler)
    try:
        if keras.backend.backend() == "tensorflow":
            from rlsp_tf.training.clips.tf_feed import clip_dataset

            yield clip_dataset(closable, start, stop, waits)
        else:
            # Beside an accelerator, all processors are free to make samples.
            workers = 2 if _on_processors() else os.cpu_count() or 2
            yield ClipSequence(closable.samples, start, stop, workers=workers)
    finally:
        closable.close()


def _on_processors() -> bool:
    return all(device.lower().startswith("cpu") for device in keras.distribution.list_devices())


@contextlib.contextmanager
def _in_turn(group: Group) -> Iterator[None]:
    """Lets worker 0 go first, whose cache may be that of the others, too."""
    if group.worker:
        group.largest(0)
    yield
    if not group.worker:
        group.largest(0)


def _record(clips: Sequence[Clip] | Sequence[Photograph]) -> list[dict[str, Any]]:
    return [clip.to_dict() for clip in clips]


def _check_same(run: RunFolder, options: TrainingOptions, index: dict[str, Any], resume: bool) -> None:
    """Refuses to go on with another run than the one in the folder."""
    if not resume:
        raise RLSPError(f"{run.path}: holds a run already; give --resume to go on, or another folder.")
    # What older versions could not be told has its default.
    old, new = {**TrainingOptions().to_dict(), **run.read_config()}, options.to_dict()
    changed = differences({**old, "steps": None}, {**new, "steps": None})
    if changed:
        raise RLSPError(f"{run.path}: was begun otherwise: {'; '.join(changed)}. Give another folder.")
    for use, before in run.read_clips().items():
        changed = differences(before, {clip["name"]: clip["sha256"] for clip in index.get(use, [])})
        if changed:
            raise RLSPError(
                f"{run.path}: the clips for {use} are not those it was begun with: "
                f"{'; '.join(changed)}. Restore them or give another folder."
            )


def _restore(model: keras.Model, run: RunFolder, options: TrainingOptions) -> int:
    """Loads the last checkpoint, if there is one, and gives its step."""
    if not run.last.exists():
        return 0
    check_weights(run.last)
    try:
        model.load_weights(run.last)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RLSPError(
            f"{run.last}: is of another run, or damaged ({reason}); begin another run."
        ) from error
    step = int(model.optimizer.iterations)
    steps = run.read_config()["steps"]
    if steps != options.steps and step > (1 - DECAY) * min(steps, options.steps):
        raise RLSPError(
            f"{run.path}: stands at step {step}, too late to change --steps from {steps} to {options.steps}, "
            f"since the learning rate falls over the last {DECAY:.0%} of them."
        )
    return step


def _environment(group: Group) -> dict[str, Any]:
    backend = keras.backend.backend()
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "rlsp_tf": __version__,
        "python": platform.python_version(),
        "keras": keras.__version__,
        backend: sys.modules[backend].__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "workers": group.workers,
        "devices": group.devices,
        "pid": os.getpid(),
    }
