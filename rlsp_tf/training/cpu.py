"""How TensorFlow shares the cores of a CPU in training, and uses their memory.

By default all cores work on one operation after the other, and wait for each other after each of
thousands of small ones. In training they need not: every core takes a part of the batch and has its own
operations, from the first frame to the gradients. On two cores that is a fifth faster.
"""

import ctypes
import os
import platform

from rlsp_tf.system.cores import cores


def parts_of(batch: int) -> int:
    """Into how many parts a batch is divided on this machine's CPU: at most one a core, all as large.

    Args:
        batch: samples.
    """
    most = cores()
    return max(parts for parts in range(1, batch + 1) if batch % parts == 0 and parts <= most)


def prepare_training(batch: int) -> None:
    """Sets up this process for training on its CPU; to be called before TensorFlow starts.

    Args:
        batch: samples.
    """
    # What a user has set stays.
    os.environ.update({**training_settings(batch), **os.environ})
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        # Every step asks for the same memory again, which is not given back to the system in between.
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**25)


def training_settings(batch: int) -> dict[str, str]:
    """Environment variables for TensorFlow in training.

    Args:
        batch: samples.

    Returns:
        As many operations at a time as there are parts, with the cores divided among them; and oneDNN's
        objects kept from call to call, since a step makes thousands of small calls.
    """
    parts = parts_of(batch)
    return {
        "TF_NUM_INTEROP_THREADS": str(parts),
        "TF_NUM_INTRAOP_THREADS": str(cores() // parts),
        "TF_MKL_OPTIMIZE_PRIMITIVE_MEMUSE": "false",
    }


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h; the largest that the second may have is 32 MiB."""
