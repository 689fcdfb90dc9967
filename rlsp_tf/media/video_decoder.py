"""Decodes the video of a file, as far as the file is intact, and gives each frame its time."""

import contextlib
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from rlsp_tf.errors import RLSPError
from rlsp_tf.media.clock import Clock
from rlsp_tf.media.containers import ALPHA_MODE
from rlsp_tf.media.inputs import STDIN, libav_sentence, open_input, with_padding

JUMP = 1
"""Seconds. A longer gap between two frames is reported as possible damage."""
INTERLEAVED = 1
"""Seconds that packets of one stream may come later in a file than those of another."""
LONGEST_SUBTITLE = 30
"""Seconds for which a subtitle may be shown."""
MOST_PIXELS = 2**26
"""Most pixels of a frame, such as 8192x8192. Without a limit, a damaged header could claim all memory."""

_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that read alpha, by codecs whose usual ones do not."""


class VideoDecoder:
    """Opens a file and decodes its video stream, the one that the ffmpeg command would choose.

    Damaged packets are counted and left out. The times of the frames rise: missing and wrong time stamps are
    replaced, and those that start again go on; see :class:`rlsp_tf.media.clock.Clock`.

    Args:
        path: the file, or :data:`rlsp_tf.media.inputs.STDIN`.
        most_pixels: width times height of the largest frame that is decoded, even to find out what the
            header does not say; :data:`MOST_PIXELS` by default, after a first frame of any size.

    Attributes:
        container: the open container.
        stream: its video stream.
        rate: frames per second.
        companions: the packets of other streams, read so far and not yet taken. Only a pipe has them,
            because it cannot be opened twice; ``None`` for files.
        damaged: number of damaged places so far.
        first_damage: number of packets before the first of them; ``None`` if there is none.
        restamped: number of frames so far whose time stamp was missing or wrong.
        last: time of the last frame so far, in units of the stream's time base; ``None`` before the first.
        gaps: times in seconds of frames so far that are shown for more than :data:`JUMP`.

    Raises:
        RLSPError: if the file is not a video, or has no stream that can be decoded.
    """

    def __init__(self, path: Path, most_pixels: int | None = None) -> None:
        self.path = path
        self._most_pixels = most_pixels or MOST_PIXELS
        self.companions: deque[Any] | None = deque() if path is STDIN else None
        failure = "not a video that can be read; check the file"
        if path is STDIN:
            failure = (
                "no video that can be read from front to back; pipe Matroska, NUT or MPEG-TS, or name a file"
            )
        try:
            self.container = open_input(path, most_pixels)
        except av.FFmpegError as error:
            raise RLSPError(libav_sentence(error, path, failure)) from error
        try:
            self.stream = self._choose_stream()
        except BaseException:
            self.container.close()
            raise
        # A video of one frame has no rate; any will do.
        self.rate: Fraction = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        self._packets = 0
        self._clock = Clock()
        self.restamped = 0
        self.last: int | None = None
        self.forget_damage()

    @property
    def restarts(self) -> int:
        """How often the time stamps started again so far."""
        return self._clock.restarts

    @property
    def is_damaged_within(self) -> bool:
        """Whether a damaged place was found so far that is not at the end of what was read."""
        return self.first_damage is not None and self.first_damage < self._packets

    def forget_damage(self) -> None:
        """Counts only what is damaged from here on."""
        self.damaged = 0
        self.gaps: list[Fraction] = []
        self.first_damage: int | None = None

    def count_damage(self, places: int) -> None:
        """Counts damaged places."""
        self.damaged += places
        if places and self.first_damage is None:
            self.first_damage = self._packets

    def check_size(self, width: int, height: int) -> None:
        """Raises an ``RLSPError`` if frames of a size are too large to be decoded."""
        if width * height > self._most_pixels:
            raise RLSPError(
                f"{self.path}: claims frames of {width}x{height}, more than {self._most_pixels / 2**20:.3g} "
                "million pixels; check the file, or make its frames smaller."
            )

    def packets(self) -> Iterator[Any]:
        """Yields the packets of the video, from the current position; of a pipe, the others are kept."""
        if self.companions is None:
            return self.container.demux(self.stream)
        self._demuxed = self._demux_all()
        return self._demuxed

    def frames(self, packets: Iterator[Any] | None = None) -> Iterator[Any]:
        """Yields the frames in packets, by default in all that follow, with corrected times (``pts``)."""
        for decoded in self._decode(self.packets() if packets is None else packets):
            decoded.pts = self._time_of(decoded)
            yield decoded

    def start_again(self) -> None:
        """Forgets earlier packets and times, before packets from another position."""
        self._context.flush_buffers()
        self.last = None

    def read_companions(self, until: Fraction) -> None:
        """Reads on in a pipe, where the sound that belongs to the last frames may come after them.

        Args:
            until: time in seconds of the last packet that is needed.
        """
        with contextlib.suppress(av.FFmpegError):
            for packet in self._demuxed:
                if packet.dts is not None and packet.dts * packet.time_base > until + INTERLEAVED:
                    return

    def forget_companions(self, time: Fraction) -> None:
        """Drops the packets of other streams that are long over at a time, in seconds."""
        while self.companions:
            packet = self.companions[0]
            if packet.dts is None or packet.dts * packet.time_base > time - LONGEST_SUBTITLE:
                return
            self.companions.popleft()

    def expected_end(self) -> Fraction | None:
        """Returns the time in seconds at which the video ends according to the file's metadata."""
        stream = self.stream
        if stream.duration:
            return (stream.duration + (stream.start_time or 0)) * stream.time_base
        with contextlib.suppress(ValueError, KeyError):
            hours, minutes, seconds = stream.metadata["DURATION"].split(":")
            return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
        if self.container.duration:
            return Fraction(self.container.duration, av.time_base)
        return None

    def _choose_stream(self) -> Any:
        # Cover art looks like a video stream with one picture.
        streams = [
            stream
            for stream in self.container.streams.video
            if not stream.disposition & Disposition.attached_pic
        ]
        if not streams:
            raise RLSPError(f"{self.path}: has no video in it; check the path.")
        # Choose as the ffmpeg command does: the largest stream, of the default streams if there are any.
        stream = max(streams, key=_preference)
        if stream.codec_context is None:
            raise RLSPError(
                f"{self.path}: FFmpeg has no decoder for its video; convert it with another program first."
            )
        self.check_size(stream.width, stream.height)
        self._context = stream.codec_context
        library = _WITH_ALPHA.get(self._context.name)
        if library and any(name.lower() == ALPHA_MODE for name in stream.metadata):
            self._context = av.CodecContext.create(library, "r")
        # The limit must also hold for frames that are larger than the header says.
        self._context.options = {"max_pixels": str(with_padding(self._most_pixels))}
        # One thread decodes faster than the network computes. With frame threads, intact frames beside a
        # damaged one are lost; with slice threads, VP8's decoder refuses frames that it could partly show.
        self._context.thread_type = "NONE"
        return stream

    def _demux_all(self) -> Iterator[Any]:
        """Yields the packets of the video and keeps those of other streams in ``companions``."""
        for packet in self.container.demux():
            # The last packets, which only flush decoders, have no stream_index of their own.
            if packet.stream.index == self.stream.index:
                yield packet
            elif self.companions is not None and packet.size:
                self.companions.append(packet)

    def _decode(self, packets: Iterator[Any]) -> Iterator[av.VideoFrame]:
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                # No further packet can be read, but the decoder still holds frames of earlier ones.
                self.count_damage(1)
                with contextlib.suppress(av.FFmpegError):
                    yield from self._context.decode(None)
                return
            if packet is None:
                return
            self._packets += bool(packet.size)
            try:
                frames = self._context.decode(packet)
            except av.FFmpegError:
                self.count_damage(1)
                continue
            yield from frames

    def _time_of(self, decoded: av.VideoFrame) -> int:
        """Returns the frame's time stamp, corrected if it is missing or not later than the one before."""
        unit = self.stream.time_base
        step = decoded.duration or max(1, round(1 / (self.rate * unit)))
        pts = decoded.pts if decoded.pts is not None else decoded.dts
        last = self.last
        if pts is None:
            self.restamped += 1
            pts = 0 if last is None else last + step
        elif last is not None:
            restarts = self.restarts
            pts = self._clock.read(pts, last, step)
            self.restamped += self.restarts != restarts
            if pts <= last:
                self.restamped += 1
                pts = last + 1
            elif (pts - last) * unit > JUMP:
                self.gaps.append(last * unit)
        self.last = pts
        return pts


def _preference(stream: Any) -> tuple[bool, bool, int]:
    if stream.codec_context is None:
        return False, False, 0
    return True, bool(stream.disposition & Disposition.default), stream.width * stream.height
