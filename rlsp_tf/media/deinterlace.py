"""Deinterlacing: makes progressive frames from interlaced ones."""

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
    """Deinterlaces frames with FFmpeg's filter bwdif.

    The result shows the moment of each frame's first field. The lines of that field are kept, and the other
    lines are computed from them and from the frames before and after. Frames that are not marked as
    interlaced are left unchanged.

    Args:
        frames: decoded frames, all of one size and pixel format.
        path: the file that they come from, for error messages.

    Yields:
        Pairs of the decoded frame, which holds the time and other properties, and the deinterlaced picture.
        :func:`rlsp_tf.media.pixel_formats.planes_of` the picture has the depth and subsampling of the frame.

    Raises:
        RLSPError: if the filter does not support the pixel format, or the frames are too small for it.
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
    if frame.format.name.startswith("yuv440p1"):  # bwdif would read beyond the end of the chroma planes
        raise refusal
    try:
        return chain(frame, ("bwdif", "mode=send_frame:parity=auto:deint=interlaced"))
    except av.FFmpegError as error:
        raise refusal from error


def _format_for(name: str) -> str:
    """Returns a pixel format that bwdif supports and that holds the same samples as this one."""
    layout = layout_of(name)
    if layout.startswith("rgb"):
        bits = max(component.bits for component in av.VideoFormat(name, 16, 16).components)
        return "gbrp" if bits <= 8 else f"gbrp{bits}le"
    return layout.replace("gray", "yuv420p")


def _ready(graph: Graph) -> Iterator[av.VideoFrame]:
    with contextlib.suppress(BlockingIOError, EOFError):
        while True:
            yield graph.vpull()
