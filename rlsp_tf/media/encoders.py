"""What a video encoder is asked for, and whether it can do that: known before it is at work."""

import functools
from dataclasses import dataclass
from fractions import Fraction

import av
import av.codec.codec

from rlsp_tf.errors import RLSPError, UsageError

WORST = {
    "libx264": 51,
    "libx264rgb": 51,
    "libx265": 51,
    "libvpx": 63,
    "libvpx-vp9": 63,
    "libaom-av1": 63,
    "libsvtav1": 63,
}
"""The largest CRF of encoders that have one; the smallest is 0. FFmpeg takes larger ones without a word."""
_OF_HARDWARE = ("_nvenc", "_qsv", "_amf", "_mf", "_vaapi", "_vulkan", "_v4l2m2m", "_videotoolbox", "_omx")


@dataclass(frozen=True)
class EncoderOptions:
    """How a video is encoded.

    Attributes:
        codec: FFmpeg's name of the encoder; ``None`` for :func:`rlsp_tf.media.containers.codec_for` the
            suffix of the file.
        crf: constant quality; for libx264 and libx265 from 0 (lossless) to 51. Encoders without such a
            setting ignore it.
        preset: speed against size, as the encoder names it; ``None`` for the encoder's own default.
        rate: frames per second where the source has no time stamps; ``None`` for 25.
    """

    codec: str | None = None
    crf: int = 18
    preset: str | None = None
    rate: float | Fraction | None = None


def check_encoder(codec: str, crf: int) -> None:
    """Finds out what an encoder would refuse or ignore.

    Args:
        codec: FFmpeg's name; one that it does not know is left to others.
        crf: constant quality.

    Raises:
        UsageError: if the encoder has no such quality.
        RLSPError: if it is one of a graphics card, and there is none here that it can use.
    """
    worst = WORST.get(codec)
    if worst is not None and not 0 <= crf <= worst:
        raise UsageError(f"--crf of {codec} is from 0 to {worst}, not {crf}.")
    if codec.endswith(_OF_HARDWARE) and not _opens(codec):
        raise RLSPError(
            f"{codec}: needs a graphics card or chip that this machine does not have, or its driver; choose "
            "libx264 or libx265."
        )


@functools.cache
def _opens(codec: str) -> bool:
    try:
        context = av.CodecContext.create(codec, "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height, context.time_base = 640, 480, Fraction(1, 25)
        formats = context.codec.video_formats
        context.pix_fmt = formats[0].name if formats else "yuv420p"
        context.open()
    except av.codec.codec.UnknownCodecError:
        return True  # whoever makes use of it says so
    except (av.FFmpegError, ValueError):
        return False
    return True
