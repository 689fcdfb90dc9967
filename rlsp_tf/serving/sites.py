"""Refuses requests that web pages of other sites make."""

import ipaddress
from collections.abc import Collection

from starlette.datastructures import Headers

from rlsp_tf.serving.limits import Refused


def check_site(headers: Headers, hosts: Collection[str] | None) -> None:
    """Checks that a request does not come from a web page of another site.

    A web page that a user of this machine visits can make the browser send requests to this server: either
    across sites, which the ``Origin`` header shows, or by changing the address of its own name to that of
    this server (DNS rebinding), which the ``Host`` header shows.

    Args:
        headers: headers of the request.
        hosts: names of the server in lower case, besides ``localhost`` and IP addresses; ``None`` for any.

    Raises:
        Refused: with 403, if the host is not one of the server, or the page comes from another site.
    """
    host = headers.get("host", "")
    name = _name_of(host)
    if hosts is not None and name != "localhost" and name not in hosts and not _is_address(name):
        raise Refused(
            f"this server is not called {host[:80]!r}; start it with --allowed-host if it should be.", 403
        )
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        raise Refused("web pages of other sites may not use this server.", 403)


def _name_of(host: str) -> str:
    """Returns the name or address in a ``Host`` header, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
