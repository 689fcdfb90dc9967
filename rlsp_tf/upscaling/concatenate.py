"""Joins finished segments into one file or folder, without encoding them again."""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import av

from rlsp_tf.errors import RLSPError
from rlsp_tf.media.containers import ALPHA_MODE, rate_to_declare, tag_for
from rlsp_tf.media.frames import FrameSource
from rlsp_tf.media.inputs import libav_sentence
from rlsp_tf.media.stream_copy import Part, StreamCopy, is_of_content, parts_of
from rlsp_tf.media.video_reader import VideoSource
from rlsp_tf.media.video_writer import VIDEO_FORMATS, open_output
from rlsp_tf.system.progress import ProgressBar
from rlsp_tf.upscaling.work_folder import Segment


class MisfitError(RLSPError):
    """A joined file does not have the expected frames or times."""


def join_videos(
    folder: Path,
    segments: Sequence[Segment],
    joined: Path,
    source: FrameSource,
    target: Path,
    *,
    time_base: Fraction,
    notes: list[str],
    left_out: dict[Part, str],
    because: str = "it is damaged",
    most: int | None = None,
    progress: bool = False,
) -> None:
    """Copies the packets of all segments into one file, with everything that accompanies the source's video.

    Afterwards the file is read again: it must have every frame at its time, and the first frame of every
    segment must decode. If a part that accompanies the video makes writing fail, it is found by trying the
    parts one by one, and left out.

    Args:
        folder: the folder with the segments.
        segments: the segments, in order.
        joined: the file to write.
        source: the clip that the segments were made from.
        target: the file, as the user knows it.
        time_base: seconds per unit of the segments' times.
        notes: list to which sentences are added about what the container cannot hold.
        left_out: the parts of the source that are not copied, each with its reason. Parts that make writing
            fail are added.
        because: the reason noted for parts that make writing fail, as the end of a sentence.
        most: number of packets of each stream to copy. By default everything is copied.
        progress: whether to show on standard error how far it is.

    Raises:
        RLSPError: if a segment is damaged, or the file cannot be written or is not as expected.
    """
    times = [pair for segment in segments for pair in segment.times]
    starts = list(accumulate((segment.frames for segment in segments), initial=0))
    bar = ProgressBar(total=len(times), unit="frames", desc=f"joining {target}", show=progress)
    parts = parts_of(source) if isinstance(source, VideoSource) else []

    def write(without: Collection[Part]) -> list[str]:
        bar.reset()
        written_notes: list[str] = []
        reasons = {part: left_out.get(part, because) for part in without}
        _write(folder, segments, joined, source, target, time_base, times, written_notes, reasons, most, bar)
        _check(joined, target, [shown * time_base for shown, _ in times], starts[:-1])
        return written_notes

    def can_be_copied(part: Part) -> bool:
        try:
            write({*parts} - {part})
        except (av.FFmpegError, ValueError, MisfitError) as error:
            if not is_of_content(error):
                raise
            return False
        return True

    try:
        with bar:
            without = {*left_out}
            try:
                written_notes = write(without)
            except (av.FFmpegError, ValueError, MisfitError) as error:
                if not is_of_content(error) or without.issuperset(parts):
                    raise
                without |= {part for part in parts if part not in left_out and not can_be_copied(part)}
                try:
                    written_notes = write(without)
                except (av.FFmpegError, ValueError, MisfitError) as again:
                    if not is_of_content(again):
                        raise
                    # Each part can be copied alone, but not all of them together.
                    without = {*parts}
                    written_notes = write(without)
    except av.FFmpegError as error:
        raise RLSPError(libav_sentence(error, target, "cannot be joined; run the command again")) from error
    except ValueError as error:
        raise RLSPError(f"{target}: cannot be joined ({error}); choose another container.") from error
    left_out.update((part, because) for part in without if part not in left_out)
    notes.extend(written_notes)


def join_folders(folder: Path, segments: Sequence[Segment], joined: Path, target: Path) -> None:
    """Puts the images of all segments into one folder, as hard links if the file system has them.

    Args:
        folder: the folder with the segments.
        segments: the segments, in order.
        joined: the folder to fill. It must exist and be empty.
        target: the folder, as the user knows it.

    Raises:
        RLSPError: if a frame is missing.
    """
    for segment in segments:
        for file in sorted((folder / segment.name).iterdir()):
            copy = joined / file.name
            try:
                os.link(file, copy)
            except OSError:
                shutil.copyfile(file, copy)
    frames = sum(segment.frames for segment in segments)
    if (found := len([*joined.iterdir()])) != frames:
        raise RLSPError(
            f"{target}: only {found} of {frames} frames are there; add --no-resume to start over."
        )


