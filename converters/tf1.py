"""Converts the authors' TensorFlow 1 checkpoints to Keras models and back.

Such a checkpoint is named by its prefix: ``PREFIX.index`` lists the tensors, ``PREFIX.data-00000-of-00001``
holds them, and ``PREFIX.meta``, which is not needed here, holds the graph.
"""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rlsp_tf.errors import RLSPError, first_line
from rlsp_tf.network.authors_layout import ADAM_POWERS, ADAM_SLOTS, Shapes, config_of, listed
from rlsp_tf.network.model import build_model, rlsp_layer
from rlsp_tf.system.files import atomic_file


def load_tf1(prefix: str | os.PathLike[str]) -> keras.Model:
    """Makes a Keras model from a TensorFlow 1 checkpoint with any number of layers and filters and any scale.

    All tensors are read, those of Adam included, so that damage anywhere in the files is found.

    Args:
        prefix: prefix of the checkpoint, or the path of one of its files.

    Returns:
        A float32 model as :func:`rlsp_tf.network.model.build_model` makes it, with weights equal bit for bit.

    Raises:
        RLSPError: if a file is missing or damaged, or if the tensors are not exactly those of an RLSP
            network with luma output.
    """
    tensors = read_tensors(prefix)
    config = config_of({name: tensor.shape for name, tensor in tensors.items()}, prefix)
    model = build_model(config, precision="float32")
    for name, variable in variables_of(model).items():
        if tensors[name].dtype != np.float32:
            raise RLSPError(f"{prefix}: {name} is {tensors[name].dtype}; give a float32 checkpoint.")
        variable.assign(tensors[name])
    return model


def keras_from_tf1(
    prefix: str | os.PathLike[str], target: str | os.PathLike[str], *, force: bool = False
) -> None:
    """Writes a TensorFlow 1 checkpoint as a ``.keras`` file for :func:`rlsp_tf.load_model`.

    Args:
        prefix: prefix of the checkpoint, as for :func:`load_tf1`.
        target: path of the ``.keras`` file to write.
        force: bool, whether to replace an existing file.

    Raises:
        RLSPError: as :func:`load_tf1` does, or if ``target`` cannot be written.
    """
    with atomic_file(target, force=force) as part:
        model = load_tf1(prefix)
        try:
            model.save(part)
        except OSError as error:
            error.filename = os.fspath(target)  # HDF5 leaves it out
            raise


def save_tf1(model: keras.Model, prefix: str | os.PathLike[str], *, force: bool = False) -> None:
    """Writes a model's weights as a TensorFlow 1 checkpoint, equal bit for bit.

    The checkpoint also holds the state of Adam before the first step, because the graphs in the authors'
    ``.meta`` files restore it together with the weights.

    Args:
        model: a model as :func:`rlsp_tf.load_model` returns it.
        prefix: prefix of the checkpoint to write, or the path of its ``.index`` file.
        force: bool, whether to replace an existing checkpoint.

    Raises:
        RLSPError: if the authors' layout cannot hold this network (RGB output, a window other than three
            frames, weights other than RLSP's), or if the files cannot be written.
    """
    if Path(prefix).is_dir():
        raise RLSPError(f"{prefix}: is a folder; give a prefix, such as {Path(prefix) / 'rlsp'}.")
    prefix = prefix_of(prefix)
    config = rlsp_layer(model).config
    if (config.output, config.frames_before, config.frames_after) != ("y", 1, 1):
        raise RLSPError(
            f"{prefix}: the authors' layout holds networks with luma output that see one frame before "
            f"and one after, not this one ({config}); keep the .keras file."
        )
    weights = {name: keras.ops.convert_to_numpy(variable) for name, variable in variables_of(model).items()}
    tensors: dict[str, Any] = {name: np.asarray(weight, np.float32) for name, weight in weights.items()}
    for name, tensor in list(tensors.items()):
        tensors |= {f"{name}/{slot}": np.zeros_like(tensor) for slot in ADAM_SLOTS}
    tensors |= {name: np.float32(value) for name, value in ADAM_POWERS.items()}
    index, data = index_of(prefix), data_of(prefix)
    # The index gets its name last, because readers open it first.
    with (
        atomic_file(index, force=force) as index_part,
        atomic_file(data, force=force) as data_part,
        tempfile.TemporaryDirectory(dir=index.parent) as folder,
    ):
        written = Path(folder) / "checkpoint"
        _write(written, tensors, prefix)
        os.replace(data_of(written), data_part)
        os.replace(index_of(written), index_part)


