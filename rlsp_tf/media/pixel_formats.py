"""Between FFmpeg's many pixel formats and planes as arrays, without a rounding on the way."""

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
    from_codes,
    rgb_to_ycbcr,
    to_codes,
    ycbcr_to_rgb,
)
from rlsp_tf.pixels.resample import chroma_matrices

LIMITED, FULL = 1, 2
"""FFmpeg's color_range, as H.273 numbers it plus one."""

UNTAGGED = 2
"""What H.273 calls a matrix, primaries or transfer that is not given."""

MATRICES: dict[int, Matrix] = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}
"""ITU-T H.273, table 4 (matrix coefficients). 10 is BT.2020 with constant luminance, taken for the other."""

MATRIX_TAGS: dict[Matrix, int] = {"bt601": 6, "bt709": 1, "bt2020": 9}

_SWSCALE = {"bt601": Colorspace.ITU601, "bt709": Colorspace.ITU709, "bt2020": Colorspace.BT2020}
"""Matrices by PyAV's names."""
_SUBSAMPLINGS = {"444": (1, 1), "422": (2, 1), "420": (2, 2), "440": (1, 2), "411": (4, 1), "410": (4, 4)}
_PLANAR = re.compile(r"yuv(4\d\d)p(\d+le)?")


def layout_of(format_name: str) -> str:
    """The format in which frames of another one become arrays.

    Args:
        format_name: by FFmpeg's name.

    Returns:
        ``rgb24`` or ``rgb48le`` for RGB and palettes; for others the planar format of the same depth
        and subsampling, such as ``gray`` or ``yuv420p10le``. None of them has alpha.
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
    """Whether something could be seen through a frame."""
    alpha = alpha_of(frame)
    if alpha is None:
        return False
    layout = layout_of(frame.format.name)
    depth = 8 * alpha.itemsize if layout.startswith("rgb") else _depth(layout)
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
    return _samples(frame, 3)


def spec_of(frame: av.VideoFrame, matrix_tag: int, range_tag: int, codec: str) -> ColorSpec | None:
    """The colour of a decoded frame.

    An untagged matrix is BT.601 below 720 lines and BT.709 from there on, as players take it.

    Args:
        frame: as decoded.
        matrix_tag: H.273's number for the matrix.
        range_tag: ``LIMITED``, ``FULL`` or 0 if not given.
        codec: FFmpeg's name of the decoder.

    Returns:
        How the planes of :func:`planes_of` hold it, ``None`` for RGB.
    """
    name = frame.format.name
    layout = layout_of(name)
    if layout.startswith("rgb"):
        return None
    grey = layout.startswith("gray")
    matrix = MATRICES.get(matrix_tag, "bt709" if frame.height >= 720 else "bt601")
    # Grey without a tag comes from images; FFmpeg, too, takes it to be of full range.
    full_range = range_tag == FULL or (range_tag != LIMITED and (grey or name.startswith("yuvj")))
    subsampling, depth = ((2, 2), _depth(layout)) if grey else _parse(layout)
    # What the standards say without a word; decoders that have none from their file say left.
    location: ChromaLocation = "left"
    if codec.startswith(("mjpeg", "mpeg1")):
        location = "center"
    elif matrix == "bt2020":
        location = "topleft"
    told = _told_location(frame)
    if told and told != "left" and (told != "center" or codec in ("h264", "hevc")):
        location = told
    return ColorSpec(matrix, full_range, depth, subsampling, location)


def planes_of(frame: av.VideoFrame) -> tuple[np.ndarray, ...]:
    """The samples of a decoded frame.

    Returns:
        ``(rgb,)`` or ``(y, cb, cr)`` as in :class:`rlsp_tf.media.frames.Frame`; grey gets neutral 4:2:0
        chroma.
    """
    layout = layout_of(frame.format.name)
    if layout.startswith("rgb"):
        return (frame.to_ndarray(format=layout),)
    if frame.format.name.replace("yuvj", "yuv").replace("yuva", "yuv") != layout:
        frame = repacked(frame, layout)
    if layout.startswith("gray"):
        luma = _samples(frame, 0)
        shape = [-(-size // 2) for size in luma.shape]
        neutral = np.full(shape, 2 ** (_depth(layout) - 1), luma.dtype)
        return luma, neutral, neutral.copy()
    return _samples(frame, 0), _samples(frame, 1), _samples(frame, 2)


def repacked(frame: av.VideoFrame, format_name: str) -> av.VideoFrame:
    """A frame with the same samples in another order.

    Args:
        frame: as decoded.
        format_name: a format of the same depth and subsampling, without alpha; 4:2:0 for grey.
    """
    # VideoFrame.reformat would do, but for its lines: swscale writes beyond the ends of lines as short as
    # those, into the beginnings of others. Within one range it computes nothing.
    graph = chain(frame, ("scale", "in_range=pc:out_range=pc"), ("format", format_name))
    graph.vpush(frame)
    return graph.vpull()


def chain(frame: av.VideoFrame, *filters: tuple[str, str]) -> Graph:
    """Filters of FFmpeg, one after the other, for frames like the one given.

    Args:
        frame: tells size and pixel format.
        filters: names and options.

    Raises:
        av.FFmpegError: if a filter takes no such frames.
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
    """The opposite of :func:`planes_of`, and of :func:`alpha_of`, for RGB and planar YUV.

    Args:
        planes: ``(rgb,)`` or ``(y, cb, cr)``.
        pixel_format: one that has just these samples.
        alpha: likewise.
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
        _put(plane, samples)
    return frame


def planes_from_rgb(rgb: np.ndarray, spec: ColorSpec) -> tuple[np.ndarray, ...]:
    """RGB as planes of a video, chroma reduced at the place where ``spec`` has it.

    Args:
        rgb: ``(H, W, 3)``, uint8 or uint16.
        spec: of the planes.

    Returns:
        ``(y, cb, cr)``, uint8 or, above 8 bits, uint16.
    """
    r, g, b = np.moveaxis(rgb.astype(np.float32) * np.float32(255 / np.iinfo(rgb.dtype).max), -1, 0)
    y, *chroma = rgb_to_ycbcr(r, g, b, spec)
    rows, columns = chroma_matrices(y.shape, replace(spec, subsampling=(1, 1)), spec)
    cb, cr = (rows @ (plane @ columns.T) for plane in chroma)
    codes = to_codes(y, cb, cr, spec)
    dtype = np.uint8 if spec.depth == 8 else np.uint16
    return tuple(np.clip(np.rint(plane), 0, 2**spec.depth - 1).astype(dtype) for plane in codes)


def rgb_from_planes(planes: tuple[np.ndarray, ...], spec: ColorSpec) -> np.ndarray:
    """Planes of a video as RGB, chroma by cubic interpolation.

    Args:
        planes: ``(y, cb, cr)`` in the depth and subsampling of ``spec``.
        spec: of the planes.

    Returns:
        ``(H, W, 3)``, uint8 or, above 8 bits, uint16, 0 to the type's largest number.
    """
    y, cb, cr = (plane.astype(np.float32) for plane in planes)
    y, cb, cr = from_codes(y, cb, cr, spec)
    rows, columns = chroma_matrices(y.shape, spec, replace(spec, subsampling=(1, 1)))
    rgb = np.stack(ycbcr_to_rgb(y, rows @ cb @ columns.T, rows @ cr @ columns.T, spec), axis=-1)
    dtype = np.uint8 if spec.depth == 8 else np.uint16
    most = np.iinfo(dtype).max
    return np.clip(np.rint(rgb * (most / 255)), 0, most).astype(dtype)


def rgb8_from_planes(planes: Sequence[np.ndarray], spec: ColorSpec) -> np.ndarray:
    """As :func:`rgb_from_planes`, but by FFmpeg, in 8 bits whatever the depth.

    Args:
        planes: ``(y, cb, cr)`` in the depth and subsampling of ``spec``.
        spec: of the planes.

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
    """FFmpeg's name for planes of ``spec``, such as ``yuv420p10le``."""
    name = {sizes: name for name, sizes in _SUBSAMPLINGS.items()}[spec.subsampling]
    return f"yuv{name}p" if spec.depth == 8 else f"yuv{name}p{spec.depth}le"


