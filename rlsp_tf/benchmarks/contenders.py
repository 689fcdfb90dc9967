"""The contenders of the benchmark of steps: one network in different libraries, each as fast as possible.

Their files lie in a folder that :mod:`rlsp_tf.benchmarks.step` writes: ``model.keras``, ``weights.npz``
(with the authors' names), ``step.onnx``, ``float32.tflite``, ``int8.tflite``, and ``inputs.npz`` with inputs
of steps, from which ranges of activations are learned. Neither this module nor the other libraries load
TensorFlow, since PyTorch may crash beside it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.pixels.color import LUMA_OFFSET, PAPER_WEIGHTS
from rlsp_tf.system.cores import cores

CLIP = 5
"""Number of random frames, used over and over, on which a step is timed."""


class Contestant:
    """One network in one library, run frame by frame, with the state kept where the library is fastest.

    Frames are converted to tensors of the library before timing begins, and a turn ends when its last output
    has been computed.

    Args:
        config: configuration of the network, with luma output, one frame before and one after.
        folder: folder with the files of all contenders.
        meta: path of the authors' graph, if there is one.
        precision: number format of the convolutions.

    Attributes:
        about: an empty dict.
        batch: number of clips of which a step computes a frame each.
    """

    def __init__(self, config: RLSPConfig, folder: Path, meta: Path | None, precision: str) -> None:
        self.about: dict[str, Any] = {}
        self.batch = 1
        self.config, self.folder, self.meta, self.precision = config, folder, meta, precision
        self.load()

    def clip(self, frames: np.ndarray) -> np.ndarray:
        """Upscales a clip, for comparison: ``(T, H, W, 3)`` to float32 ``(T, scale*H, scale*W, 1)``.

        At both ends the missing neighbour is replaced by the frame at the edge.
        """
        self.batch = 1
        self.reset(*frames.shape[1:3])
        padded = np.concatenate([frames[:1], frames, frames[-1:]])[:, None]
        windows = (padded[t : t + 3] for t in range(len(frames)))
        return np.concatenate([self.array(self.step(self.window(each))) for each in windows])

    def begin(self, height: int, width: int, batch: int = 1) -> None:
        """Prepares for timing on low-resolution frames of a size, of ``batch`` clips at once."""
        self.batch = batch
        frames = np.random.default_rng(0).integers(0, 256, (CLIP + 2, batch, height, width, 3))
        self.reset(height, width)
        self._windows = [self.window(frames[t : t + 3]) for t in range(CLIP)]
        self.wait(self.step(self._windows[0]))  # builds the graph, and fails here if memory is too small

    def run(self, steps: int, warm_up: int) -> float:
        """Returns milliseconds per step, after ``warm_up`` steps that do not count."""
        self._run(warm_up)
        began = time.perf_counter()
        self._run(steps)
        return (time.perf_counter() - began) / steps * 1e3

    def load(self) -> None:
        """Loads the network."""
        raise NotImplementedError

    def reset(self, height: int, width: int) -> None:
        """Sets the state to zero, for frames of a size."""
        raise NotImplementedError

    def window(self, frames: np.ndarray) -> Any:
        """Converts three frames ``(3, batch, H, W, 3)``, RGB 0..255, to the input of :meth:`step`."""
        return np.concatenate(list(frames.astype(np.float32)), axis=-1)

    def step(self, window: Any) -> Any:
        """Runs one step and keeps its state; returns the output as a tensor of the library."""
        raise NotImplementedError

    def array(self, output: Any) -> np.ndarray:
        """Copies an output to an array, float32 ``(batch, scale*H, scale*W, 1)``."""
        return np.array(output)

    def wait(self, output: Any) -> None:
        """Waits for an output, where :meth:`step` returns before it has been computed."""

    def _run(self, steps: int) -> None:
        output = None
        for index in range(steps):
            output = self.step(self._windows[index % CLIP])
        if output is not None:
            self.wait(output)

    def _zeros(self, height: int, width: int) -> list[np.ndarray]:
        sizes = (self.config.hidden_channels, self.config.feedback_channels)
        return [np.zeros((self.batch, height, width, size), np.float32) for size in sizes]


class Ours(Contestant):
    """rlsp_tf, as ``rlsp upscale`` runs it."""

    def load(self) -> None:
        from rlsp_tf.inference import backend

        self._backend = backend
        self.choose_device()
        from rlsp_tf.inference.load import load_step

        self._step = load_step(self.folder / "model.keras", precision=self.precision)

    def choose_device(self) -> None:
        """Chooses what computes: the CPU."""
        self._backend.without_gpu()

    def reset(self, height: int, width: int) -> None:
        self._state = self._step.initial_state(self.batch, height, width)

    def window(self, frames: np.ndarray) -> Any:
        return [self._backend.to_tensor(frame, "float32") for frame in frames]

    def step(self, window: Any) -> Any:
        frame, self._state = self._step(window, self._state)
        return frame

    def array(self, output: Any) -> np.ndarray:
        return self._backend.to_array(output)

    def wait(self, output: Any) -> None:
        self._backend.wait(output)


class Authors(Contestant):
    """The graph that the paper's authors published; it takes its state as an input of every step."""

    def load(self) -> None:
        from rlsp_tf.inference.authors_graph import AuthorsGraph

        assert self.meta is not None  # without a graph this contender is left out
        with np.load(self.folder / "weights.npz") as weights:
            self._graph = AuthorsGraph(self.meta, self.config, dict(weights))

    def reset(self, height: int, width: int) -> None:
        self._state = self._graph.initial_state(height, width)

    def window(self, frames: np.ndarray) -> Any:
        return np.moveaxis(frames, 0, 1).astype(np.float32)

    def step(self, window: Any) -> Any:
        frame, self._state = self._graph(window, self._state)
        return frame


