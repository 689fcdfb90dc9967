"""Converts PyTorch checkpoints of RLSP with RGB output, the authors' and others', to Keras models and back.

The authors' files hold ``{"rlsp": weights, "optimizer": ..., "iteration": ...}``, written by
``torch.save``. The network in them is :class:`rlsp_tf.RLSPCell` with RGB output, also for frames of 0..255,
so that weights only have to be rearranged:

- Kernels are ``(out, in, 3, 3)`` there and ``(3, 3, in, out)`` here.
- ``conv1`` takes frames, feedback, hidden state; ``layer0`` here takes frames, hidden state, feedback.
- ``conv_out`` makes the output and then the hidden state; here these are two convolutions, the hidden
  state's first.

The file only tells the sum of the output and state channels, which does not always determine the scale.
"""

import io
import math
import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from rlsp_tf.converters.tf1 import variables_of
from rlsp_tf.errors import RLSPError
from rlsp_tf.network.authors_layout import Shapes, listed, matching_config
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.network.model import build_model, rlsp_layer
from rlsp_tf.system.files import atomic_file

ENTRIES = ("rlsp", "params_ema", "params", "state_dict", "model_state_dict", "model")
"""Entries under which files keep their weights: the authors', BasicSR's, of which the averaged ones are the
better, Lightning's, and common ones. The first that is there counts; others, such as an optimizer, do not."""
USUAL_SCALE = 4
"""The scale that is taken where widths fit to several, as that of the paper."""
FIRST = "conv1.weight"
"""A weight that every network has."""
COUNTS = "num_batches_tracked"
"""Ends the names of integers that say how many batches a layer has seen."""
ADAM = {"lr": 1e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "amsgrad": False}
"""Settings of the optimizer, which the authors' training reads from the file."""


def load_pytorch(path: str | os.PathLike[str], *, scale: int | None = None) -> keras.Model:
    """Makes a Keras model from a PyTorch checkpoint with any number of layers, filters and state channels.

    No code in the file is run.

    Args:
        path: path of the checkpoint, of a file that holds only a ``state_dict``, or of a ``.safetensors``
            file.
        scale: int, scale of the network; by default the one for which the hidden state has as many channels
            as the other layers, or else ``USUAL_SCALE``, if it fits.

    Returns:
        A float32 model with RGB output as :func:`rlsp_tf.network.model.build_model` makes it. Weights are
        equal bit for bit, those in float16, bfloat16 or float64 to the nearest float32.

    Raises:
        RLSPError: if the file is missing, damaged or holds more than data, if the tensors are not exactly
            those of an RLSP network of this scale and finite, if the scale has to be given, or if PyTorch, or
            for ``.safetensors`` that package, is not installed.
    """
    tensors = read_tensors(path)
    config = config_of({name: tensor.shape for name, tensor in tensors.items()}, path, scale)
    if broken := [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]:
        raise RLSPError(f"{path}: has NaN or infinity in {listed(broken)}; give an earlier checkpoint.")
    model = build_model(config, precision="float32")
    weights = _to_ours(tensors, config)
    for name, variable in variables_of(model).items():
        variable.assign(weights[name])
    return model


def keras_from_pytorch(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    scale: int | None = None,
    force: bool = False,
) -> RLSPConfig:
    """Writes a PyTorch checkpoint as a ``.keras`` file for :func:`rlsp_tf.load_model`.

    Args:
        path: path of the checkpoint, as for :func:`load_pytorch`.
        target: path of the ``.keras`` file to write.
        scale: int, scale of the network, as for :func:`load_pytorch`.
        force: bool, whether to replace an existing file.

    Returns:
        The configuration of the network that was found.

    Raises:
        RLSPError: as :func:`load_pytorch` does, or if ``target`` cannot be written.
    """
    with atomic_file(target, force=force) as part:
        model = load_pytorch(path, scale=scale)
        try:
            model.save(part)
        except OSError as error:
            error.filename = os.fspath(target)  # HDF5 leaves it out
            raise
    return rlsp_layer(model).config


