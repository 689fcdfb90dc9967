"""Converts between frames in FFmpeg's pixel formats and arrays, without rounding errors."""

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, get_args

import av
import numpy as np
from av.filter import Graph
from av.video.reformatter import Colorspace

from rlsp_tf.pixels.color import (
    ChromaLocation,
    ColorSpec,
    Matrix,
    eight_bits,
    from_codes,
    rgb_to_ycbcr,
    to_codes,
    ycbcr_to_rgb,
)
from rlsp_tf.pixels.resample import chroma_matrices

LIMITED, FULL = 1, 2
"""FFmpeg's values of color_range: those of H.273 plus one."""

UNTAGGED = 2
"""H.273's number for a matrix, primaries or transfer that is not specified."""

MATRICES: dict[int, Matrix] = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}
"""Matrices by their numbers in ITU-T H.273, table 4. BT.2020 with constant luminance (10) is treated as the
non-constant form (9)."""

MATRIX_TAGS: dict[Matrix, int] = {"bt601": 6, "bt709": 1, "bt2020": 9}

_SWSCALE = {"bt601": Colorspace.ITU601, "bt709": Colorspace.ITU709, "bt2020": Colorspace.BT2020}
"""PyAV's names of the matrices."""
_SUBSAMPLINGS = {"444": (1, 1), "422": (2, 1), "420": (2, 2), "440": (1, 2), "411": (4, 1), "410": (4, 4)}
_PLANAR = re.compile(r"yuv(4\d\d)p(\d+le)?")


