"""A disk that is soon full."""

import contextlib
import subprocess

import pytest


@contextlib.contextmanager
def small_disk(folder, kib):
    """Mounts a file system of ``kib`` KiB as a new folder, which only the superuser may."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a disk that is full needs the right to mount one ({error})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
