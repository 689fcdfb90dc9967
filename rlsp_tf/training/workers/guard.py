"""A process that stands before one whose engine may abort it.

When a worker of a group ends, JAX aborts the others from C++, with a stack trace and without a word that
Python could put in. So a worker of ``rlsp train`` computes in a child process, and its parent says what
happened. Nothing that starts threads may be imported before: a copy of a process has only one.
"""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable

from rlsp_tf.training.workers.group import WorkerGone

_GONE = 75
"""Exit code of a child that found out by itself; ``EX_TEMPFAIL``, as nothing is wrong but the moment."""


def guarded(work: Callable[[], None], *, debug: bool) -> None:
    """Does work in a child process, which has the terminal, gets our signals and ends with us.

    Args:
        work: what to do.
        debug: show what the engine prints.

    Raises:
        WorkerGone: if the engine aborted the child, or the child raised this.
        SystemExit: if the child failed otherwise and has said so.
    """
    ours, theirs = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        os.close(theirs)
        _begin_child(ours, debug)
        try:
            work()
        except WorkerGone:
            os._exit(_GONE)
        except BaseException:
            # Not by way of the engine's own end, which waits for the other workers.
            atexit.register(os._exit, 1)
            raise
        return
    os.close(ours)

    def pass_on(number: int, frame: object) -> None:
        os.kill(child, number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code in (_GONE, -signal.SIGABRT):
        print(file=sys.stderr)  # a progress bar may have been cut off
        raise WorkerGone
    if code:
        sys.exit(code if code > 0 else 128 - code)


def _begin_child(parent: int, debug: bool) -> None:
    # A group of its own: else a terminal would send Ctrl-C to both, and we would see it twice.
    os.setpgid(0, 0)
    # Closed when the parent is killed, which would leave us behind.
    threading.Thread(target=lambda: (os.read(parent, 1), os._exit(1)), daemon=True).start()
    if not debug:
        # What Python prints stays; what C++ writes to the file descriptors goes.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            number = stream.fileno()
            kept = os.fdopen(os.dup(number), "w", buffering=1, encoding=stream.encoding, errors=stream.errors)
            os.dup2(nowhere, number)
            setattr(sys, stream.name.strip("<>"), kept)
