"""Limits on connections: how many there are, and how slowly they may send requests and read answers.

uvicorn limits the size of the head of a request, but not the time in which it arrives, the number of
connections of a client, or the time in which an answer is read.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any

import uvicorn
from starlette.datastructures import Address
from uvicorn.protocols.http.h11_impl import H11Protocol

from rlsp_tf.serving.access import client_of
from rlsp_tf.serving.limits import Limits
from rlsp_tf.serving.refusals import log

MAX_HEAD = 2**14
"""Largest size of the head of a request in bytes."""


class LimitedConfig(uvicorn.Config):
    """uvicorn's configuration for an application whose connections are limited.

    Args:
        app: the application.
        limits: see :class:`rlsp_tf.serving.limits.Limits`.
        proxies: addresses and networks that many clients may come from.
        options: further options of ``uvicorn.Config``.
    """

    def __init__(self, app: Any, limits: Limits, proxies: Sequence[str], **options: Any) -> None:
        super().__init__(
            app, http=LimitedProtocol, ws="none", h11_max_incomplete_event_size=MAX_HEAD, **options
        )
        self.limits = limits
        self._proxies = [ipaddress.ip_network(proxy) for proxy in proxies]

    def is_proxy(self, address: str) -> bool:
        """Whether an address is that of a trusted proxy."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._proxies)


class LimitedProtocol(H11Protocol):
    """A connection that is closed if its client is too slow, or to make room for another one.

    When there are too many connections, in all or of one client, the one that has waited longest for
    a request is closed: first those that have never sent a complete one. So a client that holds many
    connections open loses them, and a new client, who sends its request at once, is served. Only if all
    connections are at work is the new one refused.
    """

    config: LimitedConfig

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        limits = self.config.limits
        self._requests = 0
        self._idle_since = self.loop.time()
        self._head_since: float | None = self._idle_since
        self._writes_since: float | None = None
        self._answers_since: float | None = None
        # At most this many bytes wait to be sent, and have to be sent within stall_seconds.
        transport.set_write_buffer_limits(high=int(limits.least_rate * limits.stall_seconds), low=0)
        host = self.client[0] if self.client else ""
        self._client = client_of(Address(host, 0))
        own = [each for each in self.connections if each._client == self._client]  # type: ignore[union-attr]
        if not self.config.is_proxy(host) and len(own) > limits.share_of(limits.connections):
            self._make_room(own, "of one client")
        elif len(self.connections) > limits.connections:
            self._make_room(self.connections, "in all")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.busy:
            self._head_since = None
        elif self._head_since is None:
            self._head_since = self.loop.time()

    def on_response_complete(self) -> None:
        self._requests += 1
        self._idle_since = self.loop.time()
        # Until the next request begins, uvicorn's own limit for silent connections counts.
        self._head_since = self._answers_since = None
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writes_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._writes_since = None

    @property
    def busy(self) -> bool:
        """Whether a request is being processed."""
        return self.cycle is not None and not self.cycle.response_complete

    def close_if_late(self) -> None:
        """Closes the connection if its client is too slow; has to be called regularly."""
        limits, now = self.config.limits, self.loop.time()
        if self.busy and self.cycle.response_started:
            self._answers_since = now if self._answers_since is None else self._answers_since
        # The buffer may also be left over from an answer that was complete long ago.
        if not self.transport.get_write_buffer_size():
            self._writes_since = None
        elif self._writes_since is None:
            self._writes_since = now
        if _is_over(self._writes_since, limits.stall_seconds, now):
            self._abort("a client did not read its answer; its connection was closed.")
        elif _is_over(self._answers_since, limits.transfer_seconds, now):
            self._abort("an answer took too long to be read; its connection was closed.")
        elif _is_over(self._head_since, limits.head_seconds, now):
            self._refuse(b"408 Request Timeout", "a request was not complete in time; it was closed.")

    def _make_room(self, among: Iterable[Any], which: str) -> None:
        idle = [each for each in among if each is not self and not each.busy]
        if idle:
            oldest = min(idle, key=lambda each: (each._requests > 0, each._idle_since))
            # At once, so that the next connection does not find it again.
            self.connections.discard(oldest)
            oldest._abort(f"there are too many connections {which}; the oldest idle one was closed.")
        else:
            self._refuse(b"503 Service Unavailable", f"there are too many connections {which}.")

    def _abort(self, reason: str) -> None:
        log.warning(reason)
        self.transport.abort()

    def _refuse(self, status: bytes, reason: str) -> None:
        log.warning(reason)
        if not self.transport.is_closing():
            head = b"HTTP/1.1 %b\r\nConnection: close\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"
            self.transport.write(head % status)
            self.transport.close()
        self._head_since = None


def _is_over(since: float | None, seconds: float, now: float) -> bool:
    return since is not None and now - since > seconds
