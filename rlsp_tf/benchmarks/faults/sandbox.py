"""A folder in which the command line runs while a benchmark makes something go wrong."""

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from rlsp_tf.benchmarks.excerpts import is_whole, packets
from rlsp_tf.errors import RLSPError
from rlsp_tf.upscaling.work_folder import SUFFIX

PROGRAM = (sys.executable, "-m", "rlsp_tf")
"""The command line."""
TIME_LIMIT = 600
"""A run that takes longer, in seconds, counts as hung; normally it takes some seconds."""
FILM, LARGE = "film.mp4", "large.mp4"


@dataclass
class Sandbox:
    """The folder in which a situation takes place, and the runs in it.

    Attributes:
        folder: an empty folder.
        film: a video of several hundred frames.
        program: the command line, without arguments.
        options: options of every run.
        log: suffix of the file beside the folder that holds the messages of a run.
        said: lines that the last run wrote on standard error.
        peak: largest number of bytes that was seen in the folder.
    """

    folder: Path
    film: Path
    program: Sequence[str]
    options: Sequence[str]
    log: str = ".log"
    said: list[str] = field(default_factory=list)
    peak: int = 0

    def start(self, source: str, target: str, *more: str, limit_bytes: int | None = None) -> Any:
        """Starts ``rlsp upscale`` in the folder; ``limit_bytes`` limits the size of each file it writes."""
        files = (str(self.folder / source), str(self.folder / target))
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                [*self.program, "upscale", *files, *self.options, *more],
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        if limit_bytes:
            psutil.Process(process.pid).rlimit(psutil.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
        return process

    def end(self, process: Any) -> int | None:
        """Waits for a run and sets ``said``; returns its exit code, ``None`` if it hung and was killed."""
        try:
            deadline = time.monotonic() + TIME_LIMIT
            while process.poll() is None and time.monotonic() < deadline:
                self.peak = max(self.peak, self._bytes())
                time.sleep(0.02)
            code = process.poll()
        finally:
            process.kill()
            process.wait()
        lines = self._log.read_text("utf-8", "replace").replace(f"{self.folder}/", "").splitlines()
        self.said = [line for line in lines if line.startswith("rlsp: error: ")]
        if len(self.said) != 1 or "Traceback" in "\n".join(lines):
            self.said = lines if code else []
        return code

    def run(self, source: str, target: str, *more: str, limit_bytes: int | None = None) -> int | None:
        """:meth:`start` and :meth:`end`."""
        return self.end(self.start(source, target, *more, limit_bytes=limit_bytes))

    def add_film(self) -> None:
        """Copies the film into the folder."""
        shutil.copyfile(self.film, self.folder / FILM)

    def wait_for(self, process: Any, happens: Callable[[], bool]) -> None:
        """Waits until something happens or the process ends."""
        while process.poll() is None and not happens():
            time.sleep(0.01)

    def is_at_work(self) -> bool:
        """Whether a run has begun to upscale."""
        return (self.folder / (LARGE + SUFFIX)).exists()

    def has_heard_a_signal(self) -> bool:
        """Whether a run has reported a signal."""
        return b"to stop at once" in self._log.read_bytes()

    @property
    def left(self) -> list[str]:
        """Names in the folder."""
        return sorted(path.name for path in self.folder.iterdir())

    @property
    def _log(self) -> Path:
        return self.folder.with_suffix(self.log)

    def _bytes(self) -> int:
        total = 0
        for path in self.folder.rglob("*"):
            with contextlib.suppress(OSError):
                total += path.stat().st_size if path.is_file() else 0
        return total


@dataclass(frozen=True)
class UndisturbedRun:
    """The result of an undisturbed run.

    Attributes:
        packets: packets of the result; see :func:`rlsp_tf.benchmarks.excerpts.packets`.
        size: bytes of the result.
        peak: largest number of bytes in the folder, including source and result.
    """

    packets: dict[str, Any]
    size: int
    peak: int

    def is_in(self, folder: Path, *, in_parts: bool = False) -> bool:
        """Whether a folder holds the same result and the film, and no other files.

        Args:
            folder: the folder to check.
            in_parts: whether a segment may have been encoded in two parts; then it is enough that all frames
                decode and have the same times.
        """
        names = {path.name for path in folder.iterdir()}
        try:
            found = packets(folder / LARGE)
            if names != {FILM, LARGE} or found.keys() != self.packets.keys():
                return False
            if not in_parts:
                return found == self.packets
            video = "0 video"
            times, expected = ([time for time, _ in each[video]] for each in (found, self.packets))
            others = {**found, video: []} == {**self.packets, video: []}
            return others and sorted(times) == sorted(expected) and is_whole(folder / LARGE) == len(times)
        except RLSPError:
            return False


Situation = Callable[[Sandbox, UndisturbedRun], dict[str, Any]]
"""Tries one situation; for the result see ``benchmark_situations``."""
