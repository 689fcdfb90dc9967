"""What upscales instead of us, each wrong in its own way, for processes that import it from here.

All are made as :func:`rlsp_tf.benchmarks.faults.damaged_files.upscaler` and
:func:`rlsp_tf.benchmarks.faults.kills.counting_upscaler` make ours.
"""

import contextlib
import os
import time

import av

from helpers.videos import make_video
from rlsp_tf.errors import RLSPError


def _frames(path):
    found = []
    with contextlib.suppress(av.FFmpegError), av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for packet in container.demux(stream):
            with contextlib.suppress(av.FFmpegError):
                found += packet.decode()
    if not found:
        raise RLSPError(f"{path}: no frame of it can be decoded.")
    return found


def _write(target, frames):
    size = (frames[0].width, frames[0].height)
    make_video(target, range(0, len(frames) * 3600, 3600), frames=frames, size=size)


def loses_a_frame(model):
    return lambda source, target: _write(target, (_frames(source) * 2)[1 : len(_frames(source))])


def leaves_half_a_file(model):
    def run(source, target):
        target.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
        raise RLSPError(f"{source}: could not be finished.")

    return run


def writes_half_a_file(model):
    def run(source, target):
        _write(target, _frames(source) * 2)
        with target.open("r+b") as file:
            file.truncate(target.stat().st_size // 2)

    return run


def raises(model):
    def run(source, target):
        raise KeyError("frames")

    return run


def says_nothing_of_the_file(model):
    def run(source, target):
        raise RLSPError("something went wrong.")

    return run


def dies(model):
    return lambda source, target: os._exit(11)


def hangs(model):
    return lambda source, target: time.sleep(1000)


def goes_on_with_a_frame_less(model, count):
    """If it is interrupted: then it also leaves a file behind and computes all of it again."""

    def run(source, target):
        began = target.with_suffix(".began")
        frames = _frames(source)
        kept = frames[1:] if began.exists() else frames
        began.touch()
        for _ in frames:
            count.value += 1
            time.sleep(1 / len(frames))
        _write(target, kept)
        if kept is frames:
            began.unlink()

    return run
