"""What computes: the backend of Keras, which ``KERAS_BACKEND`` chooses, and its CPU or GPU.

Everything that frames go through on their way is written in ``keras.ops``. What differs between TensorFlow,
JAX and PyTorch beyond that is here: how a function is compiled, how arrays become tensors and back, and what
the devices are called. A backend is imported when it is the chosen one, so that the others need not be
installed.
"""

import contextlib
import functools
from collections.abc import Callable
from importlib import metadata
from typing import Any

import keras
import numpy as np
from keras import ops

from rlsp_tf.system.backends import BACKENDS

_for_good = contextlib.ExitStack()


def backend() -> str:
    """Returns the name of Keras's backend, a key of :data:`rlsp_tf.system.backends.BACKENDS`."""
    return str(keras.config.backend())


def start() -> None:
    """Starts the devices of a process that is ours, in which float32 is then multiplied as float32.

    GPUs of NVIDIA since Ampere otherwise round the factors to TensorFloat-32, which has 10 bits.
    """
    if backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(False)
        tf.config.list_logical_devices()
    elif backend() == "torch":
        import torch

        torch.backends.cudnn.allow_tf32 = False
    devices()


def without_gpu() -> None:
    """Leaves the GPUs of the machine alone, if called before anything else uses the backend."""
    if backend() == "jax":
        _jax().config.update("jax_platforms", "cpu")
    elif backend() == "torch":
        _for_good.enter_context(keras.device("cpu"))
    else:
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")


def backend_version() -> tuple[str, str]:
    """Returns what the backend is called, and its version."""
    return BACKENDS[backend()], metadata.version(backend())


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a function of tensors for each shape of its arguments; it must not change anything.

    Arguments may be arrays, tensors, ``None``, and tuples and lists of these. PyTorch runs it as it is, since
    its compiler needs a C++ compiler on the machine; without gradients.
    """
    if backend() == "jax":
        return _exact(_jax().jit(function))
    if backend() == "torch":
        return _without_gradients(function)
    import tensorflow as tf

    # No branch or loop depends on a tensor. Looking for some to translate takes longer than tracing.
    return tf.function(function, autograph=False)


def compiled_cell(cell: keras.layers.Layer) -> Callable[..., tuple[Any, list[Any]]]:
    """Compiles a step of a cell for each size of frames.

    Args:
        cell: a :class:`rlsp_tf.RLSPCell` with weights.

    Returns:
        A function of a window, which is a tuple of frames, and a state. JAX overwrites the state's memory
        with the next state, so a state must not be used again.
    """

    def step(window: tuple[Any, ...], state: Any) -> tuple[Any, list[Any]]:
        return cell(ops.concatenate(window, axis=-1), state)

    if backend() != "jax":
        return compiled(step)

    def pure(weights: list[Any], window: tuple[Any, ...], state: Any) -> tuple[Any, list[Any]]:
        # As arguments, since XLA would compile weights that it finds in a function into the program.
        (frame, state), _ = cell.stateless_call(weights, [], ops.concatenate(window, axis=-1), state)
        return frame, state

    run = _exact(_jax().jit(pure, donate_argnums=2))
    return functools.partial(run, [variable.value for variable in cell.trainable_variables])


def to_tensor(array: Any, dtype: str | None = None) -> Any:
    """Makes a tensor of the backend from an array, or converts a tensor to another type."""
    return ops.convert_to_tensor(array, dtype)


def to_array(tensor: Any) -> np.ndarray:
    """Returns a copy of the numbers of a tensor; arrays stay as they are."""
    return tensor if isinstance(tensor, np.ndarray) else ops.convert_to_numpy(tensor)


def wait(tensor: Any) -> None:
    """Waits until a tensor has been computed: GPUs, and JAX, compute after the call that returns it."""
    if backend() == "jax":
        tensor.block_until_ready()
    elif backend() == "torch":
        import torch

        if _torch_device() == "cuda":
            torch.cuda.synchronize()
    else:
        import tensorflow as tf

        tf.test.experimental.sync_devices()


def dtype_of(tensor: Any) -> np.dtype:
    """Returns NumPy's type for the numbers of a tensor; ``bfloat16`` is that of ml_dtypes."""
    return np.dtype(keras.backend.standardize_dtype(tensor.dtype))


def devices() -> list[str]:
    """Returns what the devices that compute are called, such as ``["NVIDIA H100 80GB HBM3"]``.

    ``["CPU"]`` where there is no accelerator, or the backend does not see it. Frames of one clip are computed
    on the first.
    """
    if backend() == "jax":
        found = _jax().local_devices()
        return ["CPU" if each.platform == "cpu" else str(each.device_kind) for each in found]
    if backend() == "torch":
        import torch

        if (kind := _torch_device()) == "cuda":
            return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return ["CPU" if kind == "cpu" else kind.upper()]
    import tensorflow as tf

    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.get_visible_devices("GPU")]
    return [str(each.get("device_name", "GPU")) for each in details] or ["CPU"]


def capabilities() -> list[tuple[int, int]]:
    """Returns NVIDIA's compute capability of every GPU: (8, 0) for Ampere; (0, 0) where it is not known.

    Empty where the CPU computes.
    """
    if backend() == "jax":
        gpus = [each for each in _jax().local_devices() if each.platform != "cpu"]
        # A TPU multiplies bfloat16 and nothing else, so it counts as what has that.
        return [
            (8, 0) if each.platform == "tpu" else _pair(getattr(each, "compute_capability", ""))
            for each in gpus
        ]
    if backend() == "torch":
        import torch

        if (kind := _torch_device()) == "cuda":
            return [torch.cuda.get_device_capability(index) for index in range(torch.cuda.device_count())]
        return [] if kind == "cpu" else [(0, 0)]
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus]


def _pair(text: str) -> tuple[int, int]:
    """Returns ``"9.0"`` as numbers; (0, 0) if it is no such text, as on GPUs that are not NVIDIA's."""
    major, _, minor = str(text).partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else (0, 0)


def _jax() -> Any:
    import jax

    return jax


def _torch_device() -> str:
    """Returns the kind of device on which Keras puts PyTorch's tensors."""
    return str(ops.zeros(()).device.type)


def _exact(function: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a function of JAX multiply float32 as float32, which on GPUs and TPUs is not its default."""

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        with _jax().default_matmul_precision("highest"):
            return function(*arguments)

    return call


def _without_gradients(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        import torch

        with torch.inference_mode():
            return function(*arguments)

    return call
