"""The settings of a video encoder, and checks before work begins that it supports them and can run."""

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
"""The largest constant rate factor (CRF) of each encoder; the smallest is 0. FFmpeg does not check it."""
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
    """Checks that an encoder supports this quality and can run on this machine.

    Args:
        codec: FFmpeg's name of the encoder. Unknown names are not reported here.
        crf: constant rate factor; smaller is better.

    Raises:
        UsageError: if ``crf`` is outside the range of the encoder.
        RLSPError: if the encoder needs hardware, or a driver, that this machine does not have.
    """
    worst = WORST.get(codec)
    if worst is not None and not 0 <= crf <= worst:
        raise UsageError(f"--crf for {codec} must be from 0 to {worst}, not {crf}.")
    if codec.endswith(_OF_HARDWARE) and not _can_open(codec):
        raise RLSPError(
            f"{codec}: needs a graphics card or chip, and its driver, which this machine does not have; "
            "choose libx264 or libx265."
        )


@functools.cache
def _can_open(codec: str) -> bool:
    try:
        context = av.CodecContext.create(codec, "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height, context.time_base = 640, 480, Fraction(1, 25)
        formats = context.codec.video_formats
        context.pix_fmt = formats[0].name if formats else "yuv420p"
        context.open()
    except av.codec.codec.UnknownCodecError:
        return True  # VideoSink reports unknown encoders
    except (av.FFmpegError, ValueError):
        return False
    return True
