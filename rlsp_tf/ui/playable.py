"""Copies of clips in a format that every browser plays, shown beside results."""

from dataclasses import replace
from pathlib import Path

import av

from rlsp_tf.errors import Interrupted
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.media.open import open_sink, open_source
from rlsp_tf.media.pixel_formats import rgb_from_planes
from rlsp_tf.pixels.color import eight_bits
from rlsp_tf.system.signals import Stop

BEFORE = "before.mp4"
"""Name of such a copy in a job's folder."""
SUFFIXES = (".mp4", ".m4v", ".mov", ".webm")
CODECS = ("h264", "vp8", "vp9", "av1")
"""FFmpeg's names of codecs that browsers play if samples have 8 bits."""


def is_playable(path: Path) -> bool:
    """Returns whether browsers play a video file without conversion."""
    if path.is_dir() or path.suffix.lower() not in SUFFIXES:
        return False
    with av.open(path) as container:
        stream = container.streams.best("video")
        return (
            isinstance(stream, av.VideoStream)
            and stream.codec_context.codec.canonical_name in CODECS
            and stream.pix_fmt in ("yuv420p", "yuvj420p")
        )


def write_playable(source: Path, target: Path, rate: float | None, stop: Stop) -> None:
    """Writes a silent copy of a clip.

    Args:
        source: the clip.
        target: the file to write, an MP4; an existing one is replaced.
        rate: frames per second, if the clip has none.
        stop: ends the work when it becomes true.

    Raises:
        Interrupted: if ``stop`` became true.
        RLSPError: if the clip cannot be read, or the copy not written.
    """
    with open_source(source) as clip:
        color = clip.color and replace(clip.color, depth=8, subsampling=(2, 2))
        encoder = EncoderOptions("libx264", 20, "veryfast", None if clip.rate else rate)
        sink = open_sink(
            target,
            clip,
            width=clip.width,
            height=clip.height,
            color=color,
            encoder=encoder,
            force=True,
            companions=False,
        )
        with sink:
            for frame in clip:
                rgb = rgb_from_planes(frame.planes, clip.color) if clip.color else frame.planes[0]
                rgb = eight_bits(rgb / 257) if rgb.dtype == "uint16" else rgb
                sink.write(replace(frame, planes=(rgb,), alpha=None))
                if stop:
                    raise Interrupted(f"{target}: stopped by {stop.signal}.")
