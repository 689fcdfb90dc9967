"""Middleware that protects the page from web pages of other sites."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from rlsp_tf.serving.limits import Refused
from rlsp_tf.serving.refusals import answer_refusal
from rlsp_tf.serving.sites import check_site


class OwnPages:
    """Middleware that refuses requests from web pages of other sites, see :func:`check_site`.

    Args:
        app: the application.
        anywhere: whether any host name is accepted, as is safe for pages that need a login.
    """

    def __init__(self, app: ASGIApp, anywhere: bool) -> None:
        self._app, self._anywhere = app, anywhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                check_site(Headers(scope=scope), None if self._anywhere else ())
            except Refused as error:
                await answer_refusal(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)
