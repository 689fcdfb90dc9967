"""Makes small and long copies of videos for benchmarks, and counts what is in a video, with FFmpeg alone."""

import contextlib
import hashlib
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av

from rlsp_tf.errors import RLSPError
from rlsp_tf.media.excerpts import reading, writing

ERRORS = 100
"""Give up on a file after this many consecutive read errors."""


def reduce(source: Path, target: Path, *, width: int, frames: int, every: int = 1) -> None:
    """Encodes the beginning of a video as a small H.264 file, with its sound.

    Args:
        source: the video file.
        target: the .mp4 file to write, which must not exist.
        width: largest width of frames in pixels, an even number; the height keeps the aspect ratio.
        frames: largest number of frames of the source to use.
        every: keep one of so many frames.

    Raises:
        RLSPError: if the video cannot be read or has no frame.
    """
    with reading(source) as given, writing(target, source) as made:
        video, sounds = given.streams.video[0], given.streams.audio[:1]
        width = min(width, video.width // 2 * 2)
        height = max(2, round(width * video.height / video.width / 2) * 2)
        small = made.add_stream("libx264", rate=(video.average_rate or Fraction(25)) / every)
        small.width, small.height, small.pix_fmt = width, height, "yuv420p"
        # Without B-frames, so that copies can be appended to each other.
        small.options = {"bf": "0"}
        copies = [made.add_stream_from_template(sound) for sound in sounds]
        end = Fraction(0)
        for index, frame in enumerate(islice(given.decode(video), frames)):
            if index % every == 0:
                assert frame.pts is not None
                end = frame.pts * frame.time_base
                made.mux(small.encode(frame.reformat(width, height, "yuv420p")))
        made.mux(small.encode(None))
        given.seek(0)
        for packet in given.demux(*sounds) if sounds else ():
            if packet.size and packet.pts is not None and 0 <= packet.pts * packet.time_base < end:
                packet.stream = copies[0]
                made.mux(packet)


def loop(source: Path, target: Path, frames: int) -> None:
    """Repeats a video, without encoding it again, until it has enough frames.

    Args:
        source: a file made by :func:`reduce`.
        target: the file to write, which must not exist.
        frames: least number of frames of the result, which consists of whole copies.

    Raises:
        RLSPError: if a file cannot be read or written.
    """
    with reading(source) as given, writing(target, source) as made:
        copies = {stream.index: made.add_stream_from_template(stream) for stream in given.streams}
        packets = [packet for packet in given.demux() if packet.size]
        video = given.streams.video[0]
        shown = [packet for packet in packets if packet.stream_index == video.index]
        length = (shown[-1].pts + shown[-1].duration - shown[0].pts) * shown[-1].time_base
        times = [(packet.pts, packet.dts, packet.time_base) for packet in packets]
        for number in range(-(-frames // len(shown))):
            for packet, (pts, dts, unit) in zip(packets, times, strict=True):
                later = round(number * length / unit)
                # Muxing has converted the times to the time base of the copy.
                packet.time_base, packet.pts, packet.dts = unit, pts + later, dts + later
                packet.stream = copies[packet.stream_index]
                made.mux(packet)


def shape(path: Path) -> tuple[int, int, Fraction]:
    """Returns width, height and frames per second of a video.

    Raises:
        RLSPError: if it cannot be read.
    """
    with reading(path) as container:
        video = container.streams.video[0]
        return video.width, video.height, video.average_rate or Fraction(25)


def packets(path: Path) -> dict[str, list[tuple[Fraction, str]]]:
    """Returns times and digests of all packets of a file, by number and type of the stream.

    Raises:
        RLSPError: if it cannot be read.
    """
    with reading(path) as container:
        found: dict[str, list[tuple[Fraction, str]]] = {
            f"{stream.index} {stream.type}": [] for stream in container.streams
        }
        for packet in container.demux():
            if packet.size:
                time = (packet.pts or 0) * packet.time_base
                digest = hashlib.md5(bytes(packet), usedforsecurity=False).hexdigest()
                found[f"{packet.stream_index} {packet.stream.type}"].append((time, digest))
    return found


def decodable(path: Path) -> int:
    """Counts the frames that FFmpeg decodes from a file that may be damaged.

    It shares no code with the reader of rlsp_tf, so that it does not share its errors.
    """
    count = errors = 0
    # The damage may have hit text, such as titles.
    lenient = "surrogateescape"
    with contextlib.suppress(av.FFmpegError), av.open(f"file:{path}", metadata_errors=lenient) as container:
        stream: Any = container.streams.best("video")
        if stream is None or stream.codec_context is None:
            return 0
        # Decoding with threads also loses good frames next to a broken one.
        stream.thread_type = "NONE"
        while errors < ERRORS:
            try:
                for packet in container.demux(stream):
                    with contextlib.suppress(av.FFmpegError):
                        count += len(packet.decode())
                    errors = 0
                break
            except av.FFmpegError:
                errors += 1
        else:
            with contextlib.suppress(av.FFmpegError):
                count += len(stream.decode(None))
    return count


def is_whole(path: Path) -> int | None:
    """Returns the number of frames if every packet decodes to one frame, else ``None``."""
    try:
        with reading(path) as container:
            frames = held = 0
            for packet in container.demux(container.streams.video[0]):
                held += packet.size > 0
                frames += len(packet.decode())
    except (RLSPError, av.FFmpegError, IndexError):
        return None
    return frames if frames == held > 0 else None
