"""Stops work at the next suitable moment instead of at once."""

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
    """Becomes true when work should stop: after a number of minutes, or on SIGINT or SIGTERM.

    Args:
        minutes: minutes from now. By default there is no limit.

    Attributes:
        signal: the name of the signal that arrived; ``None`` if none did.
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
        """Handles SIGINT and SIGTERM within the block.

        Inside :meth:`asked_often`, the first signal is only recorded. Every other signal raises
        ``KeyboardInterrupt``, even if signals were ignored before, as they are in programs that a shell runs
        in the background. If Python discards that exception, because it was raised in a finalizer, it is
        raised again the next time this object is evaluated.

        Args:
            grace: seconds that the block may still take after a second signal, before the process exits with
                code 130. By default there is no limit.
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
                # The cleanup may hang, for example on a disk that does not respond.
                ends.append(threading.Timer(grace, os._exit, (130,)))
                ends[0].daemon = True
                ends[0].start()
            raise KeyboardInterrupt

        usual_hook = sys.unraisablehook

        def remember(unraisable: Any) -> None:
            # The garbage collector, for one, can run functions of JAX at any moment.
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
                # None means that the handler was not installed by Python; Python cannot restore it.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            for end in ends:
                end.cancel()

    @contextlib.contextmanager
    def asked_often(self) -> Iterator[None]:
        """Marks a block that evaluates this object often, so that a first signal is only recorded."""
        self._asked = True
        try:
            yield
        finally:
            self._asked = False
