"""Turns a trained network into the beginning of a wider one."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rlsp_tf.network.config import RLSPConfig


def can_widen(narrow: RLSPConfig, wide: RLSPConfig) -> bool:
    """Returns whether two networks differ only in their filters, of which ``wide`` has at least as many."""
    same = replace(narrow, filters=wide.filters, state_filters=wide.state_filters) == wide
    return same and narrow.filters <= wide.filters and narrow.hidden_channels <= wide.hidden_channels


def widen(
    trained: Sequence[np.ndarray], narrow: RLSPConfig, untrained: Sequence[np.ndarray], wide: RLSPConfig
) -> list[np.ndarray]:
    """Returns weights with which a wider network computes exactly what a trained narrow one does.

    As in Net2Net (Chen et al. 2016, arXiv 1511.05641, which copies filters), nothing learned is lost. New
    filters read everything that the old ones read, with the weights of an untrained network; the weights by
    which old filters and the output read new filters are zero. So are all weights that read new channels of
    the hidden state, so that these cannot grow from frame to frame. Training can use the new filters at once:
    their outputs already carry signal, only the weights reading them are zero.

    Args:
        trained: weights of the narrow network: kernels ``(3, 3, in, out)`` and biases ``(out,)`` in turn.
        narrow: configuration of the narrow network.
        untrained: weights of the wide network before any training, in the same order.
        wide: configuration of the wide network; :func:`can_widen` must hold.

    Returns:
        Kernels and biases of the wide network, in the same order.
    """
    weights: list[np.ndarray] = []
    for layer in range(narrow.layers + 1):
        kernel, bias = (np.array(each) for each in untrained[2 * layer : 2 * layer + 2])
        inputs, outputs = narrow.channels(layer)
        rows = np.arange(inputs)
        if layer == 0:
            # The inputs are window, hidden state and feedback; new state channels come before the feedback.
            first_new = 3 * narrow.window + narrow.hidden_channels
            new = wide.hidden_channels - narrow.hidden_channels
            kernel[:, :, first_new : first_new + new] = 0
            rows[first_new:] += new
        kernel[..., :outputs] = 0
        kernel[:, :, rows, :outputs] = trained[2 * layer]
        bias[:outputs] = trained[2 * layer + 1]
        weights += [kernel, bias]
    return weights
