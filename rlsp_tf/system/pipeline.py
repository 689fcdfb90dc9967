"""Stages of work that overlap: each in a thread, with a bounded queue between them.

Decoding, the network and encoding spend their time in libraries that let other threads run meanwhile. A
bounded queue keeps memory constant: whoever is ahead waits.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")
AHEAD = 3
"""Items that wait between two stages at most, unless said otherwise."""
_POLL = 0.1
"""Seconds between looks at whether the other side has ended."""


class _End:
    """What is queued after the last item."""


class _Stage:
    """A thread that can be told to stop, and whose failure is kept.

    Args:
        name: of the stage, for whoever reads a traceback.
        work: what it does.
        ahead: items that wait in its queue at most.
    """

    def __init__(self, name: str, work: Callable[[], None], ahead: int = AHEAD) -> None:
        self.name = name
        self.queue: queue.Queue[object] = queue.Queue(ahead)
        self.error: BaseException | None = None
        self.stopped = threading.Event()
        self._work = work
        self._thread = threading.Thread(target=self._run, name=f"rlsp {name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, item: object) -> bool:
        """Whether there was room before the stage ended."""
        while not self.stopped.is_set():
            try:
                self.queue.put(item, timeout=_POLL)
                return True
            except queue.Full:
                continue
        return False

    def get(self) -> object:
        """The next item, or :class:`_End` if the stage ended and nothing is left."""
        while True:
            try:
                return self.queue.get(timeout=_POLL)
            except queue.Empty:
                if self.stopped.is_set():
                    return _End

    def join(self) -> None:
        self._thread.join()

    def raise_error(self) -> None:
        """Raises what ended the stage, if something did."""
        if self.error is not None:
            error, self.error = self.error, None
            # A stage that gives to another one passes on what has ended that.
            noted = hasattr(error, "__notes__") or not hasattr(error, "add_note")  # Python 3.11
            if isinstance(error, Exception) and not noted:
                error.add_note(f"while {self.name}")
            raise error

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error
        finally:
            if self.error is not None:
                self.stopped.set()


class Prefetch(Generic[Item]):
    """Iterates in a thread of its own, a few items ahead of whoever takes them.

    A context manager: leaving it ends the thread, even in the middle.

    Args:
        name: of the stage, such as ``"decoding"``.
        items: what to iterate over.
    """

    def __init__(self, name: str, items: Iterable[Item]) -> None:
        self._items = items
        self._stage = _Stage(name, self._fill)

    def __enter__(self) -> "Prefetch[Item]":
        self._stage.start()
        return self

    def __iter__(self) -> Iterator[Item]:
        while (item := self._stage.get()) is not _End:
            yield item  # type: ignore[misc]
        self._stage.raise_error()

    def __exit__(self, *exception: object) -> None:
        self._stage.stopped.set()
        self._stage.join()

    def _fill(self) -> None:
        for item in self._items:
            if not self._stage.put(item):
                return
        self._stage.put(_End)


class Background(Generic[Item]):
    """Gives items to a function in a thread of its own, a few items behind whoever makes them.

    A context manager: leaving it waits until all is done; leaving it by an exception, until the item at
    hand is.

    Args:
        name: of the stage, such as ``"encoding"``.
        take: called for each item, in order.
        ahead: items that wait at most, beside the one at hand.
    """

    def __init__(self, name: str, take: Callable[[Item], None], ahead: int = AHEAD) -> None:
        self._take = take
        self._abandoned = False
        self._stage = _Stage(name, self._drain, ahead)

    def __enter__(self) -> "Background[Item]":
        self._stage.start()
        return self

    def put(self, item: Item) -> None:
        """Queues an item; waits if too many are waiting.

        Raises:
            Exception: what the function has raised for an item before.
        """
        if not self._stage.put(item):
            self._stage.raise_error()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._abandoned = error is not None
        self._stage.put(_End)
        self._stage.join()
        if error is None:
            self._stage.raise_error()

    def _drain(self) -> None:
        while (item := self._stage.get()) is not _End and not self._abandoned:
            self._take(item)  # type: ignore[arg-type]
