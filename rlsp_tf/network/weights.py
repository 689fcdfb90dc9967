"""Weights on disk: those that come with the package, by name, and ``.keras`` files."""

import importlib.resources
import os
from pathlib import Path
from typing import Any

import keras

from rlsp_tf.errors import RLSPError
from rlsp_tf.network.keras_file import read_network
from rlsp_tf.network.model import POLICIES, build_model, policy_of
from rlsp_tf.system.files import read_json, sha256_of


def load_model(path_or_name: str | os.PathLike[str], *, precision: str | None = None) -> keras.Model:
    """Loads an RLSP model. Nothing that the file names is run; see :mod:`rlsp_tf.network.keras_file`.

    Args:
        path_or_name: a ``.keras`` file, or the name of a weight set in ``checkpoints/manifest.json``,
            whose file must have the SHA-256 that stands there.
        precision: as in :func:`build_model`; by default what the file was saved with.

    Returns:
        A model as :func:`build_model` makes it, with the file's weights: a layer that was saved in training,
        or with options of its own, such as ``warm_start``, comes back without them.

    Raises:
        RLSPError: if the file is missing, damaged or no RLSP model, or was saved in a precision that is
            none of these.
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
    """The folder of the weights that come with the package.

    Raises:
        RLSPError: if it is missing, as where only some of the package's files were copied.
    """
    try:
        return Path(str(importlib.resources.files("rlsp_tf.checkpoints")))
    except ModuleNotFoundError as error:
        raise RLSPError(
            "the weights that come with rlsp_tf are not installed; install it (in its source folder: "
            "pip install -e .), or give a .keras file."
        ) from error


def find_weights(path_or_name: str | os.PathLike[str]) -> Path:
    """The file behind a path or the name of a weight set, checked as :func:`load_model` says."""
    path = Path(path_or_name)
    if path.is_file():
        return path
    if path.is_dir():
        raise RLSPError(f"{path}: is a folder; give a .keras file.")
    manifest = read_manifest()
    entry = manifest.get(str(path_or_name))
    if entry is None:
        known = f", or one of {', '.join(manifest)}" if manifest else " (rlsp-convert makes them)"
        raise RLSPError(f"{path_or_name}: no such file or weight set; give a .keras file{known}.")
    weights = checkpoints() / entry["file"]
    if not weights.is_file():
        raise RLSPError(f"{weights}: is missing; install rlsp_tf again.")
    if sha256_of(weights) != entry["sha256"]:
        raise RLSPError(
            f"{weights}: is not the file in the manifest (SHA-256 differs); install rlsp_tf again."
        )
    return weights


def read_manifest() -> dict[str, dict[str, Any]]:
    """The weight sets that come with the package, by name; see ``checkpoints/README.md``.

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