def layout_of(format_name: str) -> str:
    """Returns the pixel format that frames are converted to before they become arrays.

    Args:
        format_name: FFmpeg's name of the frames' own format.

    Returns:
        ``rgb24`` or ``rgb48le`` for RGB and palettes; otherwise the planar format of the same depth and
        subsampling, such as ``gray`` or ``yuv420p10le``. None of them has alpha.
    """
    pixel_format = av.VideoFormat(format_name, 16, 16)
    components = [component for component in pixel_format.components if not component.is_alpha]
    depth = max(component.bits for component in components)
    if pixel_format.is_rgb or format_name == "pal8" or format_name.startswith(("xyz", "bayer")):
        return "rgb24" if depth <= 8 else "rgb48le"
    if len(components) == 1:
        return "gray" if depth <= 8 else f"gray{depth}le"
    subsampling = (16 // components[1].width, 16 // components[1].height)
    name = {sizes: name for name, sizes in _SUBSAMPLINGS.items()}[subsampling]
    return f"yuv{name}p" if depth == 8 else f"yuv{name}p{depth}le"


def is_transparent(frame: av.VideoFrame) -> bool:
    """Whether any pixel of a frame is transparent."""
    alpha = alpha_of(frame)
    if alpha is None:
        return False
    layout = layout_of(frame.format.name)
    depth = 8 * alpha.itemsize if layout.startswith("rgb") else _depth_of(layout)
    return bool(alpha.min() < 2**depth - 1)


def alpha_of(frame: av.VideoFrame) -> np.ndarray | None:
    """How opaque the pixels of a decoded frame are.

    Returns:
        ``(H, W)`` in the type and depth of :func:`planes_of`; ``None`` for frames without alpha.
    """
    name = frame.format.name
    if not any(component.is_alpha for component in frame.format.components) and name != "pal8":
        return None
    layout = layout_of(name)
    if layout.startswith("rgb"):
        return frame.to_ndarray(format="rgba" if layout == "rgb24" else "rgba64le")[..., 3]
    if not name.startswith("yuva"):
        wanted = layout.replace("yuv", "yuva").replace("gray", "yuva420p", 1)
        frame = repacked(frame, re.sub(r"p(\d+le)$", r"p\1", wanted))
    return samples_of(frame, 3)


def spec_of(frame: av.VideoFrame, matrix_tag: int, range_tag: int, codec: str) -> ColorSpec | None:
    """Returns the colour format of a decoded frame.

    Without a tag, the matrix is assumed to be BT.601 below 720 lines and BT.709 otherwise, as players do.

    Args:
        frame: the decoded frame.
        matrix_tag: H.273's number of the matrix.
        range_tag: ``LIMITED``, ``FULL``, or 0 if unspecified.
        codec: FFmpeg's name of the decoder.

    Returns:
        The format of the planes that :func:`planes_of` returns; ``None`` for RGB.
    """
    name = frame.format.name
    layout = layout_of(name)
    if layout.startswith("rgb"):
        return None
    grey = layout.startswith("gray")
    matrix = MATRICES.get(matrix_tag, "bt709" if frame.height >= 720 else "bt601")
    # Grey without a tag comes from images. Like FFmpeg, assume full range.
    full_range = range_tag == FULL or (range_tag != LIMITED and (grey or name.startswith("yuvj")))
    subsampling, depth = ((2, 2), _depth_of(layout)) if grey else _subsampling_and_depth(layout)
    # The standards' defaults. Decoders report "left" where the file does not say, so "left" is no evidence.
    location: ChromaLocation = "left"
    if codec.startswith(("mjpeg", "mpeg1")):
        location = "center"
    elif matrix == "bt2020":
        location = "topleft"
    measured = _measured_location(frame)
    if measured and measured != "left" and (measured != "center" or codec in ("h264", "hevc")):
        location = measured
    return ColorSpec(matrix, full_range, depth, subsampling, location)


def planes_of(frame: av.VideoFrame) -> tuple[np.ndarray, ...]:
    """Returns the samples of a decoded frame as arrays.

    Returns:
        ``(rgb,)`` or ``(y, cb, cr)`` as in :class:`rlsp_tf.media.frames.Frame`. Grey frames get neutral
        chroma in 4:2:0.
    """
    layout = layout_of(frame.format.name)
    if layout.startswith("rgb"):
        return (frame.to_ndarray(format=layout),)
    if frame.format.name.replace("yuvj", "yuv").replace("yuva", "yuv") != layout:
        frame = repacked(frame, layout)
    if layout.startswith("gray"):
        luma = samples_of(frame, 0)
        shape = [-(-size // 2) for size in luma.shape]
        neutral = np.full(shape, 2 ** (_depth_of(layout) - 1), luma.dtype)
        return luma, neutral, neutral.copy()
    return samples_of(frame, 0), samples_of(frame, 1), samples_of(frame, 2)


def repacked(frame: av.VideoFrame, format_name: str) -> av.VideoFrame:
    """Converts a frame to another memory layout, with the same samples.

    Args:
        frame: the decoded frame.
        format_name: FFmpeg's name of a format with the same depth and subsampling, without alpha; 4:2:0 for
            grey.
    """
    # VideoFrame.reformat allocates lines without padding, and swscale writes beyond their ends. With equal
    # ranges, the filter changes no sample.
    graph = chain(frame, ("scale", "in_range=pc:out_range=pc"), ("format", format_name))
    graph.vpush(frame)
    return graph.vpull()


def chain(frame: av.VideoFrame, *filters: tuple[str, str]) -> Graph:
    """Builds a chain of FFmpeg filters for frames of one size and format.

    Args:
        frame: an example of the frames; its size and pixel format count.
        filters: name and options of each filter.

    Raises:
        av.FFmpegError: if a filter does not accept such frames.
    """
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1)
    )
    graph.link_nodes(source, *(graph.add(*each) for each in filters), graph.add("buffersink")).configure()
    return graph


def to_video_frame(
    planes: Sequence[np.ndarray], pixel_format: str, alpha: np.ndarray | None = None
) -> av.VideoFrame:
    """Makes a frame of RGB or planar YUV from arrays, as :func:`planes_of` and :func:`alpha_of` return them.

    Args:
        planes: ``(rgb,)`` or ``(y, cb, cr)``.
        pixel_format: FFmpeg's name of a format with the same depth and subsampling.
        alpha: as :func:`alpha_of` returns it, if the format has alpha.
    """
    if len(planes) == 1:
        small = planes[0].dtype == np.uint8
        held = "rgb24" if small else "rgb48le"
        pixels = planes[0]
        if alpha is not None:
            held, pixels = "rgba" if small else "rgba64le", np.dstack([pixels, alpha])
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=held).reformat(
            format=pixel_format
        )
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, pixel_format)
    given = planes if alpha is None else (*planes, alpha)
    for plane, samples in zip(frame.planes, given, strict=True):
        _write_samples(plane, samples)
    return frame


