"""Videos that come out of a pipe or go into one: frame by frame, with their sound."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from helpers.commands import Command, run_command
from helpers.networks import SMALL, small_model
from helpers.videos import frame_times, make_video, packets
from rlsp_tf.cli.main import main


@pytest.fixture
def model(rng, tmp_path):
    small_model(rng, SMALL).save(tmp_path / "net.keras")
    return tmp_path / "net.keras"


@pytest.fixture
def film(tmp_path):
    times = np.cumsum(np.random.default_rng(1).integers(2000, 6000, 30)).tolist()
    return make_video(tmp_path / "film.mkv", times, size=(32, 24), audio=("aac",), codec="ffv1")


def begin(*arguments, **files):
    return Command(["upscale", *arguments], **files)


def test_a_pipe_gives_what_a_file_gives(film, model, tmp_path):
    """From the first frame to the last packet of sound; lossless, so that every bit is compared."""
    options = ("--model", model, "--codec", "ffv1")
    assert main(["upscale", str(film), str(tmp_path / "file.mkv"), *map(str, options)]) == 0
    cat = subprocess.Popen(["cat", str(film)], stdout=subprocess.PIPE)
    # The one true start of the program here; others are forks.
    command = [sys.executable, "-m", "rlsp_tf", "upscale", "-", "-", *map(str, options)]
    done = subprocess.run(command, stdin=cat.stdout, capture_output=True)
    cat.communicate()
    assert done.returncode == 0, done.stderr
    (tmp_path / "pipe.mkv").write_bytes(done.stdout)
    for kind in ("video", "audio"):
        assert packets(tmp_path / "pipe.mkv", kind) == packets(tmp_path / "file.mkv", kind)
    assert packets(tmp_path / "pipe.mkv", "audio") == packets(film, "audio")
    assert not list(tmp_path.glob("*.rlsp"))


@pytest.mark.slow
def test_frames_go_out_while_others_still_come_in(film, model):
    process = begin(
        *("-", "-", "--model", model, "--codec", "ffv1", "--warm-start", 0, "--scene-cuts", "off"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    content = film.read_bytes()
    process.stdin.write(content[: len(content) // 2])
    process.stdin.flush()
    early = os.read(process.stdout.fileno(), 1 << 20)
    assert early.startswith(b"\x1aE\xdf\xa3")
    rest, _ = process.communicate(content[len(content) // 2 :])
    assert process.returncode == 0
    assert rest


@pytest.mark.slow
def test_a_signal_ends_the_input_and_keeps_what_came(model, tmp_path):
    # FFmpeg reads several seconds of a pipe before it says what is in it.
    film = make_video(tmp_path / "long.mkv", range(0, 400 * 3600, 3600), size=(32, 24), codec="ffv1")
    target = tmp_path / "large.mkv"
    options = ("--model", model, "--codec", "ffv1", "--warm-start", 0, "--scene-cuts", "off")
    process = begin("-", target, *options, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    content = film.read_bytes()
    process.stdin.write(content[: 3 * len(content) // 4])
    process.stdin.flush()
    while not any(path.stat().st_size > 5000 for path in tmp_path.glob(".large*")):
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(content[3 * len(content) // 4 :])
    assert process.returncode == 0, said
    assert b"rlsp: note: standard input: ended by SIGTERM; the frames before that were written.\n" in said
    times = frame_times(target)
    assert 0 < len(times) <= 400
    np.testing.assert_allclose(
        np.array(times, float), np.array(frame_times(film), float)[: len(times)], atol=0.00051
    )


@pytest.mark.slow
def test_what_is_no_video_is_said_of_the_pipe(model, tmp_path):
    done = run_command(["upscale", "-", tmp_path / "x.mkv", "--model", model], input=b"no video" * 100)
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("rlsp: error: standard input: no video that can be read from front to back; pipe ")
    assert [path.name for path in tmp_path.iterdir()] == ["net.keras"]


def test_a_reader_that_ends_early_is_said(film, model):
    process = begin(
        *(film, "-", "--model", model, "--codec", "ffv1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    said = process.stderr.read().decode()
    assert process.wait() == 1
    assert said.splitlines()[-1] == (
        "rlsp: error: standard output: broken pipe; the program that reads it ended early."
    )
    process.stderr.close()


def test_a_named_pipe_gets_what_standard_output_gets(film, model, tmp_path):
    os.mkfifo(tmp_path / "pipe.mkv")
    process = begin(film, tmp_path / "pipe.mkv", "--model", model, "--codec", "ffv1", stderr=subprocess.PIPE)
    content = (tmp_path / "pipe.mkv").read_bytes()
    _, said = process.communicate()
    assert process.returncode == 0, said
    done = run_command(["upscale", film, "-", "--model", model, "--codec", "ffv1"], check=True)
    # Matroska has a number of its own for each file.
    assert len(content) == len(done.stdout)
    assert (tmp_path / "pipe.mkv").is_fifo()
    assert not list(tmp_path.glob("*.rlsp"))


def test_frames_of_a_pipe_become_images(film, model, tmp_path):
    with film.open("rb") as file:
        run_command(["upscale", "-", tmp_path / "frames", "--model", model], stdin=file, check=True)
    assert len(list((tmp_path / "frames").iterdir())) == 30


def test_sound_from_a_pipe_is_converted_where_it_has_to_be(film, model, tmp_path):
    with film.open("rb") as pipe:
        words = ["upscale", "-", tmp_path / "large.webm", "--model", model, "--warm-start", 0]
        done = run_command(words, stdin=pipe, text=True)
    assert done.returncode == 0, done.stderr
    assert "sound stream 1 (aac) became opus, since .webm cannot hold it as it is." in done.stderr
    assert "damaged" not in done.stderr
    (heard,), (before,) = packets(tmp_path / "large.webm", "audio"), packets(film, "audio")
    # A packet of Opus lasts 20 ms, one of AAC 1024 samples; one more of each is there to start with.
    assert abs(len(heard) * 0.02 - len(before) * 1024 / 48000) < 0.06