def nearest_spec(spec: ColorSpec, formats: Sequence[str]) -> ColorSpec | None:
    """What ``spec`` becomes if only some pixel formats can be had.

    Chroma samples and depth are kept where that is possible; where not, as much of them as can be.

    Args:
        spec: as wanted.
        formats: FFmpeg's names.

    Returns:
        A spec of the same matrix and range, ``None`` if no format is planar YUV.
    """
    choices = [_parse(name) for name in formats if _PLANAR.fullmatch(name)]

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
    """The colour of planes that were turned counter-clockwise, as ``numpy.rot90`` does it.

    Args:
        spec: before; of planes with even sides.
        quarter_turns: how often by 90 degrees.

    Returns:
        The spec whose chroma lies nearest to where it has come; the standards have no name for chroma
        sited at the right, so a turn by 180 degrees may leave half a luma sample.
    """
    (across, down), (x, y) = spec.subsampling, spec.siting
    for _ in range(quarter_turns % 4):
        across, down, x, y = down, across, y, across - 1 - x
    location = _nearest_location((x, y), (across, down))
    return replace(spec, subsampling=(across, down), chroma_location=location)


def _told_location(frame: av.VideoFrame) -> ChromaLocation | None:
    """Where the decoder says that chroma lies; ``center`` also if it says nothing, ``None`` if unknown.

    FFmpeg's Python interface does not give it. But swscale goes by it, so a ramp of chroma tells.
    """
    name = frame.format.name
    if not re.match("yuvj?420p", name) or min(frame.width, frame.height) < 16:
        return None
    graph = chain(frame, ("setfield", "prog"), ("crop", "16:16:0:0"), ("copy", ""))
    graph.vpush(frame)
    ramp = graph.vpull()
    steps = np.arange(0, 64, 8).astype(_samples(ramp, 1).dtype)
    for plane, samples in zip(ramp.planes[1:], np.meshgrid(steps, steps), strict=True):
        _put(plane, samples)
    full = ramp.reformat(format=name.replace("420", "444"), src_color_range=FULL, dst_color_range=FULL)
    # One step is two luma samples.
    x, y = (8 - float(_samples(full, index)[8, 8]) / 4 for index in (1, 2))
    return _nearest_location((x, y), (2, 2))


