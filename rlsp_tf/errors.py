"""Exceptions for failures that a user can put right."""

import errno


class RLSPError(Exception):
    """An expected failure: its message is one sentence that names the file and says what to do.

    The command line prints the message on standard error and exits with 1; anything that is not an
    ``RLSPError`` or an ``OSError`` is a bug.
    """


class UsageError(RLSPError):
    """An invalid combination of command-line arguments; the command line exits with 2."""


class Interrupted(RLSPError):
    """A signal stopped the work before its end; the command line exits with 130, as shells do."""


def first_line(error: BaseException) -> str:
    """Returns the first line of an exception's message without its full stop.

    Messages of libraries can be many lines long, and the first usually says what happened. An exception
    without a message gives the name of its type.
    """
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def last_line(said: str) -> str:
    """Returns the last line of a program's messages: a sentence, or the end of a traceback."""
    return said.strip().splitlines()[-1] if said.strip() else ""


def describe_os_error(error: OSError) -> str:
    """Describes an ``OSError`` in one sentence: the file, what the system said, and what to do.

    Args:
        error: the exception that a file operation raised.

    Returns:
        The sentence, without a trailing newline.
    """
    advice = {
        errno.ENOENT: "check the path",
        errno.EACCES: "check its permissions",
        errno.EPERM: "check its permissions",
        errno.EROFS: "choose a writable folder",
        errno.ENOSPC: "free some space or choose another place, then run the command again",
        errno.EDQUOT: "free some space or choose another place, then run the command again",
        errno.ENOTDIR: "check the path",
        errno.EISDIR: "name a file, not a folder",
        errno.EPIPE: "the program that reads it ended early",
        errno.EEXIST: "choose another name",
        errno.ENAMETOOLONG: "give it a shorter name",
    }.get(error.errno or 0, "check the file and try again")
    name = error.filename if error.filename is not None else "the file"
    reason = (error.strerror or str(error)).lower()
    return f"{name}: {reason}; {advice}."


def sentence_of(error: RLSPError | OSError) -> str:
    """Returns the sentence of an error; for an ``OSError`` that of :func:`describe_os_error`."""
    return describe_os_error(error) if isinstance(error, OSError) else str(error)
