"""Computes each job in a process of its own, see :mod:`rlsp_tf.ui.worker`."""

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from rlsp_tf.errors import Interrupted, RLSPError
from rlsp_tf.serving.limits import ServerFault
from rlsp_tf.system.backends import variables_for
from rlsp_tf.ui.choices import Order

LOG = "worker.log"
"""Name of the file in a job's folder that receives the standard error of its process."""
LONGEST_LINE = 2**20
"""Largest size in bytes of a line from a process; notes may be long."""


class Processes:
    """A :class:`rlsp_tf.serving.jobs.JobBackend` with a process for each job.

    Args:
        most: the most bytes that a result may have.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._progress: dict[str, tuple[int, int | None]] = {}

    async def video(self, job: str, source: str, target: str, model: str) -> tuple[list[str], int]:
        """Computes the order in the folder of ``source``.

        Returns:
            Sentences about what was assumed or left out, and the number of frames.

        Raises:
            Interrupted: if it was stopped.
            ServerFault: if the process ended by itself.
            RLSPError: if the upload cannot be upscaled.
        """
        folder = Path(source).parent
        arguments = ("-m", "rlsp_tf.ui.worker", folder, target, str(self._most))
        with (folder / LOG).open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, **variables_for(_precision(folder))},
                limit=LONGEST_LINE,
                # Ctrl-C is for the page, which stops its processes.
                start_new_session=True,
            )
        assert process.stdout is not None
        self._running[job], self._progress[job] = process, (0, None)
        said: dict[str, Any] = {}
        try:
            async for line in process.stdout:
                said = json.loads(line)
                if "total" in said:
                    self._progress[job] = said["frames"], said["total"]
            code = await process.wait()
        finally:
            del self._running[job], self._progress[job]
        if "notes" in said:
            return said["notes"], said["frames"]
        if "error" in said:
            raise RLSPError(str(said["error"]))
        if code in (130, -15):
            raise Interrupted("the work was stopped.")
        details = (folder / LOG).read_text("utf-8", "replace")[-4000:]
        raise ServerFault(
            "the process that upscales has ended unexpectedly, perhaps for want of memory; close other "
            "programs, or choose a smaller size, and try again.",
            details or f"exit code {code}",
        )

    async def stop(self, job: str) -> None:
        """Stops the process of a job, if there is one. Finished parts are kept."""
        if process := self._running.get(job):
            with contextlib.suppress(ProcessLookupError):
                process.terminate()

    async def progress(self, job: str) -> tuple[int, int | None]:
        """Returns the number of finished frames of a job, and of all its frames."""
        return self._progress.get(job, (0, None))


def _precision(folder: Path) -> str | None:
    """Returns the precision of the order in a folder; ``None`` if it is damaged, as its process will say."""
    try:
        return Order.read(folder).precision
    except RLSPError:
        return None
