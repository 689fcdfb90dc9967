"""Making a clip ready for training: decoded, halved, blurred, searched for scene cuts; once.

The blur of the degradation commutes with cropping: a frame that is blurred as a whole gives the low
resolution of every crop by taking every ``scale``-th pixel, from any pixel on. So training neither
decodes nor blurs.
"""

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from rlsp_tf.errors import RLSPError
from rlsp_tf.media.frames import FrameSource
from rlsp_tf.media.open import VideoSource, open_source
from rlsp_tf.media.pixel_formats import rgb8_from_planes
from rlsp_tf.pixels.color import PAPER_WEIGHTS
from rlsp_tf.pixels.degradation import SIGMA, degrade
from rlsp_tf.system.files import atomic_folder
from rlsp_tf.training.clips.clip import CARD, CELL, OURS, Halving, open_clip

VERSION = 2
"""Part of the key of a cached clip: to be raised when the same source would give other arrays."""
CUT = 0.1 * 255
"""A cut is where the mean change of luma rises or falls by this much, and is as large: in grey levels, the
criterion and default of FFmpeg's filter ``scdet``."""
CHUNK = 16
LOSSY_IMAGES = (".jpg", ".jpeg", ".webp")


def prepare_clip(source: Path, cache: Path, *, scale: int, halve: Halving, notes: list[str]) -> Path:
    """Makes a clip ready, unless the cache has it from this very source with these options.

    Args:
        source: a video file or a folder of images.
        cache: an existing folder.
        scale: of the network to be trained.
        halve: see :func:`rlsp_tf.training.clips.index.index_clips`.
        notes: gets sentences about what was left out.

    Returns:
        The folder of the clip, for :func:`rlsp_tf.training.clips.clip.open_clip`.

    Raises:
        RLSPError: if the source cannot be decoded or the cache not be written.
    """
    files = sorted(path for path in source.iterdir() if path.is_file()) if source.is_dir() else [source]
    identity = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    key = hashlib.sha256(json.dumps([VERSION, identity, scale, halve]).encode()).hexdigest()[:16]
    folder = cache / f"{source.stem.replace('.', '_')}-{key}"
    if folder.is_dir():
        try:
            open_clip(folder)
            return folder
        except RLSPError:
            pass  # damaged: made anew
    with open_source(source) as opened:
        reader = _Clip(opened)
        halved = halve == "always" or (halve == "auto" and reader.lossy)
        _check_space(reader, halved, cache)
        with atomic_folder(folder, force=True, ours=OURS) as part:
            shape, cuts = _write_arrays(reader, part, scale, halved)
            if reader.announced and shape[0] < reader.announced:
                notes.append(f"{source}: is truncated; {shape[0]} of {reader.announced} frames are used.")
            card = {
                "source": str(source),
                "sha256": _sha256(files),
                "shape": shape,
                "scale": scale,
                "halved": halved,
                "cuts": cuts,
            }
            (part / CARD).write_text(json.dumps(card, indent=1), "utf-8")
    return folder


class _Clip:
    """The frames of a clip in RGB of 8 bits, by the reader that upscaling has, and what preparing them asks.

    Args:
        source: an open clip.

    Attributes:
        announced: how many frames the file says that it has, 0 if it does not.
        lossy: whether its format loses something.
    """

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self.path = source.path
        self.height, self.width = source.height, source.width
        if isinstance(source, VideoSource):
            stream = source.container.streams[source.stream_index]
            self.announced = int(stream.frames)
            self.lossy = bool(stream.codec_context.codec.lossy)
        else:
            self.announced = source.frames or 0
            files = source.path.iterdir() if source.path.is_dir() else [source.path]
            self.lossy = any(file.suffix.lower() in LOSSY_IMAGES for file in files)

    def __iter__(self) -> Iterator[np.ndarray]:
        source = self._source
        for frame in source:
            if source.color:
                yield rgb8_from_planes(frame.planes, source.color)
            else:
                (rgb,) = frame.planes
                yield rgb if rgb.dtype == np.uint8 else np.rint(rgb / 257).astype(np.uint8)
        if isinstance(source, VideoSource) and source.is_damaged_within:
            raise RLSPError(f"{self.path}: is damaged; remove it or make it again.")


def _write_arrays(
    reader: _Clip, folder: Path, scale: int, halved: bool
) -> tuple[tuple[int, int, int], list[int]]:
    """Writes the arrays of a :class:`rlsp_tf.training.clips.clip.Clip`; gives their shape and the cuts."""

    def work(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hr = halve_frame(frame) if halved else frame
        return hr, degrade(hr, scale=1, sigma=SIGMA * scale)

    shape: tuple[int, int] | None = None
    count, cuts = 0, []
    frames = iter(reader)
    with (
        (folder / "hr.raw").open("wb") as hr_file,
        (folder / "blurred.raw").open("wb") as blurred_file,
        (folder / "detail.raw").open("wb") as detail_file,
        (folder / "motion.raw").open("wb") as motion_file,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        while chunk := list(itertools.islice(frames, CHUNK)):
            for hr, blurred in pool.map(work, chunk):
                luma = blurred[::scale, ::scale] @ np.asarray(PAPER_WEIGHTS, np.float32) + 16
                if shape is None:
                    shape = hr.shape[:2]
                    if min(luma.shape) < CELL:
                        raise RLSPError(f"{reader.path}: frames of {shape[1]}x{shape[0]} are too small.")
                    before, before_that = luma, 0.0
                elif hr.shape[:2] != shape:
                    raise RLSPError(f"{reader.path}: the frame size changes within the clip; split it there.")
                change = np.abs(luma - before)
                mean = float(change.mean())
                if min(mean, abs(mean - before_that)) >= CUT:
                    cuts.append(count)
                hr_file.write(hr.tobytes())
                blurred_file.write(blurred.tobytes())
                detail_file.write(_mean_of_cells(_slope(luma)).tobytes())
                motion_file.write(_mean_of_cells(change).tobytes())
                before, before_that = luma, mean
                count += 1
    if shape is None:
        raise RLSPError(f"{reader.path}: holds no frame; remove it or make it again.")
    return (count, *shape), cuts


def halve_frame(frame: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels, rounded half up; an odd last row or column is dropped.

    Args:
        frame: uint8 ``(H, W, 3)``.
    """
    height, width = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2
    wide = frame[:height, :width].astype(np.uint16)
    rows = wide[::2] + wide[1::2]
    return ((rows[:, ::2] + rows[:, 1::2] + 2) >> 2).astype(np.uint8)


def _slope(luma: np.ndarray) -> np.ndarray:
    down = np.abs(np.diff(luma, axis=0, append=luma[-1:]))
    return down + np.abs(np.diff(luma, axis=1, append=luma[:, -1:]))


def _mean_of_cells(image: np.ndarray) -> np.ndarray:
    rows, columns = image.shape[0] // CELL, image.shape[1] // CELL
    cells = image[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL)
    return cells.mean(axis=(1, 3), dtype=np.float32)


def _check_space(reader: _Clip, halved: bool, cache: Path) -> None:
    needed = reader.announced * reader.height * reader.width * 6 // (4 if halved else 1)
    free = shutil.disk_usage(cache).free
    if needed > free:
        raise RLSPError(
            f"{reader.path}: takes {needed / 1e9:.2f} GB, but {cache} has {free / 1e9:.2f} GB free; "
            "free some space or give another --cache."
        )


def _sha256(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        if len(files) > 1:
            digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
