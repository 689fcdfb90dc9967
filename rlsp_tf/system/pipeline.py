"""Stages of work that run at the same time, each in a thread, with bounded queues between them.

Decoding, the network and encoding spend their time in libraries that release Python's global lock, so threads
are enough. Bounded queues keep memory constant: a stage waits when the next one falls behind.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")
AHEAD = 3
"""Most items that wait between two stages, by default."""
_POLL = 0.1
"""Seconds between checks whether the other thread has ended."""


class _End:
    """Marks the end of a queue, after the last item."""


class _Stage:
    """A thread that can be told to stop and that keeps the exception it ended with.

    Args:
        name: the name of the stage, as tracebacks show it.
        work: the function that the thread runs.
        ahead: most items that wait in its queue.
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
        """Waits for room in the queue and adds an item; returns ``False`` if the stage ended before that."""
        while not self.stopped.is_set():
            try:
                self.queue.put(item, timeout=_POLL)
                return True
            except queue.Full:
                continue
        return False

    def get(self) -> object:
        """Waits for the next item; returns :class:`_End` if the stage has ended and none is left."""
        while True:
            try:
                return self.queue.get(timeout=_POLL)
            except queue.Empty:
                if self.stopped.is_set():
                    return _End

    def join(self) -> None:
        self._thread.join()

    def raise_error(self) -> None:
        """Raises the exception that ended the stage, if there was one."""
        if self.error is not None:
            error, self.error = self.error, None
            # An exception of a later stage also ends the stages before it; only the first adds a note.
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
            # It refers to the object that this stage belongs to, which would keep all that it holds until the
            # next garbage collection, such as an encoder with its frames.
            del self._work
            if self.error is not None:
                self.stopped.set()


class Prefetch(Generic[Item]):
    """Iterates in its own thread, a few items ahead of the consumer.

    Use it as a context manager. Leaving the block ends the thread, even if items are left.

    Args:
        name: the name of the stage, such as ``"decoding"``.
        items: the iterable to read from.
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
    """Calls a function for each item in its own thread, a few items behind the producer.

    Use it as a context manager. On a normal exit it waits for all queued items; on an exception, only for
    the current one.

    Args:
        name: the name of the stage, such as ``"encoding"``.
        take: the function. It is called with each item, in order.
        ahead: most items that wait, not counting the current one.
    """

    def __init__(self, name: str, take: Callable[[Item], None], ahead: int = AHEAD) -> None:
        self._take = take
        self._abandoned = False
        self._stage = _Stage(name, self._drain, ahead)

    def __enter__(self) -> "Background[Item]":
        self._stage.start()
        return self

    def put(self, item: Item) -> None:
        """Queues an item. Waits if the queue is full.

        Raises:
            Exception: the exception that the function raised for an earlier item.
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
