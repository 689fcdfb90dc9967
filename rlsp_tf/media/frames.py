"""The interfaces that all clips share, whether they are video files or folders of images."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rlsp_tf.pixels.color import ColorSpec

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""Suffixes of files that are read as images. A folder of images is a clip."""
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts"),
    *(".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".3gp", ".mxf", ".gif"),
)
"""Suffixes of files that count as videos when a folder is searched."""


@dataclass(frozen=True)
class Frame:
    """One frame of a clip.

    Attributes:
        planes: either ``(rgb,)``, an array ``(H, W, 3)`` of uint8 or uint16 that uses the full range of its
            type; or ``(y, cb, cr)``, two-dimensional arrays of uint8 or, for a depth above 8, uint16, in
            the depth and subsampling of the clip's :class:`~rlsp_tf.pixels.color.ColorSpec`. Empty for a
            frame that repeats the one before, where repeats are marked (:mod:`rlsp_tf.media.repeats`).
        pts: presentation time, in units of the clip's time base.
        duration: how long the frame is shown, in the same units.
        name: the name of the frame's own file without its suffix; ``None`` for frames of a video.
        profile: the ICC profile of the frame's RGB, if its file has one.
        alpha: opacity of each pixel, ``(H, W)``, from 0 (invisible) to the largest code of the clip's depth,
            in the type of the planes; ``None`` if all pixels are opaque. Colours are not multiplied by it.
    """

    planes: tuple[np.ndarray, ...]
    pts: int | None = None
    duration: int | None = None
    name: str | None = None
    profile: bytes | None = None
    alpha: np.ndarray | None = None


class FrameSource(Protocol):
    """A clip that is read frame by frame. Use it as a context manager.

    Attributes:
        path: the file or folder.
        width: width of the frames in pixels, after any rotation.
        height: height of the frames in pixels, after any rotation.
        rate: average frames per second; ``None`` if the source has no frame rate, as folders of images.
        time_base: seconds per unit of ``Frame.pts``.
        frames: expected number of frames, for a progress bar; ``None`` if unknown.
        color: colour format of the planes; ``None`` if frames are RGB.
        depth: bits per sample, 8 to 16. RGB frames have 8 or 16.
        transparent: whether frames have ``alpha``.
        notes: sentences for the user about what was assumed or left out.
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
        """Yields every frame once, in the order of time."""

    def __enter__(self) -> "FrameSource": ...
    def __exit__(self, *exception: Any) -> None: ...


class FrameSink(Protocol):
    """A clip that is written frame by frame. Use it as a context manager.

    The file or folder gets its final name only when the ``with`` block ends without an exception.

    Attributes:
        path: the file or folder to write.
        color: colour format of the planes that :meth:`write` takes; ``None`` if frames are stored as RGB.
        transparent: whether the ``alpha`` of frames is stored, in the depth of their planes.
        notes: sentences for the user about what was changed or left out. Complete after the block.
    """

    path: Path
    color: ColorSpec | None
    transparent: bool
    notes: list[str]

    def write(self, frame: Frame) -> None:
        """Writes the next frame, whose planes are in the format of ``color``, or RGB."""

    def __enter__(self) -> "FrameSink": ...
    def __exit__(self, *exception: Any) -> None: ...
