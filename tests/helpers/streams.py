"""Frames pushed through an upscaler."""

from rlsp_tf.inference.upscaler import StreamingUpscaler


def stream(upscaler: StreamingUpscaler, frames: list) -> list:
    outputs = []
    for frame in frames:
        outputs += upscaler.push(frame)
    return outputs + upscaler.flush()