def save_pytorch(model: keras.Model, target: str | os.PathLike[str], *, force: bool = False) -> None:
    """Writes a model's weights as a PyTorch checkpoint, equal bit for bit.

    The file also holds what the authors' training needs to go on from it: the state of Adam before the first
    step, and iteration 0.

    Args:
        model: a model as :func:`rlsp_tf.load_model` returns it.
        target: path of the file to write.
        force: bool, whether to replace an existing file.

    Raises:
        RLSPError: if the authors' layout cannot hold this network (luma output, a window other than three
            frames, weights other than RLSP's), if the file cannot be written, or if PyTorch is not installed.
    """
    torch = _import_torch(target)
    config = rlsp_layer(model).config
    if (config.output, config.frames_before, config.frames_after) != ("rgb", 1, 1):
        raise RLSPError(
            f"{target}: the authors' PyTorch layout holds networks with RGB output that see one frame before "
            f"and one after, not this one ({config}); keep the .keras file, or for luma use rlsp-convert tf1."
        )
    ours = {name: keras.ops.convert_to_numpy(variable) for name, variable in variables_of(model).items()}
    weights = {
        # Copied, because PyTorch warns about arrays that are read-only.
        name: torch.from_numpy(np.array(tensor, np.float32, order="C"))
        for name, tensor in _to_theirs(ours, config).items()
    }
    # Written by hand, because torch.optim loads Triton, which crashes beside TensorFlow.
    optimizer = {"state": {}, "param_groups": [ADAM | {"params": list(range(len(weights)))}]}
    written = io.BytesIO()
    torch.save({"rlsp": weights, "optimizer": optimizer, "iteration": 0}, written)
    with atomic_file(target, force=force) as part:
        try:
            part.write_bytes(written.getbuffer())
        except OSError as error:
            error.filename = os.fspath(target)
            raise


