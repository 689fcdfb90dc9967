"""Stopping at the next good moment instead of at once."""

import contextlib
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
        self._lost = False

    def __bool__(self) -> bool:
        if self._lost:
            raise KeyboardInterrupt
        return self.signal is not None or (self._deadline is not None and time.monotonic() >= self._deadline)

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Takes note of signals within the block; a second one has its usual effect.

        Where that is a ``KeyboardInterrupt`` that comes while something runs from which Python lets no
        exception out, it is raised when the object is asked next.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # Python delivers signals to the main thread only
            return
        usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def note(number: int, frame: FrameType | None) -> None:
            self.signal = signal.Signals(number).name
            for each, handler in usual.items():
                signal.signal(each, handler)

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
                signal.signal(number, handler)
