"""Copies the beginning of a video without encoding it again."""

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from rlsp_tf.errors import RLSPError
from rlsp_tf.media.inputs import libav_sentence, open_input


def cut(source: Path, target: Path, frames: int, *, stream: int | None = None, sound: bool = False) -> None:
    """Copies the first frames of a video, without encoding them again.

    Args:
        source: the video file.
        target: the file to write, which must not exist; its suffix selects the container.
        frames: number of frames, in the order of decoding.
        stream: index of the stream with the video; by default the first one.
        sound: also copy the first sound, up to the end of these frames.

    Raises:
        RLSPError: if the video cannot be read, or the container does not hold what is in it.
    """
    with reading(source) as given, writing(target, source) as made:
        video = given.streams.video[0] if stream is None else given.streams[stream]
        streams = [video, *(given.streams.audio[:1] if sound else ())]
        copies = {stream.index: made.add_stream_from_template(stream) for stream in streams}
        left, end = frames, Fraction(0)
        for packet in given.demux(streams):
            if not packet.size:
                continue
            # The first packets of Matroska have no decoding time.
            moment = packet.pts if packet.dts is None else packet.dts
            time, is_video = (moment or 0) * packet.time_base, packet.stream.type == "video"
            if not left and (not sound or (time > end and not is_video)):
                break
            if is_video and left:
                left, end = left - 1, time
            elif is_video:
                continue
            packet.stream = copies[packet.stream_index]
            made.mux(packet)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Any]:
    """Opens a video file as a container of FFmpeg, and turns FFmpeg's errors into an ``RLSPError``."""
    try:
        with open_input(path) as container:
            yield container
    except av.FFmpegError as error:
        raise RLSPError(libav_sentence(error, path, "cannot be read; check the file")) from error


@contextlib.contextmanager
def writing(path: Path, source: Path) -> Iterator[Any]:
    """Opens a new file as a container for the streams of ``source``.

    The content of the file does not depend on when or by which version of FFmpeg it is written.
    """
    try:
        with av.open(os.fspath(path), "w", options={"fflags": "+bitexact"}) as container:
            yield container
    except (av.FFmpegError, ValueError) as error:
        raise RLSPError(f"{source}: {path.suffix} cannot hold its streams; give another video.") from error
