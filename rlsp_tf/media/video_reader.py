"""Video files as clips: every frame once, with its time and the samples of the decoder."""

import contextlib
import errno
import itertools
import os
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from rlsp_tf.errors import RLSPError, describe_os_error
from rlsp_tf.media.containers import ALPHA_MODE
from rlsp_tf.media.deinterlace import deinterlaced
from rlsp_tf.media.frames import Frame
from rlsp_tf.media.hdr import hdr10_of
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
"""Seconds. Time that goes back farther starts anew, as in files that were put together of several."""

_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that read alpha, by codecs whose usual ones do not."""

FORMATS = (
    *(
        "mov,mp4,m4a,3gp,3g2,mj2",
        "matroska,webm",
        "avi",
        "mpegts",
        "mpeg",
        "mpegvideo",
        "flv",
        "live_flv",
        "asf",
    ),
    *(
        "ogg",
        "mxf",
        "gif",
        "apng",
        "nut",
        "rm",
        "wtv",
        "dv",
        "ivf",
        "yuv4mpegpipe",
        "h264",
        "hevc",
        "av1",
        "obu",
    ),
)
"""What is read, by FFmpeg's names: files that hold what they show. Playlists and scripts, which make FFmpeg
open what they name, are not among them."""
MOST_PIXELS = 2**26
"""Of a frame, 8192x8192: a header can ask for any amount of memory."""


STDIN = Path("standard input")
"""Stands for what is piped into the program, and is what messages call it."""


class Clock:
    """Time stamps of a stream that go on where their clock starts anew, as in files put together of several.

    Attributes:
        restarts: how often it has started anew.
    """

    def __init__(self) -> None:
        self.restarts = 0
        self._shift = self._before = 0

    def read(self, stamp: int, last: int, step: int) -> int:
        """A time stamp in the time that goes on.

        Args:
            stamp: as it stands in the file.
            last: what was given for the one before.
            step: how long that lasts.

        Returns:
            The time. It is not later than ``last`` where the stamp is wrong by less than a ``step``.
        """
        if self._shift != self._before and stamp + self._before > last:
            # There were only some wrong stamps, and the clock goes on as before.
            self._shift = self._before
            self.restarts -= 1
        elif stamp + self._shift <= last - step:
            self._before, self._shift = self._shift, last + step - stamp
            self.restarts += 1
        return stamp + self._shift


class VideoSource:
    """A video file, decoded frame by frame.

    It is a :class:`rlsp_tf.media.frames.FrameSource` that can be read once. Planes are those of the decoder;
    RGB and palettes become RGB of 8 or 16 bits. Frames that the file asks to be turned, as those of
    telephones do, are turned; the crop in the header of a Matroska file is applied. Frames of another size or
    pixel format than the first are left out, and a note says since when.

    A damaged or truncated file gives the frames that can be decoded, and a note after the last one.

    What is piped in can be read only once: packets beside the video wait in ``companions`` for whoever
    takes them, where others read a file a second time.

    Args:
        path: a video file in any format that FFmpeg reads, or :data:`STDIN`.
        deinterlace: make whole frames of those that are marked as interlaced, see
            :mod:`rlsp_tf.media.deinterlace`.

    Attributes:
        sample_aspect_ratio: width of a pixel divided by its height, ``None`` if not given.
        tags: what the file says about colour by the numbers of ITU-T H.273: matrix, primaries, transfer.
        hdr10: what the file says of its mastering display and its brightness, if it does.
        stream_index: which of the file's streams the video is.
        metadata: of that stream.
        disposition: its marks, such as that of the default; FFmpeg's number.
        container: FFmpeg's, as it is open.
        companions: ``None`` for files.
        restamped: how many frames so far had no time of their own, or a wrong one.

    Raises:
        RLSPError: if the file is missing, empty or no video, or none of its frames can be decoded.
    """

    def __init__(self, path: str | os.PathLike[str], *, deinterlace: bool = False) -> None:
        self.path = path if isinstance(path, Path) else Path(path)
        self._deinterlace = deinterlace
        self.notes: list[str] = []
        self.companions: deque[Any] | None = deque() if path is STDIN else None
        failure = "not a video that can be read; check the file"
        if path is STDIN:
            failure = (
                "no video that can be read from front to back; pipe Matroska, NUT or MPEG-TS, or name a file"
            )
        elif not self.path.is_file():
            raise RLSPError(f"{self.path}: no such file; check the path.")
        elif not self.path.stat().st_size:
            raise RLSPError(f"{self.path}: is empty; copy or make it again.")
        with contextlib.ExitStack() as stack:
            try:
                self.container = stack.enter_context(open_input(self.path))
            except av.FFmpegError as error:
                raise RLSPError(libav_sentence(error, self.path, failure)) from error
            self._stream = self._choose_stream()
            self._damaged = self.restamped = self._packets = 0
            self._others: tuple[int, float, str] | None = None
            self._clear_since: float | None = None
            self._first_damage: int | None = None
            self._clock = Clock()
            self._interlaced = False
            self._gaps: list[Fraction] = []
            self._last: int | None = None
            decoded = self._decode()
            first = next(decoded, None)
            if first is None:
                raise RLSPError(f"{self.path}: no frame of its video can be decoded; make or copy it again.")
            self._describe(first)
            self._decoded = itertools.chain([first], decoded)
            stack.pop_all()

    def __iter__(self) -> Iterator[Frame]:
        duration = 0
        frames = self._checked()
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
            yield Frame(planes, pts=decoded.pts, duration=duration or None, alpha=alpha)
        self._note_damage(duration)
        if self._deinterlace and not self._interlaced:
            self.notes.append(f"{self.path}: no frame is marked as interlaced; all were left as they are.")

    @property
    def is_damaged_within(self) -> bool:
        """Whether something, so far, could not be decoded as it should be, and more came after it."""
        return self._first_damage is not None and self._first_damage < self._packets

    def _seen(self, plane: np.ndarray, subsampling: tuple[int, int] = (1, 1)) -> np.ndarray:
        """A plane without what is not to be shown, and upright."""
        if any(self._crop):
            (across, down), (bottom, right) = subsampling, self._ends
            rows = slice(self._crop.top // down, -(-bottom // down))
            plane = plane[rows, self._crop.left // across : -(-right // across)]
        return np.ascontiguousarray(np.rot90(plane, self._turns))

    def _note_places(self, places: int) -> None:
        """Counts places that are damaged."""
        self._damaged += places
        if places and self._first_damage is None:
            self._first_damage = self._packets

    def seek(self, pts: int) -> None:
        """Lets the frames begin at a time or somewhat before, as far as the file tells how to find it.

        Args:
            pts: in units of ``time_base``.
        """
        with contextlib.suppress(av.FFmpegError):
            self.container.seek(pts, stream=self._stream)
            self._decoder.flush_buffers()
            self._decoded, self._last = itertools.chain(self._decode()), None

    def __enter__(self) -> "VideoSource":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.container.close()

    def _choose_stream(self) -> Any:
        # Cover art is a video stream of one picture.
        streams = [
            stream
            for stream in self.container.streams.video
            if not stream.disposition & Disposition.attached_pic
        ]
        if not streams:
            raise RLSPError(f"{self.path}: has no video in it; check the path.")
        # As the ffmpeg command chooses: the largest, first of all among those that are marked as the default.
        stream = max(streams, key=_rank)
        if stream.codec_context is None:
            raise RLSPError(f"{self.path}: FFmpeg has no decoder for its video; convert it elsewhere first.")
        if stream.width * stream.height > MOST_PIXELS:
            raise RLSPError(
                f"{self.path}: claims frames of {stream.width}x{stream.height}, more than "
                f"{MOST_PIXELS >> 20} million pixels; check the file, or make its frames smaller."
            )
        self._decoder = stream.codec_context
        library = _WITH_ALPHA.get(self._decoder.name)
        if library and any(name.lower() == ALPHA_MODE for name in stream.metadata):
            self._decoder = av.CodecContext.create(library, "r")
        # Also for frames that turn out larger than the file said.
        self._decoder.options = {"max_pixels": str(MOST_PIXELS)}
        # Threads would be faster than is needed. Those by frame lose good frames beside a broken one, and
        # those by slice make the decoder of VP8 refuse frames that it shows as far as they go without.
        self._decoder.thread_type = "NONE"
        return stream

    def _decode(self) -> Iterator[av.VideoFrame]:
        packets = self.container.demux(self._stream) if self.companions is None else self._demux_all()
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                # No further packet can be read; the decoder still holds frames of the ones before.
                self._note_places(1)
                with contextlib.suppress(av.FFmpegError):
                    yield from self._decoder.decode(None)
                return
            if packet is None:
                return
            self._packets += bool(packet.size)
            try:
                frames = self._decoder.decode(packet)
            except av.FFmpegError:
                self._note_places(1)
                continue
            yield from frames

    def _demux_all(self) -> Iterator[Any]:
        """The packets of the video; those of other streams are put aside."""
        for packet in self.container.demux():
            # The packets at the end, which only flush decoders, have no index of their own.
            if packet.stream.index == self._stream.index:
                yield packet
            elif self.companions is not None and packet.size:
                self.companions.append(packet)

    def _checked(self) -> Iterator[av.VideoFrame]:
        """The decoded frames that are like the first, each with its time."""
        for index, decoded in enumerate(self._decoded):
            decoded.pts = self._time_of(decoded)
            if _form_of(decoded) != self._form:
                count, begun, form = self._others or (0, self._seconds_of(decoded), _form_of(decoded))
                self._others = count + 1, begun, form
                continue
            self._note_places(decoded.is_corrupt)
            if decoded.interlaced_frame and not self._interlaced:
                self._interlaced = True
                if not self._deinterlace:
                    since = f"from frame {index} on " if index else ""
                    self.notes.append(
                        f"{self.path}: is interlaced {since}but taken as if it were not; "
                        "rlsp upscale --deinterlace makes whole frames of it."
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
        # A single frame has no rate; any will do then.
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
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
        seconds = self._expected_end()
        self.frames: int | None = stream.frames or (round(seconds * rate) if seconds else None)
        if color:
            self._note_matrix(color)
        # Most formats of RGB have alpha whether something is transparent or not.
        self.transparent: bool = first.format.name.startswith("yuva") or is_transparent(first)
        self.hdr10 = hdr10_of(first)

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
                f"{self.path}: does not tell its colour matrix; taken for {name}, as is usual {rule}."
            )
        elif tag not in MATRICES:
            self.notes.append(f"{self.path}: has an uncommon colour matrix (H.273: {tag}); taken for {name}.")

    def _time_of(self, decoded: av.VideoFrame) -> int:
        """The frame's time stamp, made to increase where the file has none or a wrong one."""
        assert self.rate is not None
        step = decoded.duration or max(1, round(1 / (self.rate * self.time_base)))
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
            elif (pts - last) * self.time_base > JUMP:
                self._gaps.append(last * self.time_base)
        self._last = pts
        return pts

    def _seconds_of(self, decoded: av.VideoFrame) -> float:
        assert decoded.pts is not None
        return float(decoded.pts * self.time_base)

    def _expected_end(self) -> Fraction | None:
        """When the video ends by what the file says, in seconds."""
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
            note(f"has a clock that starts anew {times}; its time goes on there")
        if wrong := self.restamped - self._clock.restarts:
            note(f"{wrong} frames had no or wrong time stamps and got new ones")
        if self._others:
            count, begun, form = self._others
            note(
                f"changes from {self._form} to {form} at {begun:.3f} s; the {count} frames of another "
                "form than the first were left out. Split it there to upscale them, too"
            )
        if self._clear_since is not None:
            note(f"is opaque until {self._clear_since:.3f} s and transparent then, which was dropped")
        if self._damaged:
            note(f"is damaged in {self._damaged} places; frames are missing or spoilt there")
        if self._gaps:
            note(
                f"shows one frame for more than a second at {len(self._gaps)} places, the first "
                f"{float(self._gaps[0]):.1f} s from the start; if it should not, it is damaged there"
            )
        expected = self._expected_end()
        end = ((self._last or 0) + duration) * self.time_base
        # The duration of the whole file counts where its video's is not known, and sound may be longer.
        if expected is not None and end < expected - 1:
            note(f"ends at {float(end):.1f} s, though it says {float(expected):.1f} s; it may be truncated")


