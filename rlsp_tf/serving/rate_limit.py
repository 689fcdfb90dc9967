"""How often each client of ``rlsp serve`` may ask."""

import ipaddress

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter
from starlette.datastructures import Address

from rlsp_tf.serving.limits import Refused


class Rate:
    """So many requests a second from each client.

    Clients are forgotten when their second is over and another request comes.

    Args:
        most: how many.
    """

    def __init__(self, most: int) -> None:
        # Every request looks through the clients of its window, so that a minute of many would cost too much.
        self._most = RateLimitItemPerSecond(most)
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    async def check(self, client: Address | None) -> None:
        """Counts a request.

        Args:
            client: where it comes from.

        Raises:
            Refused: with 429, if it is one too many.
        """
        if not await self._limiter.hit(self._most, _who(client)):
            raise Refused(
                f"more than {self._most.amount} requests a second come from this client; send fewer.",
                429,
                again=self._most.get_expiry(),
            )


def _who(client: Address | None) -> str:
    """Who is counted as one.

    In IPv6 that is a network of 64 bits, of which one machine may use all addresses.
    """
    try:
        address = ipaddress.ip_address(client.host if client else "")
    except ValueError:
        # A proxy may say "unknown", or pass on what a client made up.
        return "unknown"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).packed[:8].hex()