def read_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the weights in a PyTorch checkpoint by their names, in float32.

    What stands before all names, such as ``module.`` of networks trained on several GPUs, is left out, and so
    are the counts of batches that PyTorch keeps.

    Raises:
        RLSPError: if the file is missing, damaged or holds more than data, if it holds anything but dense
            tensors of floats by name, or if what reads it is not installed.
    """
    if Path(path).suffix.lower() == ".safetensors":
        return _named(_read_safetensors(Path(path)))
    torch = _import_torch(path)
    contents = _load(torch, Path(path))
    if isinstance(contents, dict):
        contents = next((contents[entry] for entry in ENTRIES if entry in contents), contents)
    if not isinstance(contents, dict):
        raise RLSPError(
            f"{path}: holds {type(contents).__name__} instead of weights by name; save a state_dict in it."
        )
    for name, tensor in contents.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise RLSPError(
                f"{path}: {name!r} is {type(tensor).__name__} instead of a tensor; save a state_dict in it."
            )
        if name.endswith(COUNTS):
            continue
        if not tensor.dtype.is_floating_point or tensor.layout != torch.strided or tensor.is_meta:
            kind = f"{tensor.dtype}, {tensor.layout}, {tensor.device}".replace("torch.", "")
            raise RLSPError(f"{path}: {name!r} is {kind}; give a checkpoint of dense tensors of floats.")
        # With strides of 0 a few bytes can pretend to be a tensor of any size, too large for the memory.
        if tensor.nbytes > tensor.untyped_storage().nbytes():
            raise RLSPError(f"{path}: {name!r} is larger than its bytes; give a file that torch.save wrote.")
    return _named(
        {
            name: tensor.detach().float().numpy()
            for name, tensor in contents.items()
            if not name.endswith(COUNTS)
        }
    )


def _named(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Leaves out what stands before all names."""
    prefixes = {name.removesuffix(FIRST) for name in tensors if name == FIRST or name.endswith(f".{FIRST}")}
    prefix = prefixes.pop() if len(prefixes) == 1 else ""
    if not all(name.startswith(prefix) for name in tensors):
        return tensors
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Reads a ``.safetensors`` file, for which PyTorch is not needed."""
    if not path.is_file():
        raise RLSPError(f"{path}: no such file; check the path.")
    try:
        import safetensors
    except ImportError as error:
        raise RLSPError(
            f"{path}: such files need safetensors ({error}); install it with pip install 'rlsp_tf[pytorch]'."
        ) from error
    import ml_dtypes

    types = {"F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32, "F64": np.float64}
    try:
        contents = dict(safetensors.deserialize(path.read_bytes()))
    except safetensors.SafetensorError as error:
        raise RLSPError(
            f"{path}: no safetensors file, or a damaged one; copy or download it again."
        ) from error
    tensors = {}
    for name, entry in contents.items():
        if name.endswith(COUNTS):
            continue
        if entry["dtype"] not in types:
            raise RLSPError(f"{path}: {name!r} is {entry['dtype']}; give a checkpoint of tensors of floats.")
        flat = np.frombuffer(entry["data"], types[entry["dtype"]])
        tensors[name] = flat.reshape(entry["shape"]).astype(np.float32)
    return tensors


def tensor_shapes(config: RLSPConfig) -> Shapes:
    """Returns the shapes of a network's weights by name in the authors' PyTorch layout, in its order."""
    both = config.feedback_channels + config.hidden_channels
    names = _convolutions(config.layers)
    outputs = [config.filters] * (config.layers - 1) + [both]
    inputs = [config.input_channels] + [config.filters] * (config.layers - 1)
    shapes: Shapes = {}
    for name, channels, entering in zip(names, outputs, inputs, strict=True):
        shapes[f"{name}.weight"] = (channels, entering, 3, 3)
        shapes[f"{name}.bias"] = (channels,)
    return shapes


def config_of(
    shapes: Mapping[str, tuple[int, ...]], path: str | os.PathLike[str], scale: int | None = None
) -> RLSPConfig:
    """Finds the configuration of a network from the shapes of its tensors in a checkpoint.

    Args:
        shapes: shape of every tensor by its name.
        path: path of the checkpoint, for messages.
        scale: int, scale of the network, as for :func:`load_pytorch`.

    Returns:
        The configuration of this scale whose :func:`tensor_shapes` are ``shapes``.

    Raises:
        RLSPError: if there is no such configuration, or ``scale`` has to be given. The message lists the
            tensors that are missing, unexpected or of wrong shape.
    """
    layers = 2 + sum(1 for name in shapes if re.fullmatch(r"conv_list\.\d+\.weight", name))
    names = {f"{name}.{part}" for name in _convolutions(layers) for part in ("weight", "bias")}
    problems = [f"missing {name}" for name in sorted(names - set(shapes))]
    problems += [f"unexpected {name!r}" for name in sorted(set(shapes) - names)]
    settings: dict[str, int] = {}
    if not problems:
        filters, both = (math.prod(shapes[name]) for name in ("conv1.bias", "conv_out.bias"))
        scale = _scale_of(filters, both, path, scale)
        settings = {"filters": filters, "state_filters": both - 3 * scale**2, "scale": scale}
    failure = f"{path}: give a checkpoint of RLSP in the authors' PyTorch layout"
    return matching_config(shapes, tensor_shapes, problems, failure, output="rgb", layers=layers, **settings)


def _scale_of(filters: int, both: int, path: str | os.PathLike[str], scale: int | None) -> int:
    """Returns the scale of a network whose output and hidden state together have ``both`` channels."""
    most = math.isqrt((both - 1) // 3) if both > 3 else 0
    if not most:
        raise RLSPError(
            f"{path}: conv_out makes {both} channels, too few for RGB and a state; give a checkpoint of RLSP."
        )
    if scale is None:
        usual = [guess for guess in range(1, most + 1) if both - 3 * guess**2 == filters]
        if not usual and most >= USUAL_SCALE:
            return USUAL_SCALE
        if not usual and most > 1:
            raise RLSPError(
                f"{path}: is as wide in conv_out as networks of scale 1 to {most} may be ({both} channels); "
                "give the right one with --scale."
            )
        return usual[0] if usual else most
    if not 1 <= scale <= most:
        raise RLSPError(
            f"{path}: cannot be of scale {scale}, with {both} channels in conv_out; "
            f"give --scale from 1 to {most}."
        )
    return scale


def _convolutions(layers: int) -> list[str]:
    """Returns the names of a network's convolutions in the authors' PyTorch layout."""
    return ["conv1", *(f"conv_list.{index}" for index in range(layers - 2)), "conv_out"]


def _to_ours(theirs: Mapping[str, np.ndarray], config: RLSPConfig) -> dict[str, np.ndarray]:
    """Rearranges weights from the names of :func:`tensor_shapes` to those of :func:`.tf1.variables_of`."""
    ours = {}
    for index, name in enumerate(_convolutions(config.layers)):
        ours[f"layer{index}/kernel"] = theirs[f"{name}.weight"].transpose(2, 3, 1, 0)
        ours[f"layer{index}/bias"] = theirs[f"{name}.bias"]
    window, packed = 3 * config.window, config.feedback_channels
    frames, feedback, hidden = np.split(ours["layer0/kernel"], [window, window + packed], axis=2)
    ours["layer0/kernel"] = np.concatenate([frames, hidden, feedback], axis=2)
    for part in ("kernel", "bias"):
        both = ours.pop(f"layer{config.layers - 1}/{part}")
        to_output, to_hidden = np.split(both, [packed], axis=-1)
        ours |= {f"layer{config.layers - 1}/{part}": to_hidden, f"layer{config.layers}/{part}": to_output}
    return ours


def _to_theirs(ours: Mapping[str, np.ndarray], config: RLSPConfig) -> dict[str, np.ndarray]:
    """Rearranges weights the other way than :func:`_to_ours`."""
    window = 3 * config.window
    joined = dict(ours)
    frames, hidden, feedback = np.split(
        joined["layer0/kernel"], [window, window + config.hidden_channels], axis=2
    )
    joined["layer0/kernel"] = np.concatenate([frames, feedback, hidden], axis=2)
    for part in ("kernel", "bias"):
        to_hidden, to_output = (joined.pop(f"layer{config.layers - 1 + i}/{part}") for i in (0, 1))
        joined[f"layer{config.layers - 1}/{part}"] = np.concatenate([to_output, to_hidden], axis=-1)
    theirs = {}
    for index, name in enumerate(_convolutions(config.layers)):
        theirs[f"{name}.weight"] = joined[f"layer{index}/kernel"].transpose(3, 2, 0, 1)
        theirs[f"{name}.bias"] = joined[f"layer{index}/bias"]
    return theirs


def _damage(file: io.BytesIO) -> str | None:
    """Returns what is wrong with a file that PyTorch would not notice, or ``None``."""
    if not zipfile.is_zipfile(file):
        return None  # in the format of older versions of PyTorch, or something else
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            # torch.save never compresses. A small compressed file can unpack to more than fits into memory.
            if member.compress_type != zipfile.ZIP_STORED:
                return f"{member.filename} is compressed"
        wrong = archive.testzip()
    return None if wrong is None else f"checksum of {wrong}"


def _import_torch(path: str | os.PathLike[str]) -> Any:
    """Imports PyTorch, or raises an RLSPError that says how to install it."""
    try:
        import torch
    except ImportError as error:
        raise RLSPError(
            f"{path}: such files need PyTorch ({error}); install it with pip install 'rlsp_tf[pytorch]'."
        ) from error
    return torch


def _load(torch: Any, path: Path) -> Any:
    """Loads a file that ``torch.save`` has written, if it holds nothing but data."""
    if not path.is_file():
        raise RLSPError(f"{path}: no such file; give a .pt file as torch.save writes it.")
    file = io.BytesIO(path.read_bytes())
    try:
        damaged = _damage(file)
        file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it also refuses what it warns about
            contents = None if damaged else torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch's reader raises whatever its parts do
        if function := re.search(r"GLOBAL (\S+)", str(error)):
            raise RLSPError(
                f"{path}: asks to run {function[1]}, which was not done, because a file of weights is only "
                "data; save a state_dict in it."
            ) from error
        # PyTorch's own message is long and suggests running the code in the file.
        raise RLSPError(
            f"{path}: not a file that torch.save wrote, or a damaged one; copy or download it again."
        ) from error
    if damaged:
        raise RLSPError(f"{path}: is damaged ({damaged}); copy or download it again.")
    return contents
