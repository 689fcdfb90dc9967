"""Times a step of the network, compared with the authors' graph and with other libraries."""

import contextlib
import math
import os
import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlsp_tf.benchmarks.contenders import AUTHORS, OTHERS, OURS, Contender
from rlsp_tf.benchmarks.harness import Worker, heading, installed, ratio, take_turns
from rlsp_tf.errors import RLSPError, UsageError
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.pixels.degradation import degrade
from rlsp_tf.pixels.metrics import cost
from rlsp_tf.pixels.scene import render_scene
from rlsp_tf.system.backends import chosen_backend, environment_for

NETWORKS = ("7-48", "7-64", "7-128")
SIZE = (480, 270)
"""Width and height of low-resolution frames; the output is Full HD."""
ROUNDS = 7
STEPS = 10
"""Steps of each contender in a round."""
WARM_UP = 3
"""Additional steps in every round that do not count: threads wake up and caches fill."""

CLIP_SIZE, CLIP_STEPS = (44, 30), 5
"""Size and length of the clip on which contenders have to agree, from the scene of ``rlsp demo``."""
LARGEST_DIFFERENCE = 1e-3
"""Largest difference from rlsp_tf in float32 that others in float32 may have, in grey levels."""
COSTS = {"bfloat16": 0.05, "int8": 0.5}
"""Largest cost of reduced precision, in dB; see :func:`rlsp_tf.pixels.metrics.cost`."""
SAME_QUALITY = 0.01
"""Contenders whose costs differ by no more than this, in dB, have the same quality."""


