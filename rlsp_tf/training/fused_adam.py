"""Adam as TensorFlow computes it in one operation for each weight, where Keras takes a dozen."""

from typing import Any

import keras
import tensorflow as tf


class FusedAdam(keras.optimizers.Adam):
    """Keras's Adam, less its ``amsgrad``: the same steps and variables, so the same checkpoints, too."""

    def __init__(self, **options: Any) -> None:
        super().__init__(name="adam", **options)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Moves a weight of float32, and its moments, by one step."""
        index = self._get_variable_index(variable)
        moments = (self._momentums[index], self._velocities[index])
        mean, square = (moment.value.handle for moment in moments)
        steps = tf.cast(self.iterations.value + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=mean,
            v=square,
            beta1_power=self.beta_1**steps,
            beta2_power=self.beta_2**steps,
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, tf.float32),
        )
