"""Converts low-resolution frames to RGB for the network, and its output to the planes of large frames."""

from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
from keras import ops

from rlsp_tf.inference.backend import compiled, to_array
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
"""The colour format in which the chroma of RGB frames is enlarged."""

Grid = tuple[np.ndarray, np.ndarray]
"""Two matrices that resample a plane: one its rows, the other its columns."""


class SetAside(NamedTuple):
    """The part of a frame that bypasses the network and is enlarged by interpolation.

    Attributes:
        chroma: float32 ``(2, h, w)``, Cb and Cr in 8-bit codes.
        beyond: how far the frame lies outside RGB 0..255; ``None`` if it does not. Float32, ``(1, H, W)`` in
            BT.601 luma for networks with luma output, ``(3, H, W)`` in RGB for networks with RGB output.
    """

    chroma: Any
    beyond: Any


class ColorPath:
    """Converts colour before and after the network, for frames of one size.

    Before the network, planes become RGB, and their chroma is set aside. After it, the network's luma is
    joined with that chroma, which cubic interpolation has enlarged from its own grid directly to that of the
    target. In all supported matrices chroma is independent of luma, so it never has to pass through RGB.

    The planes of a video can hold values outside RGB 0..255: luma below black or above white, and colours
    that RGB does not have. Networks are not trained on these, and their output may grow without bound. So the
    network gets RGB clipped to 0..255; what clipping took away is set aside like chroma and added to the
    output.

    Args:
        height: int, height of the low-resolution frames.
        width: int, width of the low-resolution frames.
        scale: int, how many times larger the output is.
        source: colour format of the planes that enter; ``None`` for RGB.
        target: colour format of the planes that leave; ``None`` for RGB. If both are given, matrix and range
            must be the same.
        geometry: where chroma is sampled. ``"aligned"``: at the positions of the network's luma, where
            low-resolution sample i is high-resolution sample ``scale * i``. ``"authors"``: as in the authors'
            RGB frames, with half-pixel centres, and luma and chroma rounded to 8 bits before they are joined.
        bits: 8 or 16, depth of the RGB that enters and leaves.
        output: ``"y"`` or ``"rgb"``, the output of the network as in :class:`rlsp_tf.RLSPConfig`.
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
        self._enter_graph = compiled(self._enter)
        self._clip_graph = compiled(self._clip)
        self._leave_graph = compiled(self._leave_rgb if output == "rgb" else self._leave_luma)

    def enter(self, planes: tuple[np.ndarray, ...]) -> tuple[Any, SetAside]:
        """Converts a frame to the RGB that the network takes.

        Args:
            planes: integer arrays: the planes ``(y, cb, cr)`` of ``source``, or one RGB array ``(H, W, 3)``.

        Returns:
            Float32 ``(1, H, W, 3)``, RGB 0..255, and the part of the frame that bypasses the network.
        """
        rgb, chroma = self._enter_graph(planes)
        if self._source is None:
            return rgb, SetAside(chroma, None)
        rgb, beyond, outside = self._clip_graph(rgb)
        return rgb, SetAside(chroma, beyond if outside else None)

    def leave(self, output: Any, aside: SetAside) -> tuple[np.ndarray, ...]:
        """Converts the output of the network to a frame.

        Args:
            output: float32 ``(1, scale*H, scale*W, C)``.
            aside: the part of the frame that :meth:`enter` set aside.

        Returns:
            Integer arrays: the planes ``(y, cb, cr)`` of ``target``, or one RGB array
            ``(scale*H, scale*W, 3)``.
        """
        depth = self._target.depth if self._target else self._bits
        # PyTorch has no uint16 of its own to compute in.
        dtype = np.uint8 if depth == 8 else np.uint16
        return tuple(to_array(plane).astype(dtype, copy=False) for plane in self._leave_graph(output, aside))

    def _enter(self, planes: tuple[Any, ...]) -> tuple[Any, Any]:
        """Converts planes to unclipped RGB ``(1, H, W, 3)`` and chroma ``(2, h, w)`` in 8-bit codes."""
        if self._source is None:
            rgb = ops.cast(planes[0], "float32") * (255 / (2**self._bits - 1))
            red, green, blue = ops.unstack(rgb, axis=-1)
            _, cb, cr = rgb_to_ycbcr(red, green, blue, self._held)
            return rgb[None], ops.stack([cb, cr])
        y, cb, cr = (ops.cast(plane, "float32") for plane in planes)
        y, cb, cr = from_codes(y, cb, cr, self._source)
        chroma = ops.stack([cb, cr])
        cb, cr = ops.unstack(_resample(chroma, self._low_luma))
        rgb = ops.stack(ycbcr_to_rgb(y, cb, cr, self._held), axis=-1)
        return rgb[None], chroma

    def _clip(self, rgb: Any) -> tuple[Any, Any, Any]:
        """Clips RGB. Returns it, what was taken away as in :class:`SetAside`, and whether that is nonzero."""
        clipped = ops.clip(rgb, 0.0, 255.0)
        beyond = rgb - clipped
        outside = ops.any(beyond != 0)
        if self._output == "y":
            beyond = ops.sum(ops.multiply(beyond, np.array(PAPER_WEIGHTS, "float32")), axis=-1, keepdims=True)
        return clipped, ops.transpose(beyond[0], (2, 0, 1)), outside

    def _leave_luma(self, luma: Any, aside: SetAside) -> tuple[Any, ...]:
        """Joins BT.601 luma ``(1, H, W, 1)`` and what was set aside to integer planes of the target."""
        chroma = aside.chroma
        y = luma[0, :, :, 0]
        if aside.beyond is not None:
            y += enlarged(aside.beyond[..., None], self._scale)[0, :, :, 0]
        y = self._rounded(y)
        spec = self._held
        if self._source is None and self._target is None and not self._authors:
            return (self._to_rgb(self._as_rgb(y, chroma)),)
        if self._target is None or (self._authors and spec.matrix != "bt601"):
            cb, cr = ops.unstack(self._rounded(_resample(chroma, self._high_luma)))
            y = luma_from_bt601(y, cb, cr, spec)
            if self._target is None:
                return (self._to_rgb(ops.stack(ycbcr_to_rgb(y, cb, cr, spec), axis=-1)),)
        else:
            # The same in fewer passes over large planes. The conversion is linear, so the contribution of
            # chroma to luma is computed at low resolution; to BT.601 luma it contributes nothing.
            black, grey = (luma_from_bt601(level, 128.0, 128.0, spec) for level in (0.0, 1.0))
            gain = grey - black
            if spec.matrix != "bt601":
                cb, cr = ops.unstack(chroma)
                (black,) = ops.unstack(_resample(luma_from_bt601(0.0, cb, cr, spec)[None], self._high_luma))
            y = y * gain + black
        return self._to_planes(y, self._rounded(_resample(chroma, self._high_chroma)))

    def _leave_rgb(self, rgb: Any, aside: SetAside) -> tuple[Any, ...]:
        """Converts RGB ``(1, H, W, 3)``, the output of the network, to integer planes of the target."""
        if aside.beyond is not None:
            rgb += ops.transpose(enlarged(aside.beyond[..., None], self._scale)[..., 0], (1, 2, 0))
        if self._target is None:
            return (self._to_rgb(rgb[0]),)
        red, green, blue = ops.unstack(rgb[0], axis=-1)
        y, cb, cr = rgb_to_ycbcr(red, green, blue, self._target)
        return self._to_planes(y, _resample(ops.stack([cb, cr]), self._reduce))

    def _as_rgb(self, y: Any, chroma: Any) -> Any:
        """Joins BT.601 luma ``(H, W)`` and the chroma of a small RGB frame to a large RGB frame."""

        def rgb_of(luma: Any, cb: Any, cr: Any) -> tuple[Any, ...]:
            return ycbcr_to_rgb(luma_from_bt601(luma, cb, cr, self._held), cb, cr, self._held)

        # As for planes: what chroma contributes to RGB is computed at low resolution. It is enlarged in the
        # order of RGB pixels, so that there are few passes over the large frame.
        gain = rgb_of(1.0, 128.0, 128.0)[0] - rgb_of(0.0, 128.0, 128.0)[0]
        by_chroma = ops.stack(rgb_of(0.0, *ops.unstack(chroma)), axis=-1)
        return y[..., None] * gain + enlarged(by_chroma[None], self._scale)[0]

    def _rounded(self, plane: Any) -> Any:
        return ops.clip(ops.round(plane), 0, 255) if self._authors else plane

    def _to_rgb(self, rgb: Any) -> Any:
        return _to_integers(rgb * ((2**self._bits - 1) / 255), self._bits)

    def _to_planes(self, y: Any, chroma: Any) -> tuple[Any, ...]:
        assert self._target is not None
        cb, cr = ops.unstack(chroma)
        codes = to_codes(y, cb, cr, self._target)
        return tuple(_to_integers(plane, self._target.depth) for plane in codes)


def enlarged(images: Any, scale: int) -> Any:
    """Enlarges ``(N, H, W, C)`` by cubic interpolation at the positions of the network's pixels."""
    # Some videos need this for nearly every frame, so it has to be fast: a 4x4 convolution, with one
    # channel for each position in a low-resolution pixel, takes fewer operations than two large matrices.
    taps = enlarge_taps(scale)
    channels = images.shape[-1]
    kernel = np.einsum("ap,bq,cd->pqcabd", taps, taps, np.eye(channels)).reshape(4, 4, channels, -1)
    for axis in (1, 2):
        # The kernel reaches one sample before the first and two after the last: repeat the edge.
        around = np.arange(-1, images.shape[axis] + 2).clip(0, images.shape[axis] - 1)
        images = ops.take(images, around, axis=axis)
    folded = ops.conv(images, kernel.astype(np.float32), data_format="channels_last")
    return depth_to_space(folded, scale)


def _resample(planes: Any, grid: Grid | None) -> Any:
    """Resamples planes ``(N, h, w)`` to ``(N, H, W)``."""
    assert grid is not None
    rows, columns = grid
    # Columns go first: frames are wider than high, so the intermediate result is smaller this way.
    return ops.matmul(rows, ops.matmul(planes, columns.T))


def _to_integers(plane: Any, bits: int) -> Any:
    return ops.cast(ops.clip(ops.round(plane), 0, 2**bits - 1), "uint8" if bits == 8 else "uint16")
