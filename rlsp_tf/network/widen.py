"""A trained network as the beginning of a wider one."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rlsp_tf.network.config import RLSPConfig


def can_widen(narrow: RLSPConfig, wide: RLSPConfig) -> bool:
    """Whether two networks differ in nothing but filters, of which the second has at least as many."""
    same = replace(narrow, filters=wide.filters, state_filters=wide.state_filters) == wide
    return same and narrow.filters <= wide.filters and narrow.hidden_channels <= wide.hidden_channels


def widen(
    trained: Sequence[np.ndarray], narrow: RLSPConfig, untrained: Sequence[np.ndarray], wide: RLSPConfig
) -> list[np.ndarray]:
    """Weights with which a wider network computes what a trained one does.

    As in Net2Net (Chen et al. 2016, arXiv 1511.05641, which copies filters), nothing learned is lost: new
    filters answer to all that the old ones do, as in an untrained network, but no old filter, nor the output,
    answers to a new one yet. Nothing answers to new channels of the hidden state, so that these cannot grow
    from frame to frame. Training sets in at once, because what nobody listens to is there to be listened to.

    Args:
        trained: kernels ``(3, 3, in, out)`` and biases ``(out,)`` of the narrow network, in turn.
        narrow, wide: their shapes; :func:`can_widen` must hold.
        untrained: of the wide network.

    Returns:
        Kernels and biases of the wide network.
    """
    weights: list[np.ndarray] = []
    for layer in range(narrow.layers + 1):
        kernel, bias = (np.array(each) for each in untrained[2 * layer : 2 * layer + 2])
        inputs, outputs = narrow.channels(layer)
        rows = np.arange(inputs)
        if layer == 0:
            # Window, hidden state, feedback.
            first_new = 3 * narrow.window + narrow.hidden_channels
            new = wide.hidden_channels - narrow.hidden_channels
            kernel[:, :, first_new : first_new + new] = 0
            rows[first_new:] += new
        kernel[..., :outputs] = 0
        kernel[:, :, rows, :outputs] = trained[2 * layer]
        bias[:outputs] = trained[2 * layer + 1]
        weights += [kernel, bias]
    return weights
