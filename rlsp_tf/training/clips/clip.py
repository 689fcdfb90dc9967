"""A clip that has been made ready for training: its arrays on disk, and where its shots begin."""

import math
import re
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rlsp_tf.errors import RLSPError
from rlsp_tf.system.files import named, read_json

Halving = Literal["auto", "always", "never"]
CELL = 4
"""Side of a cell of the maps ``detail`` and ``motion``, in low-resolution pixels."""
CARD = "clip.json"
OURS = named(r"(hr|blurred|detail|motion)\.raw", re.escape(CARD))
"""Which files are those of a clip, by their names in its folder."""


@dataclass(frozen=True)
class Clip:
    """A clip that has been made ready, or the part of it from ``start`` to ``stop``.

    Attributes:
        name: unique among the clips of an index.
        source: the video file or folder that it was made from.
        sha256: of the source's content, in hexadecimal.
        folder: where the arrays lie.
        shape: ``(frames, height, width)`` of the arrays.
        scale: the scale that it was blurred for.
        halved: whether frames were reduced by means of 2x2 pixels.
        cuts: frames that are the first after a scene cut.
        start, stop: the frames that may be used.
    """

    name: str
    source: str
    sha256: str
    folder: Path
    shape: tuple[int, int, int]
    scale: int
    halved: bool
    cuts: tuple[int, ...]
    start: int
    stop: int

    @cached_property
    def hr(self) -> np.memmap:
        """uint8 ``(frames, height, width, 3)``, read-only."""
        return self._map("hr.raw", np.uint8, (*self.shape, 3))

    @cached_property
    def blurred(self) -> np.memmap:
        """``hr`` blurred as :func:`rlsp_tf.degrade` does and rounded, before pixels are taken.

        ``blurred[:, y::scale, x::scale]`` is the low resolution of the frames seen from pixel (y, x).
        """
        return self._map("blurred.raw", np.uint8, (*self.shape, 3))

    @cached_property
    def detail(self) -> np.memmap:
        """float32 ``(frames, rows, columns)``, one number for a cell of ``CELL`` x ``CELL`` lr pixels.

        Mean of ``|dy/dx| + |dy/dy|`` of low-resolution luma, in grey levels per pixel.
        """
        return self._map("detail.raw", np.float32, self._cells)

    @cached_property
    def motion(self) -> np.memmap:
        """As ``detail``, the mean of ``|y[t] - y[t - 1]|``; 0 in the first frame."""
        return self._map("motion.raw", np.float32, self._cells)

    @property
    def shots(self) -> list[tuple[int, int]]:
        """``(start, stop)`` of every stretch of usable frames without a cut."""
        inner = [cut for cut in self.cuts if self.start < cut < self.stop]
        return list(zip([self.start, *inner], [*inner, self.stop], strict=True))

    def part(self, start: int, stop: int) -> "Clip":
        """The frames from ``start`` to ``stop`` alone."""
        return replace(self, start=start, stop=stop)

    def to_dict(self) -> dict[str, Any]:
        """What a run's index records: everything but where the arrays lie."""
        return {key: value for key, value in asdict(self).items() if key != "folder"}

    @property
    def _cells(self) -> tuple[int, int, int]:
        frames, height, width = self.shape
        return frames, -(-height // self.scale) // CELL, -(-width // self.scale) // CELL

    def _map(self, name: str, dtype: type, shape: tuple[int, ...]) -> np.memmap:
        file = self.folder / name
        size = math.prod(shape) * np.dtype(dtype).itemsize
        try:
            if (found := file.stat().st_size) != size:
                raise RLSPError(f"{file}: has {found} bytes instead of {size}; remove {self.folder}.")
            return np.memmap(file, dtype, mode="r", shape=shape)
        except (OSError, ValueError) as error:
            raise RLSPError(f"{file}: is damaged or missing; remove {self.folder}.") from error


def open_clip(folder: Path, name: str | None = None) -> Clip:
    """Opens a clip that was made ready before.

    Args:
        folder: as :func:`rlsp_tf.training.clips.prepare.prepare_clip` made it; may have been moved or copied.
        name: a name instead of that of its source.

    Raises:
        RLSPError: if something in it is missing or has the wrong size.
    """
    card = read_json(folder / CARD, f"remove {folder}")
    try:
        clip = Clip(
            name=name or Path(card["source"]).stem,
            source=card["source"],
            sha256=card["sha256"],
            folder=folder,
            shape=tuple(card["shape"]),
            scale=card["scale"],
            halved=card["halved"],
            cuts=tuple(card["cuts"]),
            start=0,
            stop=card["shape"][0],
        )
        frames, height, width = clip.shape
        whole = (
            all(
                type(number) is int and 0 <= number < 2**31
                for number in (*clip.shape, clip.scale, *clip.cuts)
            )
            and min(frames, height, width, clip.scale) > 0
            and list(clip.cuts) == sorted(set(clip.cuts))
            and isinstance(clip.sha256, str)
        )
    except (ValueError, LookupError, TypeError):
        whole = False
    if not whole:
        raise RLSPError(f"{folder / CARD}: is damaged; remove {folder}.")
    for each in ("hr", "blurred", "detail", "motion"):
        getattr(clip, each)  # the file is looked at when it is mapped
    return clip
