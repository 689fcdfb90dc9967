"""The default encoder, the codec tag and the declared frame rate for each container."""

from collections.abc import Sequence
from fractions import Fraction

from rlsp_tf.media.frames import FrameSource

ALPHA_MODE = "alpha_mode"
"""What Matroska calls the mark of VP8 and VP9 that have a second stream in them, for alpha."""


def codec_for(suffix: str) -> str:
    """Returns FFmpeg's name of the default encoder for files with this suffix."""
    return "libvpx-vp9" if suffix.lower() == ".webm" else "libx264"


def keeps_alpha(format: str, codec: str) -> bool:
    """Whether what an encoder makes of transparent frames is transparent in a container."""
    # VP8 and VP9 have it in a stream of its own, for which only Matroska has a place.
    return codec in ("ffv1", "prores_ks") or (
        codec in ("libvpx", "libvpx-vp9") and format in ("matroska", "webm")
    )


def tag_for(format: str, codec: str) -> str:
    """Returns the tag for streams of a codec in a container; four zero bytes leave it to the container."""
    # Apple's players play HEVC only with this tag.
    hevc = codec in ("hevc", "libx265") or codec.startswith("hevc_")
    return "hvc1" if hevc and format in ("mp4", "mov") else "\0\0\0\0"


def rate_to_declare(
    format: str, source: FrameSource, times: Sequence[tuple[int, int]], time_base: Fraction
) -> Fraction:
    """Returns the frame rate that a container should declare, or 0 if the rate is not constant.

    Args:
        format: FFmpeg's name of the container.
        source: the clip that the frames were made from.
        times: the time and the duration of every frame, in units of ``time_base``.
        time_base: seconds per unit.
    """
    average = source.rate or 1 / time_base
    # MP4 does not store a rate; its muxer only counts time codes with it.
    if format in ("mp4", "mov"):
        return average
    shown = sorted(time for time, _ in times)
    rates = [average]
    if len(shown) > 1:
        rates.append(Fraction(len(shown) - 1) / ((shown[-1] - shown[0]) * time_base))
    for rate in rates:
        # Times may be rounded to the unit of the source, or to Matroska's millisecond.
        if all(
            abs((time - shown[0]) * time_base - index / rate) <= max(time_base, Fraction(1, 1000))
            for index, time in enumerate(shown)
        ):
            return rate
    return Fraction(0)
