"""How TensorFlow shares the cores of a CPU in training.

By default all cores work on one operation after the other, and wait for each other after each of
thousands of small ones. In training they need not: every core takes a part of the batch and has its own
operations, from the first frame to the gradients. On two cores that is a fifth faster.
"""

import os

ONE_CORE = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")
"""Environment variables of a process that is to have one core, to be set before TensorFlow starts: more
threads would take turns on it."""


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
