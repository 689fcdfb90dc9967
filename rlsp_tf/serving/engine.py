"""Computes the frames of sessions and videos, independently of HTTP and Ray."""

import contextlib
import errno
import functools
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
from av.stream import Disposition

from rlsp_tf.errors import Interrupted, RLSPError
from rlsp_tf.inference.divergence import divergence_notes
from rlsp_tf.inference.upscaler import StreamingUpscaler
from rlsp_tf.media.inputs import open_input
from rlsp_tf.media.video_reader import VideoSource
from rlsp_tf.pixels.color import ColorSpec
from rlsp_tf.serving.limits import (
    SERVER_ERRORS,
    Refused,
    SessionLost,
    TooLarge,
    for_clients,
    server_error,
)
from rlsp_tf.serving.networks import Network, Networks
from rlsp_tf.serving.wire import Answer, color_of, decode_frame, encode_frame
from rlsp_tf.system.signals import Stop
from rlsp_tf.upscaling.segments import OtherRun
from rlsp_tf.upscaling.upscale import upscale

MAX_RATE = 60
"""Frames per second up to which the duration of a video counts; with more frames, it counts as longer."""


@dataclass
class Progress:
    """The progress of a video.

    Attributes:
        frames: number of frames that are finished.
        total: number of frames of the result; ``None`` until it is known.
    """

    frames: int = 0
    total: int | None = None

    def tick(self) -> None:
        self.frames += 1


@dataclass
class _Stream:
    """The state of a session, and the number of its frames so far."""

    upscaler: StreamingUpscaler
    network: Network
    color: ColorSpec | None
    size: tuple[int, int]
    pushed: int = 0
    busy: threading.Lock = field(default_factory=threading.Lock)