def _nearest_location(siting: tuple[float, float], subsampling: tuple[int, int]) -> ChromaLocation:
    x, y = siting

    def distance(location: ChromaLocation) -> float:
        spec = ColorSpec("bt601", False, subsampling=subsampling, chroma_location=location)
        return abs(spec.siting[0] - x) + abs(spec.siting[1] - y)

    return min(get_args(ChromaLocation), key=distance)


def _depth(layout: str) -> int:
    """Bits per sample of a planar format's name."""
    match = re.search(r"(\d+)le$", layout)
    return int(match[1]) if match else 8


def _parse(layout: str) -> tuple[tuple[int, int], int]:
    match = _PLANAR.fullmatch(layout)
    assert match is not None
    return _SUBSAMPLINGS[match[1]], _depth(layout)


def _samples(frame: av.VideoFrame, index: int) -> np.ndarray:
    """A copy of one plane, ``(h, w)``, without the padding of its lines."""
    plane = frame.planes[index]
    dtype = np.dtype(np.uint8 if frame.format.components[index].bits == 8 else "<u2")
    return np.ascontiguousarray(_rows(plane)[:, : plane.width * dtype.itemsize]).view(dtype)


def _put(plane: Any, samples: np.ndarray) -> None:
    rows = np.ascontiguousarray(samples).view(np.uint8)
    _rows(plane)[:, : rows.shape[1]] = rows


def _rows(plane: Any) -> np.ndarray:
    """The memory of a plane as bytes, ``(h, bytes per line)``, padding included."""
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
