"""Finds photographs to train on, and keeps them, decoded, in the cache of clips.

A folder of photographs holds image files of any sizes. It has an option of its own, so that it is never
mistaken for a folder of frames.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rlsp_tf.errors import RLSPError, sentence_of
from rlsp_tf.media.images import is_image, read_image
from rlsp_tf.media.pixel_formats import eight_bit_rgb
from rlsp_tf.system.files import atomic_folder, named, read_json, sha256_of
from rlsp_tf.system.progress import ProgressBar
from rlsp_tf.training.clips.clip import cached_name
from rlsp_tf.training.clips.index import mark_used, named_below, open_cache

VERSION = 1
"""Part of the key of a cached photograph. Raise it when the same file would give other pixels."""
CARD, PIXELS = "photograph.json", "pixels.raw"
"""Names of the files of a prepared photograph."""
OURS = named(re.escape(CARD), re.escape(PIXELS))
"""Tells the files of a prepared photograph by their names in its folder."""
LARGEST = 2**21
"""Largest number of pixels of a photograph. Larger ones are reduced by area, which makes them sharper."""
SMALLEST = 96
"""Smallest height and width of a photograph in pixels."""
HELD_OUT = 8
"""Largest number of photographs to validate on."""


@dataclass(frozen=True)
class Photograph:
    """A prepared photograph.

    Attributes:
        name: name of the photograph, unique in an index.
        source: path of the image file.
        sha256: SHA-256 of the content of the file, in hexadecimal.
        folder: folder of the pixels.
        shape: ``(height, width)`` in pixels.
    """

    name: str
    source: str
    sha256: str
    folder: Path
    shape: tuple[int, int]

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process maps the files itself, instead of getting a copy of their content.
        return Photograph, tuple(getattr(self, field.name) for field in fields(self))

    @cached_property
    def pixels(self) -> np.ndarray:
        """The photograph, uint8 RGB ``(height, width, 3)``, read-only."""
        file = self.folder / PIXELS
        try:
            return np.memmap(file, np.uint8, mode="r", shape=(*self.shape, 3))
        except (OSError, ValueError) as error:
            raise RLSPError(f"{file}: is damaged or missing; remove {self.folder}.") from error

    def to_dict(self) -> dict[str, Any]:
        """Returns what the index of a run records."""
        return {"name": self.name, "source": self.source, "sha256": self.sha256, "shape": list(self.shape)}


def index_photographs(
    roots: Sequence[str | os.PathLike[str]],
    *,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> tuple[list[Photograph], list[str]]:
    """Finds photographs, and decodes those that are not in the cache yet.

    Args:
        roots: folders, which are searched with all their subfolders, or single image files.
        cache: folder for prepared photographs; by default
            :func:`rlsp_tf.training.clips.index.default_cache`.
        progress: show on standard error how far it is.

    Returns:
        ``(photographs, notes)``: the photographs, sorted by name, and sentences about what was skipped.

    Raises:
        RLSPError: if a root is missing, fewer than two photographs can be used, or the cache cannot be
            written.
    """
    files = find_photographs(roots)
    cache = open_cache(cache)
    photographs: list[Photograph] = []
    notes: list[str] = []
    bar = ProgressBar(files, desc="photographs", unit="files", show=progress, leave=False)
    for name, file in bar:
        try:
            prepared = _open(_prepare(file, cache), name)
            photographs.append(replace(prepared, source=str(file)))
            mark_used(photographs[-1].folder / CARD)
        except (RLSPError, OSError) as error:
            notes.append(f"skipped {sentence_of(error)}")
    if len(photographs) < 2:
        reasons = "".join(f"\n  {note}" for note in notes)
        raise RLSPError(
            f"{', '.join(map(str, roots))}: at least two photographs are needed, one of them to validate on; "
            f"{len(photographs)} can be used.{reasons}"
        )
    return photographs, notes


def find_photographs(roots: Sequence[str | os.PathLike[str]]) -> list[tuple[str, Path]]:
    """Finds image files, and gives each a unique name.

    Args:
        roots: as for :func:`index_photographs`.

    Returns:
        ``(name, file)`` of each photograph, sorted by name. The name is the path below the root, or the
        absolute path if another photograph has the same name.

    Raises:
        RLSPError: if a root does not exist.
    """
    return named_below(roots, _walk, suffixes=True)


def by_chance(names: Sequence[str]) -> list[str]:
    """Returns names in an order that looks random but is always the same: that of their SHA-256.

    If some names are removed, the others keep their order, so the first ones of a collection are also the
    first ones of any part of it that contains them.
    """
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())


def split_photographs(photographs: Sequence[Photograph]) -> tuple[list[Photograph], list[Photograph]]:
    """Divides photographs into those to train on and those to validate on.

    ``HELD_OUT`` photographs, but at most a quarter, are held out, in the order of :func:`by_chance`.

    Returns:
        ``(training, validation)``.
    """
    count = min(HELD_OUT, max(1, len(photographs) // 4))
    held_out = by_chance([photograph.name for photograph in photographs])[:count]
    return (
        [photograph for photograph in photographs if photograph.name not in held_out],
        [photograph for photograph in photographs if photograph.name in held_out],
    )


def _walk(root: Path) -> Iterator[Path]:
    """Yields the image files below a root, except hidden ones."""
    if root.is_file():
        files = [root]
    else:
        files = sorted(
            file
            for file in root.rglob("*")
            if not any(part.startswith(".") for part in file.relative_to(root).parts)
        )
    for file in files:
        if is_image(file) and file.is_file():
            yield file


def _prepare(file: Path, cache: Path) -> Path:
    """Decodes a photograph unless it is in the cache; returns its folder."""
    sha256 = sha256_of(file)
    folder = cache / cached_name(file, VERSION, sha256)
    if (folder / CARD).is_file():
        try:
            _open(folder, file.name)
            return folder
        except RLSPError:
            pass  # it is damaged, so it is prepared again
    pixels = eight_bit_rgb((read_image(file),), None)
    height, width = pixels.shape[:2]
    if min(height, width) < SMALLEST:
        raise RLSPError(
            f"{file}: is {width}x{height}; a photograph must be at least {SMALLEST} pixels high and wide."
        )
    smaller = np.sqrt(LARGEST / (height * width))
    if smaller < 1:
        size = (max(SMALLEST, round(width * smaller)), max(SMALLEST, round(height * smaller)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    with atomic_folder(folder, force=True, ours=OURS) as part:
        (part / PIXELS).write_bytes(np.ascontiguousarray(pixels).tobytes())
        card = {"source": str(file), "sha256": sha256, "shape": pixels.shape[:2]}
        (part / CARD).write_text(json.dumps(card, indent=1), "utf-8")
    return folder


def _open(folder: Path, name: str) -> Photograph:
    """Opens a prepared photograph."""
    card = read_json(folder / CARD, f"remove {folder}")
    try:
        height, width = card["shape"]
        photograph = Photograph(name, card["source"], card["sha256"], folder, (height, width))
        whole = (folder / PIXELS).stat().st_size == 3 * height * width > 0
    except (OSError, LookupError, TypeError, ValueError):
        whole = False
    if not whole:
        raise RLSPError(f"{folder / CARD}: is damaged; remove {folder}.")
    return photograph
