"""Pictures of a moment before and after, and estimates of time and size.

They are computed in the page's own process, where the network stays loaded; in 8 bits in another one, since
what TensorFlow needs for these makes float32 slower on some processors.
"""

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.load import load_step
from rlsp_tf.inference.step import Step
from rlsp_tf.system.backends import environment_for
from rlsp_tf.ui.choices import Order
from rlsp_tf.ui.uploads import Upload, called
from rlsp_tf.upscaling.estimate import Estimate, estimate
from rlsp_tf.upscaling.preview import Moment, preview_frame
from rlsp_tf.upscaling.upscale import Recipe

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
        self._process: ProcessPoolExecutor | None = None
        # The moment is kept for close-ups and other sizes; it may be large.
        self._moment = functools.lru_cache(maxsize=1)(functools.partial(self._compute, _moment))

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
            return self._compute(_estimate, upload.source, order.model, order.precision, target, order.recipe)

    def _compute(
        self, function: Callable[..., Any], source: Path, model: str, precision: str, *arguments: Any
    ) -> Any:
        """Calls a function in the process that computes in a precision."""
        if precision != "int8":
            return function(source, model, precision, *arguments)
        if self._process is None:
            spawn = multiprocessing.get_context("spawn")
            self._process = ProcessPoolExecutor(1, mp_context=spawn, initializer=_end_with_the_page)
        try:
            with environment_for(precision):  # it is started when it gets work
                work = self._process.submit(function, source, model, precision, *arguments)
            return work.result()
        except BrokenProcessPool as error:
            self._process = None
            raise RLSPError(
                "the process that looks has ended unexpectedly, perhaps for want of memory; close other "
                "programs, and try again."
            ) from error


@functools.lru_cache(maxsize=2)
def _step(model: str, precision: str) -> Step:
    """Loads a network, which takes seconds, once for all looks."""
    return load_step(model, precision=precision)


def _moment(source: Path, model: str, precision: str, at: float) -> Moment:
    return preview_frame(source, _step(model, precision), at=at)


def _estimate(source: Path, model: str, precision: str, target: Path, recipe: Recipe) -> Estimate:
    return estimate(source, target, _step(model, precision), recipe)


def _end_with_the_page() -> None:
    """Makes this process end when the page does, however that ends, and not before."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    page = multiprocessing.parent_process()

    def wait() -> None:
        if page is not None:
            page.join()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


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
