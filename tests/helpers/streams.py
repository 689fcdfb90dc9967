"""Frames pushed through an upscaler."""

import numpy as np

from rlsp_tf.inference.upscaler import StreamingUpscaler


def stream(upscaler: StreamingUpscaler, frames: list) -> list:
    outputs = []
    for frame in frames:
        outputs += upscaler.push(frame)
    return outputs + upscaler.flush()


def upscaled(model, clip):
    """The frames of a clip, upscaled one by one."""
    return np.stack(stream(StreamingUpscaler(model), clip))
