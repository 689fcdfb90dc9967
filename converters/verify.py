"""Proof that a converted model is the authors' network: same weights, same outputs as their own graph."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from converters.tf1 import config_of, data_of, prefix_of, read_shapes, read_tensors, variables_of
from rlsp_tf.config import RLSPConfig
from rlsp_tf.errors import RLSPError
from rlsp_tf.model import load_model, rlsp_layer

STEPS = 3
"""Recurrent steps, so that the state made from a state is compared too."""
SIZES = ((24, 40), (17, 23))
"""Heights and widths of the low-resolution frames: blocks of eight, and primes."""
LIMIT = 1e-3
"""Largest difference of outputs in grey levels, two to three times what summing in another order makes."""

OPERATIONS = {
    *("Add", "BiasAdd", "ConcatV2", "Const", "Conv2D", "DepthToSpace", "Fill", "Identity", "Mul"),
    *(
        "Placeholder",
        "RealDiv",
        "Relu",
        "Shape",
        "SpaceToDepth",
        "StridedSlice",
        "Sum",
        "Unpack",
        "VariableV2",
    ),
}
"""What RLSP is made of. A graph is a program: one that does anything else, write files say, is not run."""


def verify(prefix: str | os.PathLike[str], model_path: str | os.PathLike[str]) -> list[str]:
    """Compares a ``.keras`` file with the authors' checkpoint that it was made of.

    Compared are names and shapes with the ``.index``, weights with the ``.data`` bit for bit, and, on
    random clips, outputs with those of the graph in the ``.meta`` for the same weights. Both networks
    run in float32 on the CPU.

    Args:
        prefix: of the checkpoint, or the path of one of its files.
        model_path: the ``.keras`` file, or the name of a weight set.

    Returns:
        Sentences that say what was compared, with the numbers, and what was not, for want of a file.

    Raises:
        RLSPError: if anything differs (outputs by more than :data:`LIMIT`), or if a file is missing
            without which nothing can be compared, or is damaged.
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
    meta = prefix.with_name(f"{prefix.name}.meta")
    if not meta.is_file():
        return [f"outputs: not compared, there is no {meta}, which holds the authors' graph."]
    random = np.random.default_rng(0)
    clips = [random.integers(0, 256, (STEPS, *size, 3)).astype(np.float32) for size in SIZES]
    report = []
    for clip, theirs in zip(clips, run_authors_graph(meta, config, weights, clips), strict=True):
        ours = model.predict(clip[None], verbose=0)[0]
        difference = float(np.max(np.abs(ours - theirs)))
        height, width = clip.shape[1:3]
        measured = f"{STEPS} steps of {width}x{height} noise differ by at most {difference:.1e} grey levels"
        # Not "difference > LIMIT", which is false for NaN.
        if not difference <= LIMIT:
            raise RLSPError(
                f"{model_path}: {measured} from the graph in {meta}, more than {LIMIT}; report this as a bug."
            )
        report.append(f"outputs: {measured} from the authors' graph (limit {LIMIT:.0e}).")
    return report


def run_authors_graph(
    meta: Path, config: RLSPConfig, weights: Mapping[str, np.ndarray], clips: Iterable[np.ndarray]
) -> list[np.ndarray]:
    """Runs the inference graph of a ``.meta`` file of the authors, step by step, from zero states.

    Args:
        meta: the file.
        config: the shape of the network.
        weights: by the names that they have in the graph.
        clips: float32 ``(T, H, W, 3)`` each, 0..255.

    Returns:
        ``(T, scale*H, scale*W, 1)`` float32 for every clip, luma 16..235, not rounded.

    Raises:
        RLSPError: if the file is damaged, holds another graph, or does not go with the weights.
    """
    serialized = meta.read_bytes()
    cpu = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
    # A weight's value leaves its variable through this operation; where it is fed, the variable is not asked.
    values = {f"{name}/read:0": weight for name, weight in weights.items()}
    try:
        graph, (frames, state, feedback), results = _import_graph(serialized, set(weights))
        with tf.compat.v1.Session(graph=graph, config=cpu) as session:
            sequences = []
            for clip in clips:
                length, height, width, _ = clip.shape
                size = (1, config.scale * height, config.scale * width, 1)
                output = np.zeros(size, np.float32)
                hidden = np.zeros((1, height, width, config.hidden_channels), np.float32)
                outputs = []
                for t in range(length):
                    window = clip[None, [max(t - 1, 0), t, min(t + 1, length - 1)]]
                    fed = {frames: window, state: hidden, feedback: output}
                    output, hidden = session.run(results, values | fed)
                    if output.shape != size:
                        raise ValueError(f"its output has shape {output.shape}")
                    outputs.append(output)
                sequences.append(np.concatenate(outputs))
            return sequences
    except Exception as error:  # what TensorFlow and protobuf raise for a broken graph has no common type
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RLSPError(
            f"{meta}: does not hold the authors' graph for these weights, or is damaged ({reason}); "
            "copy or download it again."
        ) from error


def _import_graph(serialized: bytes, weights: set[str]) -> tuple[Any, list[str], list[str]]:
    """The graph of one step, the names of its inputs (frames, state, feedback) and outputs (frame, state)."""
    contents = tf.compat.v1.MetaGraphDef.FromString(serialized)
    names = ("c_input", "c_state_input", "c_fb_input", "c_output", "c_state_output")
    tensors = [contents.collection_def[name].node_list.value[0] for name in names]
    graph_def = _upstream(contents.graph_def, tensors)
    if foreign := {node.op for node in graph_def.node} - OPERATIONS:
        raise ValueError(f"it has {', '.join(sorted(foreign))}")
    if (found := {node.name for node in graph_def.node if node.op == "VariableV2"}) != weights:
        raise ValueError(f"its weights are {', '.join(sorted(found))}")
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
    return graph, tensors[:3], tensors[3:]


def _upstream(graph_def: Any, tensors: Iterable[str]) -> Any:
    """The part of a graph that these tensors are computed by."""
    nodes = {node.name: node for node in graph_def.node}
    needed: dict[str, Any] = {}
    waiting = list(tensors)
    while waiting:
        name = re.sub(r"^\^|:\d+$", "", waiting.pop())
        if name not in needed:
            needed[name] = nodes[name]
            waiting += nodes[name].input
    return tf.compat.v1.GraphDef(node=needed.values(), versions=graph_def.versions)
