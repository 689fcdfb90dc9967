"""From the planes of a low-resolution frame to RGB for the network, and from its luma to planes again."""

from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import tensorflow as tf

from rlsp_tf.network.cell import depth_to_space
from rlsp_tf.pixels.color import (
    PAPER_WEIGHTS,
    ColorSpec,
    from_codes,
    luma_from_bt601,
    rgb_to_ycbcr,
    to_codes,
    ycbcr_to_rgb,
)
from rlsp_tf.pixels.resample import chroma_matrices, enlarge_taps

ChromaGeometry = Literal["aligned", "authors"]
RGB_CHROMA = ColorSpec(matrix="bt601", full_range=False, subsampling=(1, 1))
"""How the chroma of RGB frames is held on its way to high resolution: beside BT.601 luma."""

Grid = tuple[np.ndarray, np.ndarray]
"""Two matrices that resample the rows and the columns of a plane."""


class SetAside(NamedTuple):
    """What the network does not get of a frame, to be enlarged by interpolation.

    Attributes:
        chroma: ``(2, h, w)`` float32 in codes of 8 bits.
        beyond: how far the frame lies outside RGB 0..255, float32: ``(1, H, W)`` in BT.601 luma for a network
            that gives luma, ``(3, H, W)`` in RGB for one that gives RGB. ``None`` if it does not.
    """

    chroma: tf.Tensor
    beyond: tf.Tensor | None


