"""Reads networks from ``.keras`` files without running anything in them.

The loader of Keras creates whatever objects a file names, which lets a file from a stranger call
functions and open other files. This module reads three things only: the numbers of an
:class:`rlsp_tf.RLSPConfig`, the name of a precision, and arrays of exactly the shapes that follow from the
numbers. The package's own code then builds the network.
"""

import contextlib
import io
import json
import os
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import h5py
import numpy as np

from rlsp_tf.errors import RLSPError, first_line
from rlsp_tf.network.config import RLSPConfig

LAYER, TRAINED = "rlsp_tf>RLSP", "rlsp_tf>CarriedRLSP"
"""Registered names of the layer that is a network, and of the one that is trained, in other coordinates."""
MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
"""Names of the files in the archive."""
LARGEST = 2**30
"""Largest accepted size of a file in the archive, in bytes, unpacked. The paper's largest network takes 60 MB
in the middle of a training."""
LARGEST_TEXT = 2**20
"""Largest accepted size of a JSON file in the archive, in bytes. Keras writes a few thousand; parsed, nested
brackets take 30 times as much memory."""


class SavedNetwork(NamedTuple):
    """The content of a ``.keras`` file.

    Attributes:
        config: the network's :class:`rlsp_tf.RLSPConfig`.
        policy: str, the name of the Keras dtype policy that it was saved with. Not checked: any text.
        weights: float32 arrays, kernel ``(3, 3, in, out)`` and bias ``(out,)`` of one convolution after the
            other.
    """

    config: RLSPConfig
    policy: str
    weights: list[np.ndarray]


def read_network(path: str | os.PathLike[str]) -> SavedNetwork:
    """Reads a network that Keras has saved.

    Memory use is limited by the size of the unpacked file, even if its headers announce larger arrays.

    Args:
        path: path of a ``.keras`` file that holds a model of one :class:`rlsp_tf.RLSP` layer.

    Raises:
        RLSPError: if the file is missing, damaged, not an RLSP model, or holds anything else beside it.
    """
    if not zipfile.is_zipfile(path):
        raise RLSPError(f"{path}: not a .keras file; convert checkpoints with rlsp-convert first.")
    as_one_sentence = _as_one_sentence(
        path, "no RLSP model, or a damaged one", "convert or download it again"
    )
    with as_one_sentence, zipfile.ZipFile(path) as archive:
        layer = _layer(path, json.loads(_read(archive, "config.json")))
        config = RLSPConfig.from_dict(layer["config"])
        dtype = layer["dtype"]
        policy = dtype["config"]["name"] if isinstance(dtype, dict) else dtype
        with _weights_file(archive) as file:
            weights = []
            for index in range(config.layers + 1):
                convolution = "layers/rlsp/cell/convolutions/conv2d" + (f"_{index}" if index else "")
                inputs, outputs = config.channels(index)
                for name, shape in (("0", (3, 3, inputs, outputs)), ("1", (outputs,))):
                    dataset = file.get(f"{convolution}/vars/{name}")
                    if not isinstance(dataset, h5py.Dataset):
                        raise ValueError(f"no weights of layer{index}")
                    if dataset.shape != shape or dataset.dtype != np.float32:
                        found = f"{dataset.shape} of {dataset.dtype}"
                        raise ValueError(f"layer{index} has {found} instead of {shape} of float32")
                    weights.append(dataset[()])
        return SavedNetwork(config, str(policy), weights)


def check_weights(path: str | os.PathLike[str]) -> None:
    """Checks that a training's ``.keras`` file contains all its arrays, before Keras loads them.

    Raises:
        RLSPError: if the file is missing or damaged, or if it refers to data in other files.
    """
    as_one_sentence = _as_one_sentence(path, "is damaged", "begin another run")
    with as_one_sentence, zipfile.ZipFile(path) as archive, _weights_file(archive):
        pass


@contextlib.contextmanager
def _as_one_sentence(path: str | os.PathLike[str], problem: str, advice: str) -> Iterator[None]:
    """Turns any exception raised while a file is read into an RLSPError of one sentence."""
    try:
        yield
    except (MemoryError, RLSPError):
        raise
    except Exception as error:  # readers of archives and of HDF5 raise whatever their parts do
        raise RLSPError(f"{path}: {problem} ({first_line(error)}); {advice}.") from error


def _layer(path: str | os.PathLike[str], model: Any) -> dict[str, Any]:
    """Returns the configuration of the RLSP layer."""
    layers = model["config"]["layers"]
    kinds = [layer.get("registered_name") or layer["class_name"] for layer in layers]
    if kinds == ["InputLayer", TRAINED]:
        raise RLSPError(
            f"{path}: is the checkpoint of a training; give averaged.keras or best.keras beside it instead."
        )
    if kinds != ["InputLayer", LAYER]:
        raise ValueError("other layers than one of RLSP")
    return dict(layers[1]["config"])


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    """Reads one file of the archive and checks its checksum, and the archive's list of files."""
    if others := sorted(set(archive.namelist()) - MEMBERS):
        raise ValueError(f"{others[0]!r} beside the network")
    for member in archive.infolist():
        largest = LARGEST_TEXT if member.filename.endswith(".json") else LARGEST
        if member.file_size > largest:
            raise ValueError(f"{member.filename} would have more than {largest} bytes")
    return archive.read(name)


@contextlib.contextmanager
def _weights_file(archive: zipfile.ZipFile) -> Iterator[h5py.File]:
    """Opens the HDF5 file with a model's weights after checking every entry."""
    content = _read(archive, "model.weights.h5")
    with h5py.File(io.BytesIO(content), "r") as file:
        _check_entries(file, len(content))
        yield file


def _check_entries(file: h5py.File, size: int) -> None:
    """Raises unless the bytes of every array are in the file itself.

    HDF5 allows links to other files, arrays stored in other files, and arrays of any size that take no space.
    """
    waiting, seen = [file], set()
    while waiting:
        group = waiting.pop()
        for name in group:
            # The low-level functions do not follow a link, as h5py's others do to find out what it is. Even
            # they would follow one in a name with a slash, which HDF5 itself never writes.
            if "/" in name or group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
                raise ValueError(f"{name!r} is a link")
            found = group[name]
            address = h5py.h5o.get_info(found.id).addr
            if address in seen:
                raise ValueError(f"{name!r} is there twice")
            seen.add(address)
            if isinstance(found, h5py.Group):
                waiting.append(found)
            elif not isinstance(found, h5py.Dataset):
                raise ValueError(f"{name!r} is no array")
            else:
                start = found.id.get_offset()  # None unless the array is stored in one piece
                if start is None or start + found.nbytes > size:
                    raise ValueError(f"the bytes of {name!r} are not in it")
