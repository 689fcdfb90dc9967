"""Pictures of a moment before and after, and estimates of time and size.

They are computed in the page's own process, where the network stays loaded.
"""

import functools
import os
import threading
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from rlsp_tf.inference.load import load_step
from rlsp_tf.inference.step import Step
from rlsp_tf.ui.choices import Order
from rlsp_tf.ui.uploads import Upload, called
from rlsp_tf.upscaling.estimate import Estimate, estimate
from rlsp_tf.upscaling.preview import Moment, preview_frame

CLOSE_UP = 0.3
"""Part of the width and of the height of a picture that a close-up shows, from 0 to 1."""


class Looks:
    """Computes pictures and estimates, one at a time.

    Args:
        folder: folder for the pictures.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        # A network takes seconds to load. The moment is kept for close-ups and other sizes; it may be large.
        self._step = functools.lru_cache(maxsize=2)(_load)
        self._moment = functools.lru_cache(maxsize=1)(self._compute)

    def pictures(
        self, upload: Upload, model: str, precision: str, at: float, size: tuple[int, int], *, close_up: bool
    ) -> tuple[tuple[Path, Path], float]:
        """Writes the pictures before and after.

        Args:
            upload: the clip.
            model, precision: the network, see :func:`rlsp_tf.inference.load.load_step`.
            at: seconds since the beginning of the clip.
            size: width and height of the result.
            close_up: whether to cut out the part that the network changes most.

        Returns:
            The pictures, and the time of their frame in seconds since the beginning of the clip.

        Raises:
            RLSPError: if the clip cannot be read.
        """
        with self._lock, called(upload.source, upload.title):
            moment = self._moment(upload.source, model, precision, at)
        pair = _resized(moment.before, size), _resized(moment.after, size)
        if close_up:
            rows, columns = _most_changed(*pair)
            pair = pair[0][rows, columns], pair[1][rows, columns]
        name = os.urandom(8).hex()
        paths = self._folder / f"{name}-before.jpg", self._folder / f"{name}-after.jpg"
        for picture, path in zip(pair, paths, strict=True):
            # Sharp edges of colour are part of what is looked at.
            Image.fromarray(picture).save(path, quality=95, subsampling=0)
        return paths, moment.seconds

    def estimate(self, upload: Upload, order: Order) -> Estimate:
        """Estimates the time and the size of an order.

        Args:
            upload: the clip.
            order: how it is to be upscaled.

        Raises:
            RLSPError: if the clip cannot be read, or the result could not be written.
        """
        target = self._folder / f"{os.urandom(8).hex()}.{order.suffix}"
        with self._lock, called(upload.source, upload.title):
            return estimate(upload.source, target, self._step(order.model, order.precision), order.recipe)

    def _compute(self, source: Path, model: str, precision: str, at: float) -> Moment:
        return preview_frame(source, self._step(model, precision), at=at)


def _load(model: str, precision: str) -> Step:
    return load_step(model, precision=precision)


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if picture.shape[1::-1] == size:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def _most_changed(before: np.ndarray, after: np.ndarray) -> tuple[slice, slice]:
    """Returns the rows and columns of the close-up in which two pictures differ most."""
    height, width = (max(1, round(CLOSE_UP * length)) for length in before.shape[:2])
    change = np.abs(after.astype(np.float32) - before).sum(2)
    # Sums over parts of this size by their upper left corners.
    sums = cv2.boxFilter(change, -1, (width, height), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    sums = sums[: before.shape[0] - height + 1, : before.shape[1] - width + 1]
    top, left = np.unravel_index(np.argmax(sums), sums.shape)
    return slice(top, top + height), slice(left, left + width)
