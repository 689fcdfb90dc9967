"""The ending of a run, gone through before its first frame is computed: what can fail then, fails now."""

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
"""Of each sound that take part: about a second."""


def rehearse(work: Path, whole: VideoSink, make: Callable[[Path], FrameSink], source: FrameSource) -> None:
    """Encodes one black frame and joins it with what accompanies the video, as will be done in the end.

    What the container does not take is noted in ``whole.left_out``, so that it does not go along then.
    Nothing stays on the disk.

    Args:
        work: the folder where segments will lie.
        whole: what will be written.
        make: makes the sink of a segment from its path.
        source: where the frames will come from.

    Raises:
        RLSPError: if nothing could be written in the end.
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
    """Raises an ``RLSPError`` if what is finished does not fit on the disk once more, as it has to.

    Args:
        target: the file to be.
        work: the folder where segments lie.
        segments: those that are finished.
    """
    needed = sum(segment.size for segment in segments)
    free = shutil.disk_usage(work).free
    if free < needed:
        raise RLSPError(
            f"{target}: no space left on device; what is finished takes {needed / 1e6:.1f} MB once more when "
            f"it is put together, and {free / 1e6:.1f} MB are free. Free some space or choose another place, "
            "then run the command again."
        ) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def _removed(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Removes files in the end."""
    try:
        yield paths
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
