"""Converts sound and subtitles that a container cannot hold into formats that it can."""

import io
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from typing import Any

import av

_SOUND = {
    "mp4": ("aac", "alac"),
    "mov": ("aac", "alac"),
    "matroska": ("libopus", "flac"),
    "webm": ("libopus", "libopus"),
}
"""Encoders for each container: for lossy sound, and for lossless sound. WebM has no lossless format."""
_TEXT = {"mp4": "mov_text", "mov": "mov_text", "matroska": "srt", "webm": "webvtt"}
_BIT_RATE = {"aac": 96_000, "libopus": 64_000}
"""Bits per second for each channel. In stereo, listeners hear no difference from the original."""
_LAYOUTS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")
"""The usual layout for each number of channels, tried if the encoder does not support the stream's own."""


class SoundConversion:
    """Decodes sound and encodes it for another container.

    Args:
        stream: the stream of the input.
        output: the container of the output, to which a stream is added.
        layout: FFmpeg's name of the channel layout, such as ``"stereo"``.

    Attributes:
        target: the stream that was added to the output.

    Raises:
        av.FFmpegError: if the encoder does not accept the sound.
        ValueError: for the same reason.
    """

    def __init__(self, stream: Any, output: Any, layout: str) -> None:
        context = stream.codec_context
        lossless = context.codec.lossless and not context.codec.lossy
        name = _SOUND[output.format.name][lossless]
        codec = av.Codec(name, "w")
        rates = sorted(codec.audio_rates or [context.sample_rate])
        rate = next((each for each in rates if each >= context.sample_rate), rates[-1])
        self.target = output.add_stream(name, rate=rate)
        self._decoder, self._encoder = context, self.target.codec_context
        self._encoder.layout = layout
        self._encoder.time_base = Fraction(1, rate)
        formats = [each.name for each in codec.audio_formats or ()]
        # Keep 16 bits if there are no more; otherwise choose the deepest format.
        deep = [each for each in formats if each.startswith(("s32", "flt"))]
        shallow = [each for each in formats if each.startswith("s16")]
        self._encoder.format = ([*shallow, *deep] if context.format.bits <= 16 else [*deep, *shallow])[0]
        if name in _BIT_RATE:
            self._encoder.bit_rate = _BIT_RATE[name] * self._encoder.layout.nb_channels
        self._resampler: Any = None
        self._end = 0

    def convert(self, packet: Any) -> Iterator[Any]:
        """Converts a packet of the input and yields the packets that are ready.

        Args:
            packet: the packet; ``None`` after the last one.

        Raises:
            av.FFmpegError: if the packet is damaged.
        """
        for frame in self._decoder.decode(packet):
            for ready in self._resampled(frame):
                yield from self._encoded(ready)
        if packet is None:
            for ready in self._resampled(None):
                yield from self._encoded(ready)
            yield from self._encoded(None)

    def _resampled(self, frame: Any) -> list[Any]:
        if self._resampler is None:
            if frame is None:
                return []
            encoder = self._encoder
            self._resampler = av.AudioResampler(encoder.format, encoder.layout, encoder.sample_rate)
        try:
            return self._resampler.resample(frame)
        except ValueError:
            # The sample format, rate or layout changes here, which needs a new resampler.
            before = self._resampler.resample(None)
            self._resampler = None
            return [*before, *self._resampled(frame)]

    def _encoded(self, frame: Any) -> Iterator[Any]:
        if frame is not None:
            if frame.pts is None:
                frame.pts = self._end
            self._end = frame.pts + frame.samples
        for packet in self._encoder.encode(frame):
            packet.stream = self.target
            yield packet


class TextConversion:
    """Converts text subtitles for another container; the interface is that of :class:`SoundConversion`."""

    def __init__(self, stream: Any, output: Any) -> None:
        self._decoder = stream.codec_context
        if not self._decoder.codec.text_sub:
            raise ValueError("subtitles that are pictures cannot become text")
        self._decoder.open(strict=False)
        self.target = output.add_stream(_TEXT[output.format.name])
        self.target.codec_context.subtitle_header = self._decoder.subtitle_header
        self.target.codec_context.time_base = Fraction(1, 1000)

    def convert(self, packet: Any) -> Iterator[Any]:
        """Converts a packet of the input, see :meth:`SoundConversion.convert`."""
        subtitle = None if packet is None else self._decoder.decode2(packet)
        # MP4 has empty subtitles where no text is shown.
        if not subtitle:
            return
        ready = self.target.codec_context.encode_subtitle(subtitle)
        ready.pts, ready.dts, ready.duration = packet.pts, packet.pts, packet.duration
        ready.time_base, ready.stream = packet.time_base, self.target
        yield ready


def conversion_of(stream: Any, output: Any) -> SoundConversion | TextConversion | None:
    """Adds a stream to a container that cannot hold it as it is, and returns its conversion.

    Args:
        stream: the stream of the input.
        output: the container, whose header must not be written yet.

    Returns:
        The conversion; ``None`` if there is none for this stream and container.
    """
    if stream.codec_context is None or output.format.name not in _SOUND:
        return None
    makers: list[Callable[[Any, Any], SoundConversion | TextConversion]] = []
    if stream.type == "subtitle":
        makers = [TextConversion]
    elif stream.type == "audio":
        usual = _LAYOUTS[stream.codec_context.channels - 1 :][:1]
        layouts = [stream.codec_context.layout.name, *usual, "stereo"]
        makers = [partial(SoundConversion, layout=layout) for layout in layouts]
    for make in makers:
        try:
            # Try it in another file first: a stream cannot be removed from the output again.
            with av.open(io.BytesIO(), "w", format=output.format.name) as trial:
                make(stream, trial)
                trial.start_encoding()
        except (av.FFmpegError, ValueError):
            continue
        return make(stream, output)
    return None
