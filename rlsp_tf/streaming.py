"""The network over a stream of frames, at a memory that does not depend on the length of the clip."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rlsp_tf.chroma import ChromaGeometry, ColorPath, SetAside
from rlsp_tf.color import ColorSpec
from rlsp_tf.config import RLSPConfig
from rlsp_tf.divergence import is_far
from rlsp_tf.errors import RLSPError
from rlsp_tf.steps import KerasStep, Step


class Entered(NamedTuple):
    """A frame as the network takes it, and what its colour needs later.

    Attributes:
        rgb: float32 ``(1, H, W, 3)``, 0..255.
        aside: what the network does not get of it; see :class:`rlsp_tf.chroma.ColorPath`.
        path: of its colour.
    """

    rgb: tf.Tensor
    aside: SetAside
    path: ColorPath


@dataclass(frozen=True)
class Unfinished:
    """A frame that the network has made larger; to be called to get it with its colour.

    Attributes:
        entered: the frame as the network took it.
        output: what the network made of it.
        config: of the network.
        planar: whether the frame shall be planes.
    """

    entered: Entered
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
        """Whether it shows something else than what the network took; see :mod:`rlsp_tf.divergence`."""
        return is_far(self.output, self.entered.rgb, self.config)


class RecurrentStream:
    """The network over a stream of frames: what :class:`rlsp_tf.RLSP` gives for the whole clip.

    The first frame has itself as its past, the last one itself as its future. The output lags
    ``frames_after`` frames behind the input, and at the start of a clip ``warm_start`` more.

    Args:
        model: a model that holds an :class:`rlsp_tf.RLSP` layer, or an export of one.
        warm_start: frames after the first that are run backwards in time before the clip begins, so that its
            first frames find a state; see :class:`rlsp_tf.RLSP`.
    """

    def __init__(self, model: keras.Model | Step, *, warm_start: int = 0) -> None:
        self._step = KerasStep(model) if isinstance(model, keras.Model) else model
        self.config = self._step.config
        self._warm_start = warm_start
        self.reset()

    def reset(self) -> None:
        """Forgets the clip: the next frame is the first of another."""
        self._window: deque[tf.Tensor] = deque(maxlen=self.config.window)
        self._state: Any = None
        self._first: list[tf.Tensor] = []

    def push(self, frame: tf.Tensor) -> Iterator[tf.Tensor]:
        """Takes the next frame, gives those that are ready, each computed when it is asked for.

        All of them have to be taken before another frame is pushed. That a shot begins with several, which
        are large, so takes no more memory than one.

        Args:
            frame: float32 ``(B, H, W, 3)``, RGB 0..255, of one shape throughout the clip.

        Yields:
            Tensors ``(B, scale*H, scale*W, C)`` float32, as :class:`rlsp_tf.RLSPCell` gives: none, one, or
            after a warm start several.
        """
        if self._state is not None:
            yield from self._advance(frame)
            return
        self._first.append(frame)
        if len(self._first) > self._warm_start:
            yield from self._begin()

    def flush(self) -> Iterator[tf.Tensor]:
        """Gives the frames that still waited for a future one, and resets.

        Yields:
            As many tensors as :meth:`push` has withheld.
        """
        if self._first:
            yield from self._begin()
        if self._window:
            last = self._window[-1]
            for _ in range(self.config.frames_after):
                yield from self._advance(last)
        self.reset()

    def _begin(self) -> Iterator[tf.Tensor]:
        """Starts with the frames that were kept."""
        frames, self._first = self._first, []
        self._state = self._step.initial_state(*frames[0].shape[:3])
        last = len(frames) - 1
        for t in (range(last, 0, -1) or (0,)) if self._warm_start else ():
            # Time runs backwards: what comes after has been before.
            around = range(t + self.config.frames_before, t - self.config.frames_after - 1, -1)
            window = [frames[min(max(index, 0), last)] for index in around]
            self._state = self._step(window, self._state)[1]
        self._window.extend(frames[:1] * self.config.frames_before)
        for frame in frames:
            yield from self._advance(frame)

    def _advance(self, frame: tf.Tensor) -> Iterator[tf.Tensor]:
        self._window.append(frame)
        if len(self._window) == self.config.window:
            output, self._state = self._step(self._window, self._state)
            yield output


class StreamingUpscaler:
    """Makes frames larger one after the other: luma by the network, chroma by interpolation.

    One frame of latency (``frames_after`` of the model). By default RGB in, RGB out; with ``source``
    or ``target`` frames are the planes of a video instead, and neither its matrix, nor its range, nor
    the siting of its chroma costs a rounding on the way.

    Args:
        model: as :func:`rlsp_tf.load_model` or :func:`rlsp_tf.steps.load_step` gives it. One with RGB
            output makes colour itself.
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
        self._waiting: deque[Entered] = deque()

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

    def enter(self, frame: np.ndarray | tuple[np.ndarray, ...]) -> Entered:
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
        return Entered(rgb, aside, self._path)

    def advance(self, frame: Entered | None) -> Iterator[Unfinished | None]:
        """The second part of :meth:`push`, and of :meth:`end_shot`: the network.

        All that is ready has to be taken before another frame is given, each computed when it is asked for.

        Args:
            frame: from :meth:`enter`; ``None`` at the end of a shot.

        Yields:
            Frames without their colour. ``None`` where a :class:`rlsp_tf.resumed.ResumedStep`
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

    def _unfinished(self, output: tf.Tensor | None) -> Unfinished | None:
        frame = self._waiting.popleft()
        if output is None:
            return None
        return Unfinished(frame, output, self._stream.config, self._target is not None)


# Clips of one size share the graphs, which take longer to make than to run on some frames.
_color_path = lru_cache(maxsize=8)(ColorPath)


def _call(frame: Unfinished | None) -> Any:
    assert frame is not None  # nothing is left out here
    return frame()


def _size_of(form: tuple[Any, ...]) -> str:
    (_, (height, width, *_)), *_ = form
    return f"{width}x{height}"
