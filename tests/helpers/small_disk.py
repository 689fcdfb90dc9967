"""A disk that is soon full."""

import contextlib
import subprocess

import pytest

from rlsp_tf.benchmarks.faults import situations as benchmark_situations


@contextlib.contextmanager
def small_disk(folder, kib):
    """Mounts a file system of ``kib`` KiB as a new folder, which only the superuser may."""
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(benchmark_situations.small_disk(folder, kib))
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"a disk that is full needs the right to mount one ({error})")
        yield folder