class PyTorch(Contestant):
    """PyTorch with oneDNN, without a graph, channels last; residual and feedback in float32 as in rlsp_tf."""

    device = "cpu"

    def load(self) -> None:
        import torch

        torch.set_num_threads(cores())
        self._torch, self._dtype = torch, getattr(torch, self.precision)
        with np.load(self.folder / "weights.npz") as weights:
            self._layers = [
                (
                    torch.from_numpy(weights[f"layer{index}/kernel"].transpose(3, 2, 0, 1)).to(
                        self.device, self._dtype, memory_format=torch.channels_last
                    ),
                    torch.from_numpy(weights[f"layer{index}/bias"]).to(self.device, self._dtype),
                )
                for index in range(self.config.layers + 1)
            ]
        self._luma = torch.tensor(PAPER_WEIGHTS, device=self.device).view(1, 3, 1, 1)

    def reset(self, height: int, width: int) -> None:
        hidden, feedback = map(self._tensor, self._zeros(height, width))
        self._hidden, self._feedback = hidden.to(self._dtype), feedback

    def window(self, frames: np.ndarray) -> Any:
        return self._tensor(super().window(frames))

    def step(self, window: Any) -> Any:
        torch = self._torch
        with torch.inference_mode():
            parts = (window, self._hidden, self._feedback)
            features = torch.cat([part.to(self._dtype) for part in parts], 1)
            *trunk, to_hidden, to_output = self._layers
            for layer in trunk:
                features = self._convolve(features, layer).relu_()
            self._hidden = self._convolve(features, to_hidden).relu_()
            residual = (window[:, 3:6] * self._luma).sum(1, keepdim=True) + LUMA_OFFSET
            self._feedback = self._convolve(features, to_output).float() + residual
            return torch.nn.functional.pixel_shuffle(self._feedback, self.config.scale)

    def array(self, output: Any) -> np.ndarray:
        return output.permute(0, 2, 3, 1).cpu().numpy().copy()

    def _tensor(self, array: np.ndarray) -> Any:
        # The memory layout stays that of channels last.
        return self._torch.from_numpy(array).permute(0, 3, 1, 2).to(self.device)

    def _convolve(self, features: Any, layer: tuple[Any, Any]) -> Any:
        return self._torch.nn.functional.conv2d(features, *layer, padding=1)


