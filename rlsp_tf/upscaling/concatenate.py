"""Finished segments become one file or folder, without being encoded again."""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import av
from tqdm import tqdm

from rlsp_tf.errors import RLSPError
from rlsp_tf.media.containers import ALPHA_MODE, rate_to_declare, tag_for
from rlsp_tf.media.frames import FrameSource
from rlsp_tf.media.stream_copy import Part, StreamCopy, is_of_content, parts_of
from rlsp_tf.media.video_reader import VideoSource, libav_sentence
from rlsp_tf.media.video_writer import VIDEO_FORMATS, open_output
from rlsp_tf.upscaling.work_folder import Segment


class MisfitError(RLSPError):
    """What was put together is not what it should be."""


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
    """Copies the packets of all segments into one file, with what accompanies the video of the source.

    Afterwards the file is read again: every frame has to be there with its time, and the first of every
    segment has to decode. If something that accompanies the video keeps the file from being written, it is
    found and left out.

    Args:
        folder: where the segments lie.
        segments: in order.
        joined: the file to be written.
        source: what they were made of.
        target: what the user knows the file as.
        time_base: unit of the segments' times, in seconds.
        notes: gets sentences for the user on what the container cannot hold.
        left_out: what of the source is not to go along, and why; gets what was found here.
        because: why that does not go along which is found here.
        most: packets of each stream that go along; ``None`` for all.
        progress: show a progress bar.

    Raises:
        RLSPError: if a segment is damaged, the file cannot be written, or it is not what it should be.
    """
    times = [pair for segment in segments for pair in segment.times]
    starts = list(accumulate((segment.frames for segment in segments), initial=0))
    bar = tqdm(total=len(times), unit=" frames", desc=f"joining {target}", disable=None if progress else True)
    parts = parts_of(source) if isinstance(source, VideoSource) else []

    def write(without: Collection[Part]) -> list[str]:
        bar.reset()
        said: list[str] = []
        reasons = {part: left_out.get(part, because) for part in without}
        _write(folder, segments, joined, source, target, time_base, times, said, reasons, most, bar)
        _check(joined, target, [shown * time_base for shown, _ in times], starts[:-1])
        return said

    def goes(part: Part) -> bool:
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
                said = write(without)
            except (av.FFmpegError, ValueError, MisfitError) as error:
                if not is_of_content(error) or without.issuperset(parts):
                    raise
                without |= {part for part in parts if part not in left_out and not goes(part)}
                try:
                    said = write(without)
                except (av.FFmpegError, ValueError, MisfitError) as again:
                    if not is_of_content(again):
                        raise
                    # Each goes alone, but not with the others.
                    without = {*parts}
                    said = write(without)
    except av.FFmpegError as error:
        raise RLSPError(libav_sentence(error, target, "cannot be put together; run again")) from error
    except ValueError as error:
        raise RLSPError(f"{target}: cannot be put together ({error}); choose another container.") from error
    left_out.update((part, because) for part in without if part not in left_out)
    notes.extend(said)


def join_folders(folder: Path, segments: Sequence[Segment], joined: Path, target: Path) -> None:
    """Puts the files of all segments into one folder, by links where the file system has them.

    Args:
        folder: where the segments lie.
        segments: in order.
        joined: the folder, which exists and is empty.
        target: what the user knows it as.

    Raises:
        RLSPError: if not every frame is there.
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
            f"{target}: {found} of {frames} frames are there; run again with --no-resume to begin anew."
        )


def decoding_times(shown: Sequence[int]) -> list[int]:
    """When packets have to be decoded, from when their frames are shown.

    As an encoder of the whole clip would set them: the times shown in increasing order, late by as many
    frames as any packet comes before its turn. Segments that were encoded apart would overlap at their ends.

    Args:
        shown: times of packets in their order, all different.

    Returns:
        Increasing times, none later than the same packet's in ``shown``.
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
        # A template's tag is not taken over, and its rate is the unit of its times.
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
    """The packets of all segments, as many as each has to have and all for one decoder."""
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
                    f"{target}: its finished segment {segment.name} is damaged; run again with --no-resume "
                    "to begin anew."
                )


def _segment(path: Path) -> Any:
    # Edit lists would make the reader leave packets out.
    edits = {"ignore_editlist": "1"} if path.suffix in (".mp4", ".m4v", ".mov") else {}
    return av.open(f"file:{path}", options=edits, metadata_errors="surrogateescape")


def _check(joined: Path, target: Path, times: Sequence[Fraction], starts: Sequence[int]) -> None:
    """Compares what was written with what should be: number of frames, times, and that segments decode."""
    # Metadata may be in any encoding.
    with av.open(f"file:{joined}", metadata_errors="surrogateescape") as container:
        stream = container.streams.video[0]
        # Every thread of a decoder has frames of its own, and few are decoded here.
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
        # Containers that have no times below zero move all of them alike.
        unit = stream.time_base or Fraction(0)
    wrong = len(found) != len(times) or undecodable
    if not wrong:
        moved = min(found) - min(times)
        wrong = any(abs(have - want - moved) > unit for have, want in zip(found, times, strict=True))
    if wrong:
        raise MisfitError(
            f"{target}: what was put together has {len(found)} of {len(times)} frames, of which "
            f"{undecodable} do not decode, or has other times; try another --codec or .mkv."
        )
