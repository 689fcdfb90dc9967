"""Copies sound, subtitles and everything else that accompanies a video, packet by packet."""

import contextlib
import io
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import av
from av.stream import Disposition

from rlsp_tf.media.clock import Clock
from rlsp_tf.media.inputs import open_input
from rlsp_tf.media.stream_convert import SoundConversion, TextConversion, conversion_of
from rlsp_tf.media.video_decoder import INTERLEAVED, LONGEST_SUBTITLE
from rlsp_tf.media.video_reader import VideoSource

_OF_ONE_FILE = (
    *("major_brand", "minor_version", "compatible_brands", "encoder", "ENCODER", "vendor_id"),
    *("DURATION", "BPS", "NUMBER_OF_", "_STATISTICS", "ALPHA_MODE", "alpha_mode"),
)
"""Prefixes of the names of metadata that describes one file only and must not be copied."""

_QUICKTIME_LANGUAGES = {
    **{"bod": "tib", "ces": "cze", "cym": "wel", "deu": "ger", "ell": "gre", "eus": "baq", "fas": "per"},
    **{"fra": "fre", "hye": "arm", "isl": "ice", "kat": "geo", "mkd": "mac", "mri": "mao", "msa": "may"},
    **{"mya": "bur", "nld": "dut", "ron": "rum", "slk": "slo", "sqi": "alb", "zho": "chi"},
}
"""Language codes of ISO 639-2/T and their equivalents in ISO 639-2/B, which FFmpeg needs for QuickTime."""

_RUN_UP = 4
"""Packets that a decoder needs before the first audible one: 2112 samples of AAC, or 80 ms of Opus."""


METADATA, TIME_CODE, CHAPTERS = "metadata", "time code", "chapters"
Part = int | str
"""Something that accompanies a video: the index of a stream, or one of the three names above."""


def parts_of(source: VideoSource) -> list[Part]:
    """Returns everything that accompanies a video."""
    streams = [
        stream.index for stream in source.decoder.container.streams if stream.index != source.stream_index
    ]
    return [METADATA, TIME_CODE, CHAPTERS, *streams]


def accompaniment(source: VideoSource, format: str) -> list[str]:
    """Describes the sound, subtitles and other streams of a video that a container can hold.

    Args:
        source: the video.
        format: FFmpeg's name of the container.

    Returns:
        A description of each stream that is copied or converted, such as ``"sound (aac)"``.
    """
    kept = []
    for stream in source.decoder.container.streams:
        if stream.index == source.stream_index or stream.type == "data":
            continue
        name, converted = _name_of(stream), ""
        if not _can_hold(format, stream):
            with av.open(io.BytesIO(), "w", format=format) as trial:
                if not (conversion := conversion_of(stream, trial)):
                    continue
                converted = f", becomes {conversion.target.codec_context.codec.canonical_name}"
        kept.append(f"{_KINDS.get(stream.type, stream.type)} ({name}{converted})")
    return kept