class Engine:
    """Upscales the frames of many sessions, and whole videos. All methods can be called by many threads.

    Frames and videos share one :class:`rlsp_tf.serving.batching.BatchingStep` for each model, so that a
    long video delays a frame by no more than one step.

    Args:
        models, precision: see :class:`rlsp_tf.serving.networks.Networks`.
        sessions: number of sessions for which the state is kept. The least recently used session is dropped
            first.

    Raises:
        RLSPError: if a model cannot be used.
    """

    def __init__(self, models: Mapping[str, str], *, precision: str = "auto", sessions: int) -> None:
        self._networks = Networks(models, precision)
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self._sessions = sessions
        self._lock = threading.Lock()

    def about(self) -> dict[str, dict[str, Any]]:
        """See :meth:`rlsp_tf.serving.networks.Networks.about`."""
        return self._networks.about()

    def reload(self) -> dict[str, str | None]:
        """See :meth:`rlsp_tf.serving.networks.Networks.reload`."""
        return self._networks.reload()

    def push(
        self, session: str, index: int, model: str, size: Sequence[int], media_type: str, data: bytes
    ) -> Answer:
        """Takes a frame of a session and returns the one that is ready.

        Args:
            session: name of the session. The first frame begins it.
            index: number of the frame, counted from 0.
            model: name of a model in :meth:`about`; the same for all frames of a session.
            size: width and height in pixels; the same for all frames of a session.
            media_type: format of ``data`` and of the result; see :mod:`rlsp_tf.serving.wire`.
            data: the encoded frame.

        Returns:
            The frame before, upscaled; there is none for the first one if the model looks one frame ahead.

        Raises:
            RLSPError: if the data is not such a frame; the session is unchanged then.
            SessionLost: if the frames before it are not known here.
        """
        width, height = size
        frame = decode_frame(data, media_type, width, height)
        stream = self._stream(session, index, model, (width, height), color_of(media_type))
        with stream.busy, self._lost_on_failure(session):
            outputs = stream.upscaler.push(frame)
            stream.pushed += 1
            return self._answer(stream, outputs, media_type)

    def flush(self, session: str, index: int, media_type: str) -> Answer:
        """Ends a session and returns its last frame, if that was still waiting for the next one.

        Args:
            session: name of the session.
            index: number of frames that were pushed.
            media_type: format of the result; see :mod:`rlsp_tf.serving.wire`.

        Raises:
            SessionLost: if these frames are not known here.
        """
        with self._lock:
            stream = self._streams.pop(session, None)
        if stream is None:
            raise SessionLost()
        with self._networks.released(stream.network), stream.busy, self._lost_on_failure(session):
            if stream.pushed != index:
                raise SessionLost()
            return self._answer(stream, stream.upscaler.flush(), media_type)

    def drop(self, session: str) -> None:
        """Drops the state of a session, if there is one."""
        with self._lock:
            stream = self._streams.pop(session, None)
        if stream is not None:
            self._networks.release(stream.network)

    def video(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        model: str,
        *,
        pixels: int,
        seconds: float,
        stop: threading.Event,
        progress: Progress | None = None,
    ) -> tuple[list[str], int]:
        """Upscales a video file with the default options of ``rlsp upscale``.

        Args:
            source: the file to read.
            target: the file to write; its suffix selects the container.
            model: name of a model in :meth:`about`.
            pixels: largest number of pixels of a frame.
            seconds: longest duration in seconds, counted with at most MAX_RATE frames per second.
            stop: event that ends the work at the next step. Another call with the same files continues
                there.
            progress: updated during the work.

        Returns:
            Sentences about what was assumed or left out, and the number of frames.

        Raises:
            TooLarge: if the video has larger frames or is longer.
            Refused: with 503, if the disk is full or the like.
            RLSPError: if the video cannot be upscaled. Messages call the source "the video".
            Interrupted: if ``stop`` was set.
        """
        source, target = Path(source), Path(target)

        def named(sentence: str) -> str:
            return for_clients(sentence, {source: "the video", target: "the result"})

        try:
            progress = progress or Progress()
            progress.total = self._measure(source, pixels, seconds, stop)
            network = self._networks.take(model)
            with self._networks.released(network):
                run = functools.partial(upscale, source, target, network.step, stop=_EventStop(stop))
                try:
                    notes = run(tick=progress.tick)
                except OtherRun:
                    # It was begun with other weights, or by another version.
                    progress.frames = 0
                    notes = run(tick=progress.tick, resume=False)
            return [named(note) for note in notes], progress.total
        except Refused:
            raise
        except Interrupted as error:
            raise _stopped() from error
        except (RLSPError, OSError, MemoryError, tf.errors.ResourceExhaustedError) as error:
            if number := _errno_of_the_server(error):
                raise server_error(number) from error
            if not isinstance(error, RLSPError):
                raise
            raise type(error)(named(str(error))) from error

    def close(self) -> None:
        """Computes the waiting frames, then ends the threads."""
        self._networks.close()

    def _stream(
        self, session: str, index: int, model: str, size: tuple[int, int], color: ColorSpec | None
    ) -> _Stream:
        dropped = []
        with self._lock:
            stream = self._streams.get(session)
            if stream is None and index == 0:
                while len(self._streams) >= self._sessions:
                    dropped.append(self._streams.popitem(last=False)[1])
                network = self._networks.take(model)
                upscaler = StreamingUpscaler(network.step, source=color, target=color)
                stream = self._streams[session] = _Stream(upscaler, network, color, size)
            if stream is not None:
                self._streams.move_to_end(session)
        for each in dropped:
            self._networks.release(each.network)
        if stream is None or stream.pushed != index:
            raise SessionLost()
        if stream.color != color:
            raise RLSPError(
                "the frame has another colour format than the frames before it; begin another session for it."
            )
        return stream

    def _answer(self, stream: _Stream, frames: list[Any], media_type: str) -> Answer:
        data = encode_frame(frames[0], media_type) if frames else None
        notes = divergence_notes("the session", stream.upscaler.diverged)
        return Answer(data, stream.network.step.batch, notes)

    @contextlib.contextmanager
    def _lost_on_failure(self, session: str) -> Iterator[None]:
        """Drops the session if the block fails, since its state may be that between two frames."""
        try:
            yield
        except tf.errors.ResourceExhaustedError as error:
            self.drop(session)
            raise SessionLost(
                "there was not enough memory for the frame; begin a session of smaller ones."
            ) from error
        except BaseException:
            self.drop(session)
            raise

    def _measure(self, path: Path, pixels: int, seconds: float, stop: threading.Event) -> int:
        """Counts the frames of a video; raises an exception if they are too large or too many.

        The size in the header is checked before anything is decoded, the length by the packets themselves.
        """
        with contextlib.suppress(av.FFmpegError), open_input(path, pixels) as container:
            for stream in container.streams.video:
                if stream.codec_context is None or stream.disposition & Disposition.attached_pic:
                    continue
                size = f"{stream.width}x{stream.height}"
                if not stream.width:
                    # FFmpeg knows no size if it may not decode a frame to check it.
                    size = "an unknown size"
                elif stream.width * stream.height <= pixels:
                    continue
                raise TooLarge(
                    f"{path}: has frames of {size}, but at most {pixels} pixels are allowed here; make them "
                    "smaller, or use rlsp upscale."
                )
        # A header may say less than there is, so the first frame is decoded with the same limit.
        with VideoSource(path, most_pixels=pixels) as source:
            index = source.stream_index
        frames, first, last = 0, None, Fraction(0)
        with open_input(path, pixels) as container:
            try:
                for packet in container.demux(container.streams[index]):
                    if stop.is_set():
                        raise _stopped()
                    if not packet.size:
                        continue
                    frames += 1
                    stamp = packet.pts if packet.pts is not None else packet.dts
                    if stamp is not None:
                        time = stamp * packet.time_base
                        first = time if first is None else min(first, time)
                        last = max(last, time)
            except av.FFmpegError:
                pass  # upscale() reads no further than this either
        duration = max(last - (first or 0), Fraction(frames, MAX_RATE))
        if duration > seconds:
            raise TooLarge(
                f"{path}: lasts {float(duration):.0f} s, but at most {seconds:g} s are allowed here; cut "
                "it, or use rlsp upscale."
            )
        return frames


class _EventStop(Stop):
    """A ``Stop`` that becomes true when an event is set."""

    def __init__(self, event: threading.Event) -> None:
        super().__init__()
        self._event = event
        self.signal = "the server"

    def __bool__(self) -> bool:
        return self._event.is_set()


def _stopped() -> Interrupted:
    return Interrupted("the video: was stopped; send it again.")


def _errno_of_the_server(error: BaseException) -> int | None:
    """Returns the error of the system that caused an exception, unless the video caused it."""
    cause: BaseException | None = error
    while cause is not None:
        # FFmpeg also reports too little memory for a damaged file that claims to need a huge amount.
        out_of_memory = isinstance(cause, MemoryError) and not isinstance(cause, av.FFmpegError)
        if out_of_memory or isinstance(cause, tf.errors.ResourceExhaustedError):
            return errno.ENOMEM
        if isinstance(cause, OSError) and cause.errno in SERVER_ERRORS:
            return cause.errno
        cause = cause.__cause__ or cause.__context__
    return None
