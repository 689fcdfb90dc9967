"""Gradients of the cell's convolutions, on TensorFlow: all that is asked for, with less work.

Back-propagation through time makes a gradient of every kernel for every frame, and adds them up. Frames have
to be computed one after the other, these gradients need not: they are one gradient of the frames' inputs and
output gradients laid side by side as a batch. And the first convolution's inputs are several tensors, not all
of which need a gradient: frames never do, nor does the state that a sample begins with.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from rlsp_tf.cell import RLSPCell


@contextlib.contextmanager
def lighter_gradients(cell: RLSPCell) -> Iterator[None]:
    """Within it, calls of the cell share one gradient of each kernel and bias; for one unrolled recurrence.

    The gradient is made when that of the first call is asked for, so every later call has to depend on the
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
                return *of_parts, *(self._of_weights(kernel.shape) if first else (None, None))

            return tf.nn.bias_add(tf.nn.conv2d(inputs, kernel, **_AS_LAYERS), bias), gradients

        return convolve(*parts, *self._weights)

    def _of_weights(self, shape: Any) -> tuple[tf.Tensor, tf.Tensor]:
        inputs, gradients = (tf.concat(parts, axis=0) for parts in (self._inputs, self._gradients))
        of_kernel = tf.raw_ops.Conv2DBackpropFilter(
            input=inputs, filter_sizes=shape, out_backprop=gradients, **_AS_LAYERS
        )
        # On a CPU one operation with that of the kernel: TensorFlow looks for the two of them.
        return of_kernel, tf.raw_ops.BiasAddGrad(out_backprop=gradients)


_AS_LAYERS: dict[str, Any] = {"strides": [1, 1, 1, 1], "padding": "SAME"}
