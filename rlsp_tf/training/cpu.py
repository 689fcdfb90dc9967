"""Settings of TensorFlow for training on a CPU.

By default, all cores work on one operation and wait for each other after it, thousands of times per step.
Training avoids that: it divides the batch, and each core computes the operations for its own part, from the
first frame to the gradients. On two cores this is about a fifth faster.
"""

import ctypes
import os
import platform

from rlsp_tf.system.cores import cores

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Options of ``mallopt`` in glibc's malloc.h. The largest value of the second one is 32 MiB."""


def trains_on_cpu() -> bool:
    """Whether Keras finds no device other than CPUs."""
    import keras  # after prepare_training, which sets what TensorFlow reads when it is imported

    return all(device.lower().startswith("cpu") for device in keras.distribution.list_devices())


def parts_of(batch: int) -> int:
    """Returns the number of equal parts into which a batch is divided on this CPU, at most one per core.

    Args:
        batch: samples in the batch.
    """
    most = cores()
    return max(parts for parts in range(1, batch + 1) if batch % parts == 0 and parts <= most)


def prepare_training(batch: int) -> None:
    """Sets up this process for training on its CPU; has to be called before TensorFlow is imported.

    Environment variables that are set already keep their values.

    Args:
        batch: samples per step.
    """
    os.environ.update({**training_settings(batch), **os.environ})
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        # Every step allocates the same amount of memory, so it is kept rather than returned to the system.
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**25)


def training_settings(batch: int) -> dict[str, str]:
    """Returns the environment variables that TensorFlow should see in training.

    TensorFlow runs as many operations at the same time as the batch has parts, divides the cores among
    them, and leaves convolutions to oneDNN even where it would not, since oneDNN is faster for small frames.
    It keeps the primitives of oneDNN, since every step makes thousands of small calls.

    Args:
        batch: samples per step.
    """
    parts = parts_of(batch)
    return {
        "TF_NUM_INTEROP_THREADS": str(parts),
        "TF_NUM_INTRAOP_THREADS": str(cores() // parts),
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "TF_MKL_OPTIMIZE_PRIMITIVE_MEMUSE": "false",
    }
