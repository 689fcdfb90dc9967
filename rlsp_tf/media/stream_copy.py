"""Sound, subtitles and whatever else goes with a video, copied packet by packet as it is."""

import io
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import av
from av.stream import Disposition

from rlsp_tf.media.stream_convert import SoundConversion, TextConversion, conversion_of
from rlsp_tf.media.video_reader import Clock, VideoSource, open_input

_OF_ONE_FILE = (
    *("major_brand", "minor_version", "compatible_brands", "encoder", "ENCODER", "vendor_id"),
    *("DURATION", "BPS", "NUMBER_OF_", "_STATISTICS", "ALPHA_MODE", "alpha_mode"),
)
"""Beginnings of the names of metadata that is true of one file only."""

_QUICKTIME_LANGUAGES = {
    **{"bod": "tib", "ces": "cze", "cym": "wel", "deu": "ger", "ell": "gre", "eus": "baq", "fas": "per"},
    **{"fra": "fre", "hye": "arm", "isl": "ice", "kat": "geo", "mkd": "mac", "mri": "mao", "msa": "may"},
    **{"mya": "bur", "nld": "dut", "ron": "rum", "slk": "slo", "sqi": "alb", "zho": "chi"},
}
"""Codes of languages in ISO 639-2/T, and in ISO 639-2/B, all that FFmpeg writes into QuickTime."""

_RUN_UP = 4
"""Packets before the first that is heard: the 2112 samples of AAC, the 80 ms of Opus."""


METADATA, TIME_CODE, CHAPTERS = "metadata", "time code", "chapters"
Part = int | str
"""Of what accompanies a video: the index of a stream, or one of these names."""


def parts_of(source: VideoSource) -> list[Part]:
    """All that accompanies a video."""
    streams = [stream.index for stream in source.container.streams if stream.index != source.stream_index]
    return [METADATA, TIME_CODE, CHAPTERS, *streams]


