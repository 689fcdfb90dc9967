"""How many cores there are for this process, and how a process is kept to one."""

import os

ONE_CORE = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")
"""Environment variables of a process that is to have one core, to be set before TensorFlow starts: more
threads would take turns on it."""


def cores() -> int:
    """How many cores this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