def prefix_of(path: str | os.PathLike[str]) -> Path:
    """Returns the prefix of a checkpoint, given the prefix itself or the path of one of its files."""
    return Path(re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", os.fspath(path)))


def index_of(prefix: Path) -> Path:
    """Returns the path of the file that lists a checkpoint's tensors."""
    return prefix.with_name(f"{prefix.name}.index")


def data_of(prefix: Path) -> Path:
    """Returns the path of the file that holds a checkpoint's tensors."""
    return prefix.with_name(f"{prefix.name}.data-00000-of-00001")


def read_shapes(prefix: str | os.PathLike[str]) -> Shapes:
    """Reads the shapes of a checkpoint's tensors by their names, for which the ``.index`` file is enough.

    Raises:
        RLSPError: if the file is missing or damaged.
    """
    prefix = prefix_of(prefix)
    with _plain_path(prefix) as plain:
        shapes = _open(prefix, plain).get_variable_to_shape_map()
    return {name: tuple(shape) for name, shape in shapes.items()}


def read_tensors(prefix: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads all tensors of a checkpoint by their names, and checks each against its CRC32C in the index.

    Raises:
        RLSPError: if a file is missing or damaged.
    """
    prefix = prefix_of(prefix)
    index, data = index_of(prefix), data_of(prefix)
    with _plain_path(prefix) as plain:
        reader = _open(prefix, plain)
        if not data.is_file():
            raise RLSPError(f"{data}: no such file, the weights are in it; put it beside {index.name}.")
        try:
            return {name: np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()}
        except Exception as error:  # TensorFlow's reader raises IndexError, ValueError and its own
            raise RLSPError(
                f"{data}: cannot be read, is damaged or not from the same checkpoint as {index.name} "
                f"({_reason(error)}); copy or download it again."
            ) from error


def variables_of(model: keras.Model) -> dict[str, keras.Variable]:
    """Returns the weights of a model by their names in the authors' layout.

    Raises:
        RLSPError: if the model has weights besides those of its RLSP layer.
    """
    table = {}
    for index, convolution in enumerate(rlsp_layer(model).cell.convolutions):
        table[f"layer{index}/kernel"] = convolution.kernel
        table[f"layer{index}/bias"] = convolution.bias
    others = {variable.path for variable in model.weights} - {variable.path for variable in table.values()}
    if others:
        raise RLSPError(
            f"the model has other weights than RLSP's ({listed(sorted(others))}); give an RLSP model."
        )
    return table


@contextlib.contextmanager
def _plain_path(prefix: Path) -> Iterator[Path]:
    """Provides a prefix that TensorFlow can open, with the same files.

    TensorFlow takes ``[``, ``*`` and ``?`` in a path for patterns; files with these in their path are copied.
    """
    if not re.search(r"[][*?\\]", prefix.as_posix()):
        yield prefix
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "checkpoint"
        for file, copy in ((index_of(prefix), index_of(plain)), (data_of(prefix), data_of(plain))):
            if file.is_file():
                shutil.copyfile(file, copy)
        yield plain


def _open(prefix: Path, plain: Path) -> Any:
    """Opens a checkpoint under its plain prefix; messages use the real one."""
    index = index_of(prefix)
    if not index.is_file():
        folder = prefix if prefix.is_dir() else prefix.parent
        known = sorted(file.stem for file in folder.glob("*.index"))
        advice = f"{folder} has {listed(known)}" if known else "check the path"
        raise RLSPError(f"{prefix}: not the prefix of a checkpoint, there is no {index.name}; {advice}.")
    try:
        return tf.compat.v1.train.NewCheckpointReader(os.fspath(plain))
    except Exception as error:  # TensorFlow's reader raises IndexError, ValueError and its own
        raise RLSPError(
            f"{index}: not the index of a TensorFlow checkpoint, or a damaged one ({_reason(error)}); "
            "copy or download it again."
        ) from error


def _write(prefix: Path, tensors: Mapping[str, np.ndarray], target: Path) -> None:
    """Writes a checkpoint at ``prefix``; messages call it ``target``."""
    try:
        tf.raw_ops.SaveV2(
            prefix=os.fspath(prefix),
            tensor_names=list(tensors),
            shape_and_slices=[""] * len(tensors),
            tensors=list(tensors.values()),
        )
    except tf.errors.OpError as error:
        raise RLSPError(
            f"{target}: cannot be written ({_reason(error)}); free some space or choose another place."
        ) from error


def _reason(error: Exception) -> str:
    """Returns the first line of TensorFlow's message without the names of operations."""
    return re.sub(r"^\{\{.*?\}\} ?| ?\[Op:.*$", "", first_line(error)).rstrip(".")
