"""Which precision a machine computes fastest in without losing quality."""

from functools import cache
from pathlib import Path

BFLOAT16_FLAGS = frozenset(("amx_bf16", "avx512_bf16"))
"""Of /proc/cpuinfo: instructions that multiply bfloat16 and add in float32, which oneDNN uses."""
INT8_FLAGS = frozenset(("amx_int8", "avx512_vnni", "avx_vnni"))
"""Likewise: instructions that multiply bytes and add in 32 bits."""


@cache
def fastest_precision() -> str:
    """``"bfloat16"`` where the processor or every GPU has it, ``"float16"`` on older GPUs, or ``"float32"``.

    Without such instructions bfloat16 is emulated and slower. Only Linux tells which a processor has; on
    other systems it is taken for one without.
    """
    # Here, because what the processor can do is asked without TensorFlow, whose import takes seconds.
    import tensorflow as tf

    gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    if gpus:
        capability = min(gpu.get("compute_capability", (0, 0)) for gpu in gpus)
        # NVIDIA: tensor cores for float16 since Volta (7.0), for bfloat16 since Ampere (8.0).
        return "bfloat16" if capability >= (8, 0) else "float16" if capability >= (7, 0) else "float32"
    return "bfloat16" if BFLOAT16_FLAGS & cpu_flags() else "float32"


def computes_int8() -> bool:
    """Whether the processor multiplies bytes, so that :mod:`rlsp_tf.inference.int8` is fast."""
    return bool(INT8_FLAGS & cpu_flags())


def cpu_flags() -> frozenset[str]:
    """The instructions of the first processor by their names in /proc/cpuinfo; none on other systems."""
    return frozenset(cpu_info().get("flags", "").split())


def cpu_info() -> dict[str, str]:
    """The entries of /proc/cpuinfo for the first processor; empty on systems that have no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return {}
    # Of several processors the first is taken, which comes last when the order is reversed.
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