class StreamCopy:
    """Copies all streams of a file, except its video, into another file. Use it as a context manager.

    The input is opened a second time and read alongside the video, so that memory does not grow with the
    length of the clip, however its streams are interleaved. A pipe cannot be opened twice; its packets are
    taken from ``source.decoder.companions``.

    Of an interval, what belongs to its time is copied: packets of sound that begin in it, and subtitles and
    chapters that last into it, shortened. If it begins later than the file, times are counted from its first
    frame.

    Args:
        source: the input.
        output: the container of the output, whose header must not be written yet.
        video: the video stream of the output, which gets the metadata of the input's video.
        suffix: the suffix of the output's name.
        notes: list to which sentences are added about what the output cannot hold.
        left_out: the parts that are not copied, each with its reason as the end of a sentence.
        most: number of packets to copy of each sound stream; other streams are copied up to that point.
            By default everything is copied.

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
        self._arrived = source.decoder.companions
        self._input = open_input(source.path) if self._arrived is None else source.decoder.container
        self._begins, self._ends = source.begins, source.ends
        if source.begins is not None and source.indexed:
            earlier = round((source.begins - LONGEST_SUBTITLE) / source.time_base)
            with contextlib.suppress(av.FFmpegError):
                self._input.seek(max(0, earlier), stream=self._input.streams[source.stream_index])
        self._targets: dict[int, Any] = {}
        self._conversions: dict[int, SoundConversion | TextConversion] = {}
        for part in (METADATA, TIME_CODE, CHAPTERS):
            if part in left_out:
                notes.append(f"{source.path}: its {part} was not copied, since {left_out[part]}.")
        for thing, target in ((source, video), (self._input, output)):
            metadata = lasting_metadata(thing)
            code = metadata.pop("timecode", None)
            if METADATA not in left_out:
                target.metadata.update(metadata)
            if code and TIME_CODE not in left_out and self._begins is None:
                target.metadata["timecode"] = code
            elif code and TIME_CODE not in left_out and target is video:
                notes.append(
                    f"{source.path}: its time code was left out, since it is that of the first frame."
                )
        chapters = [] if CHAPTERS in left_out else self._input.chapters()
        output.set_chapters(self._shortened(chapters))
        for stream in self._input.streams:
            if stream.index == source.stream_index:
                continue
            if stream.index in left_out:
                notes.append(
                    f"{source.path}: {_describe(stream)} was left out, since {left_out[stream.index]}."
                )
                continue
            if stream.type == "data" and _is_written_by_muxer(stream, source, chapters):
                continue
            if _is_cover(stream) and output.format.name == "matroska" and self._arrived is None:
                output.add_attachment(*_as_attachment(source.path, stream))
                continue
            if _can_hold(output.format.name, stream):
                target = output.add_stream_from_template(stream, opaque=True)
            elif conversion := conversion_of(stream, output):
                target = conversion.target
                self._conversions[stream.index] = conversion
                notes.append(f"{source.path}: {_conversion_note(stream, target, suffix)}")
            else:
                notes.append(f"{source.path}: {_left_out_note(stream, suffix)}")
                continue
            target.metadata.update(lasting_metadata(stream))
            if output.format.name == "mov" and (language := target.metadata.get("language")):
                target.metadata["language"] = _QUICKTIME_LANGUAGES.get(language, language)
            target.disposition = stream.disposition.value
            if stream.type != "attachment":  # attachments are part of the header
                self._targets[stream.index] = target
        self._packets = self._read()
        self._next: Any = None
        self._refused = 0
        self._last: dict[int, int] = {}
        self._last_cut: dict[int, int] = {}
        self._clocks: dict[int, Clock] = {}
        # In Matroska, packets of one stream may have the same time, as subtitles often do; not in MP4.
        self._least_step = 0 if output.format.name in ("matroska", "webm") else 1

    def __enter__(self) -> "StreamCopy":
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._arrived is None:
            self._input.close()

    def copy_until(self, time: Fraction | None) -> None:
        """Copies all packets up to a time.

        Args:
            time: decoding time in seconds; ``None`` for all packets that are left.

        Raises:
            av.FFmpegError: if a packet cannot be written.
        """
        while True:
            if self._next is None:
                if (packet := self._next_packet()) is None:
                    break
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
        """Writes a packet of the video or of another stream.

        A muxer queues packets, so an error may be about an earlier packet than the one given. The packets of
        the video come from an encoder and are intact, so a refused packet is always a damaged one of the
        input. It is counted and left out.

        Raises:
            av.FFmpegError: if the output cannot be written.
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

    def _next_packet(self) -> Any:
        """Returns the next packet to copy; ``None`` if there is none, or, in a pipe, none yet."""
        if self._arrived is None:
            return next(self._packets, None)
        return next(self._of_interval(self._taken(self._arrived)), None)

    def _taken(self, arrived: deque[Any]) -> Iterator[Any]:
        while arrived:
            packet = arrived.popleft()
            if packet.stream_index in self._targets:
                yield packet

    def _shortened(self, chapters: list[Any]) -> list[Any]:
        """The chapters of the interval."""
        if self._begins is None and self._ends is None:
            return chapters
        found = []
        for chapter in chapters:
            unit = chapter["time_base"]
            start, end = (chapter[name] * unit - (self._begins or 0) for name in ("start", "end"))
            if self._ends is not None:
                end = min(end, self._ends - (self._begins or 0))
            start = max(start, Fraction(0))
            if start < end:
                found.append({**chapter, "start": round(start / unit), "end": round(end / unit)})
        return found

    def _read(self) -> Iterator[Any]:
        if not self._targets:
            return
        packets = self._of_interval(
            _without_discarded(self._input.demux([self._input.streams[index] for index in self._targets]))
        )
        try:
            yield from packets if self._most is None else self._first(packets, self._most)
        except av.FFmpegError:
            self._notes.append(
                f"{self._path}: is damaged or truncated; its sound and other streams end early."
            )

    def _first(self, packets: Iterator[Any], most: int) -> Iterator[Any]:
        """Yields at most ``most`` packets of each stream, and ends when every sound stream has so many."""
        left = dict.fromkeys(self._targets, most)
        sounds = {index for index in left if self._input.streams[index].type == "audio"}
        for packet in packets if sounds else ():
            left[packet.stream_index] -= 1
            if left[packet.stream_index] >= 0:
                yield packet
            if all(left[index] <= 0 for index in sounds):
                return

    def _of_interval(self, packets: Iterable[Any]) -> Iterator[Any]:
        """Yields the packets that belong to the interval, at their times in it."""
        sounds = {index for index in self._targets if self._input.streams[index].type == "audio"}
        over: set[int] = set()
        for packet in packets:
            self._keep_order(packet)
            if self._belongs(packet):
                yield packet
            elif self._ends is not None and packet.pts * packet.time_base > self._ends + INTERLEAVED:
                over.add(packet.stream_index)
                # Where nothing more can come, the rest of the file need not be read.
                if over >= sounds:
                    return

    def _belongs(self, packet: Any) -> bool:
        """Whether a packet belongs to the interval. If so, its times become those in the interval."""
        index, unit = packet.stream_index, packet.time_base
        stream = self._input.streams[index]
        if packet.pts is None or (self._begins is None and self._ends is None) or _is_cover(stream):
            return True
        begins, ends = packet.pts * unit, (packet.pts + (packet.duration or 0)) * unit
        if self._ends is not None and begins >= self._ends:
            return False
        if stream.type != "audio" and self._ends is not None and ends > self._ends:
            packet.duration = max(1, round((self._ends - begins) / unit))
        if self._begins is None:
            return True
        if begins < self._begins and (stream.type == "audio" or ends <= self._begins):
            return False
        if begins < self._begins:
            packet.duration -= round((self._begins - begins) / unit)
            packet.pts = packet.dts = round(self._begins / unit)
        shift = round(self._begins / unit)
        packet.pts -= shift
        packet.dts = packet.pts if packet.dts is None else packet.dts - shift
        # Several subtitles may be shown when the interval begins.
        if index in self._last_cut and stream.type != "audio":
            packet.dts = max(packet.dts, self._last_cut[index] + self._least_step)
            packet.pts = max(packet.pts, packet.dts)
        self._last_cut[index] = packet.dts
        return True

    def _keep_order(self, packet: Any) -> None:
        """Makes time stamps increase, since in a broken file they may not, and a muxer would then fail."""
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