class StreamCopy:
    """The streams of a file beside its video, on their way into another file.

    The input is opened once more and read alongside the video, so that memory does not grow with
    the clip however its streams are interleaved. Of a pipe, which cannot be, what has come so far is taken.

    It is a context manager.

    Args:
        source: the input.
        output: the container where the streams go; its header is not yet written.
        video: its video, which gets the metadata of the source's.
        suffix: of the output's name.
        notes: gets sentences for the user on what the output cannot hold.
        left_out: what does not go along, and why, as the end of a sentence.
        most: how many packets of each sound go along, and of the rest what lies between them; ``None`` for
            all.

    Raises:
        av.FFmpegError: if the input cannot be read.
    """

    def __init__(
        self,
        source: VideoSource,
        output: Any,
        video: Any,
        suffix: str,
        notes: list[str],
        *,
        left_out: Mapping[Part, str] = MappingProxyType({}),
        most: int | None = None,
    ) -> None:
        self._path, self._output, self._notes, self._most = source.path, output, notes, most
        self._arrived = source.companions
        self._input = open_input(source.path) if self._arrived is None else source.container
        self._targets: dict[int, Any] = {}
        self._conversions: dict[int, SoundConversion | TextConversion] = {}
        for part in (METADATA, TIME_CODE, CHAPTERS):
            if part in left_out:
                notes.append(f"{source.path}: its {part} did not go along, since {left_out[part]}.")
        for thing, target in ((source, video), (self._input, output)):
            metadata = lasting_metadata(thing)
            code = metadata.pop("timecode", None)
            if METADATA not in left_out:
                target.metadata.update(metadata)
            if code and TIME_CODE not in left_out:
                target.metadata["timecode"] = code
        chapters = [] if CHAPTERS in left_out else self._input.chapters()
        output.set_chapters(chapters)
        for stream in self._input.streams:
            if stream.index == source.stream_index:
                continue
            if stream.index in left_out:
                notes.append(f"{source.path}: {_named(stream)} was left out, since {left_out[stream.index]}.")
                continue
            if stream.type == "data" and _is_written_by_muxer(stream, video, chapters):
                continue
            if _is_cover(stream) and output.format.name == "matroska" and self._arrived is None:
                output.add_attachment(*_as_attachment(source.path, stream))
                continue
            if _can_hold(output.format.name, stream):
                target = output.add_stream_from_template(stream, opaque=True)
            elif conversion := conversion_of(stream, output):
                target = conversion.target
                self._conversions[stream.index] = conversion
                notes.append(f"{source.path}: {_converted(stream, target, suffix)}")
            else:
                notes.append(f"{source.path}: {_left_out(stream, suffix)}")
                continue
            target.metadata.update(lasting_metadata(stream))
            if output.format.name == "mov" and (language := target.metadata.get("language")):
                target.metadata["language"] = _QUICKTIME_LANGUAGES.get(language, language)
            target.disposition = stream.disposition.value
            if stream.type != "attachment":  # the header holds all of those
                self._targets[stream.index] = target
        self._packets = self._read()
        self._next: Any = None
        self._refused = 0
        self._last: dict[int, int] = {}
        self._clocks: dict[int, Clock] = {}
        # Matroska lets packets of one stream begin together, as subtitles do; MP4 does not.
        self._least_step = 0 if output.format.name in ("matroska", "webm") else 1

    def __enter__(self) -> "StreamCopy":
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._arrived is None:
            self._input.close()

    def copy_until(self, time: Fraction | None) -> None:
        """Copies all packets that are due.

        Args:
            time: in seconds; ``None`` for all that are left.

        Raises:
            av.FFmpegError: if they cannot be written.
        """
        while True:
            if self._next is None:
                if (packet := self._following()) is None:
                    break
                self._keep_order(packet)
                self._next = packet
            packet = self._next
            stamp = packet.dts if packet.dts is not None else packet.pts
            if time is not None and stamp is not None and stamp * packet.time_base > time:
                return
            if conversion := self._conversions.get(packet.stream_index):
                self._convert(conversion, packet)
            else:
                packet.stream = self._targets[packet.stream_index]
                self.mux(packet)
            self._next = None
        if time is None:
            for conversion in self._conversions.values():
                self._convert(conversion, None)
        if time is None and self._refused:
            self._notes.append(
                f"{self._path}: is damaged; {self._refused} packets of its sound or other streams were "
                "left out."
            )

    def mux(self, packet: Any) -> None:
        """Writes a packet, be it of the video or of another stream.

        What a muxer refuses may be a packet that came before, which waited for its turn. Those of the video
        are an encoder's, so it is a damaged one of the input.

        Raises:
            av.FFmpegError: if it cannot be written for another reason.
        """
        try:
            self._output.mux(packet)
        except av.FFmpegError as error:
            if not is_of_content(error):
                raise
            self._refused += 1

    def _convert(self, conversion: SoundConversion | TextConversion, packet: Any) -> None:
        try:
            for ready in conversion.convert(packet):
                self.mux(ready)
        except av.FFmpegError as error:
            if not is_of_content(error):
                raise
            self._refused += 1

    def _following(self) -> Any:
        """The next packet of a stream that goes along; ``None`` if there is none (yet, of a pipe)."""
        if self._arrived is None:
            return next(self._packets, None)
        while self._arrived:
            packet = self._arrived.popleft()
            if packet.stream_index in self._targets:
                return packet
        return None

    def _read(self) -> Iterator[Any]:
        if not self._targets:
            return
        packets = _played(self._input.demux([self._input.streams[index] for index in self._targets]))
        try:
            yield from packets if self._most is None else self._first(packets, self._most)
        except av.FFmpegError:
            self._notes.append(
                f"{self._path}: is damaged or truncated; its sound and other streams end early."
            )

    def _first(self, packets: Iterator[Any], most: int) -> Iterator[Any]:
        """The first packets, until there are enough of each sound; of the others as many at most."""
        left = dict.fromkeys(self._targets, most)
        sounds = {index for index in left if self._input.streams[index].type == "audio"}
        for packet in packets if sounds else ():
            left[packet.stream_index] -= 1
            if left[packet.stream_index] >= 0:
                yield packet
            if all(left[index] <= 0 for index in sounds):
                return

    def _keep_order(self, packet: Any) -> None:
        """Lets no time stamp go back, as it may in a broken file: a muxer would give up the whole output."""
        if packet.dts is None:
            return
        index = packet.stream_index
        given = packet.dts
        if (last := self._last.get(index)) is not None:
            step = max(packet.duration or 0, 1)
            packet.dts = self._clocks.setdefault(index, Clock()).read(given, last, step)
            packet.dts = max(packet.dts, last + self._least_step)
        packet.pts = packet.dts if packet.pts is None else packet.pts + packet.dts - given
        self._last[index] = packet.dts


