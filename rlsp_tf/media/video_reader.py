"""Reads video files as clips: every frame once, with its time and the decoder's own samples."""

import contextlib
import itertools
import math
import os
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from rlsp_tf.errors import RLSPError
from rlsp_tf.media.clock import Clock
from rlsp_tf.media.containers import ALPHA_MODE
from rlsp_tf.media.deinterlace import deinterlaced
from rlsp_tf.media.frames import Frame
from rlsp_tf.media.hdr import hdr10_of
from rlsp_tf.media.inputs import STDIN, libav_sentence, open_input, with_padding
from rlsp_tf.media.interval import Interval, clock_time, packets_by_index, packets_from_key_frame
from rlsp_tf.media.matroska_crop import Crop, crops_of
from rlsp_tf.media.pixel_formats import (
    MATRICES,
    UNTAGGED,
    alpha_of,
    is_transparent,
    layout_of,
    planes_of,
    spec_of,
    turned,
)
from rlsp_tf.pixels.color import ColorSpec

JUMP = 1
"""Seconds. A longer gap between two frames is reported as possible damage."""

_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that read alpha, by codecs whose usual ones do not."""

MOST_PIXELS = 2**26
"""Most pixels of a frame, such as 8192x8192. Without a limit, a damaged header could claim all memory."""


LONGEST_SUBTITLE = 30
"""Seconds for which a subtitle may be shown."""
INTERLEAVED = 1
"""Seconds that packets of one stream may come later in a file than those of another."""


class VideoSource:
    """Decodes a video file frame by frame.

    This is a :class:`rlsp_tf.media.frames.FrameSource` that can be read once. Its planes are the decoder's
    own; RGB and palettes become RGB of 8 or 16 bits. Frames are rotated if the file says so, as videos of
    telephones do; the crop in the header of a Matroska file is applied. Frames with another size or pixel
    format than the first are left out, and a note says from which time on. Of a damaged or truncated file,
    all frames that can be decoded are read, and then a note is added.

    Args:
        path: a video file in one of ``FORMATS``, or :data:`STDIN`.
        deinterlace: whether to deinterlace the frames that are marked as interlaced, see
            :mod:`rlsp_tf.media.deinterlace`.
        interval: the part that is read. If it begins later than the file, its first frame gets the time 0.
        most_pixels: width times height of the largest frame that is decoded, even to find out what the
            header does not say; :data:`MOST_PIXELS` by default, after a first frame of any size.

    Attributes:
        sample_aspect_ratio: width of a pixel divided by its height; ``None`` if not specified.
        tags: ITU-T H.273's numbers of the file's matrix, primaries and transfer.
        hdr10: the file's HDR10 metadata; ``None`` if it has none.
        stream_index: index of the video stream in the file.
        metadata: metadata of the video stream.
        disposition: FFmpeg's disposition flags of the video stream, such as the one for default streams.
        container: the open container.
        companions: the packets of other streams, read so far and not yet taken. Only a pipe has them,
            because it cannot be opened twice; ``None`` for files.
        restamped: number of frames so far whose time stamp was missing or wrong.
        begins: time of the interval's first frame in the file, in seconds; ``None`` if it begins as the file.
        ends: time in the file at which the interval ends, in seconds; ``None`` if it ends as the file.
        indexed: whether the first frame was found by the file's index.

    Raises:
        RLSPError: if the file is missing, empty or not a video, or none of its frames can be decoded, or it
            ends before the interval begins.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        deinterlace: bool = False,
        interval: Interval = Interval(),
        most_pixels: int | None = None,
    ) -> None:
        self.path = path if isinstance(path, Path) else Path(path)
        self._deinterlace, self._limit = deinterlace, most_pixels
        self._most_pixels = most_pixels or MOST_PIXELS
        self.notes: list[str] = []
        self.companions: deque[Any] | None = deque() if path is STDIN else None
        if path is not STDIN and not self.path.is_file():
            raise RLSPError(f"{self.path}: no such file; check the path.")
        if path is not STDIN and not self.path.stat().st_size:
            raise RLSPError(f"{self.path}: is empty; copy or make it again.")
        self._first_damage: int | None = None
        self._last: int | None = None
        self._open()
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: self.container.close())
            self._others: tuple[int, float, str] | None = None
            self._clear_since: float | None = None
            self._interlaced = False
            self.begins: Fraction | None = None
            self.ends: Fraction | None = None
            self.indexed = self._ended = False
            self._shift = 0
            self._end: int | None = None
            decoded = self._timed(self._decode(self._packets()))
            first = next(decoded, None)
            if first is None:
                raise RLSPError(f"{self.path}: no frame of its video can be decoded; make or copy it again.")
            self._origin: int = first.pts
            if interval.end is not None:
                self.ends = interval.end + self._origin * self._stream.time_base
                self._end = math.ceil(self.ends / self._stream.time_base)
            if interval.start:
                first, decoded = self._advance(interval.start, itertools.chain([first], decoded))
                self._shift, self.begins = first.pts, first.pts * self._stream.time_base
            self._decoded = self._until_end(itertools.chain([first], decoded))
            self._check_size(first.width, first.height)
            self._describe(first)
            self._expect(interval)
            stack.pop_all()

    def __iter__(self) -> Iterator[Frame]:
        duration = 0
        frames = self._uniform_frames()
        pairs = deinterlaced(frames, self.path) if self._deinterlace else ((frame, frame) for frame in frames)
        for decoded, picture in pairs:
            luma, *chroma = planes_of(picture)
            planes = self._seen(luma), *(self._seen(plane, self._subsampling) for plane in chroma)
            alpha = alpha_of(decoded) if self.transparent else None
            if alpha is not None:
                alpha = self._seen(alpha)
            elif self._clear_since is None and is_transparent(decoded):
                self._clear_since = self._seconds_of(decoded)
            duration = decoded.duration or 0
            assert decoded.pts is not None
            if self._end is not None:
                duration = min(duration, self._end - decoded.pts)
            yield Frame(planes, pts=decoded.pts - self._shift, duration=duration or None, alpha=alpha)
        self._note_damage(duration)
        if self._deinterlace and not self._interlaced:
            self.notes.append(f"{self.path}: no frame is marked as interlaced; all were left as they are.")

    @property
    def is_damaged_within(self) -> bool:
        """Whether a damaged place was found so far that is not at the end of what was read."""
        return self._first_damage is not None and self._first_damage < self._count

    def _seen(self, plane: np.ndarray, subsampling: tuple[int, int] = (1, 1)) -> np.ndarray:
        """Returns a plane without its cropped margins, and upright."""
        if any(self._crop):
            (across, down), (bottom, right) = subsampling, self._ends
            rows = slice(self._crop.top // down, -(-bottom // down))
            plane = plane[rows, self._crop.left // across : -(-right // across)]
        return np.ascontiguousarray(np.rot90(plane, self._turns))

    def _count_damage(self, places: int) -> None:
        """Counts damaged places."""
        self._damaged += places
        if places and self._first_damage is None:
            self._first_damage = self._count

    def seek(self, pts: int) -> None:
        """Continues reading at a given time or somewhat before; has no effect if the file cannot be searched.

        Args:
            pts: the time, in units of ``time_base``.
        """
        with contextlib.suppress(av.FFmpegError):
            self.container.seek(pts + self._shift, stream=self._stream)
            self._decoder.flush_buffers()
            self._last = None
            self._decoded = self._until_end(self._timed(self._decode(self._packets())))

    def __enter__(self) -> "VideoSource":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.container.close()

    def _open(self) -> None:
        """Opens the file at its beginning."""
        failure = "not a video that can be read; check the file"
        if self.path is STDIN:
            failure = (
                "no video that can be read from front to back; pipe Matroska, NUT or MPEG-TS, or name a file"
            )
        try:
            self.container = open_input(self.path, self._limit)
        except av.FFmpegError as error:
            raise RLSPError(libav_sentence(error, self.path, failure)) from error
        try:
            self._stream = self._choose_stream()
        except BaseException:
            self.container.close()
            raise
        self._damaged = self.restamped = self._count = 0
        self._first_damage = self._last = None
        self._clock = Clock()
        self._gaps: list[Fraction] = []

    def _advance(self, start: Fraction, frames: Iterator[Any]) -> tuple[Any, Iterator[Any]]:
        """Returns the first frame at or after a time, and those that follow.

        Args:
            start: seconds after the first frame.
            frames: all frames of the file.
        """
        unit = self._stream.time_base
        begin = self._origin + math.ceil(start / unit)
        last = self._origin
        for found in self._attempts(frames, begin):
            for number, frame in enumerate(found):
                # A decoder may leave out the first frames after a key frame, if they depend on earlier ones.
                if number == 0 and frame.pts > begin:
                    break
                if frame.pts >= begin:
                    if self._end is not None and frame.pts >= self._end:
                        raise RLSPError(
                            f"{self.path}: has no frame between --start and the end of --duration; "
                            "give a longer --duration."
                        )
                    # What was damaged before does not matter.
                    self._damaged, self._first_damage, self._gaps = 0, None, []
                    return frame, found
                last = max(last, frame.pts)
                if self.companions:
                    self._forget_companions(last * unit)
        raise RLSPError(
            f"{self.path}: its last frame is at {clock_time((last - self._origin) * unit)}; "
            "--start must not be later."
        )

    def _attempts(self, frames: Iterator[Any], begin: int) -> Iterator[Iterator[Any]]:
        """Yields iterators that may reach the interval, from the fastest to the surest."""
        if self.companions is not None:
            yield frames
            return
        if packets := packets_by_index(self.container, self._stream, begin):
            self._decoder.flush_buffers()
            self._last, self.indexed = None, True
            yield self._timed(self._decode(packets))
        self.indexed = False
        for decode_all in (False, True):
            self.container.close()
            self._open()
            second = round(1 / self._stream.time_base)
            packets = self._packets()
            chosen = packets if decode_all else packets_from_key_frame(packets, begin, second)
            if chosen is not None:
                yield self._timed(self._decode(chosen))

    def _forget_companions(self, time: Fraction) -> None:
        """Drops the packets of other streams that are long over at a time, in seconds."""
        assert self.companions is not None
        while self.companions:
            packet = self.companions[0]
            if packet.dts is None or packet.dts * packet.time_base > time - LONGEST_SUBTITLE:
                return
            self.companions.popleft()

    def _until_end(self, frames: Iterator[Any]) -> Iterator[Any]:
        for frame in frames:
            if self._end is not None and frame.pts >= self._end:
                self._ended = True
                if self.companions is not None:
                    self._read_companions()
                return
            yield frame

    def _read_companions(self) -> None:
        """Reads on in a pipe, where the sound that belongs to the last frames may come after them."""
        assert self.ends is not None
        with contextlib.suppress(av.FFmpegError):
            for packet in self._demuxed:
                if packet.dts is not None and packet.dts * packet.time_base > self.ends + INTERLEAVED:
                    return

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
        self._check_size(stream.width, stream.height)
        self._decoder = stream.codec_context
        library = _WITH_ALPHA.get(self._decoder.name)
        if library and any(name.lower() == ALPHA_MODE for name in stream.metadata):
            self._decoder = av.CodecContext.create(library, "r")
        # The limit must also hold for frames that are larger than the header says.
        self._decoder.options = {"max_pixels": str(with_padding(self._most_pixels))}
        # One thread decodes faster than the network computes. With frame threads, intact frames beside a
        # damaged one are lost; with slice threads, VP8's decoder refuses frames that it could partly show.
        self._decoder.thread_type = "NONE"
        return stream

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._most_pixels:
            raise RLSPError(
                f"{self.path}: claims frames of {width}x{height}, more than {self._most_pixels / 2**20:.3g} "
                "million pixels; check the file, or make its frames smaller."
            )

    def _packets(self) -> Iterator[Any]:
        if self.companions is None:
            return self.container.demux(self._stream)
        self._demuxed = self._demux_all()
        return self._demuxed

    def _decode(self, packets: Iterator[Any]) -> Iterator[av.VideoFrame]:
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                # No further packet can be read, but the decoder still holds frames of earlier ones.
                self._count_damage(1)
                with contextlib.suppress(av.FFmpegError):
                    yield from self._decoder.decode(None)
                return
            if packet is None:
                return
            self._count += bool(packet.size)
            try:
                frames = self._decoder.decode(packet)
            except av.FFmpegError:
                self._count_damage(1)
                continue
            yield from frames

    def _demux_all(self) -> Iterator[Any]:
        """Yields the packets of the video and keeps those of other streams in ``companions``."""
        for packet in self.container.demux():
            # The last packets, which only flush decoders, have no stream_index of their own.
            if packet.stream.index == self._stream.index:
                yield packet
            elif self.companions is not None and packet.size:
                self.companions.append(packet)

    def _timed(self, frames: Iterator[Any]) -> Iterator[Any]:
        for decoded in frames:
            decoded.pts = self._time_of(decoded)
            yield decoded

    def _uniform_frames(self) -> Iterator[av.VideoFrame]:
        """Yields the decoded frames that have the form of the first."""
        for index, decoded in enumerate(self._decoded):
            if _form_of(decoded) != self._form:
                count, begun, form = self._others or (0, self._seconds_of(decoded), _form_of(decoded))
                self._others = count + 1, begun, form
                continue
            self._count_damage(decoded.is_corrupt)
            if decoded.interlaced_frame and not self._interlaced:
                self._interlaced = True
                if not self._deinterlace:
                    since = f"from frame {index} on " if index else ""
                    self.notes.append(
                        f"{self.path}: is interlaced {since}but was read as progressive; "
                        "rlsp upscale --deinterlace deinterlaces it."
                    )
            yield decoded

    def _describe(self, first: av.VideoFrame) -> None:
        stream, context = self._stream, self._stream.codec_context
        self._form = _form_of(first)
        self._turns = round(first.rotation / 90) % 4
        self.stream_index: int = stream.index
        self.metadata: dict[str, str] = stream.metadata
        self.disposition: int = stream.disposition.value
        self.time_base: Fraction = stream.time_base
        rate = _rate_of(stream)
        self.rate: Fraction | None = rate
        self.tags: tuple[int, int, int] = (first.colorspace, context.color_primaries, context.color_trc)
        color = spec_of(first, self.tags[0], first.color_range, context.name)
        self._subsampling = color.subsampling if color else (1, 1)
        self._crop = self._crop_of(first)
        self._ends = first.height - self._crop.bottom, first.width - self._crop.right
        self.height, self.width = self._ends[0] - self._crop.top, self._ends[1] - self._crop.left
        self.sample_aspect_ratio: Fraction | None = stream.sample_aspect_ratio or None
        if self._turns % 2:
            self.width, self.height = self.height, self.width
            self.sample_aspect_ratio = self.sample_aspect_ratio and 1 / self.sample_aspect_ratio
        self.color = turned(color, self._turns) if color else None
        self.depth: int = color.depth if color else 16 if layout_of(first.format.name) == "rgb48le" else 8
        if color:
            self._note_matrix(color)
        # Most formats of RGB have alpha whether something is transparent or not.
        self.transparent: bool = first.format.name.startswith("yuva") or is_transparent(first)
        self.hdr10 = hdr10_of(first)

    def _expect(self, interval: Interval) -> None:
        """Says how many frames there will be, as far as the file's metadata tell."""
        rate, end = _rate_of(self._stream), self._expected_end()
        self.frames: int | None = self._stream.frames or (round(end * rate) if end else None)
        if interval:
            left = [interval.duration] if interval.duration is not None else []
            if self.frames:
                left.append(self.frames / rate - interval.start)
            self.frames = max(1, round(min(left) * rate)) if left else None

    def _crop_of(self, first: av.VideoFrame) -> Crop:
        """What the file says that is not to be shown, in whole samples of chroma."""
        if self.path is STDIN or "matroska" not in self.container.format.name:
            return Crop()
        videos = [stream.index for stream in self.container.streams.video]
        crops = dict(zip(videos, crops_of(self.path), strict=False))
        crop = crops.get(self.stream_index, Crop())
        if crop.top + crop.bottom >= first.height or crop.left + crop.right >= first.width:
            return Crop()
        across, down = self._subsampling
        return crop._replace(top=crop.top // down * down, left=crop.left // across * across)

    def _note_matrix(self, color: ColorSpec) -> None:
        name = {"bt601": "BT.601", "bt709": "BT.709", "bt2020": "BT.2020"}[color.matrix]
        tag = self.tags[0]
        if tag == UNTAGGED:
            rule = "from 720 lines on" if color.matrix == "bt709" else "below 720 lines"
            self.notes.append(
                f"{self.path}: does not say which colour matrix it uses; assumed {name}, as is usual {rule}."
            )
        elif tag not in MATRICES:
            self.notes.append(f"{self.path}: has an uncommon colour matrix (H.273: {tag}); assumed {name}.")

    def _time_of(self, decoded: av.VideoFrame) -> int:
        """Returns the frame's time stamp, corrected if it is missing or not later than the one before."""
        stream = self._stream
        step = decoded.duration or max(1, round(1 / (_rate_of(stream) * stream.time_base)))
        pts = decoded.pts if decoded.pts is not None else decoded.dts
        last = self._last
        if pts is None:
            self.restamped += 1
            pts = 0 if last is None else last + step
        elif last is not None:
            restarts = self._clock.restarts
            pts = self._clock.read(pts, last, step)
            self.restamped += self._clock.restarts != restarts
            if pts <= last:
                self.restamped += 1
                pts = last + 1
            elif (pts - last) * stream.time_base > JUMP:
                self._gaps.append(last * stream.time_base)
        self._last = pts
        return pts

    def _seconds_of(self, decoded: av.VideoFrame) -> float:
        assert decoded.pts is not None
        return float(decoded.pts * self.time_base)

    def _expected_end(self) -> Fraction | None:
        """Returns the time in seconds at which the video ends according to the file's metadata."""
        stream = self._stream
        if stream.duration:
            return (stream.duration + (stream.start_time or 0)) * stream.time_base
        with contextlib.suppress(ValueError, KeyError):
            hours, minutes, seconds = stream.metadata["DURATION"].split(":")
            return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
        if self.container.duration:
            return Fraction(self.container.duration, av.time_base)
        return None

    def _note_damage(self, duration: int) -> None:
        def note(sentence: str) -> None:
            self.notes.append(f"{self.path}: {sentence}.")

        if restarts := self._clock.restarts:
            times = "once" if restarts == 1 else f"{restarts} times"
            note(f"its time stamps start again {times}; they were made continuous")
        if wrong := self.restamped - self._clock.restarts:
            note(f"{wrong} frames had missing or wrong time stamps and got new ones")
        if self._others:
            count, begun, form = self._others
            note(
                f"changes from {self._form} to {form} at {begun:.3f} s; the {count} frames of another "
                "form than the first were left out. Split it there to upscale them, too"
            )
        if self._clear_since is not None:
            note(f"is opaque until {self._clear_since:.3f} s and transparent then, which was dropped")
        if self._damaged:
            note(f"is damaged in {self._damaged} places; frames are missing or damaged there")
        if self._gaps:
            note(
                f"shows one frame for more than a second at {len(self._gaps)} places, the first "
                f"{float(self._gaps[0]):.1f} s from the start; if that is not intended, it is damaged there"
            )
        expected = self._expected_end()
        end = ((self._last or 0) + duration) * self.time_base
        # The expected end may be that of the whole file, whose sound may be somewhat longer.
        if expected is not None and end < expected - 1 and not self._ended:
            note(
                f"ends at {float(end):.1f} s, but should last until {float(expected):.1f} s; it may be "
                "truncated"
            )


def _rate_of(stream: Any) -> Fraction:
    # A video of one frame has no rate; any will do.
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def _form_of(decoded: av.VideoFrame) -> str:
    return f"{decoded.width}x{decoded.height} {decoded.format.name}"


def _preference(stream: Any) -> tuple[bool, bool, int]:
    if stream.codec_context is None:
        return False, False, 0
    return True, bool(stream.disposition & Disposition.default), stream.width * stream.height
