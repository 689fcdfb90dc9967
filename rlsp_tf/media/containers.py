"""What video files are told beside their packets: encoder, tag and frame rate that go with a container."""

from collections.abc import Sequence
from fractions import Fraction

from rlsp_tf.media.frames import FrameSource

ALPHA_MODE = "alpha_mode"
"""What Matroska calls the mark of VP8 and VP9 that have a second stream in them, for alpha."""


def codec_for(suffix: str) -> str:
    """The encoder that is taken for files with a suffix where none is named."""
    return "libvpx-vp9" if suffix.lower() == ".webm" else "libx264"


def keeps_alpha(format: str, codec: str) -> bool:
    """Whether what an encoder makes of transparent frames is transparent in a container."""
    # VP8 and VP9 have it in a stream of its own, for which only Matroska has a place.
    return codec in ("ffv1", "prores_ks") or (
        codec in ("libvpx", "libvpx-vp9") and format in ("matroska", "webm")
    )


def tag_for(format: str, codec: str) -> str:
    """What a container is to call the streams of a codec; four zeros stand for its own choice."""
    # What Apple's players ask for.
    hevc = codec in ("hevc", "libx265") or codec.startswith("hevc_")
    return "hvc1" if hevc and format in ("mp4", "mov") else "\0\0\0\0"


def rate_to_declare(
    format: str, source: FrameSource, times: Sequence[tuple[int, int]], time_base: Fraction
) -> Fraction:
    """The frame rate that a container is to declare beside the times of its frames; 0 for none.

    Args:
        format: FFmpeg's name of the container.
        source: where the frames are from.
        times: when they are shown and for how long.
        time_base: unit of these, in seconds.
    """
    average = source.rate or 1 / time_base
    # MP4 has no such thing, and its muxer counts time codes in it.
    if format in ("mp4", "mov"):
        return average
    shown = sorted(time for time, _ in times)
    rates = [average]
    if len(shown) > 1:
        rates.append(Fraction(len(shown) - 1) / ((shown[-1] - shown[0]) * time_base))
    for rate in rates:
        # Each time may be rounded to a unit, of the source or of Matroska.
        if all(
            abs((time - shown[0]) * time_base - index / rate) <= max(time_base, Fraction(1, 1000))
            for index, time in enumerate(shown)
        ):
            return rate
    return Fraction(0)
