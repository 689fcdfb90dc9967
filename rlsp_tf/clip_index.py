"""Clips to train on, found in folders, made ready once and kept in a cache.

A clip is made ready by :mod:`rlsp_tf.preparation`: its frames and its blurred frames lie on disk,
uncompressed, where training reads them through memory mapping. Nothing here decodes or needs TensorFlow.
"""

import contextlib
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from rlsp_tf.errors import RLSPError, describe_os_error
from rlsp_tf.files import named, others_in, read_json, remove_files
from rlsp_tf.frames import IMAGE_SUFFIXES, VIDEO_SUFFIXES

Halving = Literal["auto", "always", "never"]
CELL = 4
"""Side of a cell of the maps ``detail`` and ``motion``, in low-resolution pixels."""
CARD = "clip.json"
OURS = named(r"(hr|blurred|detail|motion)\.raw", re.escape(CARD))
"""What is in the folder of a clip."""


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
        folder: as :func:`rlsp_tf.preparation.prepare_clip` made it; may have been moved or copied.
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


def default_cache() -> Path:
    """``$XDG_CACHE_HOME/rlsp_tf``, which is ``~/.cache/rlsp_tf`` on most systems."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlsp_tf"


def index_clips(
    roots: Sequence[str | os.PathLike[str]],
    *,
    cache: str | os.PathLike[str] | None = None,
    scale: int = 4,
    halve: Halving = "auto",
    progress: bool = False,
) -> tuple[list[Clip], list[str]]:
    """Finds clips and makes those ready that are not in the cache yet.

    Args:
        roots: folders, searched with all their subfolders, or single clips. A clip is a video file,
            a folder of images, or a folder that was made ready before.
        cache: where clips are kept; by default :func:`default_cache`. A clip takes 6 bytes per pixel.
        scale: of the network to be trained.
        halve: whether frames are reduced to half their size before use: ``"always"``, ``"never"``, or
            ``"auto"``: where their format loses something, because at full size its artefacts would be
            learned as detail.
        progress: show a progress bar on standard error.

    Returns:
        Clips by name, and sentences about what was skipped, and how much space the clips take.

    Raises:
        RLSPError: if a root is missing, nothing usable is found or the cache cannot be written.
    """
    sources = find_sources(roots)
    cache = Path(cache) if cache is not None else default_cache()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(cache)
    except OSError as error:
        raise RLSPError(describe_os_error(error)) from error
    clips: list[Clip] = []
    notes: list[str] = []
    bar = tqdm(sources, desc="clips", unit="clip", disable=None if progress else True, leave=False)
    for name, source in bar:
        bar.set_postfix_str(name)
        try:
            if (source / CARD).is_file():
                clip = open_clip(source, name)
                if clip.scale != scale:
                    raise RLSPError(f"{source}: was made ready for scale {clip.scale}, not {scale}.")
            else:
                from rlsp_tf.preparation import prepare_clip  # needs a decoder, the cache does not

                clip = open_clip(prepare_clip(source, cache, scale=scale, halve=halve, notes=notes), name)
        except (RLSPError, OSError) as error:
            sentence = describe_os_error(error) if isinstance(error, OSError) else str(error)
            notes.append(f"skipped {sentence}")
            continue
        clips.append(clip)
    if not clips:
        reasons = "".join(f"\n  {note}" for note in notes)
        raise RLSPError(f"{', '.join(map(str, roots))}: no clip can be used.{reasons}")
    size = sum(clip.hr.nbytes + clip.blurred.nbytes for clip in clips)
    notes.append(f"{len(clips)} clips take {size / 1e9:.2f} GB in {cache}")
    return clips, notes


def find_sources(roots: Iterable[str | os.PathLike[str]]) -> list[tuple[str, Path]]:
    """Finds video files and folders of images, and gives each a unique name.

    Args:
        roots: as for :func:`index_clips`.

    Returns:
        ``(name, path)`` sorted by name. A name is the path below the root without the suffix, unless
        another clip has the same.

    Raises:
        RLSPError: if a root does not exist, or there is no clip.
    """
    found: dict[str, Path] = {}
    for root in map(Path, roots):
        if not root.exists():
            raise RLSPError(f"{root}: no such file or folder; check the path.")
        for path in _walk(root):
            relative = path.relative_to(root) if path != root else Path(path.name)
            name = relative.with_suffix("").as_posix() if path.is_file() else relative.as_posix()
            if name in found and found[name] != path:
                name = path.absolute().as_posix()
            found[name] = path
    if not found:
        named = ", ".join(map(str, roots))
        raise RLSPError(f"{named}: holds no video and no folder of images ({' '.join(VIDEO_SUFFIXES)}).")
    return sorted(found.items())


def default_held_out(names: Sequence[str]) -> list[str]:
    """The names of every fifth clip, or of the last of fewer."""
    return list(names[len(names) % 5 // 2 :: 5] if len(names) >= 5 else names[-1:])


def split_clips(clips: Sequence[Clip], held_out: Sequence[str] | None) -> tuple[list[Clip], list[Clip]]:
    """Takes clips away from training to validate on.

    Args:
        clips: of an index.
        held_out: names; by default every fifth clip. A single clip gives its last fifth.

    Returns:
        ``(training, validation)``.

    Raises:
        RLSPError: if a name is unknown, or nothing is left to train on.
    """
    if held_out is None and len(clips) == 1:
        (clip,) = clips
        edge = clip.stop - max(1, (clip.stop - clip.start) // 5)
        return [clip.part(clip.start, edge)], [clip.part(edge, clip.stop)]
    if held_out is None:
        held_out = default_held_out([clip.name for clip in clips])
    unknown = sorted(set(held_out) - {clip.name for clip in clips})
    if unknown:
        raise RLSPError(
            f"{unknown[0]}: no such clip to validate on; there are {', '.join(clip.name for clip in clips)}."
        )
    training = [clip for clip in clips if clip.name not in held_out]
    if not training:
        raise RLSPError("every clip is held out for validation; leave some to train on.")
    return training, [clip for clip in clips if clip.name in held_out]


def _walk(path: Path) -> Iterable[Path]:
    if path.is_file():
        if path.suffix.lower() in VIDEO_SUFFIXES:
            yield path
        return
    if not path.is_dir():
        return  # a link to nothing, or a pipe
    if path.is_symlink() and path.parent.resolve().is_relative_to(path.resolve()):
        return  # a link to a folder that it is in
    if (path / CARD).is_file():
        yield path
        return
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    if any(entry.suffix.lower() in IMAGE_SUFFIXES for entry in entries):
        yield path
    for entry in entries:
        yield from _walk(entry)


def _remove_leftovers(cache: Path) -> None:
    """Removes what processes that were killed left half made."""
    for folder in cache.glob(".*.part"):
        if folder.is_symlink() or not folder.is_dir():
            continue
        with contextlib.suppress(ValueError, IndexError, ProcessLookupError, PermissionError):
            os.kill(int(folder.name.split(".")[2].split("-")[0]), 0)
            continue
        if next(others_in(folder, OURS), None) is None:
            remove_files(folder, OURS)
