"""Reads video files as clips: every frame once, with its time and the decoder's own samples."""

import contextlib
import itertools
import math
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from rlsp_tf.errors import RLSPError
from rlsp_tf.media.deinterlace import deinterlaced
from rlsp_tf.media.frames import Frame
from rlsp_tf.media.hdr import hdr10_of
from rlsp_tf.media.inputs import STDIN
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
from rlsp_tf.media.video_decoder import VideoDecoder
from rlsp_tf.pixels.color import ColorSpec


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
        most_pixels: width times height of the largest frame that is decoded; see
            :class:`rlsp_tf.media.video_decoder.VideoDecoder`.

    Attributes:
        sample_aspect_ratio: width of a pixel divided by its height; ``None`` if not specified.
        tags: ITU-T H.273's numbers of the file's matrix, primaries and transfer.
        hdr10: the file's HDR10 metadata; ``None`` if it has none.
        stream_index: index of the video stream in the file.
        metadata: metadata of the video stream.
        disposition: FFmpeg's disposition flags of the video stream, such as the one for default streams.
        decoder: the open file.
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
        self._deinterlace, self._most_pixels = deinterlace, most_pixels
        self.notes: list[str] = []
        if path is not STDIN and not self.path.is_file():
            raise RLSPError(f"{self.path}: no such file; check the path.")
        if path is not STDIN and not self.path.stat().st_size:
            raise RLSPError(f"{self.path}: is empty; copy or make it again.")
        self.decoder = VideoDecoder(self.path, most_pixels)
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: self.decoder.container.close())
            self._others: tuple[int, float, str] | None = None
            self._clear_since: float | None = None
            self._interlaced = False
            self.begins: Fraction | None = None
            self.ends: Fraction | None = None
            self.indexed = self._ended = False
            self._shift = 0
            self._end: int | None = None
            decoded = self.decoder.frames()
            first = next(decoded, None)
            if first is None:
                raise RLSPError(f"{self.path}: no frame of its video can be decoded; make or copy it again.")
            self.time_base: Fraction = self.decoder.stream.time_base
            self._origin: int = first.pts
            if interval.end is not None:
                self.ends = interval.end + self._origin * self.time_base
                self._end = math.ceil(self.ends / self.time_base)
            if interval.start:
                first, decoded = self._advance(interval.start, itertools.chain([first], decoded))
                self._shift, self.begins = first.pts, first.pts * self.time_base
            self._decoded = self._until_end(itertools.chain([first], decoded))
            self.decoder.check_size(first.width, first.height)
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

    def _seen(self, plane: np.ndarray, subsampling: tuple[int, int] = (1, 1)) -> np.ndarray:
        """Returns a plane without its cropped margins, and upright."""
        if any(self._crop):
            (across, down), (bottom, right) = subsampling, self._ends
            rows = slice(self._crop.top // down, -(-bottom // down))
            plane = plane[rows, self._crop.left // across : -(-right // across)]
        return np.ascontiguousarray(np.rot90(plane, self._turns))

    def seek(self, pts: int) -> None:
        """Continues reading at a given time or somewhat before; has no effect if the file cannot be searched.

        Args:
            pts: the time, in units of ``time_base``.
        """
        with contextlib.suppress(av.FFmpegError):
            self.decoder.container.seek(pts + self._shift, stream=self.decoder.stream)
            self.decoder.start_again()
            self._decoded = self._until_end(self.decoder.frames())

    def __enter__(self) -> "VideoSource":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.decoder.container.close()

    def _advance(self, start: Fraction, frames: Iterator[Any]) -> tuple[Any, Iterator[Any]]:
        """Returns the first frame at or after a time, and those that follow.

        Args:
            start: seconds after the first frame.
            frames: all frames of the file.
        """
        unit = self.time_base
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
                    self.decoder.forget_damage()
                    return frame, found
                last = max(last, frame.pts)
                self.decoder.forget_companions(last * unit)
        raise RLSPError(
            f"{self.path}: its last frame is at {clock_time((last - self._origin) * unit)}; "
            "--start must not be later."
        )

    def _attempts(self, frames: Iterator[Any], begin: int) -> Iterator[Iterator[Any]]:
        """Yields iterators that may reach the interval, from the fastest to the surest."""
        if self.decoder.companions is not None:
            yield frames
            return
        if packets := packets_by_index(self.decoder.container, self.decoder.stream, begin):
            self.decoder.start_again()
            self.indexed = True
            yield self.decoder.frames(packets)
        self.indexed = False
        for decode_all in (False, True):
            self.decoder.container.close()
            self.decoder = VideoDecoder(self.path, self._most_pixels)
            packets = self.decoder.packets()
            chosen = (
                packets if decode_all else packets_from_key_frame(packets, begin, round(1 / self.time_base))
            )
            if chosen is not None:
                yield self.decoder.frames(chosen)

    def _until_end(self, frames: Iterator[Any]) -> Iterator[Any]:
        for frame in frames:
            if self._end is not None and frame.pts >= self._end:
                self._ended = True
                if self.decoder.companions is not None:
                    assert self.ends is not None
                    self.decoder.read_companions(self.ends)
                return
            yield frame

    def _uniform_frames(self) -> Iterator[av.VideoFrame]:
        """Yields the decoded frames that have the form of the first."""
        for index, decoded in enumerate(self._decoded):
            if _form_of(decoded) != self._form:
                count, begun, form = self._others or (0, self._seconds_of(decoded), _form_of(decoded))
                self._others = count + 1, begun, form
                continue
            self.decoder.count_damage(decoded.is_corrupt)
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
        stream, context = self.decoder.stream, self.decoder.stream.codec_context
        self._form = _form_of(first)
        self._turns = round(first.rotation / 90) % 4
        self.stream_index: int = stream.index
        self.metadata: dict[str, str] = stream.metadata
        self.disposition: int = stream.disposition.value
        self.rate: Fraction | None = self.decoder.rate
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
        rate, end = self.decoder.rate, self.decoder.expected_end()
        self.frames: int | None = self.decoder.stream.frames or (round(end * rate) if end else None)
        if interval:
            within = interval.indices(rate)
            ends = [end for end in (self.frames, within.stop) if end]
            self.frames = max(1, min(ends) - within.start) if ends else None

    def _crop_of(self, first: av.VideoFrame) -> Crop:
        """What the file says that is not to be shown, in whole samples of chroma."""
        if self.path is STDIN or "matroska" not in self.decoder.container.format.name:
            return Crop()
        videos = [stream.index for stream in self.decoder.container.streams.video]
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

    def _seconds_of(self, decoded: av.VideoFrame) -> float:
        assert decoded.pts is not None
        return float(decoded.pts * self.time_base)

    def _note_damage(self, duration: int) -> None:
        decoder = self.decoder

        def note(sentence: str) -> None:
            self.notes.append(f"{self.path}: {sentence}.")

        if restarts := decoder.restarts:
            times = "once" if restarts == 1 else f"{restarts} times"
            note(f"its time stamps start again {times}; they were made continuous")
        if wrong := decoder.restamped - decoder.restarts:
            note(f"{wrong} frames had missing or wrong time stamps and got new ones")
        if self._others:
            count, begun, form = self._others
            note(
                f"changes from {self._form} to {form} at {begun:.3f} s; the {count} frames of another "
                "form than the first were left out. Split it there to upscale them, too"
            )
        if self._clear_since is not None:
            note(f"is opaque until {self._clear_since:.3f} s and transparent then, which was dropped")
        if decoder.damaged:
            note(f"is damaged in {decoder.damaged} places; frames are missing or damaged there")
        if decoder.gaps:
            note(
                f"shows one frame for more than a second at {len(decoder.gaps)} places, the first "
                f"{float(decoder.gaps[0]):.1f} s from the start; if that is not intended, it is damaged there"
            )
        expected = decoder.expected_end()
        end = ((decoder.last or 0) + duration) * self.time_base
        # The expected end may be that of the whole file, whose sound may be somewhat longer.
        if expected is not None and end < expected - 1 and not self._ended:
            note(
                f"ends at {float(end):.1f} s, but should last until {float(expected):.1f} s; it may be "
                "truncated"
            )


def _form_of(decoded: av.VideoFrame) -> str:
    return f"{decoded.width}x{decoded.height} {decoded.format.name}"
