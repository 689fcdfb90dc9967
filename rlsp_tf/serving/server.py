"""The end of a server, which loses nothing that was accepted."""

import asyncio
from collections.abc import Sequence
from types import FrameType

import uvicorn

from rlsp_tf.serving.app import Front
from rlsp_tf.serving.limits import LOCAL


class Server(uvicorn.Server):
    """Serves an application, and ends in order at the first signal.

    Nothing new is taken on from then on. Sessions may be flushed, and videos are finished, for ``grace``
    seconds at most; videos that are not finished then are answered with 503. A second signal ends it at once.

    Args:
        front: the application.
        grace: seconds.
        proxies: addresses and networks whose ``X-Forwarded-For`` tells who the client is.
    """

    def __init__(self, front: Front, grace: float, proxies: Sequence[str] = LOCAL) -> None:
        # In the end, seconds for answers that are on their way when all work is done.
        config = uvicorn.Config(
            front.app,
            log_level="warning",
            access_log=False,
            server_header=False,
            forwarded_allow_ips=list(proxies),
            timeout_graceful_shutdown=10,
        )
        super().__init__(config)
        self._front, self._grace = front, grace
        self._drained: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._drained is not None:
            self.should_exit = True
        else:
            self._drained = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        self._front.drain()
        deadline = asyncio.get_running_loop().time() + self._grace
        while self._front.busy and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.1)
        await self._front.stop_videos()
        self.should_exit = True
