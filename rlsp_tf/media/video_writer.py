"""Writes video files. Frames keep their times, and sound and everything else is copied from the source."""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.codec.codec
import numpy as np
from av.codec.context import Flags

from rlsp_tf.errors import RLSPError, UsageError
from rlsp_tf.media.containers import ALPHA_MODE, codec_for, keeps_alpha, tag_for
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.media.frames import Frame, FrameSource
from rlsp_tf.media.images import DEFAULT_RATE
from rlsp_tf.media.inputs import libav_sentence
from rlsp_tf.media.pixel_formats import (
    FULL,
    LIMITED,
    MATRIX_TAGS,
    UNTAGGED,
    format_for,
    nearest_spec,
    planes_from_rgb,
    to_video_frame,
)
from rlsp_tf.media.stream_copy import Part, StreamCopy
from rlsp_tf.media.video_reader import VideoSource
from rlsp_tf.pixels.color import ColorSpec
from rlsp_tf.system.files import atomic_file, check_target

VIDEO_FORMATS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}
"""FFmpeg's name of the container for each suffix that can be written."""

_PLAYED = (4096, 2304)
"""The largest H.264 video that the players built into phones, televisions and computers decode."""
_PRESETS = "ultrafast, superfast, veryfast, faster, fast, medium, slow, slower, veryslow, placebo"


STDOUT = Path("standard output")
"""Stands for the program's standard output, and is its name in messages."""


def is_pipe(path: Path) -> bool:
    """Whether what is written goes out at once and cannot be changed: :data:`STDOUT`, or a named pipe."""
    return path is STDOUT or path.is_fifo()


