"""The sessions of a server: their clients, next frames and last answers, and their expiry.

The hidden state of a session, tens of megabytes, stays in the replica that computes it; see
:class:`rlsp_tf.serving.engine.Engine`.
"""

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from rlsp_tf.serving.limits import Capacity, Limits, Refused, ServerFault, SessionLost
from rlsp_tf.serving.wire import RAW, Answer


class Backend(Protocol):
    """Computes sessions: the methods of :class:`rlsp_tf.serving.engine.Engine`, as coroutines."""

    async def push(
        self, session: str, index: int, model: str, size: tuple[int, int], media_type: str, data: bytes
    ) -> Answer: ...
    async def flush(self, session: str, index: int, media_type: str) -> Answer: ...
    async def drop(self, session: str) -> None: ...


WINDOW = 2
"""Largest number of frames of a session on their way, so that one is sent while another one is computed."""
REQUESTS = WINDOW + 1
"""Largest number of concurrent requests of a session. One more than the frames is for a client that sends a
frame again because its connection broke and the server has not noticed yet."""
KEPT_BYTES = 2**26
"""Total size in bytes of the last answers of ended sessions, which are kept for clients that ask again."""


@dataclass
class Session:
    """A clip that a client sends frame by frame.

    Attributes:
        name: name of the session, which only its client knows.
        client: the client that began it and may use it.
        model: name of the network.
        size: width and height of the frames in pixels.
        next: index of the next frame.
        media_type: format of the last frame and of its answer.
        used: time at which the last frame was accepted, by ``time.monotonic``.
        ended: whether the session was flushed.
        requests: limit on concurrent requests, each until the last byte of its answer was sent.
    """

    name: str
    client: str
    model: str
    size: tuple[int, int]
    next: int = 0
    media_type: str = RAW
    used: float = 0
    ended: bool = False
    requests: Capacity = field(default_factory=lambda: Capacity(REQUESTS, "requests for this session"))
    _last: Answer = field(default_factory=lambda: Answer(None))
    _answers: deque[tuple[bytes, Answer]] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _turn: asyncio.Condition = field(default_factory=asyncio.Condition)
    _place: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


