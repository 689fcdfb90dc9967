"""Sessions of ``rlsp serve`` as the front keeps them: whose turn it is, what was answered, who is gone.

The state of a session, tens of megabytes, lies in the replica that computes it; see
:class:`rlsp_tf.serving.engine.Network`. Here are only its size, its number of frames and its last answer.
"""

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from rlsp_tf.serving.limits import AGAIN, Limits, Lost, Refused, Room
from rlsp_tf.serving.wire import RAW


class Backend(Protocol):
    """Where sessions are computed: the methods of :class:`rlsp_tf.serving.engine.Network`, to be awaited."""

    async def push(
        self, session: str, index: int, model: str, size: tuple[int, int], form: str, data: bytes
    ) -> tuple[bytes | None, int]: ...
    async def flush(self, session: str, index: int, form: str) -> bytes | None: ...
    async def drop(self, session: str) -> None: ...


REQUESTS = 2
"""Frames of a session that may be on their way at a time: one, and the same once more over another
connection, where the first one broke unnoticed. Each of them takes memory while it comes."""


@dataclass
class Session:
    """One clip of one client.

    Attributes:
        name: that only the client knows.
        model: of the network.
        size: width and height of its frames.
        next: index of the frame that is expected.
        form: of the last frame; its answer has the same.
        used: when it last was, by ``time.monotonic``.
        ended: whether it was flushed.
        room: for frames from their first byte to the answer.
    """

    name: str
    model: str
    size: tuple[int, int]
    next: int = 0
    form: str = RAW
    used: float = 0
    ended: bool = False
    room: Room = field(default_factory=lambda: Room(REQUESTS, "frames of this session on their way"))
    _answer: bytes | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Sessions:
    """All sessions of a server.

    What was accepted is never lost: a frame counts when its answer is here, and the last answer is kept,
    so that a client whose connection broke sends the same frame again and gets the same answer. A frame that
    is refused leaves the session as it was.

    Args:
        backend: what computes.
        models: of :meth:`rlsp_tf.serving.engine.Network.about`.
        limits: how much is taken on.
        observe: is told of every step: seconds and for how many streams it was.

    Attributes:
        queue: the room for frames.
        draining: set it to take on nothing new; what is open can be flushed.
    """

    def __init__(
        self,
        backend: Backend,
        models: Mapping[str, Mapping[str, Any]],
        limits: Limits,
        observe: Callable[[float, int], None] = lambda seconds, shared: None,
    ) -> None:
        self._backend, self._models, self._limits, self._observe = backend, models, limits, observe
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self.queue = Room(limits.queue, "frames at work")
        self.draining = False

    @property
    def open(self) -> int:
        """How many sessions there are that were not flushed."""
        return sum(not session.ended for session in self._sessions.values())

    @property
    def withheld(self) -> int:
        """How many of them have taken frames whose answers wait for a flush."""
        return sum(not session.ended and session.next > 0 for session in self._sessions.values())

    def begin(self, model: str, width: int, height: int) -> Session:
        """Begins a session.

        Args:
            model: the name of one.
            width, height: of its frames.

        Raises:
            Refused: with 400, if there is no such model or size; with 413, if frames are too large; with
                503, if there are too many sessions, or the server is about to end.
        """
        if self.draining:
            raise ending()
        known_model(model, self._models)
        if width < 1 or height < 1:
            raise Refused(f"a frame cannot be {width}x{height}; give its width and height in pixels.", 400)
        if width * height > self._limits.pixels:
            raise Refused(
                f"frames of {width}x{height} have more than the {self._limits.pixels} pixels that are taken "
                "here; make them smaller.",
                413,
            )
        if self.open >= self._limits.sessions:
            raise Refused(
                f"there are {self.open} sessions already, as many as are taken here; try again later.",
                503,
                again=AGAIN,
            )
        session = Session(secrets.token_urlsafe(16), model, (width, height), used=time.monotonic())
        self._sessions[session.name] = session
        return session

    def get(self, name: str) -> Session:
        """An open or ended session by its name.

        Raises:
            Lost: if there is none, or no more.
        """
        session = self._sessions.get(name)
        if session is None:
            raise Lost(
                f"there is no such session; one ends when it is flushed or {self._limits.idle:g} s after its "
                "last frame: begin another."
            )
        session.used = time.monotonic()
        return session

    async def push(self, session: Session, index: int, form: str, data: bytes) -> bytes | None:
        """Takes a frame; gives the one before, upscaled, ``None`` if there is none yet.

        Args:
            session: of :meth:`get`.
            index: of the frame, from 0: the next one, or the last one again for the same answer.
            form: of ``data``, see :mod:`rlsp_tf.serving.wire`.
            data: the frame.

        Raises:
            Refused: with 409, if it is another frame's turn; with 503, if too many frames wait or the server
                is about to end.
            Lost: if the state is gone.
            RLSPError: if it is no such frame.
        """
        self.queue.check()
        async with session._turn:
            if index == session.next - 1 and not session.ended:
                return session._answer
            if session.ended or index != session.next:
                turn = "was flushed" if session.ended else f"waits for frame {session.next}"
                raise Refused(f"frame {index} cannot be taken, for the session {turn}.", 409)
            if self.draining:
                raise ending()
            with self.queue.one():
                began = time.perf_counter()
                call = self._backend.push(session.name, index, session.model, session.size, form, data)
                answer, shared = await self._unless_lost(session, call)
                self._observe(time.perf_counter() - began, shared)
            session._answer, session.form, session.next = answer, form, index + 1
            session.used = time.monotonic()
            return answer

    async def flush(self, session: Session) -> bytes | None:
        """Ends a session; gives the frame that waited for one after it. Once more gives the same.

        Raises:
            Lost: if the state is gone.
        """
        async with session._turn:
            if not session.ended:
                answer = None
                if session.next:
                    call = self._backend.flush(session.name, session.next, session.form)
                    answer = await self._unless_lost(session, call)
                session._answer, session.ended = answer, True
                session.used = time.monotonic()
                self._keep_few()
            return session._answer

    async def expire(self) -> int:
        """Forgets sessions that were idle for too long; returns how many of them were open."""
        before = time.monotonic() - self._limits.idle
        old = [
            session
            for session in self._sessions.values()
            if session.used < before and not session._turn.locked()
        ]
        for session in old:
            del self._sessions[session.name]
        lost = [session for session in old if not session.ended]
        for session in lost:
            await self._backend.drop(session.name)
        return len(lost)

    async def _unless_lost(self, session: Session, call: Any) -> Any:
        try:
            return await call
        except Lost:
            self._sessions.pop(session.name, None)
            raise

    def _keep_few(self) -> None:
        """Answers of sessions that have ended are kept for those who ask again, but not without limit."""
        ended = [session.name for session in self._sessions.values() if session.ended]
        for name in ended[: -self._limits.sessions]:
            del self._sessions[name]


def known_model(name: str, models: Mapping[str, Any]) -> None:
    """Raises unless a model is served.

    Raises:
        Refused: with 400.
    """
    if name not in models:
        raise Refused(f"there is no model {name[:40]!r} here; there is {', '.join(models)}.", 400)


def ending() -> Refused:
    """What to say of new work while the server finishes what it has."""
    return Refused("the server is about to end; try again in a moment.", 503, again=10)
