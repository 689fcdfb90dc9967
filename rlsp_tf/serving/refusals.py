"""Answers to requests that were refused or failed: a status and one sentence, as JSON."""

import logging

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Match

from rlsp_tf.serving.limits import Refused, ServerFault, SessionLost, TooLarge, server_error

log = logging.getLogger("rlsp.serve")


def answer_refusal(error: Exception, path: str = "") -> JSONResponse:
    """Returns the answer to a request that ended with an exception.

    Args:
        error: an ``RLSPError``, ``OSError``, ``HTTPException`` or ``ClientDisconnect``.
        path: path of the request.

    Returns:
        ``{"error": sentence}`` with the HTTP status for the exception.
    """
    headers: dict[str, str] = {}
    status, sentence = 400, str(error)
    if isinstance(error, HTTPException):
        status, headers = error.status_code, dict(error.headers or {})
        sentence = f"{path[:80]}: {error.detail.lower()}."
    elif isinstance(error, Refused):
        status = error.status
        if error.retry_after is not None:
            headers["Retry-After"] = str(error.retry_after)
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if isinstance(error, ServerFault) and error.details:
            log.error("a request failed:\n%s", error.details)
    elif isinstance(error, TooLarge):
        status = 413
    elif isinstance(error, SessionLost):
        status = 410
    elif isinstance(error, ClientDisconnect):
        sentence = "the client went away."
    elif isinstance(error, OSError):
        return answer_refusal(server_error(error.errno))
    return JSONResponse({"error": sentence}, status, headers=headers)


async def on_exception(request: Request, error: Exception) -> JSONResponse:
    """:func:`answer_refusal` as an exception handler of Starlette."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        # Starlette names the methods of the first route with this path only.
        routes = [route for route in request.app.routes if route.matches(request.scope)[0] != Match.NONE]
        error.headers = {"Allow": ", ".join(sorted({method for route in routes for method in route.methods}))}
    return answer_refusal(error, request.url.path)
