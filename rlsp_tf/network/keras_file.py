"""Networks out of ``.keras`` files, of which nothing is run.

Keras makes whatever objects the configuration in such a file names, down to functions and files of other
names. From here come only the numbers of an :class:`rlsp_tf.RLSPConfig`, the name of a precision, and
arrays of exactly the shapes that follow from them; the network around them is made by our own code.
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

from rlsp_tf.errors import RLSPError
from rlsp_tf.network.config import RLSPConfig

LAYERS = {"rlsp_tf>RLSP": "rlsp", "rlsp_tf>CarriedRLSP": "carried_rlsp"}
"""Layers that hold a network, by the names of their classes, and what Keras calls their weights."""
MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
"""What is in the archive."""
LARGEST = 2**30
"""Bytes of a member, unpacked; the paper's largest network has 60 MB in the middle of training."""
LARGEST_TEXT = 2**20
"""Bytes of a member that is JSON; Keras writes some thousand. Brackets take 30 times as many when parsed."""


class SavedNetwork(NamedTuple):
    """What a file holds.

    Attributes:
        config: the network's shape.
        policy: the name of the Keras dtype policy with which it was saved; any text.
        weights: float32, kernel ``(3, 3, in, out)`` and bias ``(out,)`` of one convolution after the other.
    """

    config: RLSPConfig
    policy: str
    weights: list[np.ndarray]


def read_network(path: str | os.PathLike[str]) -> SavedNetwork:
    """Reads a network that Keras has saved, in training or not.

    It takes not much more memory than the file has bytes, unpacked, whatever the file says of itself.

    Args:
        path: a ``.keras`` file with a model of one :class:`rlsp_tf.RLSP` layer.

    Raises:
        RLSPError: if the file is missing, damaged, of something else, or has anything beside.
    """
    if not zipfile.is_zipfile(path):
        raise RLSPError(f"{path}: not a .keras file; convert checkpoints with rlsp-convert first.")
    sentence = _sentence(path, "no RLSP model, or a damaged one", "convert or download it again")
    with sentence, zipfile.ZipFile(path) as archive:
        layer, group = _layer(json.loads(_read(archive, "config.json")))
        config = RLSPConfig.from_dict(layer["config"])
        dtype = layer["dtype"]
        policy = dtype["config"]["name"] if isinstance(dtype, dict) else dtype
        with _weights_file(archive) as file:
            weights = []
            for index in range(config.layers + 1):
                convolution = f"layers/{group}/cell/convolutions/conv2d" + (f"_{index}" if index else "")
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
    """Makes sure that the arrays of a training's ``.keras`` file lie in it, before Keras loads them.

    Raises:
        RLSPError: if the file is missing or damaged, or if something in it lies elsewhere.
    """
    sentence = _sentence(path, "is damaged", "begin another run")
    with sentence, zipfile.ZipFile(path) as archive, _weights_file(archive):
        pass


@contextlib.contextmanager
def _sentence(path: str | os.PathLike[str], problem: str, advice: str) -> Iterator[None]:
    """Turns what is raised for a file into one sentence."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # readers of archives and of HDF5 raise whatever their parts do
        lines = str(error).strip().splitlines()
        reason = lines[0].rstrip(".") if lines else type(error).__name__
        raise RLSPError(f"{path}: {problem} ({reason}); {advice}.") from error


def _layer(model: Any) -> tuple[dict[str, Any], str]:
    """The configuration of the layer with the network, and the group of its weights."""
    layers = model["config"]["layers"]
    kinds = [layer.get("registered_name") or layer["class_name"] for layer in layers]
    for kind, group in LAYERS.items():
        if kinds == ["InputLayer", kind]:
            return layers[1]["config"], group
    raise ValueError("other layers than one of RLSP")


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member of an archive, whose checksum is looked at as well."""
    if others := sorted(set(archive.namelist()) - MEMBERS):
        raise ValueError(f"{others[0]!r} beside the network")
    for member in archive.infolist():
        largest = LARGEST_TEXT if member.filename.endswith(".json") else LARGEST
        if member.file_size > largest:
            raise ValueError(f"{member.filename} would have more than {largest} bytes")
    return archive.read(name)


@contextlib.contextmanager
def _weights_file(archive: zipfile.ZipFile) -> Iterator[h5py.File]:
    """The arrays of a model, after a look at all of them."""
    content = _read(archive, "model.weights.h5")
    with h5py.File(io.BytesIO(content), "r") as file:
        _look_through(file, len(content))
        yield file


def _look_through(file: h5py.File, size: int) -> None:
    """Raises unless every group and every array lies in the file itself, where its bytes are.

    HDF5 has links and arrays into other files, and arrays of any size that take no space.
    """
    waiting, seen = [file], set()
    while waiting:
        group = waiting.pop()
        for name in group:
            # By its lowest functions, since the others follow a link to tell what it is. With a slash, which
            # nothing that HDF5 writes has in a name, these would follow one too.
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
                start = found.id.get_offset()  # none unless it lies in one piece
                if start is None or start + found.nbytes > size:
                    raise ValueError(f"the bytes of {name!r} are not in it")
