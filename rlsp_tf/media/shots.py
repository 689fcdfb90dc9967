"""Divides a clip into shots at its scene cuts, frame by frame as the clip is read.

The hidden state of the network must be reset at every cut, or it would smear the old shot over the first
frames of the new one. The cuts are found by PySceneDetect. Its adaptive detector compares each change
between frames with the changes around it, so that a fast pan does not count as a cut.
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
from rlsp_tf.media.repeats import STILL

AROUND = 2
"""Frames before and after a change that it is compared with. Cuts are found so many frames late."""
RATIO = 2.0
"""A cut is a change that is this many times as large as the changes around it. The library's default of 3
misses cuts within fast motion. A false positive costs little, since the new start is warmed up with the
frames that follow."""
LARGEST = 135
"""Most rows of the reduced frames that the detector sees."""

Item = TypeVar("Item")


class CutDetector:
    """Finds the frames that begin a shot, each ``AROUND`` frames late.

    Args:
        depth: bits per sample of the frames.
    """

    def __init__(self, depth: int = 8) -> None:
        FrameTimecode, AdaptiveDetector = _scenedetect()
        # All lengths are in frames, whatever the clip's frame rate, so any rate will do.
        self._detector = AdaptiveDetector(
            adaptive_threshold=RATIO, window_width=AROUND, min_scene_len=2 * AROUND, luma_only=True
        )
        self._time = lambda index: FrameTimecode(index, fps=25.0)
        self._shift = max(0, depth - 8)
        self._count = 0

    def push(self, frame: Frame) -> int | None:
        """Takes the next frame. If it reveals a cut, returns the index of the frame that begins the shot."""
        luma = frame.planes[0]
        every = max(1, luma.shape[0] // LARGEST)
        luma = luma[::every, ::every]
        if luma.ndim == 3:  # RGB: green is a good enough approximation of luma
            luma = luma[..., 1]
        if luma.dtype != np.uint8:
            luma = (luma >> (8 if frame.planes[0].ndim == 3 else self._shift)).astype(np.uint8)
        grey = np.repeat(luma[..., None], 3, axis=-1)
        found = self._detector.process_frame(self._time(self._count), grey)
        self._count += 1
        return found[0].frame_num if found else None


@functools.cache
def _scenedetect() -> tuple[Any, Any]:
    """Imports ``FrameTimecode`` and ``AdaptiveDetector`` of PySceneDetect, when they are first needed.

    Importing OpenCV takes a while. Importing the whole package would, on top of that, run any program called
    ``ffmpeg`` to see whether it exists, so this imports only the modules that are needed.
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
            del sys.modules["scenedetect"]  # so that others can still import the whole package


def detect_shots(frames: Iterable[Frame], depth: int = 8) -> Iterator[tuple[Frame, bool]]:
    """Marks the frames that begin a shot.

    Frames that are marked as repeats (:mod:`rlsp_tf.media.repeats`) begin no shot, and the changes around
    them are those between the pictures that differ. Otherwise, every change in animation that shows a drawing
    for three frames would be compared with no change at all, and would look like a cut.

    Args:
        frames: the frames of a clip.
        depth: bits per sample of the frames.

    Yields:
        ``(frame, begins)`` for every frame, ``AROUND`` frames late; while a picture stands still, at once.
        The first frame of the clip begins a shot.
    """
    detector = CutDetector(depth)
    cuts = {0}
    waiting: deque[tuple[Frame, int | None]] = deque()
    pushed = repeats = 0
    picture: Frame | None = None

    def push(frame: Frame) -> int:
        nonlocal pushed
        if (cut := detector.push(frame)) is not None:
            cuts.add(cut)
        pushed += 1
        return pushed - 1

    for frame in frames:
        if frame.planes:
            waiting.append((frame, push(frame)))
            picture, repeats = frame, 1
        else:
            waiting.append((frame, None))
            repeats += 1
            if repeats == STILL and picture is not None:
                # Whether the picture begins a shot shall not stay open until the next one comes.
                for _ in range(AROUND + 1):
                    push(picture)
        while waiting and ((number := waiting[0][1]) is None or pushed - number > AROUND + 1):
            yield waiting.popleft()[0], number in cuts
    for frame, number in waiting:
        yield frame, number in cuts


def listed_shots(items: Iterable[Item], cuts: frozenset[int]) -> Iterator[tuple[Item, bool]]:
    """Yields every item, and whether it begins a shot: the first one does, and those listed in ``cuts``."""
    for index, item in enumerate(items):
        yield item, index == 0 or index in cuts


def read_cuts(path: Path) -> frozenset[int]:
    """Reads the numbers of the frames that begin a shot from a text file.

    Args:
        path: the file. Frames are counted from 0; spaces, line breaks, commas or semicolons separate them.

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
        raise RLSPError(f"{path}: {wrong[0][:40]!r} is not a frame number; frames are counted from 0.")
    return frozenset(map(int, words))
