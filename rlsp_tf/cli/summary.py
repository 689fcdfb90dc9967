"""What long commands say about a run before and after it, for people on standard error and for programs."""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlsp_tf.cli.common import print_notes
from rlsp_tf.errors import UsageError
from rlsp_tf.system.quantities import megabytes, spoken

if TYPE_CHECKING:
    from rlsp_tf.upscaling.estimate import Estimate

PACKAGES = ("rlsp_tf", "tensorflow", "keras", "numpy", "av", "opencv-python-headless")


def add_loudness(parser: argparse.ArgumentParser) -> None:
    """Adds ``--quiet``, ``--verbose`` and ``--json``; see :class:`Summary`."""
    loudness = parser.add_mutually_exclusive_group()
    add_quiet(loudness)
    loudness.add_argument(
        "--verbose", action="store_true", help="also print settings and versions, for reports of problems"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print a JSON object about the run on standard output in the end",
    )


def add_quiet(parser: argparse._ActionsContainer) -> None:
    """Adds ``--quiet``."""
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors on standard error")


class Summary:
    """Collects what a command has made, and says it in the way that its options ask for.

    Args:
        arguments: the parsed arguments of a command with the options of :func:`add_loudness`.

    Attributes:
        quiet: whether only errors are printed.
        verbose: whether settings and versions are printed, too.
        json: whether a JSON object is printed in the end.
        results: what was made, one object for each output.
        notes: sentences about what was assumed or left out.
        failed: sentences about inputs that could not be read or written.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.quiet: bool = arguments.quiet
        self.verbose: bool = arguments.verbose
        self.json: bool = arguments.json
        self.results: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.failed: list[str] = []
        self._started = time.monotonic()
        self._since: float | None = None
        self._count = 0
        if self.verbose:
            self.say_details(versions())

    def check_stdout(self, targets: Sequence[str]) -> None:
        """Raises ``UsageError`` if standard output is asked for as an output and for JSON, too."""
        if self.json and "-" in targets:
            raise UsageError("--json and the output - both need standard output; leave out one of them.")

    def begin(self) -> None:
        """Begins to measure the time and to count the frames of the next output."""
        self._since, self._count = time.monotonic(), 0

    def tick(self) -> None:
        """Counts a frame."""
        self._count += 1

    def say(self, sentence: str) -> None:
        """Prints a line on standard error, unless only errors are asked for."""
        if not self.quiet:
            print(f"rlsp: {sentence}", file=sys.stderr)

    def say_details(self, details: dict[str, Any]) -> None:
        """Prints settings or versions, if they are asked for."""
        if self.verbose:
            self.say("; ".join(f"{name} {value}" for name, value in details.items()))

    def made(self, path: str | Path, *, kept: int = 0, **more: Any) -> None:
        """Says that an output is complete; with time and frames, if :meth:`begin` was called.

        Args:
            path: the file or folder, or ``"-"``.
            kept: number of frames among those counted that an earlier run had finished.
            more: other facts, for JSON.
        """
        size = None if str(path) == "-" else size_on_disk(Path(path))
        seconds = None if self._since is None else round(time.monotonic() - self._since, 3)
        frames = self._count - kept
        rate = round(frames / seconds, 3) if frames > 0 and seconds else None
        self.results.append(
            {"output": str(path), "bytes": size, "frames": self._count, "frames_kept": kept}
            | {"seconds": seconds, "frames_per_second": rate, **more}
        )
        parts = [] if size is None else [megabytes(size)]
        if frames > 0:
            parts.append("1 frame" if frames == 1 else f"{frames} frames")
        if seconds is not None:
            parts.append(f"{parts.pop() if frames > 0 else 'complete'} in {spoken(seconds)}")
        speed = f" ({rate:.3g} frames/s)" if rate and frames > 1 else ""
        self.say(f"{'standard output' if str(path) == '-' else path}: {', '.join(parts)}{speed}")

    def end(self, notes: Iterable[str] = ()) -> None:
        """Prints the notes and, if it is asked for, the JSON object. Call it once, after everything else."""
        self.notes += notes
        if not self.quiet:
            print_notes(self.notes)
        if self.json:
            value = {
                "results": self.results,
                "failed": self.failed,
                "notes": self.notes,
                "seconds": round(time.monotonic() - self._started, 3),
                "versions": versions(),
            }
            print(json.dumps(value, indent=1))


def announcement(estimate: "Estimate") -> str:
    """Describes what a run will make and about what it takes, in one line."""
    parts = [f"{estimate.width}x{estimate.height}"]
    if estimate.rate:
        parts.append(f"{estimate.rate:.4g} frames/s")
    if estimate.frames is not None:
        parts.append("1 frame" if estimate.frames == 1 else f"{estimate.frames} frames")
    parts.append(estimate.codec)
    if estimate.along:
        parts.append(f"with {' and '.join(estimate.along)}")
    sentence = f"{estimate.path}: {', '.join(parts)}"
    if estimate.finished:
        sentence += f"; {estimate.finished} frames are finished already"
    if estimate.seconds is not None and estimate.size is not None:
        sentence += f"; takes about {spoken(estimate.seconds)} and {megabytes(estimate.size)}"
        if estimate.rate:
            sentence += ", twice that on the disk until it is complete"
    return sentence


def size_on_disk(path: Path) -> int | None:
    """Returns the bytes of a file, or of all files in a folder; ``None`` if there is neither."""
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return path.stat().st_size if path.is_file() else None


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that decide on results."""
    # Imported here because they would slow the start of every command.
    import platform
    from importlib import metadata

    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
