"""Keeps the cache of prepared clips and photographs from growing forever.

Each use of a cached folder updates the modification time of its card. Folders that have not been used for
``DAYS`` are removed. If the cache takes more than ``LARGEST``, the least recently used folders are removed,
except those used within the last day, since a training may be using them. A folder is removed only if it
holds nothing but files that this package writes.
"""

import contextlib
import os
import re
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from rlsp_tf.training.clips.clip import CARD
from rlsp_tf.training.clips.index import default_cache
from rlsp_tf.training.clips.photographs import CARD as PHOTOGRAPH_CARD
from rlsp_tf.training.clips.photographs import PIXELS

DAYS = 30
"""Days after which an unused folder is removed."""
LARGEST = 40 * 10**9
"""Size of the cache in bytes, above which the least recently used folders are removed."""
_KEY = re.compile(r".+-[0-9a-f]{16}")
_FILES = {
    CARD: {"hr.raw", "blurred.raw", "detail.raw", "motion.raw"},
    PHOTOGRAPH_CARD: {PIXELS},
}
"""Names of the cards, and of the other files in their folders."""


class _Entry(NamedTuple):
    used: float
    size: int
    folder: Path


def clean_cache(cache: str | os.PathLike[str] | None = None) -> list[str]:
    """Removes clips and photographs that are no longer used.

    Args:
        cache: folder of the cache; by default :func:`rlsp_tf.training.clips.index.default_cache`.

    Returns:
        A list with a sentence about what was removed; empty if nothing was.
    """
    cache = Path(cache) if cache is not None else default_cache()
    now = time.time()
    entries = sorted(entry for folder in cache.iterdir() if (entry := _entry(folder)))
    total = sum(entry.size for entry in entries)
    removed = freed = 0
    for entry in entries:
        idle = (now - entry.used) / 86400
        if idle > DAYS or (idle > 1 and total > LARGEST):
            shutil.rmtree(entry.folder, ignore_errors=True)
            removed, freed, total = removed + 1, freed + entry.size, total - entry.size
    if not removed:
        return []
    size = f"{freed / 1e9:.2f} GB"
    return [f"removed {removed} unused clips and photographs ({size}) from {cache}"]


def _entry(folder: Path) -> _Entry | None:
    """Describes a folder of the cache; ``None`` if it is none that this package has written."""
    with contextlib.suppress(OSError):
        if _KEY.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
            files = {path.name: path.lstat() for path in folder.iterdir()}
            for card, others in _FILES.items():
                if files.keys() == {card, *others}:
                    return _Entry(files[card].st_mtime, sum(file.st_size for file in files.values()), folder)
    return None
