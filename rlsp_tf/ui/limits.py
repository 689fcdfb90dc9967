"""The limits of a page."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How much a page accepts and keeps.

    Attributes:
        upload: bytes of all files of an upload.
        result: bytes of a result.
        jobs: jobs of everybody, from the start until they are removed.
        keep: seconds after its end until a job is removed.
    """

    upload: int = 4 * 2**30
    result: int = 64 * 2**30
    jobs: int = 100
    keep: float = 7 * 86400


DEFAULT_LIMITS = Limits()
