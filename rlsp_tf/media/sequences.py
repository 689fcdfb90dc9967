"""Data sets on disk: finds the sequences in a folder and reads their frames as 8-bit RGB."""

import re
from collections import deque
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import numpy as np

from rlsp_tf.errors import RLSPError
from rlsp_tf.media.frames import VIDEO_SUFFIXES, FrameSource
from rlsp_tf.media.images import is_grey, is_image
from rlsp_tf.media.pixel_formats import eight_bit_rgb


def find_sequences(path: str | PathLike[str]) -> dict[str, Path]:
    """Finds the sequences in a folder.

    A folder of images is one sequence. In any other folder, each subfolder and each video is a sequence.

    Args:
        path: the folder, or a single file.

    Returns:
        The path of each sequence by its name (without a file's suffix), in alphabetical order.

    Raises:
        RLSPError: if there are no sequences, or two have the same name.
    """
    path = Path(path)
    if path.is_file():
        return {path.stem: path}
    if not path.is_dir():
        raise RLSPError(f"{path}: no such file or folder; check the path.")
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    if any(is_image(entry) for entry in entries):
        return {path.name or path.resolve().name: path}
    sequences: dict[str, Path] = {}
    for entry in entries:
        if entry.is_dir() or entry.suffix.lower() in VIDEO_SUFFIXES:
            name = entry.name if entry.is_dir() else entry.stem
            if name in sequences:
                raise RLSPError(f"{entry}: {sequences[name].name} has the same name; rename one of them.")
            sequences[name] = entry
    if not sequences:
        raise RLSPError(
            f"{path}: holds no images, folders of images or videos ({', '.join(VIDEO_SUFFIXES)}); check the "
            "path."
        )
    return sequences


def rgb_frames(source: FrameSource) -> Iterator[np.ndarray]:
    """Reads the frames of a clip as 8-bit RGB.

    Args:
        source: the open clip.

    Yields:
        uint8 ``(source.height, source.width, 3)``.

    Raises:
        RLSPError: if a frame cannot be read, has another size, or is missing from numbered files.
    """
    if source.transparent:
        source.notes.append(f"{source.path}: transparency was dropped.")
    names: deque[str | None] = deque(maxlen=3)
    for index, frame in enumerate(source):
        names.append(frame.name)
        _check_numbers(source, [name for name in names if name])
        rgb = eight_bit_rgb(frame.planes, source.color)
        if rgb.shape[:2] != (source.height, source.width):
            raise RLSPError(
                f"{source.path}: frame {index} has another size than the first; split the clip there."
            )
        yield rgb


def _check_numbers(source: FrameSource, names: list[str]) -> None:
    """Raises an ``RLSPError`` if three successive names are numbered unevenly, such as 0007, 0008, 0010."""
    parts = [part for name in names if (part := re.fullmatch(r"(.*?)(\d+)(\D*)", name))]
    if len(parts) < 3 or len({part.group(1, 3) for part in parts}) > 1:
        return
    first, second, third = (int(part[2]) for part in parts)
    if third - second != second - first:
        raise RLSPError(
            f"{source.path}: the frames go {', '.join(names)}, so one is missing; put it back, or renumber "
            "them."
        )


def holds_luma(path: Path) -> bool:
    """Whether a clip consists of grey images, which hold luma. Videos never do.

    Raises:
        RLSPError: if some images of a folder are grey and some are not.
    """
    files = [path] if path.is_file() else [file for file in path.iterdir() if is_image(file)]
    grey = set()
    for file in files:
        if is_image(file):
            grey.add(is_grey(file))
    if len(grey) > 1:
        raise RLSPError(
            f"{path}: holds grey and coloured images; give a folder of luma or one of RGB frames."
        )
    return grey == {True}
