"""Gradients of kernels and biases for all frames of a sample at once, on TensorFlow.

Back-propagation through time makes a gradient of every kernel for every frame, and adds them up. Frames have
to be computed one after the other, these gradients need not: they are one gradient of the frames' inputs and
output gradients laid side by side as a batch. For the few samples that a core has, that is faster.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf


@contextlib.contextmanager
def kernel_gradients_at_once(convolutions: Sequence[keras.layers.Conv2D]) -> Iterator[None]:
    """Within it, calls of a layer share one gradient of its kernel and bias; for one unrolled recurrence.

    The gradient is made when that of the first call is asked for, so every later call has to depend on the
    first one's output, as frames do on those before.

    Args:
        convolutions: layers with a bias, without strides, dilation or activation, on ``(B, H, W, C)``,
            padded by ``"same"``.
    """
    for layer in convolutions:
        layer.call = _Gathered(layer)
    try:
        yield
    finally:
        for layer in convolutions:
            # The method of the class again.
            del layer.call


class _Gathered:
    """The call of a layer, which leaves what the gradients of kernel and bias are made of."""

    def __init__(self, layer: keras.layers.Conv2D) -> None:
        self._layer = layer
        self._weights: tuple[tf.Tensor, tf.Tensor] | None = None
        self._inputs: list[tf.Tensor] = []
        self._gradients: list[tf.Tensor] = []

    def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
        first = self._weights is None
        if self._weights is None:
            # Read and cast once, rather than for every frame.
            self._weights = tf.convert_to_tensor(self._layer.kernel), tf.convert_to_tensor(self._layer.bias)

        @tf.custom_gradient
        def convolve(inputs: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> Any:
            def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor | None, ...]:
                self._inputs.append(inputs)
                self._gradients.append(upstream)
                of_inputs = tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=tf.shape(inputs), filter=kernel, out_backprop=upstream, **_AS_LAYERS
                )
                return of_inputs, *(self._of_weights(kernel.shape) if first else (None, None))

            return tf.nn.bias_add(tf.nn.conv2d(inputs, kernel, **_AS_LAYERS), bias), gradients

        return convolve(inputs, *self._weights)

    def _of_weights(self, shape: Any) -> tuple[tf.Tensor, tf.Tensor]:
        inputs, gradients = (tf.concat(parts, axis=0) for parts in (self._inputs, self._gradients))
        of_kernel = tf.raw_ops.Conv2DBackpropFilter(
            input=inputs, filter_sizes=shape, out_backprop=gradients, **_AS_LAYERS
        )
        # A product with ones: a sum takes several times as long in bfloat16.
        pixels = tf.reshape(gradients, (-1, shape[-1]))
        of_bias = tf.matmul(tf.ones((1, tf.shape(pixels)[0]), pixels.dtype), pixels)
        return of_kernel, tf.reshape(of_bias, (-1,))


_AS_LAYERS: dict[str, Any] = {"strides": [1, 1, 1, 1], "padding": "SAME"}
