"""An interval of time in a clip, and how its first frame is found without decoding all that comes before."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any

import av

from rlsp_tf.errors import UsageError

_INDEXED = ("mov", "matroska")
"""The first of FFmpeg's names of the formats whose index says where every key frame is."""
_EARLIER = (0, 1, 10)
"""Seconds before a time at which a key frame is looked for, in turn: an index may count decoding times."""
_LONGEST = 3000
"""Packets between two key frames that are kept in memory."""


@dataclass(frozen=True)
class Interval:
    """A part of a clip: the frames from ``start`` on, up to but not at ``start + duration``.

    Attributes:
        start: seconds from the first frame of the clip.
        duration: seconds; ``None`` for all that is left.

    Raises:
        UsageError: if ``start`` is below 0, or ``duration`` is not above 0.
    """

    start: Fraction = Fraction(0)
    duration: Fraction | None = None

    def __post_init__(self) -> None:
        if self.start < 0:
            raise UsageError(f"--start must be at least 0, not {float(self.start):g}.")
        if self.duration is not None and self.duration <= 0:
            raise UsageError(f"--duration must be above 0, not {float(self.duration):g}.")

    @property
    def end(self) -> Fraction | None:
        """Seconds from the first frame of the clip to the end; ``None`` for the end of the clip."""
        return None if self.duration is None else self.start + self.duration

    def indices(self, rate: Fraction) -> slice:
        """Returns which frames belong to it, if frame n is shown ``n / rate`` seconds after the first one."""
        return slice(math.ceil(self.start * rate), None if self.end is None else math.ceil(self.end * rate))

    def __bool__(self) -> bool:
        """Whether it is less than the clip."""
        return bool(self.start) or self.duration is not None

    def options(self) -> dict[str, str | None]:
        """Returns the options of the command line that ask for this interval, for a journal."""
        return {
            "--start": str(self.start) if self.start else None,
            "--duration": None if self.duration is None else str(self.duration),
        }


def packets_by_index(container: Any, stream: Any, pts: int) -> Iterator[Any] | None:
    """Seeks to a key frame that is shown at or before a time.

    Args:
        container: an open file.
        stream: its video.
        pts: the time, in units of the stream.

    Returns:
        The packets of the video from there on; ``None`` if the format has no index, or that does not help.
    """
    if container.format.name.split(",")[0] not in _INDEXED:
        return None
    for seconds in _EARLIER:
        try:
            container.seek(pts - round(seconds / stream.time_base), stream=stream)
            packets = container.demux(stream)
            first = next(packets, None)
        except av.FFmpegError:
            return None
        if first is None or not first.is_keyframe or first.pts is None:
            return None
        if first.pts <= pts:
            return chain([first], packets)
    return None


def packets_from_key_frame(packets: Iterator[Any], pts: int, second: int) -> Iterator[Any] | None:
    """Reads packets up to a time, and keeps those from the last key frame before it.

    Args:
        packets: the packets of a video, from the beginning of the file.
        pts: the time, in units of the stream.
        second: a second in these units. The key frame is at least so much earlier, if there is one.

    Returns:
        The packets from there on; ``None`` if their time stamps are such that the frame of a time can only be
        found by decoding all.
    """
    kept: list[Any] = []
    last: int | None = None
    try:
        for packet in packets:
            if packet.size:
                if packet.dts is None or (last is not None and packet.dts <= last) or len(kept) == _LONGEST:
                    return None
                last = packet.dts
                shown = last if packet.pts is None else packet.pts
                if packet.is_keyframe and shown + second <= pts:
                    kept.clear()
            kept.append(packet)
            if last is not None and last > pts:
                break
    except av.FFmpegError:
        return None
    return chain(kept, packets)


def clock_time(seconds: Fraction | float) -> str:
    """Writes a time as ``--start`` takes it, such as ``1:23.5``."""
    minutes, rest = divmod(round(float(seconds), 3), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:06.3f}" if hours else f"{minutes}:{rest:06.3f}"
