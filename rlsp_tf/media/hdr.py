"""HDR10 metadata: the display that a film was mastered on, and how bright the film gets."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

_PARAMETERS = {"libx264": "x264-params", "libx265": "x265-params", "libsvtav1": "svtav1-params"}
"""The encoders that write HDR10 metadata, and the option that passes it to each of them."""


@dataclass(frozen=True)
class HDR10:
    """Static HDR metadata, as defined by SMPTE ST 2086 and CTA-861.3.

    Attributes:
        primaries: CIE 1931 ``(x, y)`` of the mastering display's red, green, blue and white; ``None`` if
            unknown.
        luminance: least and greatest luminance of the mastering display, in cd/m²; ``None`` if unknown.
        light: the content's MaxCLL and MaxFALL, in cd/m²; ``None`` if unknown.
    """

    primaries: tuple[tuple[Fraction, Fraction], ...] | None = None
    luminance: tuple[Fraction, Fraction] | None = None
    light: tuple[int, int] | None = None

    def options(self, codec: str) -> dict[str, str] | None:
        """Returns the option that makes an encoder write this metadata.

        Args:
            codec: FFmpeg's name of the encoder.

        Returns:
            The option's name and value; ``None`` if the encoder cannot write HDR10 metadata.
        """
        if codec not in _PARAMETERS:
            return None
        given = []
        if self.primaries and self.luminance:
            # The standard counts in steps of 0.00002 and of 0.0001 cd/m²; SVT-AV1 takes plain numbers.
            steps = (1, 1) if codec == "libsvtav1" else (50000, 10000)
            red, green, blue, white = (
                ",".join(_number(each, steps[0]) for each in point) for point in self.primaries
            )
            least, greatest = (_number(each, steps[1]) for each in self.luminance)
            display = f"G({green})B({blue})R({red})WP({white})L({greatest},{least})"
            given.append(f"{'master-display' if codec == 'libx265' else 'mastering-display'}={display}")
        if self.light:
            name = {"libx264": "cll", "libx265": "max-cll", "libsvtav1": "content-light"}[codec]
            given.append(f"{name}={self.light[0]},{self.light[1]}")
        return {_PARAMETERS[codec]: ":".join(given)} if given else {}


def hdr10_of(frame: Any) -> HDR10 | None:
    """Returns the HDR10 metadata of a decoded frame; ``None`` if it has none.

    FFmpeg stores it in the structures ``AVMasteringDisplayMetadata`` and ``AVContentLightMetadata``.
    """
    found: dict[str, Any] = {}
    for data in frame.side_data:
        if data.type.name == "MASTERING_DISPLAY_METADATA":
            numbers = struct.unpack_from("=22i", bytes(data))
            ratios = [
                Fraction(above, below or 1)
                for above, below in zip(numbers[:20:2], numbers[1:20:2], strict=True)
            ]
            if numbers[20]:
                found["primaries"] = tuple(zip(ratios[:8:2], ratios[1:8:2], strict=True))
            if numbers[21]:
                found["luminance"] = (ratios[8], ratios[9])
        elif data.type.name == "CONTENT_LIGHT_LEVEL":
            found["light"] = struct.unpack_from("=2I", bytes(data))
    return HDR10(**found) if found else None


def _number(value: Fraction, steps: int) -> str:
    return f"{float(value):.5f}" if steps == 1 else str(round(value * steps))