def planes_from_rgb(rgb: np.ndarray, spec: ColorSpec) -> tuple[np.ndarray, ...]:
    """Converts RGB to the planes of a video; chroma is subsampled at the chroma location of ``spec``.

    Args:
        rgb: ``(H, W, 3)``, uint8 or uint16.
        spec: the colour format of the result.

    Returns:
        ``(y, cb, cr)``: uint8, or uint16 for a depth above 8.
    """
    r, g, b = np.moveaxis(rgb.astype(np.float32) * np.float32(255 / np.iinfo(rgb.dtype).max), -1, 0)
    y, *chroma = rgb_to_ycbcr(r, g, b, spec)
    rows, columns = chroma_matrices(y.shape, replace(spec, subsampling=(1, 1)), spec)
    cb, cr = (rows @ (plane @ columns.T) for plane in chroma)
    codes = to_codes(y, cb, cr, spec)
    dtype = np.uint8 if spec.depth == 8 else np.uint16
    return tuple(np.clip(np.rint(plane), 0, 2**spec.depth - 1).astype(dtype) for plane in codes)


def rgb_from_planes(planes: tuple[np.ndarray, ...], spec: ColorSpec) -> np.ndarray:
    """Converts the planes of a video to RGB, with cubic interpolation of chroma.

    Args:
        planes: ``(y, cb, cr)`` in the depth and subsampling of ``spec``.
        spec: the colour format of the planes.

    Returns:
        ``(H, W, 3)``: uint8, or uint16 for a depth above 8. White is the type's largest number.
    """
    y, cb, cr = (plane.astype(np.float32) for plane in planes)
    y, cb, cr = from_codes(y, cb, cr, spec)
    rows, columns = chroma_matrices(y.shape, spec, replace(spec, subsampling=(1, 1)))
    rgb = np.stack(ycbcr_to_rgb(y, rows @ cb @ columns.T, rows @ cr @ columns.T, spec), axis=-1)
    dtype = np.uint8 if spec.depth == 8 else np.uint16
    most = np.iinfo(dtype).max
    return np.clip(np.rint(rgb * (most / 255)), 0, most).astype(dtype)


def eight_bit_rgb(planes: tuple[np.ndarray, ...], spec: ColorSpec | None) -> np.ndarray:
    """Returns the RGB of a frame in 8 bits, with cubic interpolation of chroma.

    Args:
        planes: the planes of a frame of a clip; see :class:`rlsp_tf.media.frames.Frame`.
        spec: the colour format of the clip; ``None`` if its only plane is RGB, uint8 or uint16.

    Returns:
        uint8 ``(H, W, 3)``.
    """
    rgb = rgb_from_planes(planes, spec) if spec else planes[0]
    return eight_bits(rgb / 257) if rgb.dtype == np.uint16 else rgb


def rgb8_from_planes(planes: Sequence[np.ndarray], spec: ColorSpec) -> np.ndarray:
    """Converts the planes of a video to 8-bit RGB with FFmpeg, whatever their depth.

    Args:
        planes: ``(y, cb, cr)`` in the depth and subsampling of ``spec``.
        spec: the colour format of the planes.

    Returns:
        uint8 ``(H, W, 3)``.
    """
    frame = to_video_frame(planes, format_for(spec))
    return frame.reformat(
        format="rgb24",
        src_colorspace=_SWSCALE[spec.matrix],
        src_color_range=FULL if spec.full_range else LIMITED,
    ).to_ndarray()


def format_for(spec: ColorSpec) -> str:
    """Returns FFmpeg's name of the pixel format of ``spec``, such as ``yuv420p10le``."""
    name = {sizes: name for name, sizes in _SUBSAMPLINGS.items()}[spec.subsampling]
    return f"yuv{name}p" if spec.depth == 8 else f"yuv{name}p{spec.depth}le"


