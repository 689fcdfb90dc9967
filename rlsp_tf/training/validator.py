"""How well a network in training does on clips held out, with its memory and without."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from rlsp_tf.media.degradations import PAPER, Degradation, SampledDegradation
from rlsp_tf.network.model import rlsp_layer
from rlsp_tf.pixels.metrics import PROTOCOLS, decibels, luma, luma_of, mse
from rlsp_tf.training.clips.camera import draw_view
from rlsp_tf.training.clips.clip import Clip
from rlsp_tf.training.clips.photographs import Photograph

FRAMES = 20
LARGEST = (256, 384)
"""High-resolution pixels, height and width: the middle of a frame is measured."""


MARGIN = 8
"""Low-resolution pixels around what is measured of a photograph."""


class Excerpts(NamedTuple):
    """Parts of clips, all of one length and size.

    Attributes:
        names: of the clips.
        lr, hr: uint8 RGB ``(clips, T, h, w, 3)`` and ``(clips, T, H, W, 3)``.
    """

    names: list[str]
    lr: np.ndarray
    hr: np.ndarray


def clip_excerpts(clips: Sequence[Clip], degradation: Degradation = PAPER) -> Excerpts:
    """The middle of clips: first frames of the longest shot, centre of the frame.

    All have the length and size of the smallest.

    Args:
        clips: held out.
        degradation: how low resolution is made; of several ways, each clip has one that is always the same.
    """
    scale = clips[0].scale
    shots = [max(clip.shots, key=lambda shot: shot[1] - shot[0]) for clip in clips]
    frames = min([FRAMES, *(stop - start for start, stop in shots)])
    sides = np.min([LARGEST, *(clip.shape[1:] for clip in clips)], axis=0) // scale * scale
    lr, hr = [], []
    for index, (clip, (start, _)) in enumerate(zip(clips, shots, strict=True)):
        y, x = (np.subtract(clip.shape[1:], sides)) // 2
        part = (slice(start, start + frames), slice(y, y + sides[0]), slice(x, x + sides[1]))
        recipe = degradation.draw(np.random.default_rng(index))
        if recipe == SampledDegradation():
            lr.append(clip.blurred[part][:, ::scale, ::scale])
        else:
            whole = clip.hr[part[0], y % scale :, x % scale :]
            (top, left), (height, width) = (y // scale, x // scale), sides // scale
            lr.append(recipe.apply(whole, scale)[:, top : top + height, left : left + width])
        hr.append(clip.hr[part])
    return Excerpts([clip.name for clip in clips], np.stack(lr), np.stack(hr))


def photograph_excerpts(
    photographs: Sequence[Photograph], scale: int, degradation: Degradation = PAPER
) -> Excerpts:
    """Clips of a camera that moves over photographs, always in the same way.

    Args:
        photographs: held out.
        scale: of the network.
        degradation: see :func:`clip_excerpts`.
    """
    height, width = (side // scale * scale for side in LARGEST)
    lr, hr = [], []
    for index, photograph in enumerate(photographs):
        rng = np.random.default_rng(index)
        sides = height + 2 * scale * MARGIN, width + 2 * scale * MARGIN
        frames = draw_view(rng, photograph.pixels, FRAMES, *sides, calm=True).render(*sides)
        inner, outer = slice(MARGIN, -MARGIN), slice(scale * MARGIN, -scale * MARGIN)
        lr.append(degradation.draw(rng).apply(frames, scale)[:, inner, inner])
        hr.append(frames[:, outer, outer])
    return Excerpts([photograph.name for photograph in photographs], np.stack(lr), np.stack(hr))


class Validator:
    """Measures a model on excerpts of clips.

    Counts as protocol ``rlsp``: PSNR of a clip's mean squared error of 8-bit luma, 8 pixels cropped,
    two frames dropped at both ends (none where a clip has less than six), mean over clips. One graph serves
    for all clips, since they have one size.

    Args:
        excerpts: of clips held out.
    """

    def __init__(self, excerpts: Excerpts) -> None:
        self.names, self.lr, self.hr = excerpts

    def psnr(self, model: keras.Model) -> tuple[float, float]:
        """Mean PSNR over clips.

        Args:
            model: with an :class:`rlsp_tf.RLSP` layer; luma of RGB is measured.

        Returns:
            In dB, with the state carried from frame to frame, and with the state zeroed at every
            frame. Their difference is what recurrence has learned.
        """
        return self.measure(self.carried(model)), self.measure(self.zeroed(model))

    def carried(self, model: keras.Model) -> np.ndarray:
        """The model's output ``(clips, T, H, W, C)`` for all clips, 0..255."""
        return np.stack([model.predict_on_batch(clip[None])[0] for clip in self.lr])

    def zeroed(self, model: keras.Model) -> np.ndarray:
        """As :meth:`carried`, every frame with the state of a first one but its true neighbours."""
        cell = rlsp_layer(model).cell
        config = cell.config
        outputs = []
        for clip in self.lr:
            last = len(clip) - 1
            around = np.arange(len(clip))[:, None] + np.arange(-config.frames_before, config.frames_after + 1)
            window = np.concatenate(list(clip[np.clip(around, 0, last)].swapaxes(0, 1)), axis=-1)
            state = cell.get_initial_state(*window.shape[:3])
            outputs.append(ops.convert_to_numpy(cell(ops.convert_to_tensor(window, "float32"), state)[0]))
        return np.stack(outputs)

    def measure(self, outputs: np.ndarray) -> float:
        """Mean over clips of the PSNR of a network's outputs, in dB."""
        protocol = PROTOCOLS["rlsp"]
        drop = protocol.drop if self.hr.shape[1] > 2 * protocol.drop + 1 else 0
        frames = slice(drop, self.hr.shape[1] - drop)
        inner = (slice(None), frames, *[slice(protocol.crop, -protocol.crop)] * 2)
        values = []
        for output, truth in zip(outputs[inner], self.hr[inner], strict=True):
            rounded = np.rint(np.clip(output, 0, 255))
            values.append(decibels(mse(luma_of(rounded), luma(truth))))
        return float(np.mean(values))
