"""What training makes smaller, and how fast: the loss, the learning rate, the bound on gradients."""

from typing import Any

import keras
from keras import ops

from rlsp_tf.network.cell import luma

WARM_UP = 200
"""Steps over which the learning rate rises to its full value."""
DECAY = 0.25
"""Share of the steps, at the end, over which the learning rate falls to (almost) zero."""
CLIP_NORM = 100.0
"""Largest norm of all gradients together, for a loss in squared grey levels."""


@keras.saving.register_keras_serializable(package="rlsp_tf")
class WarmUpAndDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises over ``WARM_UP`` steps, stays, and falls in a line over the last ``DECAY`` of ``steps``.

    As it changes nothing before the decay, a training can be made longer until then.

    Args:
        peak: the largest learning rate.
        steps: length of the training.
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
    """Mean squared error over all frames, in squared grey levels: of luma, or of RGB.

    Args:
        hr: RGB ``(B, T, H, W, 3)``, 0..255.
        output: the network's, ``(B, T, H, W, 1)`` or ``(B, T, H, W, 3)``.
    """
    truth = luma(hr) if output.shape[-1] == 1 else ops.cast(hr, "float32")
    return ops.mean(ops.square(output - truth))
