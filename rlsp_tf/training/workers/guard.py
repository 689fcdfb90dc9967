"""Runs work in a child process, so that an error message can be printed even if JAX aborts it.

When one worker of a group ends, JAX aborts the others from C++ with a stack trace, which Python cannot
prevent. So each worker of ``rlsp train`` computes in a child process, and the parent explains what happened.
The process is forked, so no module that starts threads may be imported before.
"""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable

from rlsp_tf.training.workers.group import WorkerGone

_GONE = 75
"""Exit code of a child that lost another worker: ``EX_TEMPFAIL``, a failure that is not permanent."""


def guarded(work: Callable[[], None], *, debug: bool) -> None:
    """Runs a function in a child process.

    The child uses the same terminal, receives the signals of this process, and ends with it.

    Args:
        work: the function.
        debug: show the output of JAX's C++ code.

    Raises:
        WorkerGone: if JAX aborted the child, or ``work`` raised this.
        SystemExit: if ``work`` failed in another way, after the child has printed the error.
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
            # Skips the exit handlers of JAX, which wait for the other workers.
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
        print(file=sys.stderr)  # ends the line of a progress bar
        raise WorkerGone
    if code:
        sys.exit(code if code > 0 else 128 - code)


def _begin_child(parent: int, debug: bool) -> None:
    """Sets up the child process; ``parent`` is a pipe that the parent holds open."""
    # In the same process group, the child would receive Ctrl-C twice: from the terminal and from the parent.
    os.setpgid(0, 0)
    # The pipe is closed when the parent is killed; then the child ends, too.
    threading.Thread(target=lambda: (os.read(parent, 1), os._exit(1)), daemon=True).start()
    if not debug:
        # Output of Python is shown; what C++ code writes to the file descriptors is discarded.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            number = stream.fileno()
            kept = os.fdopen(os.dup(number), "w", buffering=1, encoding=stream.encoding, errors=stream.errors)
            os.dup2(nowhere, number)
            setattr(sys, stream.name.strip("<>"), kept)