def decoding_times(shown: Sequence[int]) -> list[int]:
    """Computes the decoding times of packets from their presentation times.

    The result is what an encoder of the whole clip would set: the sorted presentation times, delayed by the
    largest number of places that any packet precedes its place in them. The decoding times that were set for
    each segment alone would overlap where segments meet.

    Args:
        shown: presentation times of the packets, in the order of decoding, all different.

    Returns:
        Increasing times, none of them later than the presentation time of the same packet.
    """
    ordered = sorted(shown)
    ranks = {time: rank for rank, time in enumerate(ordered)}
    delay = max((index - ranks[time] for index, time in enumerate(shown)), default=0)
    before = [ordered[0] - (ordered[delay] - time) for time in ordered[:delay]]
    return before + ordered[: len(ordered) - delay]


def _write(
    folder: Path,
    segments: Sequence[Segment],
    joined: Path,
    source: FrameSource,
    target: Path,
    time_base: Fraction,
    times: Sequence[tuple[int, int]],
    notes: list[str],
    left_out: Mapping[Part, str],
    most: int | None,
    bar: Any,
) -> None:
    suffix = target.suffix.lower()
    decoding = decoding_times([shown for shown, _ in times])
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(open_output(joined, VIDEO_FORMATS[suffix], time_base, source))
        template = stack.enter_context(_segment(folder / segments[0].name)).streams.video[0]
        stream = output.add_stream_from_template(template, opaque=True)
        stream.time_base = time_base
        # The template's tag is not copied, and its rate is only the unit of its times.
        stream.codec_context.codec_tag = tag_for(output.format.name, template.codec_context.name)
        stream.codec_context.framerate = rate_to_declare(output.format.name, source, times, time_base)
        others = None
        if isinstance(source, VideoSource):
            stream.disposition = source.disposition
            others = stack.enter_context(
                StreamCopy(source, output, stream, suffix, notes, left_out=left_out, most=most)
            )
        if any(name.lower() == ALPHA_MODE for name in template.metadata):
            stream.metadata[ALPHA_MODE] = "1"
        output.start_encoding()
        packets = _packets(folder, segments, template.codec_context.extradata, target)
        for packet, (shown, lasts), decoded in zip(packets, times, decoding, strict=True):
            packet.time_base = time_base
            packet.pts, packet.dts, packet.duration = shown, decoded, lasts
            packet.stream = stream
            if others:
                others.copy_until(decoded * time_base)
            (others or output).mux(packet)
            bar.update()
        if others:
            others.copy_until(None)


def _packets(folder: Path, segments: Sequence[Segment], setup: bytes | None, target: Path) -> Iterator[Any]:
    """Yields the packets of all segments.

    Raises:
        RLSPError: if a segment has too few packets, or needs a decoder set up differently from ``setup``.
    """
    for segment in segments:
        with _segment(folder / segment.name) as container:
            stream = container.streams.video[0]
            found = 0
            if stream.codec_context.extradata == setup:
                for packet in container.demux(stream):
                    if packet.size:
                        found += 1
                        yield packet
            if found != segment.frames:
                raise RLSPError(
                    f"{target}: its finished segment {segment.name} is damaged; add --no-resume to start "
                    "over."
                )


def _segment(path: Path) -> Any:
    # With edit lists, the reader would leave out packets.
    edits = {"ignore_editlist": "1"} if path.suffix in (".mp4", ".m4v", ".mov") else {}
    return av.open(f"file:{path}", options=edits, metadata_errors="surrogateescape")


def _check(joined: Path, target: Path, times: Sequence[Fraction], starts: Sequence[int]) -> None:
    """Checks the number and the times of the frames written, and that the first of each segment decodes."""
    # Metadata may be in any encoding.
    with av.open(f"file:{joined}", metadata_errors="surrogateescape") as container:
        stream = container.streams.video[0]
        # Every decoder thread holds frames in memory, and few frames are decoded here.
        stream.codec_context.thread_count = 1
        found: list[Fraction] = []
        undecodable, beginnings = 0, set(starts)
        for packet in container.demux(stream):
            if not packet.size or packet.pts is None:
                continue
            if len(found) in beginnings:
                stream.codec_context.flush_buffers()
                try:
                    decoded = len(packet.decode()) or len(stream.codec_context.decode(None))
                except av.FFmpegError:
                    decoded = 0
                stream.codec_context.flush_buffers()
                undecodable += not decoded
            found.append(packet.pts * packet.time_base)
        # Containers without negative times shift all times by the same amount.
        unit = stream.time_base or Fraction(0)
    wrong = len(found) != len(times) or undecodable
    if not wrong:
        moved = min(found) - min(times)
        wrong = any(abs(have - want - moved) > unit for have, want in zip(found, times, strict=True))
    if wrong:
        raise MisfitError(
            f"{target}: the joined file has {len(found)} of {len(times)} frames, of which {undecodable} "
            "do not decode, or its times are wrong; try another --codec or .mkv."
        )
