r"""The cell in the coordinates in which it is trained.

Frames and feedback are numbers of 0..255, most of them far from zero. In the coordinates of the network, a
small change of a kernel therefore moves its output by tens of grey levels, up or down everywhere, while a
step of Adam moves a bias by a thousandth of one. Filters are pushed below zero, where ReLU keeps them for
good: of the 48 filters of a first layer that was trained so, 44 had an output of zero in nearly all pixels.

With ``UNIT`` grey levels as the unit, and as the zero of frames and feedback, kernels stay as they are, and
the bias ``c`` that is trained belongs to the bias ``b`` of the network by::

    b = UNIT * (c - sum of the kernel over frames and feedback)        layer0
    b = UNIT * c                                                       all other layers

This changes nothing but the course of training (LeCun et al., "Efficient BackProp", 1998, section 4.3).
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from rlsp_tf.network.cell import RLSPCell
from rlsp_tf.network.config import RLSPConfig

UNIT = 128.0
"""Grey levels."""


@keras.saving.register_keras_serializable(package="rlsp_tf")
class CentredConv2D(keras.layers.Conv2D):
    """A convolution whose variable ``bias`` is the bias that is trained; see the module.

    Attributes:
        centred: float ``(in,)``, 1 for the input channels that hold frames or feedback, otherwise 0; ``None``
            if there are none.
    """

    centred: np.ndarray | None = None

    def network_bias(self) -> Any:
        """Returns the bias of the network, ``(out,)``, in the dtype of the variables."""
        bias = ops.convert_to_tensor(self.bias)
        if self.centred is not None:
            sums = ops.sum(ops.convert_to_tensor(self.kernel), axis=(0, 1))
            bias = bias - ops.matmul(ops.convert_to_tensor(self.centred, sums.dtype), sums)
        return UNIT * bias

    def call(self, inputs: Any) -> Any:
        """Applies kernel and bias of the network."""
        bias = ops.cast(self.network_bias(), self.compute_dtype)
        return self.convolution_op(inputs, self.kernel) + bias


class CentredCell(RLSPCell):
    """An :class:`rlsp_tf.network.cell.RLSPCell` in the coordinates of training; arguments as there."""

    convolution = CentredConv2D

    def __init__(self, config: RLSPConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.convolutions[0].centred = _centred(config)


def network_weights(trained: Sequence[np.ndarray], config: RLSPConfig) -> list[np.ndarray]:
    """Converts weights from the coordinates of training to those of the network.

    Args:
        trained: kernels and biases in turn, as ``CentredCell.get_weights`` returns them.
        config: configuration of the network.
    """
    weights = [np.array(each) for each in trained]
    weights[1] -= _centred(config) @ weights[0].sum(axis=(0, 1))
    return [UNIT * each if each.ndim == 1 else each for each in weights]


def trained_weights(weights: Sequence[np.ndarray], config: RLSPConfig) -> list[np.ndarray]:
    """Converts weights from the coordinates of the network to those of training."""
    trained = [each / UNIT if each.ndim == 1 else np.array(each) for each in weights]
    trained[1] += _centred(config) @ trained[0].sum(axis=(0, 1))
    return trained


def _centred(config: RLSPConfig) -> np.ndarray:
    """Returns 1 for the input channels of the first layer that hold frames or feedback, otherwise 0."""
    channels = np.ones(config.input_channels, np.float32)
    hidden = 3 * config.window
    channels[hidden : hidden + config.hidden_channels] = 0
    return channels
