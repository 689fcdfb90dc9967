"""What there is to compute with, and which precision is fastest there without losing quality."""

import shutil
from functools import cache
from pathlib import Path
from typing import Literal

from rlsp_tf.system.cores import cores

BFLOAT16_FLAGS = frozenset(("amx_bf16", "avx512_bf16"))
"""Flags in /proc/cpuinfo of instructions that multiply bfloat16 and add in float32; oneDNN uses them."""
INT8_FLAGS = frozenset(("amx_int8", "avx512_vnni", "avx_vnni", "avx2"))
"""Flags in /proc/cpuinfo of instructions that multiply and add bytes; oneDNN uses them."""


@cache
def fastest_precision() -> str:
    """Returns the fastest precision of this machine that costs nearly nothing in quality.

    That is ``"bfloat16"`` where the processor or every GPU computes in it, ``"float16"`` on older GPUs, and
    ``"float32"`` elsewhere, since bfloat16 is slow where it is emulated. Only Linux lists the instructions of
    a processor; on other systems the processor is assumed not to have them. On processors only TensorFlow is
    faster in bfloat16.
    """
    # Imported here because the functions below do without Keras, which takes seconds to import.
    from rlsp_tf.inference.backend import backend, capabilities

    if gpus := capabilities():
        # NVIDIA: tensor cores for float16 since Volta (7.0), for bfloat16 since Ampere (8.0).
        return "bfloat16" if min(gpus) >= (8, 0) else "float16" if min(gpus) >= (7, 0) else "float32"
    return "bfloat16" if backend() == "tensorflow" and BFLOAT16_FLAGS & cpu_flags() else "float32"


def training_precision() -> Literal["bfloat16", "float32"]:
    """Returns the fastest precision in which a network can be trained on this machine.

    That is :func:`fastest_precision`, but ``"float32"`` in place of ``"float16"``, whose gradients would
    vanish unless the loss were scaled.
    """
    return "bfloat16" if fastest_precision() == "bfloat16" else "float32"


def computes_int8() -> bool:
    """Returns whether the processor multiplies bytes, which makes :mod:`rlsp_tf.inference.int8` fast."""
    return bool(INT8_FLAGS & cpu_flags())


def int8_is_fastest() -> bool:
    """Returns whether 8 bits are faster than everything else here: on TensorFlow, without a GPU."""
    from rlsp_tf.inference.backend import backend, devices

    return computes_int8() and backend() == "tensorflow" and devices() == ["CPU"]


def device_named(gpu: bool = True) -> str:
    """Describes what computes: the GPUs, or the processor with the number of its cores.

    Args:
        gpu: whether GPUs are used where there are some.
    """
    from rlsp_tf.inference.backend import devices

    if gpu and (names := devices()) != ["CPU"]:
        return f"GPU ({', '.join(names)})"
    model = cpu_info().get("model name")
    return f"CPU ({f'{model}, ' if model else ''}{cores()} {'core' if cores() == 1 else 'cores'})"


def unused_gpu() -> str | None:
    """Returns a sentence about a GPU that the backend cannot use; ``None`` if this machine has none."""
    from rlsp_tf.inference.backend import backend_version, devices

    if devices() != ["CPU"]:
        return None
    drivers = ("/proc/driver/nvidia/version", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")
    found = [path for path in drivers if Path(path).exists()]
    if not (found or shutil.which("nvidia-smi")):
        return None
    name, _ = backend_version()
    return f"this machine has a GPU that {name} does not see; docs/gpu.md says what to install."


def cpu_flags() -> frozenset[str]:
    """Returns the flags of the first processor in /proc/cpuinfo; none on systems without that file."""
    return frozenset(cpu_info().get("flags", "").split())


def cpu_info() -> dict[str, str]:
    """Returns the entries of the first processor in /proc/cpuinfo; none on systems without that file."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return {}
    # Later keys replace earlier ones, so in reversed order the first processor remains.
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
