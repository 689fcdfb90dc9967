"""What a replica of ``rlsp serve`` holds: networks, and the states of sessions. Without HTTP or Ray."""

import contextlib
import functools
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import tensorflow as tf

from rlsp_tf.errors import Interrupted, RLSPError
from rlsp_tf.inference.load import step_maker
from rlsp_tf.inference.step import Step
from rlsp_tf.inference.upscaler import StreamingUpscaler
from rlsp_tf.media.video_reader import VideoSource, open_input
from rlsp_tf.network.weights import load_model
from rlsp_tf.serving.batching import CPU_PIXELS, BatchingStep
from rlsp_tf.serving.limits import Lost, Unfit
from rlsp_tf.serving.wire import bytes_of, frame_of
from rlsp_tf.upscaling.upscale import upscale

FASTEST = 60
"""Frames that a second of a video may have; more count as more seconds."""


@dataclass
class _Stream:
    upscaler: StreamingUpscaler
    size: tuple[int, int]
    pushed: int = 0
    busy: threading.Lock = field(default_factory=threading.Lock)


class Network:
    """Upscales frames of many sessions and whole videos, for many threads at a time.

    Frames and videos of all go through one :class:`rlsp_tf.serving.batching.BatchingStep` for each model, so
    that a long video keeps nobody waiting for longer than a step.

    Args:
        models: ``.keras`` files or names of weights, by the names that clients know.
        precision: as for :func:`rlsp_tf.inference.load.load_step`.
        sessions: states that are kept; the one that was not used for longest goes first.

    Raises:
        RLSPError: if a model cannot be loaded, looks more than one frame ahead, or cannot be run in 8 bits.
    """

    def __init__(self, models: Mapping[str, str], *, precision: str = "auto", sessions: int) -> None:
        pixels = math.inf if tf.config.list_physical_devices("GPU") else CPU_PIXELS
        self._steps: dict[str, BatchingStep] = {}
        for name, path in models.items():
            make = step_maker(functools.partial(load_model, path), precision)
            step = BatchingStep(make, pixels=pixels)
            self._steps[name] = step
            if step.config.frames_after > 1:
                raise RLSPError(
                    f"{path}: looks {step.config.frames_after} frames ahead, and one is served; give another."
                )
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self._sessions = sessions
        self._lock = threading.Lock()

    def about(self) -> dict[str, dict[str, Any]]:
        """``{"scale", "latency": frames, "bits": of the convolutions}`` for each model, by its name."""
        return {
            name: {
                "scale": step.config.scale,
                "latency": step.config.frames_after,
                "bits": 8 * step.itemsize,
            }
            for name, step in self._steps.items()
        }

    def push(
        self, session: str, index: int, model: str, size: Sequence[int], form: str, data: bytes
    ) -> tuple[bytes | None, int]:
        """Takes a frame of a session, and gives the one that is ready.

        Args:
            session: its name; the first frame begins it.
            index: of the frame, from 0.
            model: one of :meth:`about`; the same for all frames of a session.
            size: width and height, likewise.
            form: of ``data`` and of the answer, see :mod:`rlsp_tf.serving.wire`.
            data: the frame.

        Returns:
            The upscaled frame before (``None`` for the first one, if the model looks a frame ahead), and
            for how many streams the step was that made it.

        Raises:
            RLSPError: if it is no such frame; the session is then as it was.
            Lost: if the frames before it never came here.
        """
        width, height = size
        frame = frame_of(data, form, width, height)
        stream = self._stream(session, index, model, (width, height))
        with stream.busy, self._lost_on_failure(session):
            outputs = stream.upscaler.push(frame)
            stream.pushed += 1
        return (bytes_of(outputs[0], form) if outputs else None), self._steps[model].shared

    def flush(self, session: str, index: int, form: str) -> bytes | None:
        """Gives the frame that still waits for one after it, and forgets the session.

        Args:
            session: as for :meth:`push`.
            index: how many frames were pushed.
            form: of the answer.

        Raises:
            Lost: if they never came here.
        """
        with self._lock:
            stream = self._streams.pop(session, None)
        if stream is None or stream.pushed != index:
            raise Lost()
        with stream.busy, self._lost_on_failure(session):
            outputs = stream.upscaler.flush()
        return bytes_of(outputs[0], form) if outputs else None

    def drop(self, session: str) -> None:
        """Forgets a session, if there is one."""
        with self._lock:
            self._streams.pop(session, None)

    def video(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        model: str,
        *,
        pixels: int,
        seconds: float,
        stop: threading.Event,
    ) -> tuple[list[str], int]:
        """Upscales a video file with the defaults of ``rlsp upscale``.

        Args:
            source: the file.
            target: the file to be; its suffix names the container.
            model: one of :meth:`about`.
            pixels: that a frame may have.
            seconds: that it may last, at FASTEST frames each at most.
            stop: set it to have the work end with the next step.

        Returns:
            Sentences about what was assumed or left out, and the number of frames.

        Raises:
            Unfit: if it is larger or longer.
            RLSPError: if it cannot be upscaled. Sentences call the source "the video".
            Interrupted: if it was stopped.
        """
        source, target = Path(source), Path(target)

        def named(sentence: str) -> str:
            return sentence.replace(os.fspath(source), "the video").replace(os.fspath(target), "the result")

        try:
            frames = self._measure(source, pixels, seconds)
            step = _StoppableStep(self._steps[model], stop)
            return [named(note) for note in upscale(source, target, step)], frames
        except RLSPError as error:
            raise type(error)(named(str(error))) from error

    def close(self) -> None:
        """Ends the threads of the networks, after what waits."""
        for step in self._steps.values():
            step.close()

    def _stream(self, session: str, index: int, model: str, size: tuple[int, int]) -> _Stream:
        with self._lock:
            stream = self._streams.get(session)
            if stream is None and index == 0:
                while len(self._streams) >= self._sessions:
                    self._streams.popitem(last=False)
                stream = self._streams[session] = _Stream(StreamingUpscaler(self._steps[model]), size)
            if stream is None or stream.pushed != index:
                raise Lost()
            self._streams.move_to_end(session)
            return stream

    @contextlib.contextmanager
    def _lost_on_failure(self, session: str) -> Iterator[None]:
        """Forgets a session whose state a failed step has left between two frames."""
        try:
            yield
        except tf.errors.ResourceExhaustedError as error:
            self.drop(session)
            raise Lost(
                "there was not enough memory for the frame; begin a session of smaller ones."
            ) from error
        except BaseException:
            self.drop(session)
            raise

    def _measure(self, path: Path, pixels: int, seconds: float) -> int:
        """Counts the frames of a video; raises if it is too large, whatever its header says."""
        with VideoSource(path) as source:
            if source.width * source.height > pixels:
                raise Unfit(
                    f"{path}: has frames of {source.width}x{source.height}, more than the {pixels} pixels "
                    "that are taken here; make them smaller, or use rlsp upscale."
                )
            index = source.stream_index
        frames, first, last = 0, None, Fraction(0)
        with open_input(path) as container:
            try:
                for packet in container.demux(container.streams[index]):
                    if not packet.size:
                        continue
                    frames += 1
                    stamp = packet.pts if packet.pts is not None else packet.dts
                    if stamp is not None:
                        time = stamp * packet.time_base
                        first = time if first is None else min(first, time)
                        last = max(last, time)
            except av.FFmpegError:
                pass  # what follows cannot be read, so it will not be upscaled either
        lasts = max(last - (first or 0), Fraction(frames, FASTEST))
        if lasts > seconds:
            raise Unfit(
                f"{path}: lasts {float(lasts):.0f} s, more than the {seconds:g} s that are taken here; cut "
                "it, or use rlsp upscale."
            )
        return frames


class _StoppableStep:
    """A step that raises ``Interrupted`` once an event is set."""

    def __init__(self, step: Step, stop: threading.Event) -> None:
        self.config, self.fingerprint = step.config, step.fingerprint
        self.precision, self.itemsize = step.precision, step.itemsize
        self._step, self._stop = step, stop

    def initial_state(self, batch: int, height: int, width: int) -> Any:
        return self._step.initial_state(batch, height, width)

    def __call__(self, window: Sequence[tf.Tensor], state: Any) -> tuple[tf.Tensor, Any]:
        if self._stop.is_set():
            raise Interrupted("the video: was stopped; send it again.")
        return self._step(window, state)
