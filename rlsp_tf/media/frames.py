"""What all clips have in common, be they video files or folders of images."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rlsp_tf.pixels.color import ColorSpec

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""Files that are read as images; a folder of them is a clip."""
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts"),
    *(".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".3gp", ".mxf", ".gif"),
)
"""Files that are taken for videos where a folder is searched."""


@dataclass(frozen=True)
class Frame:
    """One frame of a clip.

    Attributes:
        planes: ``(rgb,)``, shape ``(H, W, 3)``, uint8 or uint16, 0 to the type's largest number; or
            ``(y, cb, cr)``, two-dimensional, uint8 or (for a depth above 8) uint16 codes in the depth
            and subsampling of the clip's :class:`~rlsp_tf.pixels.color.ColorSpec`.
        pts: time at which it is shown, in units of the clip's time base.
        duration: for how long, in the same units.
        name: what its file is called without the suffix, if it has a file of its own.
        profile: ICC profile of its RGB, if it has one of its own.
        alpha: how opaque each pixel is, ``(H, W)``, 0 (nothing is seen) to the largest code of the clip's
            depth, in the type of the planes; ``None`` if all are opaque. Colours are not multiplied by it.
    """

    planes: tuple[np.ndarray, ...]
    pts: int | None = None
    duration: int | None = None
    name: str | None = None
    profile: bytes | None = None
    alpha: np.ndarray | None = None


class FrameSource(Protocol):
    """A clip that can be read, frame by frame; a context manager.

    Attributes:
        path: the file or folder.
        width: of a frame, in pixels, as it is to be seen.
        height: likewise.
        rate: frames per second on average, ``None`` where the source knows no time.
        time_base: seconds per unit of ``Frame.pts``.
        frames: how many there should be, for a progress bar; ``None`` if unknown.
        color: how planes hold colour; ``None`` where frames are RGB.
        depth: bits per sample, 8 to 16; RGB frames have 8 or 16.
        transparent: whether frames have ``alpha``.
        notes: sentences for the user: what had to be assumed, or was left out.
    """

    path: Path
    width: int
    height: int
    rate: Fraction | None
    time_base: Fraction
    frames: int | None
    color: ColorSpec | None
    depth: int
    transparent: bool
    notes: list[str]

    def __iter__(self) -> Iterator[Frame]:
        """Every frame once, in the order of time."""

    def __enter__(self) -> "FrameSource": ...
    def __exit__(self, *exception: Any) -> None: ...


class FrameSink(Protocol):
    """A clip that is written, frame by frame; a context manager.

    The target appears under its name when the ``with`` block ends without an exception, or not at all.

    Attributes:
        path: the file or folder to be.
        color: how planes given to :meth:`write` hold colour; ``None``: frames are stored as RGB.
        transparent: whether it keeps the ``alpha`` of frames, in the depth of their planes.
        notes: sentences for the user: what was changed or left out. Complete after the block.
    """

    path: Path
    color: ColorSpec | None
    transparent: bool
    notes: list[str]

    def write(self, frame: Frame) -> None:
        """Takes the next frame: planes in ``color``, or RGB."""

    def __enter__(self) -> "FrameSink": ...
    def __exit__(self, *exception: Any) -> None: ...
