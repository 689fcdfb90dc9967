"""Shows how far a command has come: a bar on a terminal, and a line now and then anywhere else."""

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from tqdm import tqdm

from rlsp_tf.system.quantities import spoken

FIRST = 5.0
"""Seconds before the first line."""
EVERY = 30.0
"""Seconds between lines."""
FEWEST = 3
"""Number of steps from which on a speed is told."""


class ProgressBar(tqdm):
    """A progress bar of tqdm on standard error.

    Where standard error is no terminal but a file or a pipe, lines are printed instead, which logs can hold.

    Args:
        items: what to iterate over, if anything.
        show: whether to show anything.
        unit: the plural of what is counted, such as ``"frames"``.
        options: other arguments of tqdm, such as ``total``, ``desc`` and ``leave``.
    """

    def __init__(
        self, items: Iterable[Any] | None = None, *, show: bool, unit: str = "steps", **options: Any
    ) -> None:
        self._lines = not sys.stderr.isatty()
        self._due = time.monotonic() + FIRST
        self._told = (0.0, options.get("initial", 0))
        self._unit = unit
        super().__init__(items, disable=not show, unit=f" {unit}", file=sys.stderr, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        if not self._lines:
            return super().display(msg, pos)
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + EVERY
            print(self._line(), file=self.fp, flush=True)
        return True

    def clear(self, nolock: bool = False) -> None:
        if not self._lines:
            super().clear(nolock)

    def close(self) -> None:
        if self._lines:
            self.sp = None  # there is nothing on the screen to finish
        super().close()

    def _line(self) -> str:
        state = self.format_dict
        done, total, elapsed = state["n"], state["total"], state["elapsed"]
        since, before = self._told
        # A few say little about speed; then all that were done since the beginning count.
        if done - before < FEWEST:
            since, before = 0.0, self.initial
        self._told = (elapsed, done)
        name = state["prefix"].removesuffix(": ")
        count: Callable[[Any], str] = self.format_sizeof if state["unit_scale"] else str
        parts = [f"{count(done)} of {count(total)} {self._unit}" if total else f"{count(done)} {self._unit}"]
        rate = (done - before) / (elapsed - since) if done - before >= FEWEST and elapsed > since else 0
        if rate:
            parts.append(f"{count(rate) if state['unit_scale'] else f'{rate:.3g}'} {self._unit}/s")
        if rate and total and total >= done:
            parts.append(f"about {spoken((total - done) / rate)} left")
        if state["postfix"]:
            parts.append(state["postfix"])
        return f"{f'{name}: ' if name else ''}{', '.join(parts)}"