def _form_of(decoded: av.VideoFrame) -> str:
    return f"{decoded.width}x{decoded.height} {decoded.format.name}"


def _rank(stream: Any) -> tuple[bool, bool, int]:
    if stream.codec_context is None:
        return False, False, 0
    return True, bool(stream.disposition & Disposition.default), stream.width * stream.height


def open_input(path: Path) -> Any:
    """Opens a file, or :data:`STDIN`, to read it by FFmpeg.

    Raises:
        av.FFmpegError: if that cannot be done.
    """
    # With the prefix, a colon in a name does not make it an address. Metadata may be in any encoding.
    protocol, name = ("pipe", "0") if path is STDIN else ("file", path)
    return av.open(
        f"{protocol}:{name}",
        options={"format_whitelist": ",".join(FORMATS), "protocol_whitelist": protocol},
        metadata_errors="surrogateescape",
    )


def libav_sentence(error: av.FFmpegError, path: Path, failure: str) -> str:
    """One sentence for an error of FFmpeg: what the system said if it was the system, else ``failure``.

    Args:
        error: as caught.
        path: the file that the user knows.
        failure: what went wrong and what to do, without a full stop.
    """
    # FFmpeg's reader of YUV4MPEG adds to the number of an error, which makes a busy device of a wrong header.
    if isinstance(error, OSError) and error.errno != errno.EBUSY:
        return describe_os_error(OSError(error.errno, error.strerror, str(path)))
    return f"{path}: {failure} (FFmpeg: {(error.strerror or 'unknown error').lower()})."
