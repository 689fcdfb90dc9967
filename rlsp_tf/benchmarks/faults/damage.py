"""Damages the content of files, as broken disks and networks do."""

import numpy as np

KINDS = ("cut off", "bits flipped", "zeroed", "removed", "doubled", "noise")
"""Kinds of damage; all but the first two affect a stretch of at most 2000 bytes."""


def damage(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """Damages the content of a file at a random place.

    Args:
        content: content of the file, not empty.
        kind: one of ``KINDS``.
        rng: chooses the place and the amount.

    Returns:
        The damaged content.

    Raises:
        ValueError: if ``kind`` is unknown.
    """
    damaged = bytearray(content)
    start = int(rng.integers(len(content)))
    stop = min(len(content), start + int(rng.integers(1, 2000)))
    if kind == "cut off":
        del damaged[start:]
    elif kind == "bits flipped":
        for place in rng.integers(0, len(content), rng.integers(1, 40)):
            damaged[place] ^= 1 << rng.integers(8)
    elif kind == "zeroed":
        damaged[start:stop] = bytes(stop - start)
    elif kind == "removed":
        del damaged[start:stop]
    elif kind == "doubled":
        damaged[start:start] = content[start:stop]
    elif kind == "noise":
        damaged[start:stop] = rng.bytes(stop - start)
    else:
        raise ValueError(f"no kind of damage: {kind!r}")
    return bytes(damaged)
