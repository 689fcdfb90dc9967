"""Finds clips to train on, and keeps them in a cache, prepared for training.

:mod:`rlsp_tf.training.clips.prepare` writes the frames of a clip and its blurred frames to disk without
compression, where training maps them into memory. This module itself needs neither a decoder nor TensorFlow.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from rlsp_tf.errors import RLSPError, describe_os_error, sentence_of
from rlsp_tf.media.frames import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from rlsp_tf.system.files import others_in, remove_files
from rlsp_tf.system.progress import ProgressBar
from rlsp_tf.training.clips.clip import CARD, OURS, Clip, Halving, open_clip


def default_cache() -> Path:
    """Returns ``$XDG_CACHE_HOME/rlsp_tf``, which is ``~/.cache/rlsp_tf`` on most systems."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlsp_tf"


def open_cache(cache: str | os.PathLike[str] | None) -> Path:
    """Returns the folder of the cache, and makes it if it is missing.

    Args:
        cache: the folder; ``None`` for :func:`default_cache`.

    Raises:
        RLSPError: if the folder cannot be made.
    """
    cache = Path(cache) if cache is not None else default_cache()
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RLSPError(describe_os_error(error)) from error
    return cache


def index_clips(
    roots: Sequence[str | os.PathLike[str]],
    *,
    cache: str | os.PathLike[str] | None = None,
    scale: int = 4,
    halve: Halving = "auto",
    progress: bool = False,
) -> tuple[list[Clip], list[str]]:
    """Finds clips, and prepares those that are not in the cache yet.

    Args:
        roots: folders, which are searched with all their subfolders, or single clips. A clip is a video
            file, a folder of images, or the folder of a prepared clip.
        cache: folder for prepared clips; by default :func:`default_cache`. They take 6 bytes per pixel.
        scale: upscaling factor of the network to be trained.
        halve: whether frames are reduced to half their size: ``"always"``, ``"never"``, or ``"auto"`` for
            clips in a lossy format, because the network would learn the artefacts of compression as detail.
        progress: show on standard error how far it is.

    Returns:
        ``(clips, notes)``: the clips, sorted by name, and sentences about what was skipped and how much
        space the clips take.

    Raises:
        RLSPError: if a root is missing, no clip can be used, or the cache cannot be written.
    """
    sources = find_sources(roots)
    cache = open_cache(cache)
    try:
        _remove_leftovers(cache)
    except OSError as error:
        raise RLSPError(describe_os_error(error)) from error
    clips: list[Clip] = []
    notes: list[str] = []
    bar = ProgressBar(sources, desc="clips", unit="clips", show=progress, leave=False)
    for name, source in bar:
        bar.set_postfix_str(name)
        try:
            if (source / CARD).is_file():
                clip = open_clip(source, name)
                if clip.scale != scale:
                    raise RLSPError(
                        f"{source}: was prepared for scale {clip.scale}, not {scale}; give the original clip."
                    )
            else:
                from rlsp_tf.training.clips.prepare import prepare_clip  # loads the decoder

                prepared = prepare_clip(source, cache, scale=scale, halve=halve, notes=notes)
                clip = replace(open_clip(prepared, name), source=str(source))
        except (RLSPError, OSError) as error:
            notes.append(f"skipped {sentence_of(error)}")
            continue
        mark_used(clip.folder / CARD)
        clips.append(clip)
    if not clips:
        reasons = "".join(f"\n  {note}" for note in notes)
        raise RLSPError(f"{', '.join(map(str, roots))}: no clip can be used.{reasons}")
    size = sum(clip.hr.nbytes + clip.blurred.nbytes for clip in clips)
    notes.append(f"{len(clips)} clips take {size / 1e9:.2f} GB in {cache}")
    return clips, notes


def mark_used(card: Path) -> None:
    """Sets the modification time of a card to now, so that the cache keeps its clip; errors are ignored."""
    with contextlib.suppress(OSError):
        os.utime(card)


def find_sources(roots: Iterable[str | os.PathLike[str]]) -> list[tuple[str, Path]]:
    """Finds video files and folders of images, and gives each a unique name.

    Args:
        roots: as for :func:`index_clips`.

    Returns:
        ``(name, path)`` of each clip, sorted by name. The name is the path below the root without the
        suffix, or the absolute path if another clip has the same name.

    Raises:
        RLSPError: if a root does not exist, or there is no clip.
    """
    roots = list(roots)
    found = named_below(roots, _walk, suffixes=False)
    if not found:
        named = ", ".join(map(str, roots))
        raise RLSPError(
            f"{named}: holds no video ({' '.join(VIDEO_SUFFIXES)}) and no folder of images; check the path."
        )
    return found


def named_below(
    roots: Iterable[str | os.PathLike[str]],
    walk: Callable[[Path], Iterable[Path]],
    *,
    suffixes: bool,
) -> list[tuple[str, Path]]:
    """Finds paths below some roots, and gives each a unique name.

    Args:
        roots: folders or files.
        walk: function that returns the wanted paths below a root.
        suffixes: whether names keep the suffixes of files.

    Returns:
        ``(name, path)``, sorted by name. The name is the path below the root, or the absolute path if
        another path has the same name.

    Raises:
        RLSPError: if a root does not exist.
    """
    found: dict[str, Path] = {}
    for root in map(Path, roots):
        if not root.exists():
            raise RLSPError(f"{root}: no such file or folder; check the path.")
        for path in walk(root):
            below = path.relative_to(root) if path != root else Path(path.name)
            name = (below if suffixes or path.is_dir() else below.with_suffix("")).as_posix()
            if found.get(name, path) != path:
                name = path.absolute().as_posix()
            found[name] = path
    return sorted(found.items())


def default_held_out(names: Sequence[str]) -> list[str]:
    """Returns the names of every fifth clip, or of the last clip if there are fewer than five."""
    return list(names[len(names) % 5 // 2 :: 5] if len(names) >= 5 else names[-1:])


def split_clips(clips: Sequence[Clip], held_out: Sequence[str] | None) -> tuple[list[Clip], list[Clip]]:
    """Divides clips into those to train on and those to validate on.

    Args:
        clips: the clips of an index.
        held_out: names of the clips to validate on; ``None`` for every fifth clip, or the last fifth of a
            single clip.

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
        raise RLSPError("every clip is held out for validation; leave at least one to train on.")
    return training, [clip for clip in clips if clip.name in held_out]


def _walk(path: Path) -> Iterable[Path]:
    """Yields the clips below a path."""
    if path.is_file():
        if path.suffix.lower() in VIDEO_SUFFIXES:
            yield path
        return
    if not path.is_dir():
        return  # for example a broken link
    if path.is_symlink() and path.parent.resolve().is_relative_to(path.resolve()):
        return  # a link to a folder above it
    if (path / CARD).is_file():
        yield path
        return
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    if any(entry.suffix.lower() in IMAGE_SUFFIXES for entry in entries):
        yield path
    for entry in entries:
        yield from _walk(entry)


def _remove_leftovers(cache: Path) -> None:
    """Removes unfinished clips of processes that were killed."""
    for folder in cache.glob(".*.part"):
        if folder.is_symlink() or not folder.is_dir():
            continue
        with contextlib.suppress(ValueError, IndexError, ProcessLookupError, PermissionError):
            os.kill(int(folder.name.split(".")[2].split("-")[0]), 0)
            continue
        if next(others_in(folder, OURS), None) is None:
            remove_files(folder, OURS)
