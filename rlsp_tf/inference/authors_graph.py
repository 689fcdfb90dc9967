"""Runs the inference graph of the paper's authors, from the ``.meta`` file of a TensorFlow 1 checkpoint."""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rlsp_tf.errors import RLSPError, first_line
from rlsp_tf.network.authors_layout import config_of
from rlsp_tf.network.config import RLSPConfig

OPERATIONS = {
    *("Add", "BiasAdd", "ConcatV2", "Const", "Conv2D", "DepthToSpace", "Fill", "Identity", "Mul"),
    *("Placeholder", "RealDiv", "Relu", "Shape", "SpaceToDepth", "StridedSlice", "Sum", "Unpack"),
    "VariableV2",
}
"""The operations that the authors' graphs consist of. A graph is a program, so one with any other operation,
which might write files, is refused."""


class AuthorsGraph:
    """One step of the authors' network on the CPU; as in their code, the caller keeps the state.

    Args:
        meta: path of the ``.meta`` file.
        config: the network's :class:`rlsp_tf.RLSPConfig`.
        weights: float32 arrays by their names in the graph, such as ``"layer0/kernel"``.

    Raises:
        RLSPError: if the file is damaged, holds another graph, or does not fit the weights.
    """

    def __init__(self, meta: Path, config: RLSPConfig, weights: Mapping[str, np.ndarray]) -> None:
        self._meta, self._config = meta, config
        serialized = meta.read_bytes()
        cpu = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
        with self._refusing():
            graph_def, tensors = _step_of(serialized)
            if (found := set(_variables(graph_def))) != set(weights):
                raise ValueError(f"its weights are {', '.join(sorted(found))}")
            self._inputs, self._outputs = tensors[:3], tensors[3:]
            with tf.Graph().as_default() as graph:
                tf.graph_util.import_graph_def(graph_def, name="")
                values = {name: tf.compat.v1.placeholder(tf.float32, weights[name].shape) for name in found}
                assign = [
                    tf.compat.v1.assign(graph.get_tensor_by_name(f"{name}:0"), value)
                    for name, value in values.items()
                ]
            self._session = tf.compat.v1.Session(graph=graph, config=cpu)
            self._session.run(assign, {values[name]: weight for name, weight in weights.items()})

    def initial_state(self, height: int, width: int) -> list[np.ndarray]:
        """Returns the state that a clip begins with: zeros for the hidden state and for the previous output.

        Args:
            height: height of the low-resolution frames.
            width: width of the low-resolution frames.
        """
        scale = self._config.scale
        shapes = (height, width, self._config.hidden_channels), (scale * height, scale * width, 1)
        return [np.zeros((1, *shape), np.float32) for shape in shapes]

    def __call__(self, window: np.ndarray, state: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Computes one frame.

        Args:
            window: float32 ``(1, 3, H, W, 3)``: the previous, the present and the next frame, RGB 0..255.
            state: what :meth:`initial_state` or the previous step returned.

        Returns:
            The large frame, float32 ``(1, scale*H, scale*W, 1)``, luma 16..235, not rounded; and the next
            state.

        Raises:
            RLSPError: if the graph is damaged, or is not the authors' graph for these weights.
        """
        with self._refusing():
            frame, hidden = self._session.run(
                self._outputs, dict(zip(self._inputs, [window, *state], strict=True))
            )
            if frame.shape != state[1].shape:
                raise ValueError(f"its output has shape {frame.shape}")
        return frame, [hidden, frame]

    def close(self) -> None:
        """Closes the TensorFlow session and frees its memory."""
        self._session.close()

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        """Turns any exception of the graph into an RLSPError of one sentence."""
        try:
            yield
        except Exception as error:  # what TensorFlow and protobuf raise for a broken graph has no common type
            raise RLSPError(
                f"{self._meta}: does not hold the authors' graph for these weights, or is damaged "
                f"({first_line(error)}); copy or download it again."
            ) from error


def find_graphs(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Finds the authors' ``.meta`` files in a folder.

    Returns:
        Their paths by the names of their networks, such as ``"7-64"``.

    Raises:
        RLSPError: if there is none, or one is damaged or holds another graph.
    """
    found = {}
    for meta in sorted(Path(folder).glob("*.meta")):
        try:
            shapes = _variables(_step_of(meta.read_bytes())[0])
            config = config_of({name: tuple(shape) for name, shape in shapes.items()}, meta)
        except Exception as error:  # the same as in AuthorsGraph
            raise RLSPError(
                f"{meta}: holds no graph of the paper's authors, or is damaged; copy or download it again."
            ) from error
        if config == RLSPConfig.from_name(config.name):
            found[config.name] = meta
    if not found:
        raise RLSPError(
            f"{os.fspath(folder)}: holds no .meta file of the paper's authors; give the folder of their "
            "checkpoints."
        )
    return found


def read_weights(meta: Path) -> dict[str, np.ndarray] | None:
    """Reads the weights beside a ``.meta`` file.

    Returns:
        Arrays by their names in the graph, or ``None`` if there are no weights beside the file.

    Raises:
        RLSPError: if the weights are damaged.
    """
    prefix = meta.with_suffix("")
    if not prefix.with_name(f"{prefix.name}.data-00000-of-00001").is_file():
        return None
    try:
        reader = tf.train.load_checkpoint(os.fspath(prefix))
        return {name: reader.get_tensor(name) for name in _variables(_step_of(meta.read_bytes())[0])}
    except Exception as error:  # the same as in AuthorsGraph
        raise RLSPError(f"{prefix}: a damaged checkpoint; copy or download it again.") from error


def _step_of(serialized: bytes) -> tuple[Any, list[str]]:
    """Returns the graph of one step and the names of its tensors: frames, state, feedback; frame, state."""
    contents = tf.compat.v1.MetaGraphDef.FromString(serialized)
    names = ("c_input", "c_state_input", "c_fb_input", "c_output", "c_state_output")
    tensors = [contents.collection_def[name].node_list.value[0] for name in names]
    graph_def = _upstream(contents.graph_def, tensors)
    if foreign := {node.op for node in graph_def.node} - OPERATIONS:
        raise ValueError(f"it has {', '.join(sorted(foreign))}")
    return graph_def, tensors


def _variables(graph_def: Any) -> dict[str, list[int]]:
    """Returns the shapes of a graph's weights by their names."""
    nodes = (node for node in graph_def.node if node.op == "VariableV2")
    return {node.name: [side.size for side in node.attr["shape"].shape.dim] for node in nodes}


def _upstream(graph_def: Any, tensors: Iterable[str]) -> Any:
    """Returns the part of a graph that computes the given tensors."""
    nodes = {node.name: node for node in graph_def.node}
    needed: dict[str, Any] = {}
    waiting = list(tensors)
    while waiting:
        name = re.sub(r"^\^|:\d+$", "", waiting.pop())
        if name not in needed:
            needed[name] = nodes[name]
            waiting += nodes[name].input
    return tf.compat.v1.GraphDef(node=needed.values(), versions=graph_def.versions)
