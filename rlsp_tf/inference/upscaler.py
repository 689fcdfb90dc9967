"""The network over a stream of frames, at a memory that does not depend on the length of the clip."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.color_path import ChromaGeometry, ColorPath, SetAside
from rlsp_tf.inference.divergence import is_far
from rlsp_tf.inference.recurrent_stream import RecurrentStream
from rlsp_tf.inference.step import Step
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.pixels.color import ColorSpec


class PreparedFrame(NamedTuple):
    """A frame as the network takes it, and what its colour needs later.

    Attributes:
        rgb: float32 ``(1, H, W, 3)``, 0..255.
        aside: what the network does not get of it; see :class:`rlsp_tf.inference.color_path.ColorPath`.
        path: of its colour.
    """

    rgb: tf.Tensor
    aside: SetAside
    path: ColorPath


@dataclass(frozen=True)
class DeferredFrame:
    """A frame that the network has made larger; to be called to get it with its colour.

    Attributes:
        entered: the frame as the network took it.
        output: what the network made of it.
        config: of the network.
        planar: whether the frame shall be planes.
    """

    entered: PreparedFrame
    output: tf.Tensor
    config: RLSPConfig
    planar: bool

    def __call__(self) -> Any:
        """The frame, as :meth:`StreamingUpscaler.push` gives it."""
        path = self.entered.path
        leave = path.leave_rgb if self.config.output == "rgb" else path.leave_luma
        planes = tuple(plane.numpy() for plane in leave(self.output, self.entered.aside))
        return planes if self.planar else planes[0]

    def is_far(self) -> bool:
        """Whether the output is too far from the input to show the same; see :func:`is_far`."""
        return is_far(self.output, self.entered.rgb, self.config)


class StreamingUpscaler:
    """Makes frames larger one after the other: luma by the network, chroma by interpolation.

    One frame of latency (``frames_after`` of the model). By default RGB in, RGB out; with ``source``
    or ``target`` frames are the planes of a video instead, and neither its matrix, nor its range, nor
    the siting of its chroma costs a rounding on the way.

    Args:
        model: as :func:`rlsp_tf.load_model` or :func:`rlsp_tf.inference.load.load_step` gives it. One with
            RGB output makes colour itself.
        chroma: ``"aligned"`` samples chroma where the network puts luma; ``"authors"`` as in the
            authors' RGB frames: 1.5 pixels off (at scale 4), all planes rounded to 8 bits on the way.
        source: the colour of pushed frames if they are ``(y, cb, cr)`` planes.
        target: the colour of returned frames if they shall be planes.
        warm_start: see :class:`RecurrentStream`.

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
        self._chroma: ChromaGeometry = chroma
        self._source, self._target = source, target
        self.reset()

    def reset(self) -> None:
        """Forgets the clip: the next frame is the first of another, of any size."""
        self._stream.reset()
        self._path: ColorPath | None = None
        self._form: tuple[Any, ...] = ()
        self._waiting: deque[PreparedFrame] = deque()

    def push(self, frame: np.ndarray | tuple[np.ndarray, ...]) -> list[Any]:
        """Takes the next frame, gives those that are ready.

        Args:
            frame: RGB ``(H, W, 3)``, uint8 or uint16, 0 to the type's largest number; or, with
                ``source``, the planes ``(y, cb, cr)`` in its depth and subsampling.

        Returns:
            Frames, mostly one: RGB ``(scale*H, scale*W, 3)`` in the type of ``frame`` (uint8 where
            planes were pushed); or, with ``target``, planes in its depth and subsampling.

        Raises:
            RLSPError: if the frame has a type or shape that it should not have, or other ones than
                the frames before it.
        """
        return list(map(_call, self.advance(self.enter(frame))))

    def enter(self, frame: np.ndarray | tuple[np.ndarray, ...]) -> PreparedFrame:
        """The first part of :meth:`push`: a frame as the network takes it.

        The parts may have a thread each, so that the network does not wait for colour: this one, frame after
        frame; :meth:`advance`, in the same order; and what that gives.

        Args:
            frame: as for :meth:`push`.

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
            # Every size has its own graph: the matrices in it and the shapes TensorFlow plans for.
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
        """The second part of :meth:`push`, and of :meth:`end_shot`: the network.

        All that is ready has to be taken before another frame is given, each computed when it is asked for.

        Args:
            frame: from :meth:`enter`; ``None`` at the end of a shot.

        Yields:
            Frames without their colour. ``None`` where a :class:`rlsp_tf.inference.resumed.ResumedStep`
            leaves one out.
        """
        if frame is None:
            outputs = self._stream.flush()
        else:
            self._waiting.append(frame)
            outputs = self._stream.push(frame.rgb)
        # Not in a loop, whose variable would keep every output until the next one is there.
        yield from map(self._unfinished, outputs)

    def end_shot(self) -> list[Any]:
        """Gives the frames that still waited for a future one. The next frame begins another shot.

        Returns:
            A list of frames as :meth:`push` gives them.
        """
        return list(map(_call, self.advance(None)))

    def flush(self) -> list[Any]:
        """As :meth:`end_shot`, and resets.

        Returns:
            A list of frames as :meth:`push` gives them.
        """
        frames = self.end_shot()
        self.reset()
        return frames

    def _check(self, planes: tuple[np.ndarray, ...]) -> None:
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

    def _unfinished(self, output: tf.Tensor | None) -> DeferredFrame | None:
        frame = self._waiting.popleft()
        if output is None:
            return None
        return DeferredFrame(frame, output, self._stream.config, self._target is not None)


# Clips of one size share the graphs, which take longer to make than to run on some frames.
_color_path = lru_cache(maxsize=8)(ColorPath)


def _call(frame: DeferredFrame | None) -> Any:
    assert frame is not None  # nothing is left out here
    return frame()


def _size_of(form: tuple[Any, ...]) -> str:
    (_, (height, width, *_)), *_ = form
    return f"{width}x{height}"
