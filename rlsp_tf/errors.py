"""Exceptions for everything a user can put right."""

import errno


class RLSPError(Exception):
    """An expected failure: its message is one sentence that names the file and says what to do.

    The command line prints the message on standard error and exits with 1; anything that is not an
    ``RLSPError`` or an ``OSError`` is a bug.
    """


class UsageError(RLSPError):
    """A command that cannot be meant as it was given; the command line exits with 2."""


class Interrupted(RLSPError):
    """Work that was stopped by a signal before its end; the command line exits with 130, as shells do."""


def first_line(error: BaseException) -> str:
    """The first line of an exception's message without a full stop, or its type's name if it has none.

    Libraries write many lines of which the first says what happened.
    """
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def describe_os_error(error: OSError) -> str:
    """One sentence for an ``OSError``: the file, what the system said, and what to do.

    Args:
        error: as caught around a file operation.

    Returns:
        The sentence, without a trailing newline.
    """
    advice = {
        errno.ENOENT: "check the path",
        errno.EACCES: "check its permissions",
        errno.EPERM: "check its permissions",
        errno.EROFS: "choose a place that can be written",
        errno.ENOSPC: "free some space or choose another place, then run the command again",
        errno.EDQUOT: "free some space or choose another place, then run the command again",
        errno.ENOTDIR: "check the path",
        errno.EISDIR: "name a file, not a folder",
        errno.EPIPE: "what read it has ended before its end",
        errno.EEXIST: "choose another name",
        errno.ENAMETOOLONG: "give it a shorter name",
    }.get(error.errno or 0, "check the file and try again")
    name = error.filename if error.filename is not None else "the file"
    reason = (error.strerror or str(error)).lower()
    return f"{name}: {reason}; {advice}."
