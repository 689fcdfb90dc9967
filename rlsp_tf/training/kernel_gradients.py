"""Gradients of the cell's convolutions, on TensorFlow: all that is asked for, with less work.

Back-propagation through time makes a gradient of every kernel for every frame, and adds them up. Frames have
to be computed one after the other, these gradients need not: that of some frames is one gradient of their
inputs and output gradients laid side by side as a batch. And the first convolution's inputs are several
tensors, not all of which need a gradient: frames never do, nor does the state that a sample begins with.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from rlsp_tf.network.cell import RLSPCell

FRAMES = 5
"""So many share a gradient of a kernel: with the few samples that a core has, about what its cache holds."""


@contextlib.contextmanager
def lighter_gradients(cell: RLSPCell) -> Iterator[None]:
    """Within it, calls of the cell share gradients of kernels and biases; for one unrolled recurrence.

    They are complete when that of the first call is asked for, so every later call has to depend on the
    first one's output, as frames do on those before.

    Args:
        cell: with its weights.
    """
    first, *others = cell.convolutions
    cell.enter = _Gathered(first)  # type: ignore[method-assign]
    for layer in others:
        layer.call = _Gathered(layer).of_one
    try:
        yield
    finally:
        # The methods of the classes again.
        del cell.enter
        for layer in others:
            del layer.call


class _Gathered:
    """The call of a layer, which leaves what the gradients of kernel and bias are made of.

    Args:
        layer: with a bias, without strides, dilation or activation, on ``(B, H, W, C)``, padded by
            ``"same"``.
    """

    def __init__(self, layer: keras.layers.Conv2D) -> None:
        self._layer = layer
        self._weights: tuple[tf.Tensor, tf.Tensor] | None = None
        self._inputs: list[tf.Tensor] = []
        self._gradients: list[tf.Tensor] = []
        self._made: list[tuple[tf.Tensor, tf.Tensor]] = []

    def of_one(self, inputs: tf.Tensor) -> tf.Tensor:
        """The layer's output for inputs that are one tensor."""
        return self([inputs])

    def __call__(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        """The layer's output for inputs that are these tensors beside each other, on the channel axis."""
        first = self._weights is None
        if self._weights is None:
            # Read and cast once, rather than for every frame.
            dtype = self._layer.compute_dtype
            self._weights = tf.cast(self._layer.kernel, dtype), tf.cast(self._layer.bias, dtype)

        @tf.custom_gradient
        def convolve(*arguments: tf.Tensor) -> Any:
            *parts, kernel, bias = arguments
            inputs = parts[0] if len(parts) == 1 else tf.concat(parts, axis=-1)

            def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor | None, ...]:
                self._inputs.append(inputs)
                self._gradients.append(upstream)
                # Every part has its own operation, and an operation that nobody asks for is never run.
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
        """The gradients of kernel and bias, if this completes them; makes those that are due."""
        if complete or len(self._inputs) == FRAMES:
            inputs, gradients = (tf.concat(parts, axis=0) for parts in (self._inputs, self._gradients))
            of_kernel = tf.raw_ops.Conv2DBackpropFilter(
                input=inputs, filter_sizes=shape, out_backprop=gradients, **_AS_LAYERS
            )
            # On a CPU one operation with that of the kernel: TensorFlow looks for the two of them.
            self._made.append((of_kernel, tf.raw_ops.BiasAddGrad(out_backprop=gradients)))
            self._inputs, self._gradients = [], []
        if not complete:
            return None, None
        of_kernels, of_biases = zip(*self._made, strict=True)
        return tf.add_n(of_kernels), tf.add_n(of_biases)


_AS_LAYERS: dict[str, Any] = {"strides": [1, 1, 1, 1], "padding": "SAME"}
