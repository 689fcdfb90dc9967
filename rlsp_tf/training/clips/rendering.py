"""Renders samples in processes, so that the samples of several batches are made at the same time.

Threads would wait for each other: rendering a sample consists of many short calls.
"""

import contextlib
import math
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.connection import wait
from typing import Any

import numpy as np

from rlsp_tf.system.cores import cores
from rlsp_tf.training.clips.mixture import MixedSampler
from rlsp_tf.training.clips.sampler import ClipSampler

SLACK = 2
"""Low-resolution pixels by which samples that are used several times are higher and wider than those of a
batch. Mirrored ones need one of them: in them, too, low-resolution pixel i is at high-resolution pixel
``scale * i``."""
AHEAD = 2
"""Number of batches for each process that are made or kept ready."""


@contextlib.contextmanager
def rendered(
    sampler: ClipSampler | MixedSampler, first: int
) -> Iterator[Iterator[tuple[np.ndarray, np.ndarray]]]:
    """Renders batches in one process per core.

    Args:
        sampler: makes the samples.
        first: number of the first batch, counted from 0; see
            :meth:`rlsp_tf.training.clips.sampler.ClipSampler.samples`.

    Yields:
        An endless iterator of batches ``(lr, hr)``, in order. The memory of a batch is used again when the
        next one is requested.
    """
    context = multiprocessing.get_context("spawn")
    sizes = [sampler.batch * math.prod(shape) for shape in sampler.shapes]
    slots = [[context.RawArray("B", size) for size in sizes] for _ in range(AHEAD * cores())]
    with ProcessPoolExecutor(
        cores(), mp_context=context, initializer=_begin, initargs=(sampler, slots)
    ) as processes:
        try:
            yield _in_order(processes, sampler, slots, first)
        finally:
            processes.shutdown(wait=False, cancel_futures=True)


def _in_order(
    processes: ProcessPoolExecutor, sampler: ClipSampler | MixedSampler, slots: Sequence[Any], first: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    pending: deque[Future[None]] = deque()
    for number in range(first, first + len(slots)):
        pending.append(processes.submit(_render, number))
    while True:
        pending.popleft().result()
        lr, hr = _arrays(sampler, slots[first % len(slots)])
        yield lr, hr
        pending.append(processes.submit(_render, first + len(slots)))
        first += 1


def _arrays(sampler: ClipSampler | MixedSampler, slot: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the batch that is in a slot of shared memory."""
    lr, hr = (
        np.frombuffer(memory, np.uint8).reshape(sampler.batch, *shape)
        for memory, shape in zip(slot, sampler.shapes, strict=True)
    )
    return lr, hr


_task: tuple[ClipSampler | MixedSampler, Sequence[Any]]
"""The sampler and the shared memory of this process."""


def _begin(sampler: ClipSampler | MixedSampler, slots: Sequence[Any]) -> None:
    """Prepares a process that renders."""
    global _task
    _task = sampler, slots
    # Ctrl-C reaches all processes of a terminal; the one that trains ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _render(number: int) -> None:
    """Renders a batch into its slot."""
    sampler, slots = _task
    for array, samples in zip(
        _arrays(sampler, slots[number % len(slots)]), sampler.samples(number), strict=True
    ):
        array[:] = samples
