"""Checks that a converted model is the authors' network: same weights, and same outputs as their graph."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from rlsp_tf.converters.tf1 import data_of, prefix_of, read_shapes, read_tensors, variables_of
from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.authors_graph import AuthorsGraph
from rlsp_tf.network.authors_layout import config_of
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.network.model import rlsp_layer
from rlsp_tf.network.weights import load_model

STEPS = 3
"""Number of recurrent steps; several, so that the state is compared, too."""
SIZES = ((24, 40), (17, 23))
"""Heights and widths of the low-resolution frames: once multiples of eight, once primes."""
LARGEST_DIFFERENCE = 1e-3
"""Largest difference of outputs in grey levels. Summing in another order causes a half to a third of it."""


def verify(prefix: str | os.PathLike[str], model_path: str | os.PathLike[str]) -> list[str]:
    """Compares a ``.keras`` file with the authors' checkpoint that it was made from.

    Names and shapes are compared with the ``.index`` file, weights with the ``.data`` file bit for bit, and
    outputs on random clips with those of the graph in the ``.meta`` file. Both networks run in float32 on the
    CPU.

    Args:
        prefix: prefix of the checkpoint, or the path of one of its files.
        model_path: path of the ``.keras`` file, or the name of a weight set.

    Returns:
        Sentences that say what was compared, with the numbers, and what was not because a file is missing.

    Raises:
        RLSPError: if anything differs (outputs by more than :data:`LARGEST_DIFFERENCE`), if there is no
            ``.index`` file, or if a file is damaged.
    """
    prefix = prefix_of(prefix)
    shapes = read_shapes(prefix)
    config = config_of(shapes, prefix)
    with keras.device("cpu:0"):
        model = load_model(model_path, precision="float32")
        if (found := rlsp_layer(model).config) != config:
            raise RLSPError(
                f"{model_path}: another network than {prefix} ({found}, not {config}); convert again."
            )
        weights = {name: keras.ops.convert_to_numpy(v) for name, v in variables_of(model).items()}
        report = [f"names and shapes: all {len(weights)} weights of a {config.name} network agree."]
        report.append(_compare_weights(prefix, weights, model_path))
        return report + _compare_outputs(prefix, config, weights, model, model_path)


def _compare_weights(
    prefix: Path, weights: Mapping[str, np.ndarray], model_path: str | os.PathLike[str]
) -> str:
    """Compares weights bit for bit; returns a sentence of the report."""
    if not data_of(prefix).is_file():
        return f"weights: not compared, there is no {data_of(prefix)}."
    tensors = read_tensors(prefix)
    different = [name for name, weight in weights.items() if weight.tobytes() != tensors[name].tobytes()]
    if different:
        raise RLSPError(
            f"{model_path}: weights differ from {prefix} ({', '.join(different)}); convert it again."
        )
    return f"weights: all {sum(weight.size for weight in weights.values())} numbers agree bit for bit."


def _compare_outputs(
    prefix: Path,
    config: RLSPConfig,
    weights: Mapping[str, np.ndarray],
    model: keras.Model,
    model_path: str | os.PathLike[str],
) -> list[str]:
    """Compares outputs with those of the authors' graph; returns sentences of the report."""
    meta = prefix.with_name(f"{prefix.name}.meta")
    if not meta.is_file():
        return [f"outputs: not compared, there is no {meta}, which holds the authors' graph."]
    random = np.random.default_rng(0)
    clips = [random.integers(0, 256, (STEPS, *size, 3)).astype(np.float32) for size in SIZES]
    report = []
    with contextlib.closing(AuthorsGraph(meta, config, weights)) as graph:
        outputs = [_run(graph, clip) for clip in clips]
    for clip, theirs in zip(clips, outputs, strict=True):
        ours = model.predict(clip[None], verbose=0)[0]
        difference = float(np.max(np.abs(ours - theirs)))
        height, width = clip.shape[1:3]
        measured = f"{STEPS} steps of {width}x{height} noise differ by at most {difference:.1e} grey levels"
        # Not "difference > LARGEST_DIFFERENCE", which is false for NaN.
        if not difference <= LARGEST_DIFFERENCE:
            raise RLSPError(
                f"{model_path}: {measured} from the graph in {meta}, more than {LARGEST_DIFFERENCE}; report "
                "this as a bug."
            )
        report.append(f"outputs: {measured} from the authors' graph (limit {LARGEST_DIFFERENCE:.0e}).")
    return report


def _run(graph: AuthorsGraph, clip: np.ndarray) -> np.ndarray:
    """Upscales a clip ``(T, H, W, 3)`` to ``(T, scale*H, scale*W, 1)`` with the authors' graph."""
    length, height, width, _ = clip.shape
    state = graph.initial_state(height, width)
    outputs = []
    for t in range(length):
        output, state = graph(clip[None, [max(t - 1, 0), t, min(t + 1, length - 1)]], state)
        outputs.append(output)
    return np.concatenate(outputs)
