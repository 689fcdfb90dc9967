"""Stopping at the next good moment instead of at once."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Stop:
    """Whether work is to stop: after some minutes, or at SIGINT or SIGTERM.

    Args:
        minutes: from now on; without limit by default.

    Attributes:
        signal: the name of the signal that came, if one did.
    """

    def __init__(self, minutes: float | None = None) -> None:
        self._deadline = None if minutes is None else time.monotonic() + 60 * minutes
        self.signal: str | None = None
        self._asked = False
        self._lost = False

    def __bool__(self) -> bool:
        if self._lost:
            raise KeyboardInterrupt
        return self.signal is not None or (self._deadline is not None and time.monotonic() >= self._deadline)

    @contextlib.contextmanager
    def on_signals(self, grace: float | None = None) -> Iterator[None]:
        """Takes note of signals within the block.

        The first one is only noted within :meth:`asked_often`. Any other one raises ``KeyboardInterrupt``,
        even where signals were ignored before, as shells let programs in the background do. Where one comes
        while something runs from which Python lets no exception out, it is raised when the object is asked
        next.

        Args:
            grace: seconds from a second signal on in which the block has to end; else the process does, with
                exit code 130. By default the block may take any time.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # Python delivers signals to the main thread only
            return
        usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        ends: list[threading.Timer] = []

        def note(number: int, frame: FrameType | None) -> None:
            again = self.signal is not None
            self.signal = self.signal or signal.Signals(number).name
            if self._asked and not again:
                return
            if again and grace is not None and not ends:
                # What is left to be done may wait for a disk that does not answer.
                ends.append(threading.Timer(grace, os._exit, (130,)))
                ends[0].daemon = True
                ends[0].start()
            raise KeyboardInterrupt

        usual_hook = sys.unraisablehook

        def remember(unraisable: Any) -> None:
            # The collector of garbage, for one, runs functions of JAX at any moment.
            if isinstance(unraisable.exc_value, KeyboardInterrupt):
                self._lost = True
            else:
                usual_hook(unraisable)

        for number in usual:
            signal.signal(number, note)
        sys.unraisablehook = remember
        try:
            yield
        finally:
            sys.unraisablehook = usual_hook
            for number, handler in usual.items():
                # None stands for one that was not set by Python, and cannot be.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            for end in ends:
                end.cancel()

    @contextlib.contextmanager
    def asked_often(self) -> Iterator[None]:
        """Within the block the object is asked again and again, so that a first signal need only be noted."""
        self._asked = True
        try:
            yield
        finally:
            self._asked = False