class OnnxRuntime(Contestant):
    """``rlsp export --format onnx``, with states that stay in the memory of ONNX Runtime."""

    def load(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = cores()
        self._session = onnxruntime.InferenceSession(
            str(self.folder / "step.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._value = onnxruntime.OrtValue.ortvalue_from_numpy

    def reset(self, height: int, width: int) -> None:
        self._state = [self._value(array) for array in self._zeros(height, width)]

    def window(self, frames: np.ndarray) -> Any:
        return self._value(super().window(frames))

    def step(self, window: Any) -> Any:
        hidden, feedback = self._state
        inputs = {"window": window, "hidden": hidden, "feedback": feedback}
        frame, *self._state = self._session.run_with_ort_values(None, inputs)
        return frame

    def array(self, output: Any) -> np.ndarray:
        return output.numpy()


class OpenVINO(Contestant):
    """The ONNX export in OpenVINO, compiled for the size; int8 by NNCF, with ranges from real steps.

    Two requests take turns: the output states of one are the input states of the other, without a copy.
    """

    def load(self) -> None:
        import openvino

        self._openvino = openvino
        self._core = openvino.Core()
        self._quantized = self._quantize() if self.precision == "int8" else None

    def reset(self, height: int, width: int) -> None:
        network = self._quantized.clone() if self._quantized else self._read()
        states = self._zeros(height, width)
        network.reshape(
            {"window": [1, height, width, 3 * self.config.window]}
            | {name: list(state.shape) for name, state in zip(("hidden", "feedback"), states, strict=True)}
        )
        hint = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}[self.precision]
        settings = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": cores(),
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = self._core.compile_model(network, "CPU", settings)
        first, second = (compiled.create_infer_request() for _ in range(2))
        self._requests = [first, second]
        for request, other in ((first, second), (second, first)):
            for name in ("hidden", "feedback"):
                other.set_tensor(name, request.get_tensor(f"{name}_next"))
        for name, state in zip(("hidden", "feedback"), states, strict=True):
            first.get_tensor(name).data[:] = state

    def window(self, frames: np.ndarray) -> Any:
        return self._openvino.Tensor(super().window(frames))

    def step(self, window: Any) -> Any:
        request = self._requests[0]
        request.set_tensor("window", window)
        request.infer()
        self._requests.reverse()
        return request.get_tensor("frame")

    def array(self, output: Any) -> np.ndarray:
        return np.array(output.data)

    def _read(self) -> Any:
        return self._core.read_model(self.folder / "step.onnx")

    def _quantize(self) -> Any:
        import nncf

        with np.load(self.folder / "inputs.npz") as inputs:
            columns = dict(inputs)
        count = len(columns["window"])
        steps = [{name: column[i : i + 1] for name, column in columns.items()} for i in range(count)]
        # MIXED quantizes activations asymmetrically, since those after ReLU are never negative.
        return nncf.quantize(
            self._read(),
            nncf.Dataset(steps),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=count,
            fast_bias_correction=False,
        )


class LiteRT(Contestant):
    """``rlsp export --format litert`` with XNNPACK; states are copied once, from output to input."""

    def load(self) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(self.folder / f"{self.precision}.tflite"), num_threads=cores())
        runner = self._interpreter.get_signature_runner("step")
        self._inputs = {name: each["index"] for name, each in runner.get_input_details().items()}
        self._outputs = {name: each["index"] for name, each in runner.get_output_details().items()}

    def reset(self, height: int, width: int) -> None:
        states = dict(zip(("hidden", "feedback"), self._zeros(height, width), strict=True))
        shapes = {"window": (1, height, width, 3 * self.config.window)}
        shapes |= {name: state.shape for name, state in states.items()}
        for name, shape in shapes.items():
            self._interpreter.resize_tensor_input(self._inputs[name], shape)
        self._interpreter.allocate_tensors()
        # Functions, since references to the memory must not be held while the interpreter runs.
        self._memory: dict[str, Callable[[], np.ndarray]] = {
            name: self._interpreter.tensor(index) for name, index in self._inputs.items()
        }
        self._results: dict[str, Callable[[], np.ndarray]] = {
            name: self._interpreter.tensor(index) for name, index in self._outputs.items()
        }
        for name, state in states.items():
            self._results[name]()[:] = state

    def step(self, window: Any) -> Any:
        self._memory["window"]()[:] = window
        for name in ("hidden", "feedback"):
            self._memory[name]()[:] = self._results[name]()
        self._interpreter.invoke()
        return self._results["frame"]

    def array(self, output: Any) -> np.ndarray:
        return np.array(output())


@dataclass(frozen=True)
class Contender:
    """A contender and its requirements.

    Attributes:
        name: name in tables.
        contestant: class that runs it.
        precision: number format of the convolutions.
        packages: packages that have to be installed, by their names on PyPI.
        prepared: whether it needs ``.tflite`` files or ``inputs.npz``, which only TensorFlow makes.
    """

    name: str
    contestant: type[Contestant]
    precision: str
    packages: tuple[str, ...] = ()
    prepared: bool = False


OURS = (
    Contender("rlsp_tf float32", Ours, "float32"),
    Contender("rlsp_tf bfloat16", Ours, "bfloat16"),
    Contender("rlsp_tf int8", Ours, "int8"),
)
"""The contenders of rlsp_tf; all others have to agree with the first."""
AUTHORS = Contender("authors' graph", Authors, "float32")
OTHERS = (
    Contender("PyTorch float32", PyTorch, "float32", ("torch",)),
    Contender("PyTorch bfloat16", PyTorch, "bfloat16", ("torch",)),
    Contender("ONNX Runtime float32", OnnxRuntime, "float32", ("onnx", "onnxruntime")),
    Contender("OpenVINO float32", OpenVINO, "float32", ("onnx", "openvino")),
    Contender("OpenVINO bfloat16", OpenVINO, "bfloat16", ("onnx", "openvino")),
    Contender("OpenVINO int8", OpenVINO, "int8", ("onnx", "openvino", "nncf"), prepared=True),
    Contender("LiteRT float32", LiteRT, "float32", ("ai-edge-litert",), prepared=True),
    Contender("LiteRT int8", LiteRT, "int8", ("ai-edge-litert",), prepared=True),
)
