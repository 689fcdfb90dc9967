"""How threads share the cores of a CPU: those of TensorFlow in training, and those of an encoder beside it.

By default all cores work on one operation after the other, and wait for each other after each of
thousands of small ones. In training they need not: every core takes a part of the batch and has its own
operations, from the first frame to the gradients. On two cores that is a fifth faster.
"""

import os
import sys
import threading
from collections.abc import Callable

POLITENESS = 10
"""Added to the niceness of threads that work beside the network."""


def parts_of(batch: int) -> int:
    """Into how many parts a batch is divided on this machine's CPU: at most one a core, all as large.

    Args:
        batch: samples.
    """
    most = cores()
    return max(parts for parts in range(1, batch + 1) if batch % parts == 0 and parts <= most)


def thread_settings(batch: int) -> dict[str, str]:
    """Environment variables for TensorFlow, to be set before it starts.

    Args:
        batch: samples.

    Returns:
        As many operations at a time as there are parts, with the cores divided among them.
    """
    parts = parts_of(batch)
    return {"TF_NUM_INTEROP_THREADS": str(parts), "TF_NUM_INTRAOP_THREADS": str(cores() // parts)}


def cores() -> int:
    """How many cores this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def be_polite() -> None:
    """Lets the network go first where cores are scarce: lowers this thread's priority, for good.

    All of the network's threads wait for the one that an encoder interrupts. Threads that are begun by this
    one are polite, too. Only Linux has priorities of threads; elsewhere nothing happens.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), POLITENESS)


def politely(work: Callable[[], None]) -> None:
    """Does something in a thread of its own that is polite, for the sake of the threads that it begins.

    Raises:
        BaseException: what the work raises.
    """
    failure: list[BaseException] = []

    def run() -> None:
        be_polite()
        try:
            work()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
