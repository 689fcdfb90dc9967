"""Stopping at the next good moment instead of at once."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType


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

    def __bool__(self) -> bool:
        return self.signal is not None or (self._deadline is not None and time.monotonic() >= self._deadline)

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Takes note of signals within the block; a second one has its usual effect."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python delivers signals to the main thread only
            return
        usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def note(number: int, frame: FrameType | None) -> None:
            self.signal = signal.Signals(number).name
            for each, handler in usual.items():
                signal.signal(each, handler)

        for number in usual:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)
