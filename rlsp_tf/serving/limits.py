"""The limits of a server, and the exceptions with which requests are refused."""

import contextlib
import errno
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rlsp_tf.errors import RLSPError

RETRY_AFTER = 2
"""Seconds after which a client should try again if the server was busy."""
SERVER_ERRORS = {
    errno.EDQUOT: "has no space left for the work",
    errno.EMFILE: "has too many files open",
    errno.ENFILE: "has too many files open",
    errno.ENOMEM: "has not enough memory",
    errno.ENOSPC: "has no space left for the work",
    errno.EROFS: "cannot write to its disk",
}
"""Errors of the system that no request can cause."""
LOOPBACK = ("127.0.0.1", "::1")
"""Proxies that are trusted by default: those on this machine."""


@dataclass(frozen=True)
class Limits:
    """Limits on what a server accepts.

    Attributes:
        rate: largest number of requests per second from one client: sessions, frames, flushes and videos.
        sessions: largest number of open sessions.
        idle: seconds after its last accepted frame until a session expires.
        queue: largest number of frames that are computed or wait for it. If it is smaller than ``sessions``,
            some sessions wait long: a free place goes to the refused client that happens to ask first.
        pixels: largest number of pixels of a low-resolution frame, in sessions and in videos.
        videos: largest number of videos at a time, from the first byte of the upload to the last byte of
            the result.
        upload: largest size of a video in bytes.
        seconds: longest duration of a video in seconds.
        jobs: largest number of jobs, from the upload until they are removed.
        job_age: seconds after its end until a job is removed.
        client_share: share of ``sessions``, ``queue``, ``videos``, ``jobs`` and ``connections`` that one
            client may have, 0..1; at least one of each.
        connections: largest number of open connections.
        head_seconds: seconds in which the head of a request must be complete.
        stall_seconds: seconds after which a transfer that is slower than ``least_rate`` is aborted.
        least_rate: smallest number of bytes per second of a body, in either direction.
        transfer_seconds: seconds in which a body must be complete, in either direction.
    """

    rate: int = 500
    sessions: int = 32
    idle: float = 60
    queue: int = 32
    pixels: int = 960 * 540
    videos: int = 4
    upload: int = 2**30
    seconds: float = 600
    jobs: int = 32
    job_age: float = 3600
    client_share: float = 0.25
    connections: int = 256
    head_seconds: float = 10
    stall_seconds: float = 10
    least_rate: int = 2**14
    transfer_seconds: float = 3600

    def share_of(self, total: int) -> int:
        """Returns how many of ``total`` one client may have."""
        return max(1, int(total * self.client_share))


DEFAULT_LIMITS = Limits()


class Refused(RLSPError):
    """A request was not accepted, and changed nothing.

    Args:
        sentence: a sentence that says what is wrong and what to do.
        status: the HTTP status of the answer.
        retry_after: seconds after which the client may try again; ``None`` if that cannot help.
    """

    # Exceptions are unpickled with the sentence alone; the attributes follow.
    def __init__(self, sentence: str, status: int = 503, *, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.retry_after = status, retry_after


def server_error(number: int | None) -> Refused:
    """Returns the exception for a request during which the system failed.

    Args:
        number: ``errno`` of the failure.
    """
    reason = SERVER_ERRORS.get(number or 0, "cannot read or write its files")
    return Refused(f"the server {reason}; try again later.", 503, retry_after=30)


class TooLarge(RLSPError):
    """Something exceeds a limit; the server answers 413."""


class SessionLost(RLSPError):
    """The session expired, or the process that kept its state ended; the server answers 410."""

    def __init__(
        self, sentence: str = "the session is lost; begin another one with its first frame."
    ) -> None:
        super().__init__(sentence)


class ServerFault(Refused):
    """A bug of the server showed while it processed a request; the server answers 500.

    Args:
        sentence: message for the client.
        details: traceback for the server's log.
    """

    def __init__(self, sentence: str, details: str = "") -> None:
        super().__init__(sentence, 500)
        self.details = details


def for_clients(sentence: str, names: Mapping[Path, str]) -> str:
    """A sentence of the library for clients, who know neither the server's files nor its commands.

    Args:
        sentence: what was assumed, left out, or went wrong.
        names: what the client calls the files.
    """
    sentence = re.sub(r"; \d+ frames are finished, and the same command .*(?=\.$)", "", sentence)
    for path, name in names.items():
        sentence = sentence.replace(os.fspath(path), name)
    # Titles in a file need not be UTF-8, but answers are.
    return sentence.encode("utf-8", "replace").decode("utf-8")


class Capacity:
    """Limits the number of things of a kind, in total and for each client.

    Args:
        total: largest number in total.
        what: plural noun for messages, such as "videos".
        share: largest number for one client; by default ``total``.

    Attributes:
        taken: current number.
    """

    def __init__(self, total: int, what: str, share: int | None = None) -> None:
        self._total, self._what = total, what
        self._share = total if share is None else share
        self._clients: Counter[str] = Counter()
        self.taken = 0

    def check(self, client: str = "") -> None:
        """Raises an exception unless the client may have one more.

        Args:
            client: the client.

        Raises:
            Refused: with 503 if there are too many in total, with 429 if the client has its share.
        """
        if self.taken >= self._total:
            raise Refused(
                f"there are {self.taken} {self._what} already, the limit of this server; try again later.",
                503,
                retry_after=RETRY_AFTER,
            )
        if self._clients[client] >= self._share:
            raise Refused(
                f"there are {self._share} {self._what} of this client already, the limit for each client; "
                "try again when one has ended.",
                429,
                retry_after=RETRY_AFTER,
            )

    @contextlib.contextmanager
    def one(self, client: str = "") -> Iterator[None]:
        """Holds a place while the block runs.

        Args:
            client: the client.

        Raises:
            Refused: see :meth:`check`.
        """
        self.check(client)
        self.taken += 1
        self._clients[client] += 1
        try:
            yield
        finally:
            self.taken -= 1
            self._clients[client] -= 1
            # Former clients must not take memory.
            if not self._clients[client]:
                del self._clients[client]
