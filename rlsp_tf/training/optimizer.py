r"""The optimizer: Muon for the kernels of convolutions, Adam for biases.

A step of Muon is as large in all directions that the gradient has, where a step of Adam follows the few in
which gradients are largest. A kernel ``(height, width, in, out)`` is a matrix of ``height * width * in`` rows
and ``out`` columns. With the matrix of its averaged gradients ``M = U S V^T`` (singular value
decomposition), the step is about ``U V^T``, scaled so that its root mean square is that of Adam's steps, 0.2
times the learning rate.

Keras has a Muon of its own, which takes Adam for whatever is not a matrix, kernels of convolutions included.

Sources: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the scale is from Liu
et al., "Muon is Scalable for LLM Training", 2025 (arXiv 2502.16982), section 2.2.
"""

from typing import Any

import keras
from keras import ops

MOMENTUM = 0.95
"""Share of the average of gradients that is kept in a step."""
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of ``x``, ``x**3`` and ``x**5`` in the polynomial that brings singular values near 1 (Jordan et al.)."""
ITERATIONS = 5
"""How often that polynomial is applied: singular values from 0.002 to 1 then lie between 0.68 and 1.21."""
STEP = 0.2
"""Root mean square of a step at a learning rate of 1."""


@keras.saving.register_keras_serializable(package="rlsp_tf")
class KernelMuon(keras.optimizers.Adam):
    """Adam, but kernels of convolutions are trained by Muon; arguments are those of Adam."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Changes a variable by its gradient, an array of the same shape, at a learning rate above 0."""
        if len(variable.shape) != 4:
            super().update_step(gradient, variable, learning_rate)
            return
        average = self._momentums[self._get_variable_index(variable)]
        gradient = ops.cast(gradient, variable.dtype)
        self.assign_add(average, (1 - MOMENTUM) * (gradient - average))
        # The next average, if the next gradient were like this one (Nesterov).
        ahead = average + (1 - MOMENTUM) * (gradient - average)
        matrix = ops.reshape(ahead, (-1, variable.shape[-1]))
        scale = STEP * max(matrix.shape) ** 0.5 * ops.cast(learning_rate, variable.dtype)
        self.assign_sub(variable, ops.reshape(scale * orthogonal(matrix), variable.shape))


def orthogonal(matrix: Any) -> Any:
    """Computes about ``U V^T`` of a matrix ``U S V^T``; columns of zeros stay zero.

    Each iteration is ``x -> a x + b x (x^T x) + c x (x^T x)^2``. It is computed for ``x^T x`` alone, which is
    the smaller matrix, and for the product by which the iterations multiply the matrix.

    Args:
        matrix: ``(rows, columns)`` of any finite values, with as many rows as columns or more for speed.

    Returns:
        ``(rows, columns)``; its singular values are those of ``ITERATIONS``.
    """
    a, b, c = COEFFICIENTS
    matrix = matrix / (ops.norm(matrix) + 1e-30)
    square = ops.matmul(ops.transpose(matrix), matrix)
    identity = ops.eye(square.shape[0], dtype=square.dtype)
    product = identity
    for _ in range(ITERATIONS):
        factor = a * identity + b * square + c * ops.matmul(square, square)
        square = ops.matmul(factor, ops.matmul(square, factor))
        product = ops.matmul(product, factor)
    return ops.matmul(matrix, product)
