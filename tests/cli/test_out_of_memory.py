"""Memory that runs out ends a command with one sentence."""

import argparse
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from rlsp_tf.cli.common import add_command, run

BEYOND = 2**50
"""Bytes that no processor can address."""


def exhaust_numpy(arguments):
    np.zeros(BEYOND, np.uint8)


def exhaust_tensorflow(arguments):
    # Itself, it would first wait ten seconds for memory; the last test does.
    raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


def exhaust_python(arguments):
    bytearray(BEYOND)


def exhaust_the_system(arguments):
    raise OSError(12, os.strerror(12), "film.mp4")


@pytest.mark.parametrize("option", [True, False])
@pytest.mark.parametrize(
    "command",
    [exhaust_numpy, exhaust_tensorflow, exhaust_python, exhaust_the_system],
    ids=lambda f: f.__name__,
)
def test_every_kind_of_exhaustion_is_one_sentence(command, option, capsys):
    parser = argparse.ArgumentParser(prog="rlsp")
    adding = add_command(parser.add_subparsers(), "x", command, help="", description="")
    if option:
        adding.add_argument("--memory", type=float)
    assert run(parser, ["x"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("rlsp: error: there is not enough memory; ")
    assert said.count("\n") == 1
    assert ("--memory" in said) == option
    with pytest.raises((MemoryError, OSError, tf.errors.ResourceExhaustedError)):
        run(parser, ["x", "--debug"])


def test_other_failures_of_tensorflow_are_not_hidden():
    def fail(arguments):
        tf.zeros((2, 3)) @ tf.zeros((2, 3))

    parser = argparse.ArgumentParser(prog="rlsp")
    add_command(parser.add_subparsers(), "x", fail, help="", description="")
    with pytest.raises(tf.errors.InvalidArgumentError):
        run(parser, ["x"])


@pytest.mark.slow
def test_frames_that_do_not_fit_end_in_a_sentence_and_leave_nothing(tmp_path):
    """In a process that may have little more memory than TensorFlow takes by itself."""
    pytest.importorskip("resource", reason="limits of memory are set by POSIX")
    (tmp_path / "in").mkdir()
    Image.new("RGB", (3000, 3000)).save(tmp_path / "in" / "0.png")
    script = """if True:
        import resource, sys
        import psutil
        from rlsp_tf.cli.common import start_tensorflow
        from rlsp_tf.cli.main import main
        start_tensorflow()
        limit = psutil.Process().memory_info().vms + 1_500_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        sys.exit(main(sys.argv[1:]))"""
    files = [str(tmp_path / "in"), str(tmp_path / "out")]
    # One layer takes 1.7 GB.
    options = ["--memory", "1000", "--precision", "float32", "--warm-start", "0"]
    command = [sys.executable, "-c", script, "upscale", *files, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    said = done.stderr.strip().splitlines()[-1]
    assert said.endswith(
        "error: there is not enough memory; choose a smaller --memory, or close other programs."
    )
    assert "Traceback" not in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["in"]
