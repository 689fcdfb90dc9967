"""Where the time of a step goes, as oneDNN, which TensorFlow computes convolutions with, tells it."""

import os
import re
import subprocess
import sys
from collections import defaultdict
from typing import Any

from rlsp_tf.benchmark import describe_machine, heading
from rlsp_tf.errors import RLSPError

STEPS = 10
CODE = """
import sys, time
from functools import partial
import numpy as np
import tensorflow as tf
from rlsp_tf.config import RLSPConfig
from rlsp_tf.model import build_model
from rlsp_tf.steps import step_maker

name, precision, width, height, steps = sys.argv[1:]
width, height, steps = int(width), int(height), int(steps)
step = step_maker(partial(build_model, RLSPConfig.from_name(name)), precision)()
rng = np.random.default_rng(0)
window = [tf.constant(rng.uniform(0, 255, (1, height, width, 3)), tf.float32) for _ in range(3)]
state = step.initial_state(1, height, width)
for index in range(3 + steps):
    if index == 3:
        print("begin", flush=True)
        began = time.perf_counter()
    frame, state = step(window, state)
    frame.numpy()
print("seconds", time.perf_counter() - began, flush=True)
"""


def benchmark_profile(
    network: str = "7-48",
    *,
    precision: str = "bfloat16",
    size: tuple[int, int] = (480, 270),
    steps: int = STEPS,
    command: str = "",
) -> dict[str, Any]:
    """What share of a step is convolutions, and how fast each computes.

    Args:
        network: the paper's name.
        precision: of the convolutions.
        size: width and height of low-resolution frames.
        steps: that are looked at, after three that are not.
        command: what to note as the command behind the result.

    Returns:
        What :func:`describe_profile` prints: :func:`rlsp_tf.benchmark.heading` and ``{"network",
        "precision", "size", "milliseconds": of a step, "primitives": [{"what", "calls": per step,
        "milliseconds": per step, "gflops": per second, ``None`` but for convolutions}]}``. Primitives that
        run side by side count in full, so the sum can be more than the step.

    Raises:
        RLSPError: if TensorFlow is one without oneDNN.
    """
    result = heading("profile", command)
    arguments = [network, precision, *map(str, size), str(steps)]
    run = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        env={**os.environ, "ONEDNN_VERBOSE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    _, _, output = run.stdout.partition("begin\n")
    seconds = re.search(r"^seconds (\S+)$", output, re.MULTILINE)
    primitives = read_verbose(output, steps)
    if run.returncode or not seconds or not primitives:
        raise RLSPError("this TensorFlow tells nothing of its convolutions; it is one without oneDNN.")
    return result | {
        "network": network,
        "precision": precision,
        "size": list(size),
        "milliseconds": 1e3 * float(seconds[1]) / steps,
        "primitives": primitives,
    }


def read_verbose(text: str, steps: int) -> list[dict[str, Any]]:
    """The primitives in what oneDNN prints, the longest first; see :func:`benchmark_profile`."""
    times: dict[tuple[str, float], list[float]] = defaultdict(list)
    for line in text.splitlines():
        fields = line.split(",")
        if fields[0] != "onednn_verbose" or "exec" not in fields:
            continue
        kind = fields[fields.index("exec") + 2]
        shape = re.search(r",mb(\d+)_ic(\d+)oc(\d+)_ih\d+oh(\d+)kh(\d+).*?_iw\d+ow(\d+)kw(\d+)", line)
        if shape is None:
            times[kind, 0].append(float(fields[-1]))
            continue
        images, inputs, outputs, height, rows, width, columns = map(int, shape.groups())
        operations = 2 * images * inputs * outputs * height * width * rows * columns
        times[f"{kind} {inputs} to {outputs} channels", operations].append(float(fields[-1]))
    return sorted(
        (
            {
                "what": what,
                "calls": len(each) / steps,
                "milliseconds": sum(each) / steps,
                "gflops": operations * len(each) / sum(each) / 1e6 if operations else None,
            }
            for (what, operations), each in times.items()
        ),
        key=lambda entry: -float(entry["milliseconds"] or 0),
    )


def describe_profile(result: dict[str, Any]) -> str:
    """The result of :func:`benchmark_profile` as lines of text."""
    width, height = result["size"]
    lines = describe_machine(result)
    lines.append(
        f"{result['network']} in {result['precision']}, {width}x{height}: "
        f"{result['milliseconds']:.1f} ms a step"
    )
    for each in result["primitives"]:
        speed = "" if each["gflops"] is None else f", {each['gflops']:.0f} GFLOP/s"
        lines.append(f"{each['milliseconds']:8.2f} ms in {each['calls']:.0f} x {each['what']}{speed}")
    return "\n".join(lines)
