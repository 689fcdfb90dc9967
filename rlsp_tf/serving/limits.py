"""What ``rlsp serve`` takes on, and how it says no: sentences with the status of HTTP."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from rlsp_tf.errors import RLSPError

AGAIN = 2
"""Seconds after which someone who was refused for want of room may ask again."""
LOCAL = ("127.0.0.1", "::1")
"""Proxies that are believed unless told otherwise: those on this machine."""


@dataclass(frozen=True)
class Limits:
    """What a server holds at a time, how large it may be, and how fast it may come.

    Attributes:
        rate: requests a second from one client: sessions, frames, flushes and videos.
        sessions: open at a time.
        idle: seconds without a frame after which a session is forgotten.
        queue: frames at work or waiting at a time. Less than sessions makes some wait long: of those that
            were refused, whoever asks first gets the next place.
        pixels: of a low-resolution frame, of videos too.
        videos: at a time, from the first byte that comes to the last one that goes.
        upload: bytes of a video.
        seconds: of a video.
    """

    rate: int = 500
    sessions: int = 32
    idle: float = 60
    queue: int = 32
    pixels: int = 960 * 540
    videos: int = 2
    upload: int = 2**30
    seconds: float = 600


USUAL = Limits()
"""What is taken on unless told otherwise."""


class Refused(RLSPError):
    """Something that is not taken on, and leaves nothing behind.

    Args:
        sentence: why, and what to do.
        status: of HTTP.
        again: seconds after which it may be tried again, if it may.
    """

    def __init__(self, sentence: str, status: int, *, again: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.fresh_copy = status, again


class Unfit(RLSPError):
    """Something that is larger than a limit; the server answers 413."""


class Lost(RLSPError):
    """A session that expired, or whose process ended with its state; the server answers 410."""

    def __init__(self, sentence: str = "the session is lost; begin another with its first frame.") -> None:
        super().__init__(sentence)


class Room:
    """Room for so many at a time.

    Args:
        most: how many.
        what: is taken, as a message calls it: "videos".

    Attributes:
        taken: how many there are.
    """

    def __init__(self, most: int, what: str) -> None:
        self._most, self._what = most, what
        self.taken = 0

    def check(self) -> None:
        """Raises unless there is room.

        Raises:
            Refused: with 503, since others have it now.
        """
        if self.taken >= self._most:
            raise Refused(
                f"there are {self.taken} {self._what} already, as many as are taken here; try again later.",
                503,
                again=AGAIN,
            )

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Takes a place for as long as the block lasts.

        Raises:
            Refused: see :meth:`check`.
        """
        self.check()
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
