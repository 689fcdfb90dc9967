"""Opens clips to read or to write them, whether they are videos, folders of images or single images."""

import os
from collections import deque
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from rlsp_tf.errors import RLSPError, UsageError
from rlsp_tf.media.containers import codec_for
from rlsp_tf.media.encoders import EncoderOptions, check_encoder
from rlsp_tf.media.frames import VIDEO_SUFFIXES, Frame, FrameSink, FrameSource
from rlsp_tf.media.images import FolderSink, FolderSource, ImageSink, is_animated, is_image
from rlsp_tf.media.inputs import STDIN
from rlsp_tf.media.interval import Interval
from rlsp_tf.media.video_reader import VideoSource
from rlsp_tf.media.video_writer import STDOUT, VideoSink, is_pipe
from rlsp_tf.pixels.color import ColorSpec
from rlsp_tf.system.files import check_apart

__all__ = [
    "STDIN",
    "STDOUT",
    "FolderSink",
    "FolderSource",
    "Frame",
    "FrameSink",
    "FrameSource",
    "ImageSink",
    "VideoSink",
    "VideoSource",
    "becomes_video",
    "is_pipe",
    "open_sink",
    "open_source",
]


def open_source(
    path: str | os.PathLike[str],
    *,
    deinterlace: bool = False,
    interval: Interval = Interval(),
    rate: float | Fraction | None = None,
) -> FrameSource:
    """Opens a clip to read it.

    Args:
        path: a folder of images, an image, a video file, or :data:`STDIN`.
        deinterlace: whether to deinterlace a video, see :class:`VideoSource`.
        interval: the part of the clip to read.
        rate: images per second, by which the times of an interval of images are counted.

    Raises:
        RLSPError: if the clip cannot be read.
        UsageError: if ``deinterlace`` is given for images, which do not say which frames are interlaced.
    """
    path = path if isinstance(path, Path) else Path(path)
    if not (path.is_dir() or is_image(path)) or is_animated(path):
        return VideoSource(path, deinterlace=deinterlace, interval=interval)
    if deinterlace:
        raise UsageError(f"{path}: only videos can be deinterlaced; leave out --deinterlace.")
    return FolderSource(path, interval=interval, rate=rate)


def open_sink(
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
) -> FrameSink:
    """Makes the sink for a clip: a video or an image if ``path`` has such a suffix, otherwise a folder.

    Args:
        path: the file or folder to write, or :data:`STDOUT`.
        source: the clip that the frames are made from, see :class:`VideoSink`.
        width, height, color, companions, square: see :class:`VideoSink`.
        encoder: settings of the video encoder. Where a frame rate is given and has no effect, a note says so.
        force: whether to replace an existing file or folder.

    Raises:
        RLSPError: if the clip cannot be written.
    """
    path = path if isinstance(path, Path) else Path(path)
    check_apart(path, source.path)
    if becomes_video(path):
        check_encoder(encoder.codec or codec_for(path.suffix), encoder.crf)
        ignored = encoder.rate is not None and source.rate is not None
        video = VideoSink(
            path,
            source,
            width=width,
            height=height,
            color=color,
            encoder=replace(encoder, rate=None) if ignored else encoder,
            force=force,
            companions=companions,
            square=square,
        )
        if ignored:
            video.notes.append(
                f"{source.path}: has a frame rate of its own ({float(source.rate or 0):.6g}), so --rate was "
                "ignored."
            )
        return video
    if isinstance(source, VideoSource) and source.decoder.companions is not None:
        source.decoder.companions = deque(maxlen=0)  # images have no place for them
    sink: FolderSink | ImageSink
    if not path.is_dir() and is_image(path):
        if source.frames != 1:
            raise RLSPError(f"{path}: an image holds one frame; name a folder or a video file.")
        sink = ImageSink(path, force=force)
    else:
        names = source.names if isinstance(source, FolderSource) else ()
        sink = FolderSink(path, force=force, names=names)
    if encoder.rate is not None and not (isinstance(source, FolderSource) and source.interval):
        sink.notes.append(f"{path}: images have no frame rate, so --rate was ignored.")
    if source.rate is not None:
        sink.notes.append(
            f"{path}: images hold neither sound nor times; both are in {source.path}, if you need them."
        )
    return sink


def becomes_video(path: Path) -> bool:
    """Whether :func:`open_sink` makes a video of this name, and not images."""
    return path is STDOUT or (not path.is_dir() and path.suffix.lower() in VIDEO_SUFFIXES)