def _played(packets: Iterator[Any]) -> Iterator[Any]:
    """Without what an edit list cuts out: another container may have no such list, and play it.

    Decoders get some of what comes before the beginning, as they need it to start.
    """
    before: dict[int, deque[Any]] = {}
    begun: set[int] = set()
    for packet in packets:
        index = packet.stream_index
        if not packet.size:  # only tells decoders that there is no more
            continue
        if not packet.is_discard:
            begun.add(index)
            yield from before.pop(index, ())
            yield packet
        elif index not in begun:
            before.setdefault(index, deque(maxlen=_RUN_UP)).append(packet)


def is_of_content(error: Exception) -> bool:
    """Whether writing failed for what was to be written, not for a disk, a file or memory."""
    return not isinstance(error, OSError | MemoryError)


def lasting_metadata(thing: Any) -> dict[str, str]:
    """Metadata of a container or a stream without what is true of the old file only."""
    kept = {key: value for key, value in thing.metadata.items() if not key.startswith(_OF_ONE_FILE)}
    if "name" in kept:  # as FFmpeg reads the title of a track in MP4
        kept.setdefault("title", kept["name"])
    return kept


def _can_hold(container: str, stream: Any) -> bool:
    """Whether a container takes a stream, asked of its muxer with a file of that stream alone."""
    # Muxers write a header without pictures and attachments and say nothing.
    if _is_cover(stream):
        return container in ("mp4", "matroska")
    if stream.type not in ("audio", "subtitle"):
        return stream.type == "attachment" and container == "matroska"
    try:
        with av.open(io.BytesIO(), "w", format=container, metadata_errors="surrogateescape") as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def _is_written_by_muxer(stream: Any, video: Any, chapters: Sequence[Any]) -> bool:
    """Whether a data stream comes about anew: MP4 has them for titles of chapters and for time codes."""
    return (bool(chapters) and stream.name == "bin_data") or "timecode" in (
        stream.metadata.keys() & video.metadata.keys()
    )


def _is_cover(stream: Any) -> bool:
    """Whether a stream is a single picture, as of a film's poster."""
    return bool(stream.disposition & Disposition.attached_pic)


def _as_attachment(path: Path, cover: Any) -> tuple[str, str, bytes]:
    """A cover's name, type and content, as Matroska has it."""
    kind = "png" if cover.codec_context.name == "png" else "jpeg"
    with open_input(path) as container:
        packet = next(container.demux(container.streams[cover.index]))
        return f"cover.{kind.replace('jpeg', 'jpg')}", f"image/{kind}", bytes(packet)


def _named(stream: Any) -> str:
    kind = {"audio": "sound", "subtitle": "subtitle"}.get(stream.type, stream.type)
    name = stream.codec_context.name if stream.codec_context is not None else getattr(stream, "name", None)
    return f"{kind} stream {stream.index} ({name or 'of unknown kind'})"


def _converted(stream: Any, target: Any, suffix: str) -> str:
    codec = target.codec_context.codec.canonical_name
    return f"{_named(stream)} became {codec}, since {suffix} cannot hold it as it is."


def _left_out(stream: Any, suffix: str) -> str:
    sentence = f"{_named(stream)} was left out"
    for other, container in ((".mkv", "matroska"), (".mp4", "mp4")):
        if other != suffix and _can_hold(container, stream):
            return f"{sentence}, since {suffix} cannot hold it; name the output {other} to keep it."
    return f"{sentence}."
