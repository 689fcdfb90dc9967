"""Upscales many videos, and long videos in ranges, on a Ray cluster.

Ray schedules the tasks and repeats them after failures. Every range is a task (:mod:`rlsp_tf.upscaling.plan`)
that stores its result in the work folder of its target, on a shared disk or in an object store. A finished
task is never repeated, even if machines or this program fail.
"""

import functools
import hashlib
import json
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlsp_tf.errors import RLSPError, first_line
from rlsp_tf.inference.load import load_step
from rlsp_tf.inference.step import Step
from rlsp_tf.system.backends import variables_for
from rlsp_tf.system.cores import ONE_CORE
from rlsp_tf.system.progress import ProgressBar
from rlsp_tf.system.storage import Storage
from rlsp_tf.upscaling.plan import (
    Plan,
    join_ranges,
    make_plan,
    rehearse_ranges,
    render_range,
    run_of,
    targets_of,
)
from rlsp_tf.upscaling.published import published
from rlsp_tf.upscaling.segments import DamagedSegment, compare_runs
from rlsp_tf.upscaling.upscale import Recipe
from rlsp_tf.upscaling.work_folder import JOURNAL, PLAN, RANGE, SUFFIX, WorkFolder, is_own, work_name

RETRIES = 3
"""How often Ray repeats a task whose process or machine has failed."""


@dataclass(frozen=True)
class Job:
    """A clip to upscale; all its tasks get this.

    Attributes:
        source: address of the clip.
        target: address of the result.
        model: name of the network, or the content of a ``.keras`` file, so that other machines need not have
            the file.
        precision: the number format, see :func:`rlsp_tf.inference.load.load_step`.
        recipe, scene_cuts, memory, force, resume: see :func:`rlsp_tf.upscaling.upscale.upscale`.
        length, split: see :func:`rlsp_tf.upscaling.plan.make_plan`.
    """

    source: str
    target: str
    model: str | bytes
    precision: str
    recipe: Recipe
    scene_cuts: Literal["auto", "off"] | frozenset[int]
    memory: float | None
    force: bool
    resume: bool
    length: int = RANGE
    split: bool = False


