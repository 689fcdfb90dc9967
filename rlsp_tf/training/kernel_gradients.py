"""Computes the gradients of the cell's convolutions with less work, for TensorFlow.

Back-propagation through time computes the gradient of every kernel for every frame, and adds them up. Unlike
the frames, these gradients do not depend on each other, so those of several frames are computed at once, with
the frames as a batch. Furthermore, the inputs of the first convolution are several tensors, some of which
need no gradient: the frames and the initial state.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from rlsp_tf.training.centred import CentredCell, CentredConv2D

FRAMES = 5
"""Frames whose gradients are computed at once. With the few samples of a core, they fit into its cache."""


@contextlib.contextmanager
def lighter_gradients(cell: CentredCell) -> Iterator[None]:
    """Lets the calls of a cell share gradients of kernels and biases in a block with one unrolled recurrence.

    The gradients are complete when that of the first call is computed. So every later call has to depend on
    the output of the first one, as it does in a recurrence.

    Args:
        cell: the cell, with its weights.
    """
    first, *others = cell.convolutions
    cell.enter = _Gathered(first)  # type: ignore[method-assign]
    for layer in others:
        layer.call = _Gathered(layer).of_one
    try:
        yield
    finally:
        # Restores the methods of the classes.
        del cell.enter
        for layer in others:
            del layer.call


class _Gathered:
    """The call of a convolution, which collects what the gradients of kernel and bias are computed from.

    Args:
        layer: a convolution on ``(B, H, W, C)`` with padding ``"same"``, without strides, dilation or
            activation.
    """

    def __init__(self, layer: CentredConv2D) -> None:
        self._layer = layer
        self._weights: tuple[tf.Tensor, tf.Tensor] | None = None
        self._inputs: list[tf.Tensor] = []
        self._gradients: list[tf.Tensor] = []
        self._made: list[tuple[tf.Tensor, tf.Tensor]] = []

    def of_one(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the output of the layer for a single input tensor."""
        return self([inputs])

    def __call__(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the output of the layer for tensors that are joined on the channel axis."""
        first = self._weights is None
        if self._weights is None:
            # They are cast once rather than for every frame.
            dtype = self._layer.compute_dtype
            self._weights = tf.cast(self._layer.kernel, dtype), tf.cast(self._layer.network_bias(), dtype)

        @tf.custom_gradient
        def convolve(*arguments: tf.Tensor) -> Any:
            *parts, kernel, bias = arguments
            inputs = parts[0] if len(parts) == 1 else tf.concat(parts, axis=-1)

            def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor | None, ...]:
                self._inputs.append(inputs)
                self._gradients.append(upstream)
                # Each part has an operation of its own, which is not run if its gradient is not needed.
                kernels = tf.split(kernel, [part.shape[-1] for part in parts], axis=2)
                of_parts = (
                    tf.raw_ops.Conv2DBackpropInput(
                        input_sizes=tf.shape(part), filter=own, out_backprop=upstream, **_AS_LAYERS
                    )
                    for part, own in zip(parts, kernels, strict=True)
                )
                return *of_parts, *self._of_weights(kernel.shape, complete=first)

            return tf.nn.bias_add(tf.nn.conv2d(inputs, kernel, **_AS_LAYERS), bias), gradients

        return convolve(*parts, *self._weights)

    def _of_weights(self, shape: Any, *, complete: bool) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        """Returns the gradients of kernel and bias if ``complete``; computes those of ``FRAMES`` frames."""
        if complete or len(self._inputs) == FRAMES:
            inputs, gradients = (tf.concat(parts, axis=0) for parts in (self._inputs, self._gradients))
            of_kernel = tf.raw_ops.Conv2DBackpropFilter(
                input=inputs, filter_sizes=shape, out_backprop=gradients, **_AS_LAYERS
            )
            # On a CPU, TensorFlow fuses this with the gradient of the kernel.
            self._made.append((of_kernel, tf.raw_ops.BiasAddGrad(out_backprop=gradients)))
            self._inputs, self._gradients = [], []
        if not complete:
            return None, None
        of_kernels, of_biases = zip(*self._made, strict=True)
        return tf.add_n(of_kernels), tf.add_n(of_biases)


_AS_LAYERS: dict[str, Any] = {"strides": [1, 1, 1, 1], "padding": "SAME"}
