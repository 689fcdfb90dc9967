"""Times a step of the network on a GPU, compared with PyTorch."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlsp_tf.benchmarks.contenders import Contender, Ours, PyTorch
from rlsp_tf.benchmarks.harness import Worker, heading, installed, ratio, take_turns
from rlsp_tf.benchmarks.step import NETWORKS, WARM_UP, Preparation, compare_outputs, median_of
from rlsp_tf.errors import RLSPError
from rlsp_tf.network.config import RLSPConfig

SIZES = ((480, 270), (960, 540), (1920, 1080))
"""Widths and heights of low-resolution frames."""
BATCHES = (1, 8)
"""Numbers of clips of which a step computes a frame each."""
ROUNDS = 5
STEPS = 10
"""Steps of each contender in a round."""


class OursOnGPU(Ours):
    """rlsp_tf on the backend of Keras, on the device that it takes by itself.

    Attributes:
        about: ``{"device"}``: name of the device.
    """

    def choose_device(self) -> None:
        self._backend.start()
        self.about = {"device": self._backend.devices()[0]}


class PyTorchOnGPU(PyTorch):
    """PyTorch on the first GPU, channels last, with a step that is recorded as a CUDA graph.

    Without a GPU it computes on the CPU, as :class:`rlsp_tf.benchmarks.contenders.PyTorch` does.
    """

    def load(self) -> None:
        import torch

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.backends.cudnn.benchmark = True  # the fastest algorithm for each size
        super().load()

    def reset(self, height: int, width: int) -> None:
        super().reset(height, width)
        self._graph: Any = None

    def step(self, window: Any) -> Any:
        if self.device == "cpu":
            return super().step(window)
        with self._torch.inference_mode():
            if self._graph is None:
                self._record(window)
            self._window.copy_(window)
            self._graph.replay()
        return self._output

    def wait(self, output: Any) -> None:
        if self.device != "cpu":
            self._torch.cuda.synchronize()

    def _record(self, window: Any) -> None:
        cuda = self._torch.cuda
        self._window = window.clone()
        hidden, feedback = self._hidden, self._feedback
        other = cuda.Stream()
        other.wait_stream(cuda.current_stream())
        with cuda.stream(other):
            for _ in range(3):  # cuDNN tries its algorithms, which cannot be recorded
                super().step(self._window)
        cuda.current_stream().wait_stream(other)
        self._hidden, self._feedback = hidden, feedback
        self._graph = cuda.CUDAGraph()
        with cuda.graph(self._graph):
            self._output = super().step(self._window)
            hidden.copy_(self._hidden)
            feedback.copy_(self._feedback)


REFERENCE = Contender("rlsp_tf float32", OursOnGPU, "float32")
"""All contenders have to agree with this one, which is not timed."""
CONTENDERS = (
    Contender("rlsp_tf bfloat16", OursOnGPU, "bfloat16"),
    Contender("PyTorch bfloat16", PyTorchOnGPU, "bfloat16", ("torch",)),
)


def benchmark_gpu(
    networks: Sequence[str] = NETWORKS,
    *,
    sizes: Sequence[tuple[int, int]] = SIZES,
    batches: Sequence[int] = BATCHES,
    rounds: int = ROUNDS,
    steps: int = STEPS,
    progress: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Measures milliseconds per step of rlsp_tf and of PyTorch on a GPU, in bfloat16 with the same weights.

    Inputs lie in the memory of the GPU when a turn begins, outputs stay there, and a turn ends when the last
    one has been computed. Before timing, each contender upscales a clip and has to agree with rlsp_tf in
    float32, as in :func:`rlsp_tf.benchmarks.step.benchmark_step`. Weights are random. Without a GPU the CPU
    computes, and the result says so.

    Args:
        networks: names of networks as in the paper.
        sizes: widths and heights of low-resolution frames.
        batches: numbers of clips of which a step computes a frame each.
        rounds: number of rounds.
        steps: steps of each contender in each round.
        progress: show on standard error how far it is.
        command: the command line to record in the result.

    Returns:
        :func:`rlsp_tf.benchmarks.harness.heading`, ``"device"``, ``"steps"``, ``"warm_up"``,
        ``"left_out": [{"name", "reason"}]``, and for every network::

            {"network", "contenders": [{"name", "precision", "difference", "cost"}],
             "cells": [{"width", "height", "batch", "ratio": to PyTorch, or None,
                        "times": {name: {"milliseconds": median of the rounds, "rounds": [...]}}}],
             "left_out": [{"name", "reason"}]: what failed, such as for lack of memory}

    Raises:
        RLSPError: if a contender does not start or does not agree.
    """
    configs = [RLSPConfig.from_name(name) for name in networks]
    present = [each for each in CONTENDERS if all(map(installed, each.packages))]
    result = heading("gpu", command, [package for each in present for package in each.packages]) | {
        "device": None,
        "steps": steps,
        "warm_up": WARM_UP,
        "left_out": [
            {"name": each.name, "reason": f"{' and '.join(each.packages)} not installed"}
            for each in CONTENDERS
            if each not in present
        ],
        "networks": [],
    }
    for config in configs:
        with tempfile.TemporaryDirectory() as folder:
            sheet = _measure(config, Path(folder), present, sizes, batches, rounds, steps, progress)
        result["device"] = sheet.pop("device")
        result["networks"].append(sheet)
    return result


def _measure(
    config: RLSPConfig,
    folder: Path,
    contenders: Sequence[Contender],
    sizes: Sequence[tuple[int, int]],
    batches: Sequence[int],
    rounds: int,
    steps: int,
    progress: bool,
) -> dict[str, Any]:
    """Measures one network; see :func:`benchmark_gpu`."""
    Worker("preparing", Preparation, config, folder, None).close()
    clip = np.load(folder / "clip.npy")
    sheet: dict[str, Any] = {"network": config.name, "contenders": [], "cells": [], "left_out": []}
    workers: dict[str, Worker] = {}
    try:
        for contender in (REFERENCE, *contenders):
            worker = Worker(contender.name, contender.contestant, config, folder, None, contender.precision)
            workers[contender.name] = worker
            output = worker.call("clip", clip)
            if contender is REFERENCE:
                reference = output
                sheet["device"] = worker.about["device"]
                workers.pop(contender.name).close()
            else:
                sheet["contenders"].append(compare_outputs(contender, output, reference))
        for width, height in sizes:
            for batch in batches:
                for name in list(workers):
                    try:
                        workers[name].call("begin", height, width, batch)
                    except RLSPError as error:
                        reason = f"from {batch} x {width}x{height} on: {error}"
                        sheet["left_out"].append({"name": name, "reason": reason})
                        workers.pop(name).close()
                turns = take_turns(list(workers.values()), rounds, steps, WARM_UP, progress=progress)
                times = {name: median_of(each) for name, each in zip(workers, turns, strict=True)}
                own, other = (times.get(each.name) for each in CONTENDERS)
                against = ratio(other["rounds"], own["rounds"]) if own and other else None
                cell = {"width": width, "height": height, "batch": batch, "ratio": against, "times": times}
                sheet["cells"].append(cell)
    finally:
        for worker in workers.values():
            worker.close()
    return sheet
