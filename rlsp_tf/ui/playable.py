"""Copies of clips and pictures in formats that every browser shows."""

from dataclasses import replace
from pathlib import Path

import av
from PIL import Image

from rlsp_tf.errors import Interrupted
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.media.open import open_sink, open_source
from rlsp_tf.media.pixel_formats import eight_bit_rgb
from rlsp_tf.pixels.color import eight_bits
from rlsp_tf.system.signals import Stop
from rlsp_tf.upscaling.upscale import Recipe

BEFORE = "before.mp4"
"""Name of the copy of a clip in a job's folder."""
BEFORE_PICTURE, AFTER_PICTURE = "before.jpg", "after.jpg"
"""Names of the copies of a picture and of its result there."""
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


def write_playable(source: Path, target: Path, recipe: Recipe, stop: Stop) -> None:
    """Writes a silent copy of what a recipe takes of a clip.

    Args:
        source: the clip.
        target: the file to write, an MP4; an existing one is replaced.
        recipe: says which part of the clip it takes, and its rate if the clip has none.
        stop: ends the work when it becomes true.

    Raises:
        Interrupted: if ``stop`` became true.
        RLSPError: if the clip cannot be read, or the copy not written.
    """
    with recipe.open(source) as clip:
        color = clip.color and replace(clip.color, depth=8, subsampling=(2, 2))
        encoder = EncoderOptions("libx264", 20, "veryfast", None if clip.rate else recipe.encoder.rate)
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
                sink.write(replace(frame, planes=(eight_bit_rgb(frame.planes, clip.color),), alpha=None))
                if stop:
                    raise Interrupted(f"{target}: stopped by {stop.signal}.")


def write_picture(source: Path, target: Path) -> None:
    """Writes a copy of a picture that is loaded faster, as JPEG; what is transparent becomes black.

    Args:
        source: the picture.
        target: the file to write.

    Raises:
        RLSPError: if the picture cannot be read.
    """
    with open_source(source) as clip:
        (frame,) = clip
        rgb = eight_bit_rgb(frame.planes, clip.color)
        if frame.alpha is not None:
            rgb = eight_bits(rgb * (frame.alpha[..., None] / (2**clip.depth - 1)))
    # Sharp edges of colour are part of what is looked at.
    Image.fromarray(rgb).save(target, quality=95, subsampling=0, icc_profile=frame.profile)
