"""Limits how often each client may send requests."""

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter

from rlsp_tf.serving.limits import Refused


class RateLimit:
    """Allows each client a number of requests per second.

    Clients are forgotten after a second without requests, so they take no memory.

    Args:
        requests: largest number of requests per second and client.
    """

    def __init__(self, requests: int) -> None:
        # The library looks through all clients of the current window at every request. With windows of a
        # minute that would take too long.
        self._limit = RateLimitItemPerSecond(requests)
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    async def check(self, client: str) -> None:
        """Counts a request.

        Args:
            client: the client; see :func:`rlsp_tf.serving.access.client_of`.

        Raises:
            Refused: with 429, if the client has sent too many.
        """
        if not await self._limiter.hit(self._limit, client):
            raise Refused(
                f"more than {self._limit.amount} requests per second come from this client; send fewer.",
                429,
                retry_after=self._limit.get_expiry(),
            )