class ColorPath:
    """The colour around the network, for frames of one size.

    On the way in planes become RGB; chroma is set aside. On the way out the network's luma meets the
    chroma, enlarged by cubic interpolation from its own grid straight to the target's. Chroma does
    not depend on luma in any of the matrices, so the planes of a video need no trip through RGB.

    The planes of a video can hold more than RGB 0..255: luma below black and above white, and colours that no
    RGB has. Networks are not trained on that, and their output may grow without bound on it. So they get RGB
    clipped to 0..255, and what clipping takes away is set aside like chroma and added to their output.

    Args:
        height: of a low-resolution frame.
        width: likewise.
        scale: how many times larger the output is.
        source: the colour of the planes that enter, ``None`` for RGB.
        target: the colour of the planes that leave, ``None`` for RGB. Has the matrix and range of
            ``source``, if both are given.
        geometry: ``"aligned"``: chroma at the positions of the network's luma, where low-resolution
            sample i is high-resolution sample ``scale * i``. ``"authors"``: as in the authors' RGB
            frames: half-pixel centres, luma and chroma rounded to 8 bits before they meet.
        bits: of the RGB that enters and leaves, 8 or 16.
        output: of the network, see :class:`rlsp_tf.RLSPConfig`.
    """

    def __init__(
        self,
        height: int,
        width: int,
        scale: int,
        *,
        source: ColorSpec | None = None,
        target: ColorSpec | None = None,
        geometry: ChromaGeometry = "aligned",
        bits: int = 8,
        output: Literal["y", "rgb"] = "y",
    ) -> None:
        self._source, self._target = source, target
        self._scale, self._output = scale, output
        self._authors = geometry == "authors"
        self._bits = bits
        if source:
            self._held = source
        elif target:
            self._held = replace(target, depth=8, subsampling=(1, 1))
        else:
            self._held = RGB_CHROMA
        low, high = (height, width), (height * scale, width * scale)
        shift = 0.5 / scale - 0.5 if self._authors else 0.0
        full = replace(self._held, subsampling=(1, 1))
        self._low_luma = chroma_matrices(low, self._held, full)
        self._high_luma = chroma_matrices(low, self._held, full, high, scale=scale, shift=shift)
        self._high_chroma: Grid | None = None
        self._reduce: Grid | None = None
        if target:
            self._high_chroma = chroma_matrices(low, self._held, target, high, scale=scale, shift=shift)
            self._reduce = chroma_matrices(high, full, target)
        self._enter_graph = tf.function(self._enter)
        self._clip_graph = tf.function(self._clip)
        self.leave_luma = tf.function(self._leave_luma)
        self.leave_rgb = tf.function(self._leave_rgb)

    def enter(self, planes: tuple[np.ndarray, ...]) -> tuple[tf.Tensor, SetAside]:
        """Integer planes -> RGB ``(1, H, W, 3)`` float32 0..255 for the network, and what it does not get."""
        rgb, chroma = self._enter_graph(planes)
        if self._source is None:
            return rgb, SetAside(chroma, None)
        rgb, beyond, outside = self._clip_graph(rgb)
        return rgb, SetAside(chroma, beyond if outside else None)

    def _enter(self, planes: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tf.Tensor]:
        """Integer planes -> RGB ``(1, H, W, 3)`` not clipped, chroma ``(2, h, w)`` in 8-bit codes."""
        if self._source is None:
            rgb = tf.cast(planes[0], tf.float32) * (255 / (2**self._bits - 1))
            red, green, blue = tf.unstack(rgb, axis=-1)
            _, cb, cr = rgb_to_ycbcr(red, green, blue, self._held)
            return rgb[None], tf.stack([cb, cr])
        y, cb, cr = (tf.cast(plane, tf.float32) for plane in planes)
        y, cb, cr = from_codes(y, cb, cr, self._source)
        chroma = tf.stack([cb, cr])
        cb, cr = tf.unstack(_resample(chroma, self._low_luma))
        rgb = tf.stack(ycbcr_to_rgb(y, cb, cr, self._held), axis=-1)
        return rgb[None], chroma

    def _clip(self, rgb: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """RGB 0..255, what clipping took away as :class:`SetAside` holds it, and whether it took anything."""
        clipped = tf.clip_by_value(rgb, 0.0, 255.0)
        beyond = rgb - clipped
        outside = tf.reduce_any(beyond != 0)
        if self._output == "y":
            beyond = tf.reduce_sum(beyond * PAPER_WEIGHTS, axis=-1, keepdims=True)
        return clipped, tf.transpose(beyond[0], (2, 0, 1)), outside

    def _leave_luma(self, luma: tf.Tensor, aside: SetAside) -> tuple[tf.Tensor, ...]:
        """BT.601 luma ``(1, H, W, 1)`` and what :meth:`enter` set aside -> integer planes of the target."""
        chroma = aside.chroma
        y = luma[0, :, :, 0]
        if aside.beyond is not None:
            y += self._enlarge(aside.beyond)[0]
        y = self._rounded(y)
        spec = self._held
        if self._target is None or (self._authors and spec.matrix != "bt601"):
            cb, cr = tf.unstack(self._rounded(_resample(chroma, self._high_luma)))
            y = luma_from_bt601(y, cb, cr, spec)
            if self._target is None:
                return (self._to_rgb(tf.stack(ycbcr_to_rgb(y, cb, cr, spec), axis=-1)),)
        else:
            # The same in fewer passes over large planes: it is linear, so what chroma has to do with luma is
            # found at low resolution. BT.601 luma is the same whatever the chroma.
            black, grey = (luma_from_bt601(level, 128.0, 128.0, spec) for level in (0.0, 1.0))
            gain = grey - black
            if spec.matrix != "bt601":
                cb, cr = tf.unstack(chroma)
                (black,) = tf.unstack(_resample(luma_from_bt601(0.0, cb, cr, spec)[None], self._high_luma))
            y = y * gain + black
        return self._to_planes(y, self._rounded(_resample(chroma, self._high_chroma)))

    def _leave_rgb(self, rgb: tf.Tensor, aside: SetAside) -> tuple[tf.Tensor, ...]:
        """RGB ``(1, H, W, 3)`` of a network that makes colour itself -> integer planes."""
        if aside.beyond is not None:
            rgb += tf.transpose(self._enlarge(aside.beyond), (1, 2, 0))
        if self._target is None:
            return (self._to_rgb(rgb[0]),)
        red, green, blue = tf.unstack(rgb[0], axis=-1)
        y, cb, cr = rgb_to_ycbcr(red, green, blue, self._target)
        return self._to_planes(y, _resample(tf.stack([cb, cr]), self._reduce))

    def _enlarge(self, planes: tf.Tensor) -> tf.Tensor:
        """``(N, H, W)`` -> ``(N, scale*H, scale*W)``, cubic, at the positions of the network's pixels."""
        # Nearly every frame of some videos needs this, so it has to be fast: a convolution of 4x4, with a
        # channel for each place in a low-resolution pixel, takes fewer operations than two large matrices.
        taps = enlarge_taps(self._scale)
        kernel = np.einsum("ap,bq->pqab", taps, taps).reshape(4, 4, 1, -1)
        for axis in (1, 2):
            # One sample before the first and two after the last are the edge again.
            around = np.arange(-1, planes.shape[axis] + 2).clip(0, planes.shape[axis] - 1)
            planes = tf.gather(planes, around, axis=axis)
        folded = tf.nn.conv2d(planes[..., None], kernel.astype(np.float32), 1, "VALID")
        return depth_to_space(folded, self._scale)[..., 0]

    def _rounded(self, plane: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(tf.round(plane), 0, 255) if self._authors else plane

    def _to_rgb(self, rgb: tf.Tensor) -> tf.Tensor:
        return _to_integers(rgb * ((2**self._bits - 1) / 255), self._bits)

    def _to_planes(self, y: tf.Tensor, chroma: tf.Tensor) -> tuple[tf.Tensor, ...]:
        assert self._target is not None
        cb, cr = tf.unstack(chroma)
        codes = to_codes(y, cb, cr, self._target)
        return tuple(_to_integers(plane, self._target.depth) for plane in codes)


def _resample(planes: tf.Tensor, grid: Grid | None) -> tf.Tensor:
    """``(N, h, w)`` -> ``(N, H, W)``."""
    assert grid is not None
    rows, columns = grid
    # Columns first: frames are wider than high, so the intermediate result is smaller this way.
    return tf.matmul(rows, tf.matmul(planes, columns, transpose_b=True))


def _to_integers(plane: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(tf.round(plane), 0, 2**bits - 1), tf.uint8 if bits == 8 else tf.uint16)
