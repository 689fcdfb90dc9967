"""The number of CPU cores of this process, and the settings that limit a process to one."""

import os

ONE_CORE = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")
"""Environment variables that limit TensorFlow to one core. Set them before TensorFlow starts."""


def cores() -> int:
    """Returns the number of cores that this process may use; the machine may have more."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
