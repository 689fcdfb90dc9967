"""Trained weights: those that come with the package, loaded by name, and ``.keras`` files.

Last of the four modules that are the network.
"""

import importlib.resources
import os
import re
from pathlib import Path
from typing import Any

import keras

from rlsp_tf.errors import RLSPError
from rlsp_tf.network.keras_file import read_network
from rlsp_tf.network.model import POLICIES, build_model, policy_of
from rlsp_tf.system.files import read_json, sha256_of


def load_model(path_or_name: str | os.PathLike[str], *, precision: str | None = None) -> keras.Model:
    """Loads an RLSP model.

    Only numbers are read from the file; no code in it is run (:mod:`rlsp_tf.network.keras_file`).

    Args:
        path_or_name: path of a ``.keras`` file, or the name of a weight set in
            ``checkpoints/manifest.json``. The file of a weight set must have the SHA-256 given there.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"``, in which the convolutions compute; by
            default the precision that the file was saved in.

    Returns:
        A Keras model as :func:`build_model` makes it, with the file's weights. Options of the saved layer,
        such as ``warm_start``, and the state of a training are not restored.

    Raises:
        RLSPError: if the file is missing, damaged or not an RLSP model, or was saved in a precision other
            than these.
        ValueError: if ``precision`` is unknown.
    """
    policy_of(precision)
    path = find_weights(path_or_name)
    network = read_network(path)
    if precision is None:
        saved = [name for name, policy in POLICIES.items() if policy == network.policy]
        if not saved:
            raise RLSPError(f"{path}: was saved in {network.policy!r}; give one of {', '.join(POLICIES)}.")
        (precision,) = saved
    model = build_model(network.config, precision=precision)
    model.set_weights(network.weights)
    return model


def checkpoints() -> Path:
    """Returns the folder of the weights that come with the package.

    Raises:
        RLSPError: if it is missing, for example because only some of the package's files were copied.
    """
    try:
        return Path(str(importlib.resources.files("rlsp_tf.checkpoints")))
    except ModuleNotFoundError as error:
        raise RLSPError(
            "the weights that come with rlsp_tf are not installed; install it (in its source folder: "
            "pip install -e .), or give a .keras file."
        ) from error


def find_weights(path_or_name: str | os.PathLike[str]) -> Path:
    """Returns the weights file that a path or the name of a weight set stands for.

    Raises:
        RLSPError: if there is no such file or name, or the file of a weight set does not have the SHA-256
            of the manifest.
    """
    path = Path(path_or_name)
    if path.is_file():
        return path
    if path.is_dir():
        raise RLSPError(f"{path}: is a folder; give a .keras file.")
    manifest = read_manifest()
    entry = manifest.get(str(path_or_name))
    if entry is None:
        known = f", or one of {', '.join(manifest)}" if manifest else ""
        # A set that the authors published may be meant, by its name or as the file that a download makes.
        authors = re.search(r"7-(48|64|128)", path.name)
        raise RLSPError(
            f"{path_or_name}: no such file or weight set; give a .keras file{known}. rlsp-convert download "
            f"{authors[0] if authors else '7-64'} weights/ gets weights of the paper's authors."
        )
    weights = checkpoints() / entry["file"]
    if not weights.is_file():
        raise RLSPError(f"{weights}: is missing; install rlsp_tf again.")
    if sha256_of(weights) != entry["sha256"]:
        raise RLSPError(
            f"{weights}: is not the file in the manifest (SHA-256 differs); install rlsp_tf again."
        )
    return weights


def read_manifest() -> dict[str, dict[str, Any]]:
    """Returns the entries of the manifest by name: the weight sets that come with the package.

    ``checkpoints/README.md`` describes the fields of an entry.

    Raises:
        RLSPError: if the manifest is damaged, or names a file in another folder.
    """
    path = checkpoints() / "manifest.json"
    if not path.is_file():
        return {}
    manifest = read_json(path, "install rlsp_tf again")
    try:
        whole = all(
            Path(entry["file"]).name == entry["file"] and isinstance(entry["sha256"], str)
            for entry in manifest.values()
        )
    except (AttributeError, LookupError, TypeError):
        whole = False
    if not whole:
        raise RLSPError(f"{path}: is damaged; install rlsp_tf again.")
    return manifest
