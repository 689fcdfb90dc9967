"""A clip that has been prepared for training: its arrays on disk, and where its shots begin."""

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rlsp_tf.errors import RLSPError
from rlsp_tf.system.files import named, read_json

Halving = Literal["auto", "always", "never"]
CELL = 4
"""Height and width of a cell of the maps ``detail`` and ``motion``, in low-resolution pixels."""
CARD = "clip.json"
"""Name of the file that describes a prepared clip."""
OURS = named(r"(hr|blurred|detail|motion)\.raw", re.escape(CARD))
"""Tells the files of a prepared clip by their names in its folder."""


@dataclass(frozen=True)
class Clip:
    """A prepared clip, or the part of it from frame ``start`` to frame ``stop``.

    Attributes:
        name: name of the clip, unique in an index.
        source: path of the video file or folder that it was prepared from.
        sha256: SHA-256 of the content of the source, in hexadecimal.
        folder: folder of the arrays.
        shape: ``(frames, height, width)`` of the arrays.
        scale: upscaling factor that the frames were blurred for.
        halved: whether frames were reduced to half their size.
        cuts: numbers of the frames that begin a shot, without the first.
        start, stop: first frame that may be used, and the frame after the last.
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

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process maps the files itself, instead of getting a copy of their content.
        return Clip, tuple(getattr(self, field.name) for field in fields(self))

    @cached_property
    def hr(self) -> np.memmap:
        """High-resolution frames, uint8 RGB ``(frames, height, width, 3)``, read-only."""
        return self._map("hr.raw", np.uint8, (*self.shape, 3))

    @cached_property
    def blurred(self) -> np.memmap:
        """``hr`` after the blur of :func:`rlsp_tf.degrade`, rounded, at full resolution.

        ``blurred[:, y::scale, x::scale]`` is the low resolution of ``hr[:, y:, x:]``.
        """
        return self._map("blurred.raw", np.uint8, (*self.shape, 3))

    @cached_property
    def detail(self) -> np.memmap:
        """Detail of each cell of ``CELL`` x ``CELL`` low-resolution pixels.

        float32 ``(frames, rows, columns)``: the mean of the absolute horizontal and vertical differences
        between neighbouring pixels of low-resolution luma, added up, in grey levels.
        """
        return self._map("detail.raw", np.float32, self._cells)

    @cached_property
    def motion(self) -> np.memmap:
        """Mean absolute change of low-resolution luma since the previous frame, in the form of ``detail``.

        0 in the first frame.
        """
        return self._map("motion.raw", np.float32, self._cells)

    @property
    def shots(self) -> list[tuple[int, int]]:
        """``(start, stop)`` of every shot within the frames that may be used."""
        inner = [cut for cut in self.cuts if self.start < cut < self.stop]
        return list(zip([self.start, *inner], [*inner, self.stop], strict=True))

    def part(self, start: int, stop: int) -> "Clip":
        """Returns the part of the clip from frame ``start`` to frame ``stop``."""
        return replace(self, start=start, stop=stop)

    def to_dict(self) -> dict[str, Any]:
        """Returns what the index of a run records: everything except ``folder``."""
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


def cached_name(source: Path, *identity: object) -> str:
    """Returns the name of the folder in the cache for what is made of a source.

    Args:
        source: the file or folder; the result begins like its name, so that people find it, but is short
            enough to be a name where that of the source is as long as names may be.
        identity: all else that decides what is made, which JSON can hold. It has the checksum of the
            source's content instead of its path and time: a copy of the data, or data that have moved, would
            fill the disk with the same again.
    """
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    return f"{source.stem[:40].replace('.', '_')}-{key}"


def open_clip(folder: Path, name: str | None = None) -> Clip:
    """Opens a prepared clip.

    Args:
        folder: a folder made by :func:`rlsp_tf.training.clips.prepare.prepare_clip`. It may have been moved
            or copied since.
        name: name of the clip; by default the name of its source.

    Raises:
        RLSPError: if a file in the folder is missing or has the wrong size.
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
        getattr(clip, each)  # mapping the file checks its size
    return clip
