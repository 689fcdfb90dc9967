"""Upscales a stream of frames in colour, in memory that does not depend on the length of the clip."""

import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import keras
import numpy as np

from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.color_path import ChromaGeometry, ColorPath, SetAside
from rlsp_tf.inference.divergence import DivergenceWarning, Watch, divergence_notes, is_far
from rlsp_tf.inference.recurrent_stream import RecurrentStream
from rlsp_tf.inference.step import Step
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.pixels.color import ColorSpec


class PreparedFrame(NamedTuple):
    """A frame as the network takes it, and what is needed later to give the result its colour.

    Attributes:
        rgb: float32 ``(1, H, W, 3)``, 0..255.
        aside: the part of the frame that bypasses the network.
        path: the :class:`rlsp_tf.inference.color_path.ColorPath` that converts this frame.
    """

    rgb: Any
    aside: SetAside
    path: ColorPath


@dataclass(frozen=True)
class DeferredFrame:
    """An upscaled frame that has no colour yet. Call it to convert it to its target colour format.

    Attributes:
        prepared: the frame as the network took it.
        output: float32 ``(1, scale*H, scale*W, C)``, the output of the network.
        config: the network's :class:`rlsp_tf.RLSPConfig`.
        planar: bool, whether to return planes instead of RGB.
    """

    prepared: PreparedFrame
    output: Any
    config: RLSPConfig
    planar: bool

    def __call__(self) -> Any:
        """Returns the frame as :meth:`StreamingUpscaler.push` does."""
        path = self.prepared.path
        planes = path.leave(self.output, self.prepared.aside)
        return planes if self.planar else planes[0]

    def is_far(self) -> bool:
        """Returns whether the output is too far from the input to show the same picture."""
        return is_far(self.output, self.prepared.rgb, self.config)


