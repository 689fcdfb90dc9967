"""The loss, the learning rate and the limit on gradients."""

from typing import Any

import keras
from keras import ops

from rlsp_tf.network.cell import luma

WARM_UP = 200
"""Steps over which the learning rate rises to its largest value."""
DECAY = 0.25
"""Share of the steps, at the end of training, over which the learning rate falls almost to zero."""
CLIP_NORM = 100.0
"""Largest global norm of the gradients. The loss is in squared grey levels."""


@keras.saving.register_keras_serializable(package="rlsp_tf")
class WarmUpAndDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises over ``WARM_UP`` steps, then stays, and falls linearly at the end.

    The number of steps has no influence before the decay begins, so a training can still be made longer
    until then.

    Args:
        peak: largest learning rate.
        steps: number of steps of the whole training.
    """

    def __init__(self, peak: float, steps: int) -> None:
        self.peak, self.steps = peak, steps

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        rise = (step + 1) / min(WARM_UP, 1 + self.steps // 10)
        fall = ops.maximum((1 - step / self.steps) / DECAY, 0.005)
        return self.peak * ops.minimum(1.0, ops.minimum(rise, fall))

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "steps": self.steps}


@keras.saving.register_keras_serializable(package="rlsp_tf")
def frame_loss(hr: Any, output: Any) -> Any:
    """Computes the mean squared error over all frames, of luma or of RGB, in squared grey levels.

    Args:
        hr: ground truth ``(B, T, H, W, 3)``, RGB 0..255.
        output: output of the network, ``(B, T, H, W, 1)`` for luma or ``(B, T, H, W, 3)`` for RGB.
    """
    truth = luma(hr) if output.shape[-1] == 1 else ops.cast(hr, "float32")
    return ops.mean(ops.square(output - truth))
