"""The size of a result: that of the network, or one that the user has asked for."""

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from rlsp_tf.errors import RLSPError, UsageError
from rlsp_tf.media.frames import FrameSource
from rlsp_tf.media.video_reader import VideoSource

LARGEST = 16
"""How many times larger than the input a result may be."""


class Geometry(NamedTuple):
    """The form of the frames of a result.

    Attributes:
        width, height: size in pixels.
        square: whether pixels that were not square have become so.
    """

    width: int
    height: int
    square: bool


@dataclass(frozen=True)
class Size:
    """The size that results should have. Without any of the three, it is what the network makes.

    Attributes:
        box: width and height in pixels. The picture becomes as large as fits inside them.
        height: height in pixels.
        scale: how many times larger than the input, from 1 to ``LARGEST``.

    With ``box`` and ``height`` the picture keeps the aspect ratio in which it is shown, and its pixels become
    square. With ``scale`` they keep their form.

    Raises:
        UsageError: if several are given, or one is outside its range.
    """

    box: tuple[int, int] | None = None
    height: int | None = None
    scale: Fraction | None = None

    def __post_init__(self) -> None:
        if sum(each is not None for each in (self.box, self.height, self.scale)) > 1:
            raise UsageError("a size, a height and a scale exclude each other; give one of them.")
        given = (*(self.box or ()), 1 if self.height is None else self.height)
        if any(each < 1 for each in given):
            raise UsageError("the width and the height of a result must be at least 1.")
        if self.scale is not None and not 1 <= self.scale <= LARGEST:
            raise UsageError(f"a result must be from 1 to {LARGEST} times as large as the input.")

    def options(self) -> dict[str, str | int | None]:
        """Returns the options of the command line that ask for this size, for a journal."""
        return {
            "--size": self.box and f"{self.box[0]}x{self.box[1]}",
            "--height": self.height,
            "--scale": None if self.scale is None else str(self.scale),
        }

    def of(self, frames: FrameSource, scale: int, *, even: bool) -> Geometry:
        """Returns the form of the frames of a result.

        Args:
            frames: the clip that is upscaled.
            scale: how many times larger the network makes it.
            even: whether width and height have to be even, as those of most videos, or multiples of the
                subsampling of chroma, if that is coarser.

        Raises:
            RLSPError: if the result would be smaller than the clip, or more than ``LARGEST`` times as large.
        """
        held = frames.color.subsampling if even and frames.color else (1, 1)
        units = [max(1 + even, each) for each in held]
        limits = self.box or (None, self.height)
        asked = [limit for limit in limits if limit is not None]
        aspect = Fraction(1)
        if asked and isinstance(frames, VideoSource):
            aspect = frames.sample_aspect_ratio or aspect
        shown = frames.width * aspect, Fraction(frames.height)
        by = Fraction(scale) if self.scale is None else self.scale
        if asked:
            by = min(limit / each for limit, each in zip(limits, shown, strict=True) if limit is not None)
        made = [
            _fitting(by * each, limit, unit) for each, limit, unit in zip(shown, limits, units, strict=True)
        ]
        if not 1 <= by <= LARGEST:
            start = (
                f"{frames.path}: is {frames.width}x{frames.height}; a result of {made[0]}x{made[1]} would be"
            )
            if by < 1:
                raise RLSPError(f"{start} smaller. Ask for a larger size, or leave this input out.")
            raise RLSPError(f"{start} more than {LARGEST} times as large. Ask for a smaller size.")
        return Geometry(made[0], made[1], aspect != 1)


def _fitting(length: Fraction, limit: int | None, unit: int) -> int:
    """Returns the multiple of a unit that is nearest to a length, or below it if it would exceed a limit."""
    nearest = unit * round(length / unit)
    if limit is not None:
        nearest = min(nearest, limit - limit % unit)
    return max(unit, nearest)