def benchmark_step(
    networks: Sequence[str] = NETWORKS,
    *,
    authors: str | os.PathLike[str] | None = None,
    sizes: Sequence[tuple[int, int]] = (),
    size: tuple[int, int] = SIZE,
    rounds: int = ROUNDS,
    steps: int = STEPS,
    warm_up: int = WARM_UP,
    others: Iterable[Contender] = OTHERS,
    progress: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Measures milliseconds per step of rlsp_tf, the authors' graph, and other libraries.

    A step takes the low-resolution frames around the current one and the state of the previous step, and
    returns the luma of a frame: the whole network, without colour and files. All contenders have the same
    weights: the authors' if they are published, otherwise random ones. Before timing, each contender
    upscales a clip and has to agree with rlsp_tf in float32: within ``LARGEST_DIFFERENCE`` in float32, and
    at a cost of at most ``COSTS`` in other precisions. Each contender has a process of its own, may use all
    cores that this process may use, and rests while the others work. Only the CPU is used.

    Args:
        networks: names of networks as in the paper.
        authors: folder of the authors' checkpoints; without it their graph is left out.
        sizes: more widths and heights of low-resolution frames at which rlsp_tf alone is timed.
        size: width and height of low-resolution frames at which all are timed.
        rounds: number of rounds.
        steps: steps of each contender in each round.
        warm_up: steps at the beginning of each round that do not count.
        others: contenders beside rlsp_tf and the authors' graph; those whose packages are not installed
            are left out.
        progress: show on standard error how far it is.
        command: the command line to record in the result.

    Returns:
        :func:`rlsp_tf.benchmarks.harness.heading`, ``"size"``, ``"steps"``,
        ``"warm_up"``, ``"limits"``, ``"left_out": [{"name", "reason"}]``, and for every network::

            {"network", "weights": their origin,
             "contenders": [{"name", "precision", "milliseconds": median of the rounds, "rounds": [...],
                             "difference": largest, in grey levels, "cost": in dB}],
             "left_out": [{"name", "reason"}],
             "ratios": [{"of", "to", "ratio"}]: how many times as fast rlsp_tf is, median over the rounds;
                       to the authors' graph, and to the fastest other with at least the same quality,
             "sizes": [{"width", "height", "name", "milliseconds", "rounds"}]}

    Raises:
        RLSPError: if a contender fails or does not agree, or the authors' files are damaged.
    """
    configs = [RLSPConfig.from_name(name) for name in networks]
    if authors and chosen_backend() != "tensorflow":
        raise UsageError(
            f"the authors' graph runs on TensorFlow alone, and KERAS_BACKEND is {chosen_backend()}; leave "
            "one of them out."
        )
    present, left_out = [], []
    for contender in others:
        if contender.prepared and chosen_backend() != "tensorflow":
            left_out.append({"name": contender.name, "reason": "only TensorFlow can prepare it"})
        elif missing := [package for package in contender.packages if not installed(package)]:
            left_out.append({"name": contender.name, "reason": f"{' and '.join(missing)} not installed"})
        else:
            present.append(contender)
    packages = dict.fromkeys(package for contender in present for package in contender.packages)
    result = heading("step", command, packages) | {
        "size": list(size),
        "steps": steps,
        "warm_up": warm_up,
        "limits": {"float32": f"{LARGEST_DIFFERENCE} grey levels"}
        | {name: f"{db} dB" for name, db in COSTS.items()},
        "left_out": left_out,
        "networks": [],
    }
    for config in configs:
        with _Contest(config, authors, present) as contest:
            own, sheet = [], contest.sheet
            for contender, worker in contest.workers.items():
                worker.call("begin", *reversed(size))
                if contender in OURS:
                    own.append(worker)
            turns = take_turns(list(contest.workers.values()), rounds, steps, warm_up, progress=progress)
            for entry, times in zip(sheet["contenders"], turns, strict=True):
                entry |= median_of(times)
            sheet["ratios"] = _ratios(sheet["contenders"])
            for width, height in sizes:
                for worker in own:
                    worker.call("begin", height, width)
                turns = take_turns(own, rounds, steps, warm_up, progress=progress)
                sheet["sizes"] += [
                    {"width": width, "height": height, "name": worker.name} | median_of(times)
                    for worker, times in zip(own, turns, strict=True)
                ]
            result["networks"].append(sheet)
    return result


def agreement(entry: Mapping[str, Any]) -> str:
    """Describes in words how a contender agrees with rlsp_tf in float32."""
    if entry["precision"] == "float32":
        return f"at most {entry['difference']:.1e} grey levels apart"
    return f"costs {entry['cost']:.3f} dB"


class _Contest(contextlib.ExitStack):
    """All contenders for one network that agree, each in a process of its own.

    Args:
        config: configuration of the network.
        authors: folder of the authors' checkpoints.
        others: contenders beside rlsp_tf and the authors' graph.

    Attributes:
        workers: the workers by contender, rlsp_tf first.
        sheet: the network's part of the result of :func:`benchmark_step`, without times.
    """

    def __init__(
        self, config: RLSPConfig, authors: str | os.PathLike[str] | None, others: Sequence[Contender]
    ) -> None:
        super().__init__()
        folder = Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.sheet: dict[str, Any] = {
            "network": config.name,
            "contenders": [],
            "left_out": [],
            "ratios": [],
            "sizes": [],
        }
        self.workers: dict[Contender, Worker] = {}
        try:
            preparation = Worker("preparing", Preparation, config, folder, authors)
            preparation.close()
            meta = preparation.about["meta"]
            self.sheet["weights"] = preparation.about["weights"]
            if meta is None:
                reason = "give --authors" if authors is None else f"no graph of it in {os.fspath(authors)}"
                self.sheet["left_out"].append({"name": AUTHORS.name, "reason": reason})
            clip = np.load(folder / "clip.npy")
            for contender in (*OURS, *([AUTHORS] if meta else ()), *others):
                try:
                    with environment_for(contender.precision):
                        worker = Worker(
                            contender.name, contender.contestant, config, folder, meta, contender.precision
                        )
                except RLSPError as error:
                    if contender not in OURS or contender.precision != "int8":
                        raise
                    # rlsp_tf itself refuses 8 bits if they cost too much, or gain nothing.
                    reason = str(error).removeprefix(f"{contender.name}: ").rstrip(".")
                    self.sheet["left_out"].append({"name": contender.name, "reason": reason})
                    continue
                self.callback(worker.close)
                output = worker.call("clip", clip)
                if not self.workers:
                    reference = output
                entry = compare_outputs(contender, output, reference)
                if contender.precision == "int8" and entry["cost"] > COSTS["int8"]:
                    reason = f"costs {entry['cost']:.3f} dB, more than {COSTS['int8']}"
                    self.sheet["left_out"].append({"name": contender.name, "reason": reason})
                    worker.close()
                    continue
                self.workers[contender] = worker
                self.sheet["contenders"].append(entry)
        except BaseException:
            self.close()
            raise


def compare_outputs(contender: Contender, output: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
    """Compares an output with that of rlsp_tf in float32.

    Returns:
        An entry of ``"contenders"``, see :func:`benchmark_step`, without times.

    Raises:
        RLSPError: if the output differs too much, unless it is in 8 bits.
    """
    if output.shape != reference.shape:
        raise RLSPError(f"{contender.name}: its output has shape {output.shape}, not {reference.shape}.")
    difference = np.abs(output - reference)
    entry: dict[str, Any] = {
        "name": contender.name,
        "precision": contender.precision,
        "difference": float(difference.max()),
        "cost": cost(difference),
    }
    exact = contender.precision == "float32"
    found, limit = (
        (entry["difference"], LARGEST_DIFFERENCE) if exact else (entry["cost"], COSTS[contender.precision])
    )
    # The cost of 8 bits depends on the weights, so a large one is not an error.
    lossy = contender.precision == "int8" and math.isfinite(found)
    # Not "found > limit", which would be false for NaN.
    if not (found <= limit or lossy):
        unit = "grey levels" if exact else "dB"
        raise RLSPError(
            f"{contender.name}: differs from rlsp_tf in float32 by {found:.3g} {unit} where {limit} are "
            "allowed, so its time would mean nothing. Please report this as a bug."
        )
    return entry


def median_of(times: Sequence[float]) -> dict[str, Any]:
    """Returns ``{"milliseconds": median, "rounds"}`` of the times of a contender."""
    return {"milliseconds": statistics.median(times), "rounds": list(times)}


def _ratios(contenders: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Ratios of rlsp_tf to the authors' graph, and to the fastest other with at least the same quality."""
    names = {contender.name for contender in OURS}
    others = [each for each in contenders if each["name"] not in names]
    ratios = []
    for own in contenders:
        if own["name"] in names:
            rest = [
                each
                for each in others
                if each["name"] != AUTHORS.name and each["cost"] <= own["cost"] + SAME_QUALITY
            ]
            rivals = [each for each in others if each["name"] == AUTHORS.name]
            rivals += sorted(rest, key=lambda each: each["milliseconds"])[:1]
            ratios += [
                {"of": own["name"], "to": rival["name"], "ratio": ratio(rival["rounds"], own["rounds"])}
                for rival in rivals
            ]
    return ratios


class Preparation:
    """Writes the files of the contenders; see :mod:`rlsp_tf.benchmarks.contenders`.

    Args:
        config: configuration of the network.
        folder: folder to write to.
        authors: folder of the authors' checkpoints.

    Attributes:
        about: ``{"meta", "weights"}``: path of the authors' graph of this network, and origin of the weights.

    Raises:
        RLSPError: if the authors' files are damaged.
    """

    def __init__(self, config: RLSPConfig, folder: Path, authors: str | os.PathLike[str] | None) -> None:
        from rlsp_tf.inference.backend import without_gpu

        without_gpu()
        from rlsp_tf.network.model import build_model, rlsp_layer

        meta = weights = None
        if authors:
            from rlsp_tf.inference.authors_graph import find_graphs, read_weights

            meta = find_graphs(authors).get(config.name)
            weights = read_weights(meta) if meta else None
        origin = f"the authors' ({meta.stem})" if meta and weights else "random"
        self.about = {"meta": meta, "weights": origin}
        model = build_model(config, precision="float32")
        rng = np.random.default_rng(0)
        arrays: dict[str, Any] = {}
        for layer in rlsp_layer(model).cell.convolutions:
            values = [
                random_weight(variable.shape, rng) if weights is None else weights[f"{layer.name}/{part}"]
                for part, variable in (("kernel", layer.kernel), ("bias", layer.bias))
            ]
            layer.set_weights(values)
            arrays |= {f"{layer.name}/kernel": values[0], f"{layer.name}/bias": values[1]}
        model.save(folder / "model.keras")
        np.savez(folder / "weights.npz", **arrays)
        width, height = CLIP_SIZE
        hr = np.stack(list(render_scene(CLIP_STEPS, height * config.scale, width * config.scale)))
        np.save(folder / "clip.npy", degrade(hr, config.scale))
        if installed("onnx"):
            from rlsp_tf.exporting.onnx_graph import write_onnx

            write_onnx(model, folder / "step.onnx")
        if chosen_backend() != "tensorflow":
            return
        from rlsp_tf.exporting.export import step_inputs
        from rlsp_tf.exporting.litert import write_litert

        examples = list(step_inputs(model, height, width))
        columns: dict[str, Any] = {
            name: np.concatenate([each[name] for each in examples]) for name in examples[0]
        }
        np.savez(folder / "inputs.npz", **columns)
        for precision in ("float32", "int8"):
            file = folder / f"{precision}.tflite"
            write_litert(model, file, precision=precision, size=None, examples=lambda: examples)


def random_weight(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Returns a random kernel or bias for which a signal of 0..255 does not grow.

    Every layer halves the power of rectified features, so the last one adds about ten grey levels to the
    residual, as in a trained network.
    """
    spread = 1 / math.sqrt(math.prod(shape[:-1])) if len(shape) == 4 else 1.0
    return rng.normal(0, spread, shape).astype(np.float32)
