"""Tries out the ending of a run before its first frame is computed, so that problems show at once."""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rlsp_tf.errors import RLSPError
from rlsp_tf.media.frames import Frame, FrameSink, FrameSource
from rlsp_tf.media.video_writer import VideoSink
from rlsp_tf.system.files import temporary_path
from rlsp_tf.upscaling.concatenate import join_videos
from rlsp_tf.upscaling.work_folder import Segment, size_of

_PACKETS = 50
"""Packets of each sound stream that are tried: about a second."""


def rehearse(work: Path, whole: VideoSink, make: Callable[[Path], FrameSink], source: FrameSource) -> None:
    """Encodes one black frame and joins it with everything that accompanies the video.

    Parts that the container does not accept are added to ``whole.left_out``. Nothing is left on the disk.

    Args:
        work: the folder for segments.
        whole: the sink of the whole result.
        make: makes the sink of a segment from its path.
        source: the clip that is upscaled.

    Raises:
        RLSPError: if the result could not be written.
    """
    with _removed(temporary_path(whole.path, work), temporary_path(whole.path, work)) as (segment, joined):
        sink = make(segment)
        assert isinstance(sink, VideoSink)
        with sink:
            sink.write(
                Frame(whole.black(), pts=0, duration=max(1, round(1 / (whole.rate * whole.time_base))))
            )
        join_videos(
            work,
            [Segment(segment.name, 1, size_of(segment), 0, sink.times)],
            joined,
            source,
            whole.path,
            time_base=whole.time_base,
            notes=[],
            left_out=whole.left_out,
            because=f"{whole.path.suffix} does not take it",
            most=_PACKETS,
        )


def check_room(target: Path, work: Path, segments: Sequence[Segment]) -> None:
    """Raises an ``RLSPError`` if the disk has no room to join the finished segments.

    Args:
        target: the file to write.
        work: the folder with the segments.
        segments: the finished segments. The joined file needs as much space as they do.
    """
    needed = sum(segment.size for segment in segments)
    free = shutil.disk_usage(work).free
    if free < needed:
        raise RLSPError(
            f"{target}: no space left on device; joining the finished segments takes {needed / 1e6:.1f} MB, "
            f"and {free / 1e6:.1f} MB are free. Free some space or choose another place, then run the "
            "command again."
        ) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def _removed(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Removes files when the block ends."""
    try:
        yield paths
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
