"""Pairs the outputs of the network with the frames of a clip, and gives repeated frames the same output."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

from rlsp_tf.inference.upscaler import DeferredFrame, PreparedFrame, StreamingUpscaler
from rlsp_tf.media.frames import Frame
from rlsp_tf.media.repeats import STILL, mark_repeats
from rlsp_tf.media.shots import detect_shots, listed_shots

Repeats = Literal["copy", "compute"]
"""What repeated frames get: the output of the frame that they repeat, or one of their own."""


class Picture:
    """What the network made of a frame, for this frame and for those that repeat it.

    Args:
        deferred: the output of the network.

    Attributes:
        is_far: whether the output departs from the clip so far that the network has diverged.
    """

    def __init__(self, deferred: DeferredFrame) -> None:
        self._deferred: DeferredFrame | None = deferred
        self._large: Frame | None = None
        self.is_far = False

    def finished(self, frame: Frame) -> tuple[Frame, bool]:
        """Returns a frame with the output in its target colour format, or with what :meth:`keep` was given.

        Args:
            frame: the frame, without pixels.

        Returns:
            The frame, and whether these are the final pixels that were kept.
        """
        if self._large is not None:
            return replace(frame, planes=self._large.planes, alpha=self._large.alpha), True
        assert self._deferred is not None
        self.is_far = self._deferred.is_far()
        planes = self._deferred()
        # Free the network's output, which is large, before the caller waits for the encoder.
        self._deferred = None
        return replace(frame, planes=planes if isinstance(planes, tuple) else (planes,)), False

    def keep(self, frame: Frame) -> None:
        """Keeps the pixels of a frame for those that repeat it."""
        self._large = frame


class Output(NamedTuple):
    """Frames that are ready together.

    Attributes:
        frames: a frame and those that repeat it, without pixels.
        picture: what they show; ``None`` if the step of the network was skipped.
    """

    frames: list[Frame]
    picture: Picture | None


class Outputs:
    """Runs the network over the frames of a clip that are not repeated.

    For the network, the clip is the sequence of frames that differ: its window holds no frame twice, and its
    state stays while a picture is repeated. Take everything that a method yields before the next call.

    Args:
        upscaler: the network.
    """

    def __init__(self, upscaler: StreamingUpscaler) -> None:
        self._upscaler = upscaler
        self._waiting: deque[list[Frame]] = deque()
        self._last: Picture | None = None

    def add(self, frame: Frame, entered: PreparedFrame | None) -> Iterator[Output]:
        """Takes the next frame.

        Args:
            frame: the frame, without pixels.
            entered: its pixels as the network takes them; ``None`` if it repeats the frame before.
        """
        if entered is not None:
            self._waiting.append([frame])
            return map(self._paired, self._upscaler.advance(entered))
        if not self._waiting:
            return iter([Output([frame], self._last)])
        repeated = self._waiting[-1]
        repeated.append(frame)
        return map(self._paired, self._upscaler.hold()) if len(repeated) == STILL else iter(())

    def end_shot(self) -> Iterator[Output]:
        """Ends the shot: yields what still waits for a later frame."""
        return map(self._paired, self._upscaler.advance(None))

    def _paired(self, deferred: DeferredFrame | None) -> Output:
        self._last = None if deferred is None else Picture(deferred)
        return Output(self._waiting.popleft(), self._last)


def shots_of(
    frames: Iterable[Frame], depth: int, scene_cuts: Literal["auto", "off"] | frozenset[int], repeats: Repeats
) -> Iterator[tuple[Frame, bool]]:
    """Yields the frames of a clip, repeated ones without pixels, and whether each begins a shot.

    Args:
        frames: the frames of the clip.
        depth: bits per sample of the frames.
        scene_cuts: where shots begin, see :func:`rlsp_tf.upscaling.upscale.upscale`. A shot never begins with
            a frame that repeats the one before, but with the next one that does not.
        repeats: ``"compute"`` marks no frame as repeated.
    """
    if repeats == "copy":
        frames = mark_repeats(frames)
    if scene_cuts == "auto":
        yield from detect_shots(frames, depth)
        return
    begun = False
    for frame, begins in listed_shots(frames, frozenset() if scene_cuts == "off" else scene_cuts):
        begun |= begins
        yield frame, begun and bool(frame.planes)
        begun &= not frame.planes
