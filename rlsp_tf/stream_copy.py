"""Sound, subtitles and whatever else goes with a video, copied packet by packet as it is."""

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from rlsp_tf.video_source import open_input

_OF_ONE_FILE = (
    *("major_brand", "minor_version", "compatible_brands", "encoder", "ENCODER", "vendor_id"),
    *("DURATION", "BPS", "NUMBER_OF_", "_STATISTICS"),
)
"""Beginnings of the names of metadata that is true of one file only."""


class StreamCopy:
    """The streams of a file beside its video, on their way into another file.

    The input is opened once more and read alongside the video, so that memory does not grow with
    the clip however its streams are interleaved.

    Args:
        path: the input.
        video: index of the stream that is not copied.
        output: the container where the others go; its header is not yet written.
        suffix: of the output's name.

    Attributes:
        notes: sentences for the user on what the output cannot hold.

    Raises:
        av.FFmpegError: if the input cannot be read.
    """

    def __init__(self, path: Path, video: int, output: Any, suffix: str) -> None:
        self.notes: list[str] = []
        self._path, self._output = path, output
        self._input = open_input(path)
        self._targets: dict[int, Any] = {}
        chapters = self._input.chapters()
        for stream in self._input.streams:
            if stream.index == video or (chapters and stream.name == "bin_data"):
                continue  # MP4 keeps the titles of chapters in such a stream
            if _is_cover(stream) and output.format.name == "matroska":
                output.add_attachment(*_as_attachment(path, stream))
                continue
            if not _can_hold(output.format.name, stream):
                self.notes.append(f"{path}: {_left_out(stream, suffix)}")
                continue
            target = output.add_stream_from_template(stream, opaque=True)
            target.metadata.update(lasting_metadata(stream))
            target.disposition = stream.disposition.value
            if stream.type != "attachment":  # the header holds all of those
                self._targets[stream.index] = target
        output.metadata.update(lasting_metadata(self._input))
        output.set_chapters(chapters)
        self._packets = self._read()
        self._next = next(self._packets, None)
        self._last: dict[int, int] = {}

    def copy_until(self, time: Fraction | None) -> None:
        """Copies all packets that are due.

        Args:
            time: in seconds; ``None`` for all that are left.

        Raises:
            av.FFmpegError: if they cannot be written.
        """
        while self._next is not None:
            packet = self._next
            stamp = packet.dts if packet.dts is not None else packet.pts
            if time is not None and stamp is not None and stamp * packet.time_base > time:
                return
            self._keep_order(packet)
            packet.stream = self._targets[packet.stream_index]
            self._output.mux(packet)
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Closes the input."""
        self._input.close()

    def _read(self) -> Iterator[Any]:
        if not self._targets:
            return
        try:
            for packet in self._input.demux([self._input.streams[index] for index in self._targets]):
                if packet.size:  # empty ones only tell decoders that there is no more
                    yield packet
        except av.FFmpegError:
            self.notes.append(
                f"{self._path}: is damaged or truncated; its sound and other streams end early."
            )

    def _keep_order(self, packet: Any) -> None:
        """Lets no time stamp go back, as it may in a broken file: a muxer would give up the whole output."""
        if packet.dts is None:
            return
        last = self._last.get(packet.stream_index, packet.dts)
        if packet.dts < last:
            packet.dts = last
            packet.pts = max(packet.pts if packet.pts is not None else last, last)
        self._last[packet.stream_index] = packet.dts


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
        with av.open(io.BytesIO(), "w", format=container) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def _is_cover(stream: Any) -> bool:
    """Whether a stream is a single picture, as of a film's poster."""
    return bool(stream.disposition & Disposition.attached_pic)


def _as_attachment(path: Path, cover: Any) -> tuple[str, str, bytes]:
    """A cover's name, type and content, as Matroska has it."""
    kind = "png" if cover.codec_context.name == "png" else "jpeg"
    with open_input(path) as container:
        packet = next(container.demux(container.streams[cover.index]))
        return f"cover.{kind.replace('jpeg', 'jpg')}", f"image/{kind}", bytes(packet)


def _left_out(stream: Any, suffix: str) -> str:
    kind = {"audio": "sound", "subtitle": "subtitle"}.get(stream.type, stream.type)
    name = stream.codec_context.name if stream.codec_context is not None else getattr(stream, "name", None)
    sentence = f"{kind} stream {stream.index} ({name or 'of unknown kind'}) was left out"
    for other, container in ((".mkv", "matroska"), (".mp4", "mp4")):
        if other != suffix and _can_hold(container, stream):
            return f"{sentence}, since {suffix} cannot hold it; name the output {other} to keep it."
    return f"{sentence}."