class VideoSink:
    """Encodes frames into a video file.

    This is a :class:`rlsp_tf.media.frames.FrameSink`. Frames keep their time stamps: exactly in MP4 and MOV,
    and to the millisecond in Matroska and WebM, whose unit that is. Matroska and WebM have no negative times
    either, so if sound begins before the video's time zero, all streams are shifted by the same amount.

    Everything that accompanies the video of ``source`` is copied: sound, subtitles, cover art, attachments,
    chapters, metadata, pixel aspect ratio and colour tags. Whatever the container cannot hold is listed in
    ``notes``.

    Args:
        path: the file to write. Its suffix selects the container, see ``VIDEO_FORMATS``. :data:`STDOUT` gets
            Matroska. It and named pipes get what is encoded at once.
        source: the clip that the frames are made from.
        width: width of the frames, in pixels.
        height: height of the frames, in pixels.
        color: colour format of the frames. By default that of ``source``, or BT.709 in limited range if
            ``source`` is RGB. Depth and subsampling become the nearest that the encoder supports. If the
            encoder is lossless, or supports only RGB, RGB stays RGB.
        encoder: the encoder, its settings, and the frame rate if ``source`` has none.
        force: whether to replace an existing file.
        companions: whether to copy everything that accompanies the video.
        square: whether the pixels of the frames are square, and not of the form of those of ``source``.

    Attributes:
        codec: FFmpeg's name of the video encoder.
        format: FFmpeg's name of the container.
        rate: average frames per second.
        time_base: seconds per unit of the frames' times.
        left_out: the parts of ``source`` that are not copied, each with its reason, see
            :class:`rlsp_tf.media.stream_copy.StreamCopy`.
        transparent: whether the alpha of frames is stored.
        times: time and duration of every packet written, in order; only kept without ``companions``.

    Raises:
        RLSPError: if the file cannot be written, or the encoder does not exist, does not fit the container,
            or refuses the frames or options. Some of this is found only when the block is entered.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        source: FrameSource,
        *,
        width: int,
        height: int,
        color: ColorSpec | None = None,
        encoder: EncoderOptions = EncoderOptions(),
        force: bool = False,
        companions: bool = True,
        square: bool = False,
    ) -> None:
        self.path = path if isinstance(path, Path) else Path(path)
        self.notes: list[str] = []
        self.times: list[tuple[int, int]] = []
        self.left_out: dict[Part, str] = {}
        self._source, self._force, self._companions = source, force, companions
        self._width, self._height, self._square = width, height, square
        self._crf, self._preset, rate = encoder.crf, encoder.preset, encoder.rate
        self._suffix = ".mkv" if path is STDOUT else self.path.suffix.lower()
        if self._suffix not in VIDEO_FORMATS:
            raise RLSPError(
                f"{self.path}: not a video that can be written; choose {', '.join(VIDEO_FORMATS)}."
            )
        self.format = VIDEO_FORMATS[self._suffix]
        self.codec = encoder.codec or codec_for(self._suffix)
        if path is STDOUT:
            if sys.stdout.isatty():
                raise UsageError(f"{path}: is a terminal; pipe it into a program or a file.")
        elif not is_pipe(self.path):
            check_target(self.path, force=force)
            if self.path.exists() and source.path.exists() and self.path.samefile(source.path):
                raise RLSPError(f"{self.path}: is the input; give the output another name.")
        if rate is not None and source.rate is not None:
            raise UsageError(
                f"{source.path}: has a frame rate of its own ({float(source.rate):.6g}); leave out --rate."
            )
        if rate is not None and not 0 < rate < float("inf"):
            raise UsageError(f"a frame rate must be above 0, not {rate}.")
        self.rate = source.rate or Fraction(rate or DEFAULT_RATE).limit_denominator(1001)
        self.time_base = source.time_base if source.rate else 1 / self.rate
        self._written = 0
        across, down = _PLAYED
        if self.codec.startswith(("libx264", "h264")) and (
            max(width, height) > across or width * height > across * down
        ):
            self.notes.append(
                f"{self.path}: few players play H.264 of {width}x{height}, which is beyond {across}x{down}; "
                "--codec libx265 (HEVC) or --codec libsvtav1 (AV1) is played by more, as is a smaller --size."
            )
        self._pixel_format, self.color = self._choose_format(color)
        hdr10 = source.hdr10 if isinstance(source, VideoSource) else None
        if hdr10 and hdr10.options(self.codec) is None:
            self.notes.append(
                f"{self.path}: {self.codec} does not write HDR mastering metadata; its colour tags are kept."
            )

    def __enter__(self) -> "VideoSink":
        self._context = self._writing()
        self._context.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._context.__exit__(*exception)

    def write(self, frame: Frame) -> None:
        """Encodes the next frame.

        Args:
            frame: a frame with planes in the format of ``color``, or RGB. Its time must be later than that
                of the frame before.

        Raises:
            RLSPError: if the frame has a wrong shape or type, or the disk is full.
        """
        planes = frame.planes
        if len(planes) == 1 and self.color is not None:
            planes = planes_from_rgb(planes[0], self.color)
        self._check(planes)
        picture = to_video_frame(planes, self._pixel_format, self._alpha_of(frame))
        # Use the times of the source as they are; the rate may not be constant.
        picture.time_base = self.time_base
        picture.pts = frame.pts
        if frame.duration is not None:
            picture.duration = frame.duration
        self._written += 1
        self._mux(self._stream.encode(picture))

    def black(self) -> tuple[np.ndarray, ...]:
        """Returns the planes of a black frame for :meth:`write`."""
        if self.color is None:
            return (np.zeros((self._height, self._width, 3), np.uint8),)
        return planes_from_rgb(np.zeros((self._height, self._width, 3), np.uint8), self.color)

    def _alpha_of(self, frame: Frame) -> np.ndarray | None:
        """Alpha as the encoder takes it."""
        if not self.transparent:
            return None
        depth = self.color.depth if self.color else 8 * frame.planes[0].itemsize
        given = 8 * frame.planes[0].itemsize if len(frame.planes) == 1 else depth
        dtype, most = np.uint8 if depth == 8 else np.uint16, 2**depth - 1
        if frame.alpha is None:
            return np.full((self._height, self._width), most, dtype)
        if given == depth:
            return frame.alpha
        return np.rint(frame.alpha * (most / (2**given - 1))).astype(dtype)

    def _check(self, planes: tuple[np.ndarray, ...]) -> None:
        height, width = self._height, self._width
        shapes: list[tuple[int, ...]] = [(height, width, 3)]
        if self.color is not None:
            across, down = self.color.subsampling
            chroma = (-(-height // down), -(-width // across))
            shapes = [(height, width), chroma, chroma]
        dtypes = (
            ("uint8", "uint16") if self.color is None else ("uint8" if self.color.depth == 8 else "uint16",)
        )
        if [plane.shape for plane in planes] != shapes or any(plane.dtype not in dtypes for plane in planes):
            given = ", ".join(f"{plane.dtype} {plane.shape}" for plane in planes)
            raise RLSPError(f"{self.path}: a frame must be {' or '.join(dtypes)} {shapes}, not {given}.")

    def _mux(self, packets: Sequence[Any]) -> None:
        for packet in packets:
            if not self._companions:
                self.times.append((packet.pts, packet.duration))
            if self._others:
                self._others.copy_until(packet.dts * packet.time_base)
            (self._others or self._output).mux(packet)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with contextlib.ExitStack() as stack:
                temporary = self.path
                if not is_pipe(temporary):
                    temporary = stack.enter_context(atomic_file(self.path, force=self._force))
                output = open_output(temporary, self.format, self.time_base, self._source)
                self._output = stack.enter_context(output)
                self._stream = self._add_video()
                self._others = None
                if isinstance(self._source, VideoSource) and self._companions:
                    others = StreamCopy(self._source, self._output, self._stream, self._suffix, self.notes)
                    self._others = stack.enter_context(others)
                self._write_header()
                yield
                self._finish()
        except av.FFmpegError as error:
            sentence = libav_sentence(error, self.path, "cannot be written; try another --codec or .mkv")
            raise RLSPError(sentence) from error

    def _write_header(self) -> None:
        try:
            self._output.start_encoding()
        except av.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise RLSPError(self._misfit()) from error

    def _finish(self) -> None:
        if not self._written:
            raise RLSPError(f"{self.path}: no frame was given to be written.")
        packets = self._stream.encode(None)
        if self._written < 3:
            # x265 does not set decoding times for fewer than three packets; they are in the order of time.
            for packet in packets:
                packet.dts = packet.pts
        self._mux(packets)
        if self._others:
            self._others.copy_until(None)

    def _choose_format(self, color: ColorSpec | None) -> tuple[str, ColorSpec | None]:
        """Returns the encoder's pixel format, and its colour format; ``None`` for RGB."""
        try:
            codec = av.Codec(self.codec, "w")
        except av.codec.codec.UnknownCodecError as error:
            raise RLSPError(
                f"{self.codec}: FFmpeg has no such encoder; choose for example libx264, libx265, libvpx-vp9 "
                "or ffv1."
            ) from error
        if codec.type != "video":
            raise RLSPError(f"{self.codec}: does not encode video; choose libx264, libx265 or libvpx-vp9.")
        formats = [pixel_format.name for pixel_format in codec.video_formats or ()]
        self.transparent = self._source.transparent and keeps_alpha(self.format, self.codec)
        if self._source.transparent and not self.transparent:
            self.notes.append(
                f"{self._source.path}: transparency was left out, since {self.codec} in {self._suffix} "
                "cannot hold it; name the output .webm, or .mov with --codec prores_ks, to keep it."
            )
        wanted = color or self._source.color
        if wanted is None and (codec.lossy or not codec.lossless):
            wanted = ColorSpec("bt709", full_range=False, depth=self._source.depth)
        if wanted and not color and wanted.chroma_location != "topleft":
            # Players assume this location in files that do not specify one.
            wanted = replace(wanted, chroma_location="left")
        if self.transparent:
            # libvpx names more formats with alpha than it takes.
            clear = ["yuva420p"] if self.codec.startswith("libvpx") else formats
            planar = [name.replace("yuva", "yuv") for name in clear if name.startswith("yuva")]
        else:
            planar = formats
        spec = nearest_spec(wanted, planar) if wanted else None
        if wanted and spec:
            self._note_loss(wanted, spec)
            return format_for(spec).replace("yuv", "yuva" if self.transparent else "yuv"), spec
        deep = ("rgb48le", "rgb48be", "gbrp16le") if self._source.depth > 8 else ()
        names = (*deep, "rgb24", "bgr24", "bgr0", "gbrp")
        if self.transparent:
            names = (*(("rgba64le",) if deep else ()), "bgra")
        rgb = [name for name in names if name in formats]
        if not rgb:
            raise RLSPError(f"{self.codec}: takes none of the usual pixel formats; choose libx264 or ffv1.")
        return rgb[0], None

    def _note_loss(self, wanted: ColorSpec, spec: ColorSpec) -> None:
        lost = []
        if self._source.depth > spec.depth:
            lost.append(f"{spec.depth} of {self._source.depth} bits per sample")
        if any(have > want for have, want in zip(spec.subsampling, wanted.subsampling, strict=True)):
            lost.append("fewer chroma samples than there were")
        if lost:
            self.notes.append(
                f"{self.path}: {self.codec} keeps {' and '.join(lost)}; ffv1 in .mkv keeps them all."
            )

    def _add_video(self) -> Any:
        try:
            stream = self._output.add_stream(self.codec, rate=self.rate)
        except ValueError as error:
            raise RLSPError(self._misfit()) from error
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = self._width, self._height, self._pixel_format
        context.time_base = self.time_base
        context.thread_type = "AUTO"
        context.flags |= Flags.frame_duration  # otherwise the encoder gives all frames the same duration
        # CRF 0 is lossless only in x264 with 8 bits. With more bits, and in x265, it takes other options.
        lossless = self._crf == 0
        options = {"qp" if lossless and self.codec == "libx264" else "crf": str(self._crf)}
        if self._preset is not None:
            if self.codec in ("libx264", "libx265") and self._preset not in _PRESETS.split(", "):
                raise RLSPError(f"{self._preset}: not a preset of {self.codec}; choose one of {_PRESETS}.")
            options["preset"] = self._preset
        if self.codec == "libvpx":
            context.bit_rate = 10**8  # VP8 ignores the CRF unless there is a bit rate
            if self.transparent:
                options["auto-alt-ref"] = "0"  # frames that are never shown have no alpha
        if self.codec == "libx265":
            # At its own log level, x265 prints on the terminal.
            options["x265-params"] = f"log-level=error:lossless={lossless:d}"
        if tag := tag_for(self.format, context.name):
            context.codec_tag = tag
        self._tag(context, options)
        self._describe_light(options)
        context.options = options
        self._start_encoder(context)
        if isinstance(self._source, VideoSource):
            stream.disposition = self._source.disposition
        if self.transparent and self.codec.startswith("libvpx"):
            stream.metadata[ALPHA_MODE] = "1"
        return stream

    def _describe_light(self, options: dict[str, str]) -> None:
        """Adds the options that make the encoder write the HDR10 metadata of the source."""
        if not isinstance(self._source, VideoSource) or self._source.hdr10 is None:
            return
        for name, value in (self._source.hdr10.options(self.codec) or {}).items():
            options[name] = ":".join(filter(None, (options.get(name), value)))

    def _misfit(self) -> str:
        suffix = self._suffix
        other = "libvpx-vp9" if suffix == ".webm" else "libx264"
        return f"{self.path}: {suffix} cannot hold video of {self.codec}; choose {other}, or name it .mkv."

    def _tag(self, context: Any, options: dict[str, str]) -> None:
        """Sets the tags from which players know how to show the frames."""
        matrix, primaries, transfer = UNTAGGED, 1, 1
        if isinstance(self._source, VideoSource):
            matrix, primaries, transfer = self._source.tags
            if self._source.sample_aspect_ratio:
                ratio = Fraction(1) if self._square else self._source.sample_aspect_ratio
                context.sample_aspect_ratio = ratio
        context.color_primaries, context.color_trc = primaries, transfer
        if self.color is None:
            context.color_range = FULL
            return
        # BT.601 has two numbers; keep the one that the source has.
        same = self._source.color is not None and self._source.color.matrix == self.color.matrix
        context.colorspace = matrix if same and matrix != UNTAGGED else MATRIX_TAGS[self.color.matrix]
        context.color_range = FULL if self.color.full_range else LIMITED
        if self.color.subsampling != (1, 1):
            options["chroma_sample_location"] = self.color.chroma_location

    def _start_encoder(self, context: Any) -> None:
        try:
            context.open()
        except av.FFmpegError as error:
            size, given = f"{self._width}x{self._height}", f"crf {self._crf}"
            if self._preset is not None:
                given += f", preset {self._preset}"
            odd = self.color is not None and (
                self._width % self.color.subsampling[0] or self._height % self.color.subsampling[1]
            )
            advice = "the size must be even" if odd else "check --codec, --crf and --preset"
            raise RLSPError(
                f"{self.path}: {self.codec} refuses {size} in {self._pixel_format} with {given}; {advice}."
            ) from error
        if "preset" in context.options:
            raise RLSPError(f"{self.codec}: has no presets; leave out --preset.")


def open_output(path: Path, format: str, time_base: Fraction, source: FrameSource) -> Any:
    """Opens a container to write it.

    Args:
        path: the file to write, or :data:`STDOUT`.
        format: FFmpeg's name of the container.
        time_base: seconds per unit of the video's times, which the container stores exactly if it can.
        source: the clip whose metadata the container will get.

    Raises:
        av.FFmpegError: if the container cannot be written.
    """
    options = {}
    if format in ("mp4", "mov"):
        # By default, the muxer rounds the times of frames to units of its own choice, and the start to 1 ms.
        unit = time_base.denominator
        options["video_track_timescale"] = str(unit)
        options["movie_timescale"] = str(unit * -(-1000 // unit))
        # The usual metadata of MP4 has a fixed list of names; the names of cameras need another place.
        names = source.decoder.container.metadata if isinstance(source, VideoSource) else ()
        if any(name.startswith("com.") or name in ("make", "model") for name in names):
            options["movflags"] = "use_metadata_tags"
    url = "pipe:1" if path is STDOUT else f"file:{path}"
    return av.open(url, "w", format=format, container_options=options, metadata_errors="surrogateescape")
