"""Orders of all users of a page: they are queued, computed one at a time, and kept for a limited time."""

import asyncio
import shutil
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from rlsp_tf.errors import RLSPError
from rlsp_tf.serving.jobs import Job, Jobs
from rlsp_tf.serving.limits import DEFAULT_LIMITS, Capacity
from rlsp_tf.ui.choices import Order
from rlsp_tf.ui.limits import Limits
from rlsp_tf.ui.processes import Processes
from rlsp_tf.ui.uploads import Upload, clear, put

UPLOAD_SECONDS = 86400
"""Seconds after which files in the folder for uploads are removed. Orders have links to them."""
_CLEAR_SECONDS = 600
_NETWORK = "rlsp"
"""Name of the network in all jobs. Orders hold the real name, so jobs stay if their weights are missing."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Placed:
    """An order and its job.

    Attributes:
        order: the order.
        job: the state of its computation.
        folder: folder of its files.
    """

    order: Order
    job: Job
    folder: Path

    @property
    def source(self) -> Path:
        """Path of the clip that was uploaded."""
        return self.order.source(self.folder)

    @property
    def result(self) -> Path:
        """Path of the result, which exists when the job is done."""
        return self.folder / f"result.{self.order.suffix}"


class Orders:
    """The orders of all users of a page. Use it as a context manager; orders are computed within the block.

    All methods can be called by any thread.

    Args:
        folder: folder for everything. Jobs in it that have not ended are resumed.
        limits: limits of the page.

    Attributes:
        uploads: folder for files that are dropped.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.uploads, self.limits = folder / "uploads", limits
        self._folder = folder / "jobs"
        for each in (self.uploads, self._folder):
            each.mkdir(mode=0o700, exist_ok=True)
        kept = replace(DEFAULT_LIMITS, jobs=limits.jobs, job_age=limits.keep, client_share=1)
        self._jobs = Jobs(
            Processes(limits.result), kept, self._folder, Capacity(1, "videos"), {_NETWORK: None}
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="orders", daemon=True)

    def __enter__(self) -> "Orders":
        self._thread.start()
        self._running = [
            asyncio.run_coroutine_threadsafe(work, self._loop) for work in (self._jobs.run(), self._clear())
        ]
        return self

    def __exit__(self, *exception: Any) -> None:
        self._wait(self._jobs.stop())
        for each in self._running:
            each.cancel()
        self._wait(asyncio.sleep(0))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def place(self, client: str, *ordered: tuple[Upload, Order]) -> list[str]:
        """Queues orders: all of them, or none if one cannot be queued.

        Args:
            client: name of the user.
            ordered: clips, each with what is made of it; ``files`` of the orders is filled in.

        Returns:
            The names of the jobs.

        Raises:
            RLSPError: if there are too many jobs.
        """
        names: list[str] = []
        try:
            for upload, order in ordered:
                names.append(self._wait(self._submit(client, upload, order)))
        except BaseException:
            for name in names:
                self.remove(client, name)
            raise
        return names

    async def _submit(self, client: str, upload: Upload, order: Order) -> str:
        names = [
            f"clip{file.suffix.lower()}" if len(upload.files) == 1 else f"frames/{file.name}"
            for file in upload.files
        ]

        async def receive(path: Path) -> None:
            filled = replace(order, files=tuple(names))
            await asyncio.to_thread(_receive, upload, filled, path.parent)

        return (await self._jobs.submit(client, _NETWORK, order.suffix, receive)).name

    def of(self, client: str) -> list[Placed]:
        """Returns the orders of a client, the latest first."""
        placed = []
        for job in reversed(self._jobs.of(client)):
            folder = self._folder / job.name
            try:
                placed.append(Placed(Order.read(folder), job, folder))
            except RLSPError:
                continue
        return placed

    def room(self) -> int:
        """Returns the number of bytes for a result and its parts: free space, and at most twice the limit."""
        return min(shutil.disk_usage(self._folder).free, 2 * self.limits.result)

    def remove(self, client: str, name: str) -> None:
        """Stops a job if it is running, and removes all its files."""
        self._wait(self._jobs.remove(self._jobs.get(client, name)))

    def again(self, client: str, name: str) -> None:
        """Queues a failed job again."""
        self._wait(self._jobs.again(self._jobs.get(client, name)))

    def _wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _clear(self) -> None:
        while True:
            await asyncio.to_thread(clear, self.uploads, UPLOAD_SECONDS)
            await asyncio.sleep(_CLEAR_SECONDS)


def _receive(upload: Upload, order: Order, folder: Path) -> None:
    if len(order.files) > 1:
        (folder / "frames").mkdir()
    for file, name in zip(upload.files, order.files, strict=True):
        put(file, folder / name)
    order.write(folder)
