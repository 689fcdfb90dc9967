"""Names and shapes of the tensors in the TensorFlow 1 checkpoints of the paper's authors."""

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rlsp_tf.errors import RLSPError
from rlsp_tf.network.config import RLSPConfig

Shapes = dict[str, tuple[int, ...]]

ADAM_SLOTS = ("Adam", "Adam_1")
"""Suffixes of the tensors with the first and second moment of Adam, which the authors' training saved beside
every weight."""
ADAM_POWERS = {"beta1_power": 0.9, "beta2_power": 0.999}
"""Tensors with the running powers of Adam's decay rates, and their values before the first step."""


def tensor_shapes(config: RLSPConfig) -> Shapes:
    """Returns the shapes of a network's weights by their names in the authors' layout.

    Kernels are ``(3, 3, in, out)``, biases ``(out,)``.
    """
    shapes: Shapes = {}
    for index in range(config.layers + 1):
        inputs, outputs = config.channels(index)
        shapes[f"layer{index}/kernel"] = (3, 3, inputs, outputs)
        shapes[f"layer{index}/bias"] = (outputs,)
    return shapes


def config_of(shapes: Mapping[str, tuple[int, ...]], prefix: str | os.PathLike[str]) -> RLSPConfig:
    """Finds the configuration of a network from the shapes of its tensors in a checkpoint.

    Args:
        shapes: shape of every tensor by its name; Adam's slots and powers may be among them.
        prefix: path of the checkpoint, for messages.

    Returns:
        The one configuration whose :func:`tensor_shapes` are ``shapes``.

    Raises:
        RLSPError: if there is no such configuration. The message lists the tensors that are missing,
            unexpected or of wrong shape.
    """
    layers = sum(1 for name in shapes if re.fullmatch(r"layer\d+/kernel", name)) - 1
    names = {f"layer{index}/{part}" for index in range(layers + 1) for part in ("kernel", "bias")}
    optimizer = {f"{name}/{slot}" for name in names for slot in ADAM_SLOTS} | set(ADAM_POWERS)
    problems = [f"missing {name}" for name in sorted(names - set(shapes))]
    problems += [f"unexpected {name}" for name in sorted(set(shapes) - names - optimizer)]
    settings: dict[str, int] = {}
    if layers < 2:
        problems.insert(0, "fewer than three tensors layerN/kernel")
    elif not problems:
        filters, state_filters, both = (
            math.prod(shapes[f"layer{index}/bias"]) for index in (0, layers - 1, layers)
        )
        settings = {"filters": filters, "state_filters": state_filters, "scale": math.isqrt(both)}
    failure = f"{prefix}: give a checkpoint of an RLSP network with luma output"
    return matching_config(shapes, tensor_shapes, problems, failure, output="y", layers=layers, **settings)


def matching_config(
    shapes: Mapping[str, tuple[int, ...]],
    expected: Callable[[RLSPConfig], Shapes],
    problems: Sequence[str],
    failure: str,
    **settings: Any,
) -> RLSPConfig:
    """Makes a configuration and checks that its tensors have the shapes of those in a checkpoint.

    Args:
        shapes: shape of every tensor in the checkpoint by its name.
        expected: function that returns the shapes of the tensors of a configuration.
        problems: problems with the names of the tensors.
        failure: beginning of the message if there are problems.
        settings: fields of the configuration, used only if there are no ``problems``.

    Raises:
        RLSPError: if there are ``problems``, the settings are invalid, or a shape differs. The message lists
            all problems.
    """
    if not problems:
        try:
            config = RLSPConfig(**settings)
        except ValueError as error:
            problems = [str(error)]
        else:
            problems = [
                f"{name} has shape {shapes[name]} instead of {shape}"
                for name, shape in expected(config).items()
                if shapes[name] != shape
            ]
    if problems:
        raise RLSPError(f"{failure}; this one: {listed(problems)}.")
    return config


def listed(names: Iterable[str]) -> str:
    """Joins names by commas; after twelve it only counts the rest."""
    names = list(names)
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
