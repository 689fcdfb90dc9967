"""Whether a network's output stays near bicubic interpolation for as long as a clip lasts."""

from collections import deque
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from rlsp_tf.cell import luma
from rlsp_tf.resample import enlarge_matrix
from rlsp_tf.stability_clips import Clip
from rlsp_tf.steps import Step
from rlsp_tf.streaming import RecurrentStream


def departures(step: Step, clips: Mapping[str, Clip], frames: int, *, progress: bool = False) -> np.ndarray:
    """How far a network's output is from bicubic interpolation, with the state carried from frame to frame.

    Args:
        step: the network.
        clips: of one size; they are run side by side.
        frames: how many of each.
        progress: show a progress bar on standard error.

    Returns:
        ``(2, frames, clips)`` float64: the largest and the root-mean-square difference over a frame's pixels,
        in grey levels; infinite or not a number where the output is.
    """
    stream = RecurrentStream(step)
    waiting: deque[np.ndarray] = deque()
    found: list[list[np.ndarray]] = []

    def compare(output: tf.Tensor) -> None:
        rgb = waiting.popleft()
        with np.errstate(over="ignore", invalid="ignore"):
            difference = output.numpy() - _bicubic(rgb, step)
            flat = difference.reshape(len(rgb), -1)
            found.append(
                [np.abs(flat).max(axis=1), np.sqrt(np.mean(np.square(flat, dtype=np.float64), axis=1))]
            )

    for t in tqdm(range(frames), disable=not progress, leave=False):
        rgb = np.stack([clip(t) for clip in clips.values()])
        waiting.append(rgb)
        for output in stream.push(tf.constant(rgb, tf.float32)):
            compare(output)
    for output in stream.flush():
        compare(output)
    return np.stack(found).swapaxes(0, 1).astype(np.float64)


def _bicubic(rgb: np.ndarray, step: Step) -> np.ndarray:
    """``(B, H, W, 3)`` -> ``(B, scale*H, scale*W, C)``: in luma or RGB, whichever the network gives."""
    config = step.config
    frame = rgb.astype(np.float32) if config.output == "rgb" else luma(rgb).numpy()
    planes = np.moveaxis(frame, -1, 1)
    rows, columns = (enlarge_matrix(side, config.scale).astype(np.float32) for side in rgb.shape[1:3])
    return np.moveaxis(rows @ planes @ columns.T, 1, -1)