def _without_discarded(packets: Iterator[Any]) -> Iterator[Any]:
    """Leaves out the packets that an edit list cuts out, since other containers have no such lists.

    The last ``_RUN_UP`` packets before the beginning are kept, because decoders need them to start.
    """
    before: dict[int, deque[Any]] = {}
    begun: set[int] = set()
    for packet in packets:
        index = packet.stream_index
        if not packet.size:  # an empty packet only marks the end of a stream
            continue
        if not packet.is_discard:
            begun.add(index)
            yield from before.pop(index, ())
            yield packet
        elif index not in begun:
            before.setdefault(index, deque(maxlen=_RUN_UP)).append(packet)


def is_of_content(error: Exception) -> bool:
    """Whether writing failed because of the content, and not because of a disk, a file or memory."""
    return not isinstance(error, OSError | MemoryError)


def lasting_metadata(thing: Any) -> dict[str, str]:
    """Returns the metadata of a container or a stream without what describes the old file only."""
    kept = {key: value for key, value in thing.metadata.items() if not key.startswith(_OF_ONE_FILE)}
    if "name" in kept:  # FFmpeg's key for the title of a track in MP4
        kept.setdefault("title", kept["name"])
    return kept


def _can_hold(container: str, stream: Any) -> bool:
    """Whether a container can hold a stream, found out by writing the header of a file with this stream."""
    # That works for sound and subtitles only: muxers silently leave out pictures and attachments.
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
    """Whether the muxer writes this data stream by itself, as MP4 does for chapter titles and time codes."""
    return (bool(chapters) and stream.name == "bin_data") or "timecode" in (
        stream.metadata.keys() & video.metadata.keys()
    )


def _is_cover(stream: Any) -> bool:
    """Whether a stream is cover art: a single picture, such as a film's poster."""
    return bool(stream.disposition & Disposition.attached_pic)


def _as_attachment(path: Path, cover: Any) -> tuple[str, str, bytes]:
    """Returns the name, the media type and the content of cover art, for an attachment in Matroska."""
    kind = "png" if cover.codec_context.name == "png" else "jpeg"
    with open_input(path) as container:
        packet = next(container.demux(container.streams[cover.index]))
        return f"cover.{kind.replace('jpeg', 'jpg')}", f"image/{kind}", bytes(packet)


_KINDS = {"audio": "sound", "video": "picture"}


def _name_of(stream: Any) -> str:
    name = stream.codec_context.name if stream.codec_context is not None else getattr(stream, "name", None)
    return name or "of unknown kind"


def _describe(stream: Any) -> str:
    kind = "sound" if stream.type == "audio" else stream.type
    return f"{kind} stream {stream.index} ({_name_of(stream)})"


def _conversion_note(stream: Any, target: Any, suffix: str) -> str:
    codec = target.codec_context.codec.canonical_name
    return f"{_describe(stream)} became {codec}, since {suffix} cannot hold it as it is."


def _left_out_note(stream: Any, suffix: str) -> str:
    sentence = f"{_describe(stream)} was left out"
    for other, container in ((".mkv", "matroska"), (".mp4", "mp4")):
        if other != suffix and _can_hold(container, stream):
            return f"{sentence}, since {suffix} cannot hold it; name the output {other} to keep it."
    return f"{sentence}."
