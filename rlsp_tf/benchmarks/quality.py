"""What reduced precision costs in PSNR."""

import math
import os
from collections.abc import Sequence
from typing import Any

from rlsp_tf.benchmarks.harness import heading
from rlsp_tf.evaluation.evaluate import evaluate
from rlsp_tf.inference.hardware import computes_int8
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.pixels.metrics import PROTOCOLS

PRECISIONS = ("float32", "bfloat16", "float16", *(("int8",) if computes_int8() else ()))
"""Precisions that are compared on this machine; the others are compared with the first."""


def benchmark_quality(
    hr: str | os.PathLike[str],
    models: Sequence[str | os.PathLike[str]] = ("7-48",),
    *,
    progress: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Measures PSNR of luma in every precision under the ``rlsp`` protocol, and the loss against float32.

    Args:
        hr, models: see :func:`rlsp_tf.evaluation.evaluate.evaluate`.
        progress: show on standard error how far it is.
        command: the command line to record in the result.

    Returns:
        :func:`rlsp_tf.benchmarks.harness.heading`, and::

            {"protocol": its name, "sequences": [their names], "notes": [...],
             "models": [{"name", "network", "sha256", "psnr": {precision: mean in dB},
                         "cost": {precision: in dB}}]}

        A number is ``None`` if there is no error at all, since that has no decibels.

    Raises:
        RLSPError: as :func:`rlsp_tf.evaluation.evaluate.evaluate` does.
    """
    result = heading("quality", command)
    (found,) = evaluate(
        hr, models=models, precisions=PRECISIONS, protocols=[PROTOCOLS["rlsp"]], progress=progress
    )
    _, *methods = found["models"]  # bicubic interpolation is the first
    sheets = []
    for first in range(0, len(methods), len(PRECISIONS)):
        rows = methods[first : first + len(PRECISIONS)]
        psnr = {row["precision"]: _finite(row["mean"]["psnr_y"]) for row in rows}
        sheets.append(
            {
                "name": rows[0]["name"].removesuffix(f" {PRECISIONS[0]}"),
                "network": RLSPConfig.from_dict(rows[0]["config"]).name,
                "sha256": rows[0]["sha256"],
                "psnr": psnr,
                "cost": {name: _difference(psnr[PRECISIONS[0]], psnr[name]) for name in PRECISIONS[1:]},
            }
        )
    return result | {
        "protocol": found["protocol"]["name"],
        "sequences": [sequence["name"] for sequence in methods[0]["sequences"]],
        "notes": found["notes"],
        "models": sheets,
    }


def format_decibels(value: float | None) -> str:
    """Formats decibels with three decimals; ``-`` for ``None``."""
    return "-" if value is None else f"{value:.3f}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _difference(exact: float | None, reduced: float | None) -> float | None:
    return None if exact is None or reduced is None else exact - reduced