def upscale_all(
    sources: Sequence[str],
    folder: str,
    model: str,
    *,
    precision: str = "auto",
    recipe: Recipe | None = None,
    scene_cuts: Literal["auto", "off"] | frozenset[int] = "auto",
    memory: float | None = None,
    force: bool = False,
    resume: bool = True,
    length: int = RANGE,
    split: bool = False,
    address: str | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> tuple[list[str], list[str]]:
    """Upscales clips on a Ray cluster.

    Every clip is divided into ranges, the ranges are upscaled, and their results are joined. The result is
    the same, packet for packet, as that of one run. A clip that cannot be read or written does not stop the
    others. To resume interrupted work, repeat the call.

    Args:
        sources: paths of the clips, or URLs that fsspec supports.
        folder: path or URL of the folder for the results, which get the names of the clips.
        model: name, file or folder of a network, as for :func:`rlsp_tf.inference.load.load_step`. A
            ``.keras`` file is sent to other machines; an exported network must exist on all of them.
        precision, recipe, scene_cuts, memory, force, resume: see :func:`rlsp_tf.upscaling.upscale.upscale`.
        length, split: see :func:`rlsp_tf.upscaling.plan.make_plan`.
        address: address of a running cluster. By default a cluster is started on this machine.
        workers: number of workers of a cluster started here. By default one for each core.
        progress: whether to show a progress bar over the frames of all clips.

    Returns:
        Two lists of sentences: what failed, and what was assumed or left out.

    Raises:
        RLSPError: if Ray is not installed, the cluster does not answer, or two results would have the same
            name.
    """
    ray = start_ray(address, workers, precision)
    content: str | bytes = Path(model).read_bytes() if model.endswith(".keras") else model
    targets = targets_of(sources, folder)
    failed: list[str] = []
    notes: list[str] = []
    try:
        do = {name: ray.remote(max_retries=RETRIES)(work) for name, work in _WORK.items()}
        jobs = [
            Job(
                source,
                target,
                content,
                precision,
                recipe or Recipe(),
                scene_cuts,
                memory,
                force,
                resume,
                length,
                split,
            )
            for source, target in zip(sources, targets, strict=True)
        ]
        shared = [ray.put(job) for job in jobs]
        waiting: dict[Any, tuple[str, int, int]] = {
            do["plan"].remote(job): ("plan", index, 0) for index, job in enumerate(shared)
        }
        left: dict[int, int] = {}
        plans: dict[int, Any] = {}
        bar = ProgressBar(unit="frames", desc=folder, total=0, show=progress)
        with bar:
            for done in as_completed(ray, waiting):
                kind, index, frames = waiting.pop(done)
                try:
                    result = ray.get(done)
                except ray.exceptions.RayTaskError as error:
                    if not isinstance(error.cause, RLSPError):
                        raise
                    # Only this clip fails. Its other tasks that are running end by themselves.
                    sentence = str(error.cause)
                    if sentence not in failed:
                        failed.append(sentence)
                    left.pop(index, None)
                    continue
                except ray.exceptions.RayError as error:
                    failed.append(f"{jobs[index].source}: {first_line(error)}.")
                    left.pop(index, None)
                    continue
                if isinstance(result, list):
                    notes += result
                elif kind == "plan":
                    plans[index] = ray.put(result)
                    left[index] = len(result.ranges)
                    bar.total += result.ranges[-1].stop
                    for number, part in enumerate(result.ranges):
                        task = do["render"].remote(shared[index], plans[index], number)
                        waiting[task] = ("render", index, part.stop - part.start)
                elif kind == "render":
                    bar.update(frames)
                    if index in left:
                        left[index] -= 1
                        if not left[index]:
                            waiting[do["join"].remote(shared[index], plans[index])] = ("join", index, 0)
    finally:
        ray.shutdown()
    return failed, notes


def as_completed(ray: Any, waiting: Mapping[Any, Any]) -> Iterator[Any]:
    """Yields tasks as they end.

    Args:
        ray: the package.
        waiting: the tasks, as keys. The caller must remove each task that is yielded, and may add others.
    """
    while waiting:
        ray.wait(list(waiting))
        # Take all that have ended by now: with many tasks, ray.wait is slow, so do not call it for each.
        yield from ray.wait(list(waiting), num_returns=len(waiting), timeout=0)[0]


def _work_of(job: Job) -> Storage:
    """Returns the work folder of a clip, where its ranges are kept until they are joined."""
    folder, slash, name = job.target.rpartition("/")
    return Storage(f"{folder}{slash}{work_name(name)}")


def _plan(job: Job) -> Plan | list[str]:
    """Plans a clip, or reads the plan of an interrupted run.

    Returns:
        The plan; or, if an earlier run had finished its result but was killed before it removed its work
        folder, that run's notes.
    """
    target = Storage(job.target)
    if target.local and job.resume and not job.force:
        source = Storage(job.source).fetch()
        step = _step_of(job.model, job.precision)
        finished = published(
            target.local, lambda: run_of(source, step, job.recipe, job.scene_cuts, job.split)
        )
        if finished is not None:
            return finished
    if target.exists() and not job.force:
        raise RLSPError(f"{job.target}: exists already; give another folder or --force to replace it.")
    work = _work_of(job)
    if target.local:
        with WorkFolder(target.local) as folder:
            if not job.resume:
                folder.clear()
            return _plan_in(work, job)
    if not job.resume:
        work.remove(is_own)
    return _plan_in(work, job)


def _plan_in(work: Storage, job: Job) -> Plan:
    """Reads the plan in a work folder, or makes one and stores it there."""
    noted, target = work / PLAN, Storage(job.target)
    source = Storage(job.source).fetch()
    step = _step_of(job.model, job.precision)
    if target.local:
        # Find out now, and not after hours, whether the result can be written.
        with job.recipe.open(source) as frames:
            job.recipe.sink(frames, step.config.scale, target.local, force=job.force)
    old = None
    if noted.exists():
        try:
            old = Plan.from_dict(json.loads(noted.fetch().read_text("utf-8")))
        except (OSError, ValueError) as error:
            raise RLSPError(f"{noted.address}: is damaged; add --no-resume to start over.") from error
        compare_runs(Path(job.target), old.run, run_of(source, step, job.recipe, job.scene_cuts, job.split))
        return old
    with tempfile.TemporaryDirectory() as here:
        rehearse_ranges(source, Path(here), target.name, step, job.recipe)
    plan = make_plan(source, step, job.recipe, job.scene_cuts, length=job.length, split=job.split)
    _write(work, noted, json.dumps(plan.to_dict()))
    return plan


def _render(job: Job, plan: Plan, index: int) -> None:
    """Upscales a range into the work folder of its target."""
    target, work = Storage(job.target), _work_of(job)
    step = _step_of(job.model, job.precision)
    source = Storage(job.source).fetch()
    if work.local:
        render_range(source, work.local / target.name, step, job.recipe, plan, index, memory=job.memory)
        return
    folder = work / f"{index:06d}{Path(target.name).suffix}{SUFFIX}"
    if (folder / JOURNAL).exists():
        return
    with tempfile.TemporaryDirectory() as here:
        made = render_range(
            source, Path(here) / target.name, step, job.recipe, plan, index, memory=job.memory
        )
        # Upload the journal last, so that a range with a journal is complete.
        for file in sorted(made.iterdir(), key=lambda path: path.name == JOURNAL):
            if file.name != "lock":
                (folder / file.name).put(file)


def _join(job: Job, plan: Plan) -> list[str]:
    """Joins the ranges of a clip under its final name; returns the notes."""
    target, work = Storage(job.target), _work_of(job)
    source, step = Storage(job.source).fetch(), _step_of(job.model, job.precision)
    if work.local and target.local:
        notes = join_ranges(source, work.local, target.local, step, job.recipe, plan, force=job.force)
        WorkFolder(target.local).finish()
        return notes
    with tempfile.TemporaryDirectory() as here:
        folder, joined = work.fetch(Path(here)), Path(here) / target.name
        try:
            notes = join_ranges(source, folder, joined, step, job.recipe, plan)
        except DamagedSegment as error:
            # Without its journal, the range will be computed again.
            (work / error.segment.partition("/")[0]).remove(lambda path: path.parts == (JOURNAL,))
            raise
        target.put(joined)
    work.remove(is_own)
    return notes


_WORK: dict[str, Callable[..., Any]] = {"plan": _plan, "render": _render, "join": _join}


@functools.lru_cache(maxsize=2)
def _step_of(model: str | bytes, precision: str) -> Step:
    """Loads a network, once for all tasks of a process."""
    if isinstance(model, str):
        return load_step(model, precision=precision)
    with tempfile.TemporaryDirectory() as here:
        file = Path(here) / f"{hashlib.sha256(model).hexdigest()[:16]}.keras"
        file.write_bytes(model)
        return load_step(file, precision=precision)


def _write(folder: Storage, file: Storage, text: str) -> None:
    if folder.local:
        folder.local.mkdir(exist_ok=True)
        part = folder.local / f".{PLAN}.part"
        part.write_text(text, "utf-8")
        part.replace(folder.local / PLAN)
        return
    with tempfile.TemporaryDirectory() as here:
        path = Path(here) / PLAN
        path.write_text(text, "utf-8")
        file.put(path)


def start_ray(address: str | None, workers: int | None, precision: str = "auto") -> Any:
    """Connects to a Ray cluster, or starts one on this machine.

    Args:
        address, workers, precision: see :func:`upscale_all`.

    Returns:
        The package ``ray``. Call its ``shutdown`` in the end.

    Raises:
        RLSPError: if Ray is not installed or the cluster does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise RLSPError("--engine ray needs Ray; install it by: pip install 'rlsp_tf[ray]'.") from error
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        try:
            # Ray itself would try for minutes.
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as error:
            raise RLSPError(
                f"{address}: no Ray cluster answers there ({error.strerror or error}); check the address."
            ) from error
    try:
        ray.init(
            address=address or "local",
            num_cpus=workers,
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {**ONE_CORE, "TF_CPP_MIN_LOG_LEVEL": "2", **variables_for(precision)}},
        )
    except Exception as error:  # Ray raises Exception itself if one of its processes is not up in time
        reason = first_line(error)
        raise RLSPError(
            f"{address}: no Ray cluster answers there ({reason}); check the address."
            if address
            else f"Ray cannot start here ({reason}); try again when the machine is less busy, or leave out "
            "--engine ray."
        ) from error
    return ray
