"""Measures a network in training on held-out clips and photographs, with and without its state."""

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
"""Largest number of frames of an excerpt."""
LARGEST = (256, 384)
"""Largest height and width of an excerpt, in high-resolution pixels; it is the middle of the frame."""
SILENT_FRAMES = 5
"""Number of frames of each excerpt in which silent filters are looked for."""
SILENT_SHARE = 0.001
"""Share of pixels in which a silent filter may have an output above zero. Zeros that surround frames are
black, which makes many filters respond at their edges that do so nowhere else."""
MARGIN = 8
"""Low-resolution pixels around an excerpt of a photograph that are rendered and then cut off."""


class Excerpts(NamedTuple):
    """Excerpts of clips, all with the same length and size.

    Attributes:
        names: names of the clips.
        lr: low-resolution frames, uint8 RGB ``(clips, T, h, w, 3)``.
        hr: high-resolution frames, uint8 RGB ``(clips, T, H, W, 3)``.
    """

    names: list[str]
    lr: np.ndarray
    hr: np.ndarray


def clip_excerpts(clips: Sequence[Clip], degradation: Degradation = PAPER) -> Excerpts:
    """Returns the middle of the first frames of the longest shot of each clip.

    All excerpts have the length and size of the smallest one.

    Args:
        clips: the clips.
        degradation: how low-resolution frames are made. If it is random, each clip is always degraded in
            the same way.
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
    """Returns clips of a camera that moves over each photograph, always in the same way.

    Args:
        photographs: the photographs.
        scale: upscaling factor of the network.
        degradation: how low-resolution frames are made; see :func:`clip_excerpts`.
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

    PSNR is computed as in the protocol ``rlsp``: from the mean squared error of the 8-bit luma of a clip,
    without 8 pixels at each edge and without two frames at both ends (clips of less than six frames keep
    all of them), and then averaged over the clips. Since all excerpts have the same size, the model is
    compiled only once. Outputs with zeros as every state show what the network gains from recurrence.

    Args:
        excerpts: excerpts of held-out clips.
    """

    def __init__(self, excerpts: Excerpts) -> None:
        self.names, self.lr, self.hr = excerpts

    def carried(self, model: keras.Model) -> np.ndarray:
        """Returns the output of the model for all clips, ``(clips, T, H, W, C)`` in 0..255."""
        return np.stack([model.predict_on_batch(clip[None])[0] for clip in self.lr])

    def silent(self, model: keras.Model) -> int:
        """Counts the filters that are zero nearly everywhere in the first frames, with the state carried.

        Filters that have fallen silent get hardly any gradients, so a network of which many are silent learns
        little, however long it is trained; a lower learning rate keeps more of them.
        """
        cell = rlsp_layer(model).cell
        frames = np.moveaxis(self.lr[:, : SILENT_FRAMES + 2], 1, 0)
        size = cell.config.window
        state = cell.get_initial_state(*frames.shape[1:4])
        shares = []
        for t in range(len(frames) - size + 1):
            window = ops.convert_to_tensor(np.concatenate(frames[t : t + size], axis=-1), "float32")
            outputs = cell.activations(window, state)
            _, state = cell.finish(window, outputs)
            shares.append(
                np.concatenate([(ops.convert_to_numpy(each) > 0).mean((0, 1, 2)) for each in outputs])
            )
        return int((np.mean(shares, axis=0) <= SILENT_SHARE).sum())

    def zeroed(self, model: keras.Model) -> np.ndarray:
        """Returns the output for all clips with zeros as the state before every frame."""
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
        """Returns the mean PSNR of outputs ``(clips, T, H, W, C)`` over all clips, in dB."""
        protocol = PROTOCOLS["rlsp"]
        drop = protocol.drop if self.hr.shape[1] > 2 * protocol.drop + 1 else 0
        frames = slice(drop, self.hr.shape[1] - drop)
        inner = (slice(None), frames, *[slice(protocol.crop, -protocol.crop)] * 2)
        values = []
        for output, truth in zip(outputs[inner], self.hr[inner], strict=True):
            rounded = np.rint(np.clip(output, 0, 255))
            values.append(decibels(mse(luma_of(rounded), luma(truth))))
        return float(np.mean(values))
