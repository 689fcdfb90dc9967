"""Shots: the stretches of a clip between scene cuts, found while its frames pass by.

A network that remembers smears what it remembers over the first frames of a new shot, so each has to begin
anew. PySceneDetect finds where: it is the library that is made for it, and its adaptive detector compares
a change with those around it, so that fast pans are no cuts.
"""

import functools
import importlib.util
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rlsp_tf.errors import RLSPError
from rlsp_tf.media.frames import Frame

AROUND = 2
"""Frames on either side with which a change is compared; so many are looked at ahead."""
RATIO = 2.0
"""How many times as large as changes around it a change has to be. The library's 3 misses cuts within fast
motion; a cut that is none costs little, since the new start is warmed by the frames that follow."""
LARGEST = 135
"""Rows to which frames are reduced for this, by leaving out pixels."""

Item = TypeVar("Item")


class CutDetector:
    """Finds the first frames of shots, ``AROUND`` frames late.

    Args:
        depth: bits of the samples of frames.
    """

    def __init__(self, depth: int = 8) -> None:
        FrameTimecode, AdaptiveDetector = _scenedetect()
        # In frames: what matters is how many the network has seen.
        self._detector = AdaptiveDetector(
            adaptive_threshold=RATIO, window_width=AROUND, min_scene_len=2 * AROUND, luma_only=True
        )
        self._time = lambda index: FrameTimecode(index, fps=25.0)
        self._shift = max(0, depth - 8)
        self._count = 0

    def push(self, frame: Frame) -> int | None:
        """Takes the next frame; gives the index of a frame that begins a shot, if one is found now."""
        luma = frame.planes[0]
        every = max(1, luma.shape[0] // LARGEST)
        luma = luma[::every, ::every]
        if luma.ndim == 3:  # RGB, in which green is most of luma
            luma = luma[..., 1]
        if luma.dtype != np.uint8:
            luma = (luma >> (8 if frame.planes[0].ndim == 3 else self._shift)).astype(np.uint8)
        grey = np.repeat(luma[..., None], 3, axis=-1)
        found = self._detector.process_frame(self._time(self._count), grey)
        self._count += 1
        return found[0].frame_num if found else None


@functools.cache
def _scenedetect() -> tuple[Any, Any]:
    """``FrameTimecode`` and ``AdaptiveDetector`` of PySceneDetect; late, because OpenCV takes a while.

    Importing the package itself would import its module that cuts files by FFmpeg, too, which runs whatever
    is called ``ffmpeg`` to see whether it is there. So only the modules that are needed are imported.
    """
    loaded = "scenedetect" in sys.modules
    if not loaded:
        spec = importlib.util.find_spec("scenedetect")
        if spec is None:
            raise ModuleNotFoundError("No module named 'scenedetect'", name="scenedetect")
        sys.modules["scenedetect"] = importlib.util.module_from_spec(spec)
    try:
        from scenedetect.common import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector

        return FrameTimecode, AdaptiveDetector
    finally:
        if not loaded:
            del sys.modules["scenedetect"]  # for whoever wants all of it


def detect_shots(frames: Iterable[Frame], depth: int = 8) -> Iterator[tuple[Frame, bool]]:
    """Every frame, and whether it begins a shot; ``AROUND`` frames later than they are given.

    Args:
        frames: of a clip.
        depth: bits of their samples.

    Yields:
        ``(frame, begins)``; the first frame of the clip counts as the first of a shot.
    """
    detector = CutDetector(depth)
    cuts = {0}
    waiting: deque[Frame] = deque()
    given = 0
    for frame in frames:
        waiting.append(frame)
        if (cut := detector.push(frame)) is not None:
            cuts.add(cut)
        if len(waiting) > AROUND + 1:
            yield waiting.popleft(), given in cuts
            given += 1
    for frame in waiting:
        yield frame, given in cuts
        given += 1


def listed_shots(items: Iterable[Item], cuts: frozenset[int]) -> Iterator[tuple[Item, bool]]:
    """Every item, and whether it is the first or its index is listed."""
    for index, item in enumerate(items):
        yield item, index == 0 or index in cuts


def read_cuts(path: Path) -> frozenset[int]:
    """The cuts in a file: numbers of the frames that begin a shot, counted from 0, anything between them.

    Raises:
        RLSPError: if the file cannot be read or holds anything else.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RLSPError(
            f"{path}: cannot be read; give a text file with the numbers of the frames that begin a shot."
        ) from error
    words = [word for word in re.split(r"[\s,;]+", text) if word]
    if wrong := [word for word in words if not re.fullmatch(r"\d{1,18}", word)]:
        raise RLSPError(f"{path}: {wrong[0][:40]!r} is no frame number; frames are counted from 0.")
    return frozenset(map(int, words))
