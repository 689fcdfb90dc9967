"""Whole frames out of interlaced ones, whose lines were taken at two times."""

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
from av.filter import Graph

from rlsp_tf.errors import RLSPError
from rlsp_tf.media.pixel_formats import chain, layout_of, repacked


def deinterlaced(
    frames: Iterable[av.VideoFrame], path: Path
) -> Iterator[tuple[av.VideoFrame, av.VideoFrame]]:
    """Frames as they were at the time of their first fields, by FFmpeg's filter bwdif.

    Lines of the first field stay; the others are computed from those and from the frames before and
    after. Frames that are not marked as interlaced are left as they are.

    Args:
        frames: as decoded, of one size and pixel format.
        path: their file.

    Yields:
        Every frame as it was given, for its time and whatever else it tells, and a picture of which
        :func:`rlsp_tf.media.pixel_formats.planes_of` gives planes of the same depth and subsampling.

    Raises:
        RLSPError: if the filter does not take frames of this format, or that small.
    """
    waiting: deque[av.VideoFrame] = deque()
    graph: Graph | None = None
    for frame in frames:
        waiting.append(frame)
        name = frame.format.name
        wanted = _format_for(name)
        taken = frame if name.replace("yuvj", "yuv") == wanted else repacked(frame, wanted)
        graph = graph or _graph_for(taken, path)
        graph.vpush(taken)
        for picture in _ready(graph):
            yield waiting.popleft(), picture
    if graph:
        graph.vpush(None)
        for picture in _ready(graph):
            yield waiting.popleft(), picture


def _graph_for(frame: av.VideoFrame, path: Path) -> Graph:
    refusal = RLSPError(
        f"{path}: frames of {frame.width}x{frame.height} in {frame.format.name} cannot be deinterlaced; "
        "leave out --deinterlace."
    )
    if frame.format.name.startswith("yuv440p1"):  # for which bwdif would be given more chroma than there is
        raise refusal
    try:
        return chain(frame, ("bwdif", "mode=send_frame:parity=auto:deint=interlaced"))
    except av.FFmpegError as error:
        raise refusal from error


def _format_for(name: str) -> str:
    """The format in which bwdif gets the samples of another one."""
    layout = layout_of(name)
    if layout.startswith("rgb"):
        bits = max(component.bits for component in av.VideoFormat(name, 16, 16).components)
        return "gbrp" if bits <= 8 else f"gbrp{bits}le"
    return layout.replace("gray", "yuv420p")


def _ready(graph: Graph) -> Iterator[av.VideoFrame]:
    with contextlib.suppress(BlockingIOError, EOFError):
        while True:
            yield graph.vpull()
