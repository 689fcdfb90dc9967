"""The process that upscales one upload: ``python -m rlsp_tf.ui.worker FOLDER RESULT MOST_BYTES``.

A process of its own keeps the page responsive, and alive if memory runs out. Lines of JSON go to standard
output: ``{"frames", "total"}`` for progress, and in the end ``{"notes", "frames"}`` or ``{"error"}``.
It ends when standard input does, so that it does not outlive the page.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from filelock import FileLock

from rlsp_tf.errors import Interrupted, RLSPError, describe_os_error
from rlsp_tf.inference.load import load_step
from rlsp_tf.system.signals import Stop
from rlsp_tf.ui.choices import PICTURE, Order, plain
from rlsp_tf.ui.playable import (
    AFTER_PICTURE,
    BEFORE,
    BEFORE_PICTURE,
    is_playable,
    write_picture,
    write_playable,
)
from rlsp_tf.upscaling.upscale import upscale_clip
from rlsp_tf.upscaling.work_folder import WorkFolder

TELL_SECONDS = 0.25
"""Seconds between two reports of progress."""
GRACE = 10
"""Seconds in which the process must end after the page has ended."""


def main(folder: Path, target: Path, most: int) -> None:
    """Computes the order in a folder.

    Args:
        folder: the folder of the job.
        target: the file to write.
        most: largest size of the file in bytes.
    """
    # Whatever libraries print must not come between the lines.
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(**values: Any) -> None:
        print(json.dumps(values), file=lines, flush=True)

    threading.Thread(target=_end_with_the_page, daemon=True).start()
    # The page and whatever else a person does on this computer go first.
    os.nice(5)
    stop = Stop()
    with stop.on_signals(grace=GRACE):
        try:
            order = Order.read(folder)
            names = {target: "the result", order.source(folder): order.title, folder: order.title}
            # A worker that a killed page has left behind may still be saving.
            with FileLock(folder / "worker.lock"):
                tell(**_upscale(order, folder, target, most, stop, tell))
        except Interrupted:
            sys.exit(130)
        except RLSPError as error:
            tell(error=plain(str(error), names))
        except OSError as error:
            tell(error=plain(describe_os_error(error), names))


def _upscale(order: Order, folder: Path, target: Path, most: int, stop: Stop, tell: Any) -> dict[str, Any]:
    step = load_step(order.model, precision=order.precision)
    source = order.source(folder)
    with order.recipe.open(source) as clip:
        total = clip.frames
    work = WorkFolder(target)
    frames, told = 0, 0.0

    def tick() -> None:
        nonlocal frames, told
        frames += 1
        if time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            tell(frames=frames, total=total)
            if work.path.is_dir() and work.size() > most:
                raise _TooLarge(
                    f"{order.title}: the result is larger than {most / 1e9:g} GB, the limit here; choose a "
                    "smaller size or another kind of file."
                )

    notes: list[str] = []
    # It has its name when it is complete, so a worker was killed right after.
    if not target.exists():
        try:
            notes = upscale_clip(source, target, step, order.recipe, stop=stop, tick=tick)
        except _TooLarge:
            work.remove()
            raise
    if order.suffix == PICTURE.suffix:
        write_picture(source, folder / BEFORE_PICTURE)
        write_picture(target, folder / AFTER_PICTURE)
    elif order.interval or not is_playable(source):
        write_playable(source, folder / BEFORE, order.recipe, stop)
    names = {source: order.title, target: "the result"}
    return {"notes": [plain(note, names) for note in notes], "frames": frames or total or 1}


class _TooLarge(RLSPError):
    """The result is larger than the limit."""


def _end_with_the_page() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(130)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