def nearest_spec(spec: ColorSpec, formats: Sequence[str]) -> ColorSpec | None:
    """Chooses the pixel format that loses least of ``spec``: chroma samples count first, then depth.

    Args:
        spec: the wanted colour format.
        formats: FFmpeg's names of the pixel formats to choose from.

    Returns:
        A colour format of the same matrix and range; ``None`` if no pixel format is planar YUV.
    """
    choices = [_subsampling_and_depth(name) for name in formats if _PLANAR.fullmatch(name)]

    def loss(choice: tuple[tuple[int, int], int]) -> tuple[float, int, float, int]:
        (across, down), depth = choice
        chroma = (across * down) / (spec.subsampling[0] * spec.subsampling[1])
        lost = max(1.0, across / spec.subsampling[0]) * max(1.0, down / spec.subsampling[1])
        return lost, max(0, spec.depth - depth), 1 / chroma, depth

    if not choices:
        return None
    subsampling, depth = min(choices, key=loss)
    return replace(spec, subsampling=subsampling, depth=depth)


def turned(spec: ColorSpec, quarter_turns: int) -> ColorSpec:
    """Returns the colour format of planes after a counter-clockwise rotation, as by ``numpy.rot90``.

    Args:
        spec: the colour format before the rotation, of planes with even width and height.
        quarter_turns: number of rotations by 90 degrees.

    Returns:
        The format whose chroma location is nearest to the rotated one. The standards have no location at the
        right, so after 180 degrees it may be off by half a luma sample.
    """
    (across, down), (x, y) = spec.subsampling, spec.siting
    for _ in range(quarter_turns % 4):
        across, down, x, y = down, across, y, across - 1 - x
    location = _nearest_location((x, y), (across, down))
    return replace(spec, subsampling=(across, down), chroma_location=location)


def _measured_location(frame: av.VideoFrame) -> ChromaLocation | None:
    """Measures the chroma location that the decoder reports.

    PyAV does not expose it, but swscale uses it. So this upsamples a ramp of chroma and looks where it lies.

    Returns:
        The location; ``center`` also if the decoder reports none; ``None`` if it cannot be measured.
    """
    name = frame.format.name
    if not re.match("yuvj?420p", name) or min(frame.width, frame.height) < 16:
        return None
    graph = chain(frame, ("setfield", "prog"), ("crop", "16:16:0:0"), ("copy", ""))
    graph.vpush(frame)
    ramp = graph.vpull()
    steps = np.arange(0, 64, 8).astype(samples_of(ramp, 1).dtype)
    for plane, samples in zip(ramp.planes[1:], np.meshgrid(steps, steps), strict=True):
        _write_samples(plane, samples)
    full = ramp.reformat(format=name.replace("420", "444"), src_color_range=FULL, dst_color_range=FULL)
    # A step of 8 in the ramp spans two luma samples.
    x, y = (8 - float(samples_of(full, index)[8, 8]) / 4 for index in (1, 2))
    return _nearest_location((x, y), (2, 2))


def _nearest_location(siting: tuple[float, float], subsampling: tuple[int, int]) -> ChromaLocation:
    x, y = siting

    def distance(location: ChromaLocation) -> float:
        spec = ColorSpec("bt601", False, subsampling=subsampling, chroma_location=location)
        return abs(spec.siting[0] - x) + abs(spec.siting[1] - y)

    return min(get_args(ChromaLocation), key=distance)


def _depth_of(layout: str) -> int:
    """Returns the bits per sample of a planar format, from its name."""
    match = re.search(r"(\d+)le$", layout)
    return int(match[1]) if match else 8


def _subsampling_and_depth(layout: str) -> tuple[tuple[int, int], int]:
    match = _PLANAR.fullmatch(layout)
    assert match is not None
    return _SUBSAMPLINGS[match[1]], _depth_of(layout)


def samples_of(frame: av.VideoFrame, index: int) -> np.ndarray:
    """Copies one plane ``(h, w)`` of a frame without the padding of its lines."""
    plane = frame.planes[index]
    dtype = np.dtype(np.uint8 if frame.format.components[index].bits == 8 else "<u2")
    return np.ascontiguousarray(_bytes_of(plane)[:, : plane.width * dtype.itemsize]).view(dtype)


def _write_samples(plane: Any, samples: np.ndarray) -> None:
    rows = np.ascontiguousarray(samples).view(np.uint8)
    _bytes_of(plane)[:, : rows.shape[1]] = rows


def _bytes_of(plane: Any) -> np.ndarray:
    """Returns the memory of a plane as bytes, ``(h, bytes per line)``, including padding."""
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
