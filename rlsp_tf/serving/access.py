"""Checks who may use a server: bearer tokens, and protection from web pages of other sites."""

import hashlib
import hmac
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Address, Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from rlsp_tf.errors import RLSPError
from rlsp_tf.serving.limits import Refused
from rlsp_tf.serving.rate_limit import RateLimit
from rlsp_tf.serving.refusals import answer_refusal
from rlsp_tf.serving.sites import check_site
from rlsp_tf.system.files import read_entries

SHORTEST_TOKEN = 16
"""Smallest length of a token in characters; shorter ones could be guessed."""
OPEN_PATHS = ("/healthz",)
"""Paths for which no token is needed: load balancers do not have one."""


@dataclass(frozen=True)
class Access:
    """Who may use a server.

    Attributes:
        hosts: names by which clients may address the server, besides ``localhost`` and any IP address.
        tokens: valid tokens, one of which every request must have. If there are none, everybody may use
            the server.
    """

    hosts: Sequence[str] = ()
    tokens: Sequence[str] = ()


class CheckAccess:
    """Middleware that refuses unauthorized requests, and stores the client in ``scope["state"]["client"]``.

    Requests that pages of other sites make (:func:`rlsp_tf.serving.sites.check_site`) are answered with 403,
    those without a valid token with 401.

    Args:
        app: the application.
        access: tokens and names with which the server may be used.
        rate: limit on requests with a wrong token from each address, so that tokens cannot be guessed.
    """

    def __init__(self, app: ASGIApp, access: Access, rate: RateLimit) -> None:
        self._app, self._rate = app, rate
        self._hosts = [host.lower() for host in access.hosts]
        self._digests = [hashlib.sha256(token.encode()).digest() for token in access.tokens]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                await self._check(scope)
            except Refused as error:
                await answer_refusal(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        client = scope.get("client")
        client_name = client_of(Address(*client) if client else None)
        check_site(headers, self._hosts)
        if self._digests and scope["path"] not in OPEN_PATHS:
            digest = hashlib.sha256(_token_of(headers).encode()).digest()
            # All tokens are compared, each in constant time, so the time reveals nothing about them.
            if not sum(hmac.compare_digest(digest, each) for each in self._digests):
                await self._rate.check(client_name)
                raise Refused("give a valid token, as in: Authorization: Bearer TOKEN.", 401)
            client_name = digest.hex()[:16]
        scope.setdefault("state", {})["client"] = client_name


def read_tokens(path: str | os.PathLike[str]) -> list[str]:
    """Reads a file with one token per line. Empty lines and lines that begin with ``#`` are skipped.

    Args:
        path: the file.

    Raises:
        RLSPError: if the file cannot be read, has no token, or has one that is too short or contains other
            characters than ASCII letters, digits and punctuation.
    """
    path, tokens = Path(path), []
    for number, token in read_entries(path, "token"):
        if len(token) < SHORTEST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
            raise RLSPError(
                f"{path}: line {number} is not a token of at least {SHORTEST_TOKEN} letters, digits and "
                "punctuation; make one by: openssl rand -hex 32."
            )
        tokens.append(token)
    if not tokens:
        raise RLSPError(f"{path}: has no token in it; make one by: openssl rand -hex 32.")
    return tokens


def client_of(address: Address | None) -> str:
    """Returns the name that identifies a client without a token.

    An IPv6 network of 64 bits counts as one client, since one machine may use all of its addresses.

    Args:
        address: address that the request comes from, or that a trusted proxy has passed on.
    """
    try:
        parsed = ipaddress.ip_address(address.host if address else "")
    except ValueError:
        # A proxy may say "unknown", or pass on what a client has invented.
        return "unknown"
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    if isinstance(parsed, ipaddress.IPv6Address) and mapped is None:
        return str(ipaddress.ip_network((parsed.packed[:8] + bytes(8), 64)))
    return str(mapped or parsed)


def _token_of(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
