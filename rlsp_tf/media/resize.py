"""Brings frames to another size, with every sample of luma, chroma and alpha at its place."""

from dataclasses import replace

import numpy as np
from av.filter import Graph

from rlsp_tf.media.frames import Frame
from rlsp_tf.media.pixel_formats import chain, format_for, samples_of, to_video_frame
from rlsp_tf.pixels.color import ColorSpec

_FLAGS = "lanczos+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"


class Resizer:
    """Resizes frames by Lanczos interpolation with FFmpeg's swscale, which is widened where frames shrink.

    The edges of the frames stay where they are, so sample j of the result is at ``(j + 0.5) * factor - 0.5``
    of the frame, and chroma keeps its location in relation to luma. The numbers are interpolated as they are
    stored, in their depth, matrix and range, as video players do.

    Args:
        width, height: size of the resulting frames, in pixels.
        color: colour format of the planes; ``None`` for RGB.
    """

    def __init__(self, width: int, height: int, color: ColorSpec | None) -> None:
        self._size, self._color = (width, height), color
        self._graph: Graph | None = None

    def __call__(self, frame: Frame) -> Frame:
        """Returns a frame in the new size. All frames must have the size, depth and alpha of the first.

        Args:
            frame: a frame whose planes are in the format of ``color``, or RGB.
        """
        planes = frame.planes
        if self._color is None:
            # The filter would convert RGB to YUV and back. It takes each channel as it is for a plane.
            planes = tuple(np.moveaxis(planes[0], -1, 0))
        spec = self._color or ColorSpec("bt709", True, 8 * planes[0].itemsize, subsampling=(1, 1))
        name = format_for(spec)
        if frame.alpha is not None:
            name = name.replace("yuv", "yuva")
        given = to_video_frame(planes, name, frame.alpha)
        if self._graph is None:
            width, height = self._size
            across, down = (round(256 * offset) for offset in spec.siting)
            # With equal ranges, no number is stretched.
            options = f"{width}:{height}:flags={_FLAGS}:in_range=pc:out_range=pc"
            for end in ("in", "out"):
                options += f":{end}_h_chr_pos={across}:{end}_v_chr_pos={down}"
            self._graph = chain(given, ("scale", options), ("format", name))
        self._graph.vpush(given)
        made = self._graph.vpull()
        samples = [samples_of(made, index) for index in range(len(made.planes))]
        alpha = samples.pop() if frame.alpha is not None else None
        planes = (np.stack(samples, axis=-1),) if self._color is None else tuple(samples)
        return replace(frame, planes=planes, alpha=alpha)