class StreamingUpscaler:
    """Upscales one frame after the other: luma by the network, chroma by cubic interpolation.

    Results lag one frame behind (``frames_after`` of the model). Frames are RGB by default. With ``source``
    or ``target`` they are the planes of a video instead; its matrix, range and chroma siting are honoured
    without any rounding between input and output.

    Args:
        model: a Keras model from :func:`rlsp_tf.load_model`, or a step from
            :func:`rlsp_tf.inference.load.load_step`. A network with RGB output makes chroma, too.
        chroma: ``"aligned"`` interpolates chroma at the positions of the network's luma. ``"authors"``
            reproduces the authors' RGB frames, in which chroma is 1.5 pixels off (at scale 4) and all planes
            are rounded to 8 bits on the way.
        source: :class:`rlsp_tf.pixels.color.ColorSpec` of the frames pushed if they are ``(y, cb, cr)``
            planes; ``None`` for RGB.
        target: :class:`rlsp_tf.pixels.color.ColorSpec` of the frames returned if they are to be planes;
            ``None`` for RGB.
        warm_start: int, number of frames after the first that the network sees in reverse order before a clip
            or shot begins; as for :class:`rlsp_tf.RLSP`.

    Attributes:
        diverged: number of the frame of the clip from which on the result is so far from the input that the
            weights must have diverged; ``None`` if there is none. It is also told by a
            :class:`rlsp_tf.inference.divergence.DivergenceWarning`, once in a clip.

    Raises:
        ValueError: if ``chroma`` is unknown, or ``target`` has another matrix or range than ``source``.
    """

    def __init__(
        self,
        model: keras.Model | Step,
        *,
        chroma: ChromaGeometry = "aligned",
        source: ColorSpec | None = None,
        target: ColorSpec | None = None,
        warm_start: int = 0,
    ) -> None:
        if chroma not in ("aligned", "authors"):
            raise ValueError(f'chroma must be "aligned" or "authors", not {chroma!r}')
        if source and target and (source.matrix, source.full_range) != (target.matrix, target.full_range):
            raise ValueError("target must have the matrix and the range of source")
        self._stream = RecurrentStream(model, warm_start=warm_start)
        self._watch, self._finished = Watch(), 0
        self._chroma: ChromaGeometry = chroma
        self._source, self._target = source, target
        self.reset()

    def reset(self) -> None:
        """Forgets the clip: the next frame is the first of another one, of any size."""
        self._stream.reset()
        self._path: ColorPath | None = None
        self._form: tuple[Any, ...] = ()
        self._waiting: deque[PreparedFrame] = deque()

    @property
    def diverged(self) -> int | None:
        return self._watch.since

    def push(self, frame: np.ndarray | tuple[np.ndarray, ...]) -> list[Any]:
        """Takes the next frame and returns the upscaled frames that are ready.

        Args:
            frame: RGB ``(H, W, 3)``, uint8 or uint16, over the full range of the type; or, with ``source``,
                planes ``(y, cb, cr)`` in its depth and subsampling.

        Returns:
            A list of frames, usually one: RGB ``(scale*H, scale*W, 3)`` in the type of ``frame`` (uint8 where
            planes were pushed); or, with ``target``, planes in its depth and subsampling.

        Raises:
            RLSPError: if the frame has an unsupported type or shape, or another type or shape than the
                frames before it.
        """
        return list(map(self._finish, self.advance(self.enter(frame))))

    def enter(self, frame: np.ndarray | tuple[np.ndarray, ...]) -> PreparedFrame:
        """Converts a frame to what the network takes; first of the three parts of :meth:`push`.

        Each part may run in a thread of its own, so that the network does not wait for colour. The other two
        are :meth:`advance`, called in the same order, and the call of the :class:`DeferredFrame` that it
        yields.

        Args:
            frame: a frame as for :meth:`push`.

        Raises:
            RLSPError: as :meth:`push` does.
        """
        planes = (frame,) if isinstance(frame, np.ndarray) else tuple(frame)
        form = tuple((plane.dtype, plane.shape) for plane in planes)
        if form != self._form:
            if self._form:
                sizes = f"from {_size_of(self._form)} to {_size_of(form)}"
                raise RLSPError(f"the frame size changes {sizes} within the clip; split it there.")
            self._check(planes)
            self._form = form
            self._watch, self._finished = Watch(), 0
            # Every frame size has its own graph, since the matrices in it and all shapes depend on the size.
            height, width = planes[0].shape[:2]
            self._path = _color_path(
                height,
                width,
                self._stream.config.scale,
                source=self._source,
                target=self._target,
                geometry=self._chroma,
                bits=16 if self._source is None and planes[0].dtype == np.uint16 else 8,
                output=self._stream.config.output,
            )
        assert self._path is not None
        rgb, aside = self._path.enter(planes)
        return PreparedFrame(rgb, aside, self._path)

    def advance(self, frame: PreparedFrame | None) -> Iterator[DeferredFrame | None]:
        """Runs the network; second of the three parts of :meth:`push`, and of :meth:`end_shot`.

        Each frame is computed only when it is asked for. Take all of them before the next call.

        Args:
            frame: what :meth:`enter` returned, or ``None`` at the end of a shot.

        Yields:
            Upscaled frames that have no colour yet; ``None`` for a frame that a
            :class:`rlsp_tf.inference.resumed.ResumedStep` skips.
        """
        if frame is None:
            outputs = self._stream.flush()
        else:
            self._waiting.append(frame)
            outputs = self._stream.push(frame.rgb)
        # With a loop, its variable would keep an output in memory until the next one is computed.
        yield from map(self._deferred, outputs)

    def hold(self) -> Iterator[DeferredFrame | None]:
        """Yields what waits for a future frame, as if the latest frame stayed; the shot goes on.

        It is for pictures that stand still: more frames like the latest one need not be given.

        Yields:
            Frames as :meth:`advance` does.
        """
        yield from map(self._deferred, self._stream.hold())

    def end_shot(self) -> list[Any]:
        """Ends the shot: returns the frames that were still waiting for a future one.

        The next frame begins another shot.

        Returns:
            A list of frames as :meth:`push` returns them.
        """
        return list(map(self._finish, self.advance(None)))

    def flush(self) -> list[Any]:
        """Ends the clip: returns the frames that were still waiting for a future one, and resets.

        Returns:
            A list of frames as :meth:`push` returns them.
        """
        frames = self.end_shot()
        before = self.diverged
        self._watch.end()
        self._warn(before)
        self.reset()
        return frames

    def _check(self, planes: tuple[np.ndarray, ...]) -> None:
        """Raises an RLSPError if a frame is not of a supported type and shape."""
        shapes = ", ".join(f"{plane.dtype} {plane.shape}" for plane in planes)
        if self._source is None:
            plane = planes[0]
            valid = len(planes) == 1 and plane.ndim == 3 and plane.shape[2] == 3 and plane.size > 0
            if not valid or plane.dtype not in (np.uint8, np.uint16):
                raise RLSPError(f"a frame must be uint8 or uint16 of shape (height, width, 3), not {shapes}.")
            return
        across, down = self._source.subsampling
        height, width = planes[0].shape[:2]
        chroma_shape = (-(-height // down), -(-width // across))
        if [plane.shape for plane in planes[1:]] != [chroma_shape] * 2 or not planes[0].size:
            raise RLSPError(
                f"a frame must be planes (y, cb, cr), chroma {across}x{down} times smaller, not {shapes}."
            )

    def _finish(self, frame: DeferredFrame | None) -> Any:
        """Gives a frame its colour, and watches whether the network diverges."""
        assert frame is not None  # only a ResumedStep skips frames, and nobody pushes frames through one
        before = self.diverged
        self._watch.look(self._finished, frame.is_far())
        self._warn(before)
        self._finished += 1
        return frame()

    def _warn(self, before: int | None) -> None:
        if before is None:
            for note in divergence_notes("the clip", self.diverged):
                warnings.warn(note, DivergenceWarning, stacklevel=4)

    def _deferred(self, output: Any | None) -> DeferredFrame | None:
        frame = self._waiting.popleft()
        if output is None:
            return None
        return DeferredFrame(frame, output, self._stream.config, self._target is not None)


# Clips of the same size share their graphs: making one takes longer than upscaling a few frames.
_color_path = lru_cache(maxsize=8)(ColorPath)


def _size_of(form: tuple[Any, ...]) -> str:
    """Returns the size of frames of a form, as messages call it."""
    (_, (height, width, *_)), *_ = form
    return f"{width}x{height}"
