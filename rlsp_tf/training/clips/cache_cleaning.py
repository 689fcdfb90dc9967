"""Keeps the cache of prepared clips and photographs from growing for ever.

Every use of a cached folder sets the time of its card anew. Folders that nobody has used for ``DAYS`` are
removed, and where all together take more than ``LARGEST``, those used longest ago, but none that was used
within the last day, since a training may be going on with it. Only folders are removed that hold nothing but
what this package writes.
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
LARGEST = 40 * 10**9
"""Bytes."""
_KEY = re.compile(r".+-[0-9a-f]{16}")
_FILES = {
    CARD: {"hr.raw", "blurred.raw", "detail.raw", "motion.raw"},
    PHOTOGRAPH_CARD: {PIXELS},
}
"""Cards, and what lies beside them."""


class _Entry(NamedTuple):
    used: float
    size: int
    folder: Path


def clean_cache(cache: str | os.PathLike[str] | None = None) -> list[str]:
    """Removes what is not used any more.

    Args:
        cache: a folder; by default :func:`rlsp_tf.training.clips.index.default_cache`.

    Returns:
        A sentence about what was removed, or none.
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
    return [f"removed {removed} clips and photographs ({size}) from {cache}, which were not used any more"]


def _entry(folder: Path) -> _Entry | None:
    """A folder of ours, or ``None``."""
    with contextlib.suppress(OSError):
        if _KEY.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
            files = {path.name: path.lstat() for path in folder.iterdir()}
            for card, others in _FILES.items():
                if files.keys() == {card, *others}:
                    return _Entry(files[card].st_mtime, sum(file.st_size for file in files.values()), folder)
    return None
