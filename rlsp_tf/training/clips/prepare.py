"""Prepares clips for training: decodes, halves and blurs their frames, and finds their scene cuts.

Blurring a whole frame and then cropping it gives the same pixels as the other way round, so the low
resolution of any crop is every ``scale``-th pixel of the blurred frame. Training neither decodes nor blurs.
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
from rlsp_tf.media.frames import Frame, FrameSource
from rlsp_tf.media.open import VideoSource, open_source
from rlsp_tf.media.pixel_formats import eight_bit_rgb, rgb8_from_planes
from rlsp_tf.media.shots import CutDetector
from rlsp_tf.pixels.color import PAPER_WEIGHTS
from rlsp_tf.pixels.degradation import SIGMA, degrade
from rlsp_tf.system.files import atomic_folder
from rlsp_tf.training.clips.clip import CARD, CELL, OURS, Halving, cached_name, open_clip

VERSION = 3
"""Part of the key of a cached clip. Raise it when the same source would give other arrays or cuts."""
CHUNK = 16
"""Frames that are decoded before they are blurred in several threads."""
LOSSY_IMAGES = (".jpg", ".jpeg", ".webp")
"""Suffixes of image formats that count as lossy."""


def prepare_clip(source: Path, cache: Path, *, scale: int, halve: Halving, notes: list[str]) -> Path:
    """Prepares a clip unless it is in the cache already.

    Args:
        source: a video file or a folder of images.
        cache: folder of the cache, which must exist.
        scale: upscaling factor of the network to be trained.
        halve: whether frames are reduced to half their size; see
            :func:`rlsp_tf.training.clips.index.index_clips`.
        notes: list to which sentences about missing frames are appended.

    Returns:
        The folder of the clip, for :func:`rlsp_tf.training.clips.clip.open_clip`.

    Raises:
        RLSPError: if the source cannot be decoded, or the cache cannot be written.
    """
    sha256 = _sha256(source)
    folder = cache / cached_name(source, VERSION, sha256, source.suffix, scale, halve)
    if folder.is_dir():
        try:
            open_clip(folder)
            return folder
        except RLSPError:
            pass  # it is damaged, so it is prepared again
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
                "sha256": sha256,
                "shape": shape,
                "scale": scale,
                "halved": halved,
                "cuts": cuts,
            }
            (part / CARD).write_text(json.dumps(card, indent=1), "utf-8")
    return folder


class _Clip:
    """Reads the frames of a clip as 8-bit RGB.

    Args:
        source: the open clip.

    Attributes:
        path: path of the clip.
        height, width: size of the frames in pixels.
        announced: number of frames according to the file; 0 if it does not say.
        lossy: whether the format is lossy.
    """

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self.path = source.path
        self.height, self.width = source.height, source.width
        if isinstance(source, VideoSource):
            stream = source.decoder.stream
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
                yield eight_bit_rgb(frame.planes, None)
        if isinstance(source, VideoSource) and source.decoder.is_damaged_within:
            raise RLSPError(f"{self.path}: is damaged; replace or remove it.")


def _write_arrays(
    reader: _Clip, folder: Path, scale: int, halved: bool
) -> tuple[tuple[int, int, int], list[int]]:
    """Writes the arrays of a :class:`rlsp_tf.training.clips.clip.Clip`; returns their shape and the cuts.

    Cuts are found as in upscaling, in the low-resolution frames.
    """

    def work(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hr = halve_frame(frame) if halved else frame
        return hr, degrade(hr, scale=1, sigma=SIGMA * scale)

    shape: tuple[int, int] | None = None
    count, cuts = 0, []
    detector = CutDetector()
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
                lr = np.ascontiguousarray(blurred[::scale, ::scale])
                luma = lr @ np.asarray(PAPER_WEIGHTS, np.float32) + 16
                if shape is None:
                    shape = hr.shape[:2]
                    if min(luma.shape) < CELL:
                        raise RLSPError(f"{reader.path}: frames of {shape[1]}x{shape[0]} are too small.")
                    before = luma
                elif hr.shape[:2] != shape:
                    raise RLSPError(f"{reader.path}: the frame size changes within the clip; split it there.")
                change = np.abs(luma - before)
                if (cut := detector.push(Frame((lr,)))) is not None:
                    cuts.append(cut)
                hr_file.write(hr.tobytes())
                blurred_file.write(blurred.tobytes())
                detail_file.write(_mean_of_cells(_slope(luma)).tobytes())
                motion_file.write(_mean_of_cells(change).tobytes())
                before = luma
                count += 1
    if shape is None:
        raise RLSPError(f"{reader.path}: holds no frame; replace or remove it.")
    return (count, *shape), cuts


def halve_frame(frame: np.ndarray) -> np.ndarray:
    """Reduces a frame to half its size by the means of 2x2 pixels, rounded half up.

    An odd last row or column is dropped.

    Args:
        frame: uint8 ``(H, W, 3)``.

    Returns:
        uint8 ``(H // 2, W // 2, 3)``.
    """
    height, width = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2
    wide = frame[:height, :width].astype(np.uint16)
    rows = wide[::2] + wide[1::2]
    return ((rows[:, ::2] + rows[:, 1::2] + 2) >> 2).astype(np.uint8)


def _slope(luma: np.ndarray) -> np.ndarray:
    """Returns the sum of the absolute differences from the pixels below and to the right."""
    down = np.abs(np.diff(luma, axis=0, append=luma[-1:]))
    return down + np.abs(np.diff(luma, axis=1, append=luma[:, -1:]))


def _mean_of_cells(image: np.ndarray) -> np.ndarray:
    """Returns the mean of each cell of ``CELL`` x ``CELL`` pixels, float32."""
    rows, columns = image.shape[0] // CELL, image.shape[1] // CELL
    cells = image[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL)
    return cells.mean(axis=(1, 3), dtype=np.float32)


def _check_space(reader: _Clip, halved: bool, cache: Path) -> None:
    """Raises an ``RLSPError`` if the arrays do not fit on the disk."""
    needed = reader.announced * reader.height * reader.width * 6 // (4 if halved else 1)
    free = shutil.disk_usage(cache).free
    if needed > free:
        raise RLSPError(
            f"{reader.path}: takes {needed / 1e9:.2f} GB, but {cache} has {free / 1e9:.2f} GB free; "
            "free some space or give another --cache."
        )


def _sha256(source: Path) -> str:
    """Returns the SHA-256 of a file's content, or of the names and contents of a folder's files."""
    files = sorted(path for path in source.iterdir() if path.is_file()) if source.is_dir() else [source]
    digest = hashlib.sha256()
    for path in files:
        if len(files) > 1:
            digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