class Sessions:
    """The sessions of a server.

    No accepted frame is lost. A frame is accepted when its answer is ready, and the last answers are kept. So
    a client whose connection broke can send the same frames again and gets the same answers. A refused frame
    leaves the session unchanged.

    Args:
        backend: computes the frames.
        models: the result of :meth:`rlsp_tf.serving.engine.Engine.about`.
        limits: limits on what is accepted.
        observe: function that is called after every frame with its time in seconds and the size of its
            batch.

    Attributes:
        queue: limit on the frames that are computed or wait for it.
        draining: whether new sessions and frames are refused. Open sessions can still be flushed.
    """

    def __init__(
        self,
        backend: Backend,
        models: Mapping[str, Mapping[str, Any]],
        limits: Limits,
        observe: Callable[[float, int], None] = lambda seconds, batch: None,
    ) -> None:
        self._backend, self._models, self._limits, self._observe = backend, models, limits, observe
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._open = Capacity(limits.sessions, "sessions", limits.share_of(limits.sessions))
        self.queue = Capacity(limits.queue, "frames at work", limits.share_of(limits.queue))
        self.draining = False

    @property
    def open(self) -> int:
        """Number of sessions that are not flushed yet."""
        return self._open.taken

    @property
    def unflushed(self) -> int:
        """Number of open sessions with accepted frames, the last of which is answered by a flush."""
        return sum(not session.ended and session.next > 0 for session in self._sessions.values())

    def begin(self, client: str, model: str, width: int, height: int) -> Session:
        """Begins a session.

        Args:
            client: the client that begins it.
            model: name of the model.
            width, height: size of the frames in pixels.

        Raises:
            Refused: with 400 if there is no such model or size, with 413 if the frames are too large, with
                429 or 503 if there are too many sessions, with 503 if the server is shutting down.
        """
        if self.draining:
            raise shutting_down()
        check_model(model, self._models)
        if width < 1 or height < 1:
            raise Refused(f"a frame cannot be {width}x{height}; give its width and height in pixels.", 400)
        if width * height > self._limits.pixels:
            raise Refused(
                f"frames of {width}x{height} are too large; at most {self._limits.pixels} pixels are allowed "
                "here: make them smaller.",
                413,
            )
        session = Session(secrets.token_urlsafe(16), client, model, (width, height), used=time.monotonic())
        session._place.enter_context(self._open.one(client))
        self._sessions[session.name] = session
        return session

    def get(self, client: str, name: str) -> Session:
        """Returns a session, open or ended, by its name.

        Args:
            client: the client that asks.
            name: name of the session.

        Raises:
            SessionLost: if there is no session of this name, or another client began it.
        """
        session = self._sessions.get(name)
        if session is None or session.client != client:
            raise SessionLost(
                f"this client has no such session; one ends when it is flushed, or {self._limits.idle:g} s "
                "after its last frame: begin another one."
            )
        return session

    async def push(self, session: Session, index: int, media_type: str, data: bytes) -> Answer:
        """Takes a frame and returns the one before it, upscaled.

        Args:
            session: a session that :meth:`get` has returned.
            index: number of the frame, counted from 0. It has to be the next one; the one after that, which
                waits for it; or one of the last :data:`WINDOW`, which are answered as before.
            media_type: format of ``data``; see :mod:`rlsp_tf.serving.wire`.
            data: the encoded frame.

        Raises:
            Refused: with 409 if another frame is expected, or if one is sent again with other content; with
                429 or 503 if too many frames wait, with 503 if the server is shutting down.
            SessionLost: if the state of the session is gone.
            RLSPError: if the data is not such a frame.
        """
        self.queue.check(session.client)
        async with session._turn:
            if session.next < index < session.next + WINDOW:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(
                        session._turn.wait_for(lambda: session.next >= index or session.ended),
                        self._limits.stall_seconds,
                    )
            ago = session.next - index
            if 0 < ago <= len(session._answers) and not session.ended:
                digest, answer = session._answers[-ago]
                if _digest_of(media_type, data) != digest:
                    raise Refused(
                        f"frame {index} was accepted before with other content; send the same again for the "
                        f"same answer, or go on with frame {session.next}.",
                        409,
                    )
                return answer
            if session.ended or index != session.next:
                reason = "was flushed" if session.ended else f"expects frame {session.next}"
                raise Refused(f"frame {index} cannot be accepted, because the session {reason}.", 409)
            if self.draining:
                raise shutting_down()
            with self.queue.one(session.client):
                began = time.perf_counter()
                call = self._backend.push(session.name, index, session.model, session.size, media_type, data)
                answer = await self._end_if_lost(session, call)
                self._observe(time.perf_counter() - began, answer.batch)
            session._answers.append((_digest_of(media_type, data), answer))
            session.media_type, session.next = media_type, index + 1
            session.used = time.monotonic()
            session._turn.notify_all()
            return answer

    async def flush(self, session: Session) -> Answer:
        """Ends a session and returns its last frame. A second call returns the same.

        Raises:
            SessionLost: if the state of the session is gone.
        """
        async with session._turn:
            if not session.ended:
                if session.next:
                    call = self._backend.flush(session.name, session.next, session.media_type)
                    session._last = await self._end_if_lost(session, call)
                session.ended = True
                session._answers.clear()
                session._turn.notify_all()
                session.used = time.monotonic()
                session._place.close()
                self._forget_ended()
            return session._last

    async def expire(self) -> int:
        """Removes sessions that were idle for too long; returns how many of them were open."""
        before = time.monotonic() - self._limits.idle
        idle = [
            session
            for session in self._sessions.values()
            if session.used < before and not session._turn.locked()
        ]
        for session in idle:
            self._forget(session)
        expired = [session for session in idle if not session.ended]
        for session in expired:
            await self._backend.drop(session.name)
        return len(expired)

    async def _end_if_lost(self, session: Session, call: Any) -> Any:
        try:
            return await call
        except (SessionLost, ServerFault):
            self._forget(session)
            raise

    def _forget(self, session: Session) -> None:
        self._sessions.pop(session.name, None)
        session._place.close()

    def _forget_ended(self) -> None:
        """Limits the number and the total size of the answers of ended sessions that are kept."""
        ended = [session for session in self._sessions.values() if session.ended]
        size = 0
        for number, session in enumerate(reversed(ended)):
            size += len(session._last.data or b"")
            if number and (number >= self._limits.sessions or size > KEPT_BYTES):
                self._forget(session)


def check_model(name: str, models: Mapping[str, Any]) -> None:
    """Raises an exception unless there is a model of this name.

    Raises:
        Refused: with 400.
    """
    if name not in models:
        raise Refused(f"there is no model {name[:40]!r} here; there is {', '.join(models)}.", 400)


def shutting_down() -> Refused:
    """Returns the exception for new work while the server finishes what it has accepted."""
    return Refused("the server is shutting down; try again in a moment.", 503, retry_after=10)


def _digest_of(media_type: str, data: bytes) -> bytes:
    return hashlib.sha256(media_type.encode() + b"\0" + data).digest()
