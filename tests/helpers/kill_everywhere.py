"""Runs that are killed at every place where they change the disk, in processes that never start TensorFlow.

Networks and colour are stand-ins in NumPy, so that a run takes hundredths of a second; all else is real.
"""

import contextlib
import multiprocessing
import os
import shutil
import sys
import threading
import traceback
from functools import partial

import numpy as np
from tqdm import tqdm

from rlsp_tf.benchmarks.faults.kill_points import record, recorded, watch
from rlsp_tf.errors import Interrupted
from rlsp_tf.inference import upscaler as streaming
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.system.signals import Stop
from rlsp_tf.upscaling import cluster as ray_engine
from rlsp_tf.upscaling.upscale import Recipe, upscale_clip
from rlsp_tf.upscaling.work_folder import JOURNAL, SUFFIX

SIZE = (32, 24)
RECIPE = Recipe(segment=1, warm_start=1, encoder=EncoderOptions(codec="mpeg4"))


class NumPyStep:
    """A recurrent network: a state that forgets half of itself with every frame."""

    config = RLSPConfig(filters=1, layers=2)
    precision, itemsize, fingerprint = "float32", 4, "stand-in"

    def initial_state(self, batch, height, width):
        return [np.zeros((batch, height, width, 16), np.float32)]

    def __call__(self, window, state):
        now = (state[0] + window[1][..., :1]) / 2 + window[2][..., :1] / 8
        return now[..., :1].repeat(4, axis=1).repeat(4, axis=2), [now]


class NumPyColor:
    """For :class:`rlsp_tf.inference.color_path.ColorPath`: luma is the first plane, whatever it is."""

    def __init__(self, height, width, scale, *, source, target, geometry, bits, output):
        self._planar = target is not None

    def enter(self, planes):
        first = planes[0] if planes[0].ndim == 2 else planes[0][..., 0]
        return first[None, ..., None].repeat(3, axis=-1).astype(np.float32), planes

    def leave(self, output, planes):
        luma = np.clip(np.rint(output[0, ..., 0]), 0, 255).astype(np.uint8)
        if not self._planar:
            return (luma[..., None].repeat(3, axis=-1),)
        return luma, *(plane.repeat(4, 0).repeat(4, 1) for plane in planes[1:])


def upscale_one(source, target, scene_cuts="off"):
    """A run in one process."""
    upscale_clip(source, target, NumPyStep(), RECIPE, scene_cuts=scene_cuts)


def upscale_in_ranges(source, target):
    """What a cluster does, its tasks one after the other."""
    ray_engine._step_of = lambda model, precision: NumPyStep()
    job = ray_engine.Job(
        *(str(source), str(target), "stand-in", "float32", RECIPE, frozenset({2})),
        **{"memory": None, "force": False, "resume": True, "length": 1},
    )
    plan = ray_engine._plan(job)
    if isinstance(plan, list):
        return
    assert len(plan.ranges) == 2
    for index in range(len(plan.ranges)):
        ray_engine._render(job, plan, index)
    ray_engine._join(job, plan)


def leave_damaged_work(source, target):
    """What a run can find: a finished segment that is damaged, half a line, and half a temporary file."""

    class StopAfterThreeSteps(Stop):
        def __bool__(self):
            asked.append(1)
            return len(asked) > 3

    asked = []
    with contextlib.suppress(Interrupted):
        upscale_clip(source, target, NumPyStep(), RECIPE, scene_cuts="off", stop=StopAfterThreeSteps())
    work = target.with_name(target.name + SUFFIX)
    (segment,) = work.glob("000000*")
    segment.write_bytes(bytes(segment.stat().st_size))
    (work / f".000001.1-0a1b2c3d.part{target.suffix}").write_bytes(b"half")
    with (work / JOURNAL).open("ab") as journal:
        journal.write(b'{"name": "00')


def content(path):
    """Everything that lies in a folder, by its name; ``None`` for folders."""
    return {
        str(each.relative_to(path)): None if each.is_dir() else each.read_bytes() for each in path.rglob("*")
    }


def kill_everywhere(source, folder, run, name, prepare=None):
    """Kills a run before each change of the disk, and lets the same call go on.

    Args:
        source: what is upscaled.
        folder: an empty one to work in.
        run: called with ``source`` and a target.
        name: of the target.
        prepare: makes what a run finds in the folder of the target, by running.

    Returns:
        The names of all changes, and sentences on those after which the result was not, byte for byte, that
        of a run that nobody killed, or not all that is left.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["rlsp_tf.upscaling.upscale"])
    ours, theirs = processes.Pipe()
    process = processes.Process(target=_drive, args=(theirs, source, folder, run, name, prepare))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.join()


def _drive(answer, source, folder, run, name, prepare):
    """In a process that stays without threads, so that it can be copied at any time."""
    streaming._color_path = NumPyColor
    streaming.is_far = lambda output, rgb, config: False
    # Progress bars would share one between processes, which nobody gives back after a kill.
    tqdm.set_lock(threading.RLock())
    # A killed process leaves to others all that it has written; only a failing power asks for more.
    os.fsync = lambda descriptor: None
    found = folder / "found"
    found.mkdir()
    if prepare:
        assert _in_a_copy(partial(prepare, source, found / name)) == 0
    once = folder / "once"
    shutil.copytree(found, once)
    assert _in_a_copy(partial(run, source, once / name), once, record(folder / "names")) == 0
    names = recorded(folder / "names")
    wrong = []
    for point in names:
        killed = folder / "killed"
        shutil.copytree(found, killed)
        code = _in_a_copy(partial(run, source, killed / name), killed, point.__eq__)
        again = _in_a_copy(partial(run, source, killed / name))
        # At the last change a run has ended but for its exit code: the same call finds its output.
        right = (0, 1) if point == names[-1] else (0,)
        if code != -9 or again not in right or content(killed) != content(once):
            left = sorted(content(killed).keys() ^ content(once).keys())
            wrong.append(f"{point}: ended with {code}, then with {again}; differs in {left or 'content'}")
        shutil.rmtree(killed)
    answer.send((names, wrong))


def _in_a_copy(run, folder=None, dies_at=None):
    """The exit code of a copy of this process that runs something."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        if folder:
            watch(folder, dies_at)
        run()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)
