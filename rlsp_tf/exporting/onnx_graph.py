"""Writes one step of RLSP as an ONNX graph.

The graph is built with ONNX's own helper rather than converted from TensorFlow: it is 25 nodes that follow
the equation in :mod:`rlsp_tf.network.cell` line by line, and converters only know older opsets.
"""

import os
from typing import Any

import keras
import numpy as np

from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.exported import INPUTS, OUTPUTS
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.network.model import rlsp_layer
from rlsp_tf.pixels.color import LUMA_OFFSET, PAPER_WEIGHTS

OPSET = 21
"""The newest opset of ONNX Runtime 1.20, which is the oldest version for NumPy 2 and Python 3.13."""


def write_onnx(model: keras.Model, file: str | os.PathLike[str], size: tuple[int, int] | None = None) -> None:
    """Writes one step in float32, with the names and shapes of :mod:`rlsp_tf.inference.step`.

    The batch size is always open.

    Args:
        model: a model as :func:`rlsp_tf.load_model` returns it.
        file: path of the file to write.
        size: ``(height, width)`` of the low-resolution frames to fix; ``None`` leaves it open.

    Raises:
        RLSPError: if onnx is not installed.
    """
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise RLSPError(
            "ONNX files need the package onnx; install it by: pip install 'rlsp_tf[onnx]'."
        ) from error
    config = rlsp_layer(model).config
    nodes: list[Any] = []
    constants: list[Any] = []

    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    def convolve(name: str, features: str, kernel: np.ndarray, bias: np.ndarray) -> str:
        weights = constant(f"{name}/kernel", kernel.transpose(3, 2, 0, 1))
        pads = [side // 2 for side in kernel.shape[:2]] * 2
        return node("Conv", [features, weights, constant(f"{name}/bias", bias)], name, pads=pads)

    # ONNX convolves with channels first; inputs and outputs have channels last, as everywhere else.
    window, *state = (node("Transpose", [name], f"{name}/chw", perm=[0, 3, 1, 2]) for name in INPUTS)
    features = node("Concat", [window, *state], "features", axis=1)
    *trunk, to_hidden, to_output = rlsp_layer(model).cell.convolutions
    for layer in trunk:
        features = node("Relu", [convolve(layer.name, features, *layer.get_weights())], f"{layer.name}/relu")
    hidden = node("Relu", [convolve(to_hidden.name, features, *to_hidden.get_weights())], "hidden_next/chw")
    refined = convolve(to_output.name, features, *to_output.get_weights())
    residual = convolve("residual", window, *_residual(config))
    feedback = node("Add", [refined, residual], "feedback_next/chw")
    frame = node("DepthToSpace", [feedback], "frame/chw", blocksize=config.scale, mode="DCR")
    # No output may have the name of an input, so new states are called hidden_next and feedback_next.
    for source, target in zip((frame, hidden, feedback), _next(OUTPUTS), strict=True):
        node("Transpose", [source], target, perm=[0, 2, 3, 1])

    height, width = size or ("height", "width")
    large = tuple(side * config.scale for side in size) if size else ("frame_height", "frame_width")
    sides = {"frame": large}
    channels = {
        "window": 3 * config.window,
        "hidden": config.hidden_channels,
        "feedback": config.feedback_channels,
        "frame": config.output_channels,
    }

    def value(name: str, of: str) -> Any:
        shape = ("batch", *sides.get(of, (height, width)), channels[of])
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        model.name,
        [value(name, name) for name in INPUTS],
        [value(name, of) for name, of in zip(_next(OUTPUTS), OUTPUTS, strict=True)],
        constants,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="rlsp_tf")
    proto.ir_version = 10  # the version that belongs to OPSET
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, os.fspath(file))


def _next(names: tuple[str, ...]) -> list[str]:
    """Returns what outputs are called in the graph."""
    return [name if name == "frame" else f"{name}_next" for name in names]


def _residual(config: RLSPConfig) -> tuple[np.ndarray, np.ndarray]:
    """Returns the residual as a convolution of the window: kernel ``(1, 1, in, out)`` and bias."""
    present = slice(3 * config.frames_before, 3 * config.frames_before + 3)
    kernel = np.zeros((1, 1, 3 * config.window, config.feedback_channels), np.float32)
    if config.output == "rgb":
        kernel[0, 0, present] = np.tile(np.eye(3), config.scale**2)
        return kernel, np.zeros(config.feedback_channels, np.float32)
    kernel[0, 0, present] = np.array(PAPER_WEIGHTS)[:, None]
    return kernel, np.full(config.feedback_channels, LUMA_OFFSET, np.float32)
