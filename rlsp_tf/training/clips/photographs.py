"""Photographs to train on, found in folders, decoded once and kept in the cache of clips.

A photograph is a file of any size; a folder of them may hold files of many sizes. They are named by an
option of their own, so that a folder of frames is never taken for one of photographs.
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from rlsp_tf.errors import RLSPError, describe_os_error
from rlsp_tf.media.frames import IMAGE_SUFFIXES
from rlsp_tf.media.images import read_image
from rlsp_tf.system.files import atomic_folder, named, read_json, sha256_of
from rlsp_tf.training.clips.index import default_cache, mark_used

VERSION = 1
"""Part of the key of a cached photograph: to be raised when the same file would give other pixels."""
CARD, PIXELS = "photograph.json", "pixels.raw"
OURS = named(re.escape(CARD), re.escape(PIXELS))
"""Which files are those of a prepared photograph, by their names in its folder."""
LARGEST = 2**21
"""Pixels that a photograph keeps. Larger ones are reduced by area, which makes them sharper."""
SMALLEST = 96
"""Least height and width of a photograph."""
HELD_OUT = 8
"""Photographs to validate on."""


@dataclass(frozen=True)
class Photograph:
    """A photograph that has been made ready.

    Attributes:
        name: unique among the photographs of an index.
        source: the file.
        sha256: of the file's content, in hexadecimal.
        folder: where its pixels lie.
        shape: ``(height, width)`` of them.
    """

    name: str
    source: str
    sha256: str
    folder: Path
    shape: tuple[int, int]

    @cached_property
    def pixels(self) -> np.ndarray:
        """uint8 RGB ``(height, width, 3)``, read-only."""
        file = self.folder / PIXELS
        try:
            return np.memmap(file, np.uint8, mode="r", shape=(*self.shape, 3))
        except (OSError, ValueError) as error:
            raise RLSPError(f"{file}: is damaged or missing; remove {self.folder}.") from error

    def to_dict(self) -> dict[str, Any]:
        """What a run's index records."""
        return {"name": self.name, "source": self.source, "sha256": self.sha256, "shape": list(self.shape)}


def index_photographs(
    roots: Sequence[str | os.PathLike[str]],
    *,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> tuple[list[Photograph], list[str]]:
    """Finds photographs and decodes those that are not in the cache yet.

    Args:
        roots: folders, searched with all their subfolders, or single files.
        cache: where they are kept; by default :func:`rlsp_tf.training.clips.index.default_cache`.
        progress: show a progress bar on standard error.

    Returns:
        Photographs by name, and sentences about what was skipped.

    Raises:
        RLSPError: if a root is missing, there are fewer than two photographs that can be used, or the
            cache cannot be written.
    """
    files = find_photographs(roots)
    cache = Path(cache) if cache is not None else default_cache()
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RLSPError(describe_os_error(error)) from error
    photographs: list[Photograph] = []
    notes: list[str] = []
    bar = tqdm(files, desc="photographs", unit="file", disable=None if progress else True, leave=False)
    for name, file in bar:
        try:
            photographs.append(_open(_prepare(file, cache), name))
            mark_used(photographs[-1].folder / CARD)
        except RLSPError as error:
            notes.append(f"skipped {error}")
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
        ``(name, file)`` sorted by name, which is the path below the root, or the whole path if another
        file has the same.

    Raises:
        RLSPError: if a root does not exist.
    """
    found: dict[str, Path] = {}
    for root in map(Path, roots):
        if not root.exists():
            raise RLSPError(f"{root}: no such file or folder; check the path.")
        for file in sorted(root.rglob("*")) if root.is_dir() else [root]:
            relative = file.relative_to(root) if file != root else Path(file.name)
            hidden = any(part.startswith(".") for part in relative.parts)
            if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file() and not hidden:
                name = relative.as_posix()
                if name in found and found[name] != file:
                    name = file.absolute().as_posix()
                found[name] = file
    return sorted(found.items())


def by_chance(names: Sequence[str]) -> list[str]:
    """Names in an order that looks random and is always the same: that of their SHA-256.

    Where some names are taken away, the others keep their order. So the first few are the same in a
    collection and in a part of it that has them.
    """
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())


def split_photographs(photographs: Sequence[Photograph]) -> tuple[list[Photograph], list[Photograph]]:
    """Takes photographs away from training to validate on: ``HELD_OUT``, at most a quarter, by chance.

    Returns:
        ``(training, validation)``.
    """
    count = min(HELD_OUT, max(1, len(photographs) // 4))
    held_out = by_chance([photograph.name for photograph in photographs])[:count]
    return (
        [photograph for photograph in photographs if photograph.name not in held_out],
        [photograph for photograph in photographs if photograph.name in held_out],
    )


def _prepare(file: Path, cache: Path) -> Path:
    """Decodes a photograph, unless the cache has it from this very file."""
    status = file.stat()
    identity = [VERSION, str(file.absolute()), status.st_size, status.st_mtime_ns]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    folder = cache / f"{file.stem.replace('.', '_')}-{key}"
    if (folder / CARD).is_file():
        try:
            _open(folder, file.name)
            return folder
        except RLSPError:
            pass  # damaged: made anew
    pixels = read_image(file)
    if pixels.dtype == np.uint16:
        pixels = np.rint(pixels / 257).astype(np.uint8)
    height, width = pixels.shape[:2]
    if min(height, width) < SMALLEST:
        raise RLSPError(f"{file}: is {width}x{height}; a photograph must be {SMALLEST} pixels high and wide.")
    smaller = np.sqrt(LARGEST / (height * width))
    if smaller < 1:
        size = (max(SMALLEST, round(width * smaller)), max(SMALLEST, round(height * smaller)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    with atomic_folder(folder, force=True, ours=OURS) as part:
        (part / PIXELS).write_bytes(np.ascontiguousarray(pixels).tobytes())
        card = {"source": str(file), "sha256": sha256_of(file), "shape": pixels.shape[:2]}
        (part / CARD).write_text(json.dumps(card, indent=1), "utf-8")
    return folder


def _open(folder: Path, name: str) -> Photograph:
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
