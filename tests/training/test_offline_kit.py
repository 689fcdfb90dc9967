import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from fractions import Fraction
from importlib.metadata import packages_distributions, requires
from importlib.util import find_spec

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.clips import write_folder
from helpers.networks import SMALL, small_model
from helpers.synthetic import make_clip
from rlsp_tf.errors import RLSPError
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.network.weights import load_model
from rlsp_tf.training.clips.index import default_held_out, index_clips, split_clips
from rlsp_tf.training.clips.mixture import Mixture
from rlsp_tf.training.clips.photographs import HELD_OUT, by_chance, find_photographs
from rlsp_tf.training.clips.sampler import ClipSampler
from rlsp_tf.training.offline_kit import (
    EXPECTED,
    LEAST_FRAMES,
    PACKAGES,
    _pack_photographs,
    excerpt,
    finish,
    main,
    make_ready,
    pack,
    shares,
)
from rlsp_tf.training.options import TrainingOptions
from rlsp_tf.training.train import train

OPTIONS = TrainingOptions(network=RLSPConfig(filters=8, layers=3), batch=2, frames=3, crop=8, every=20)


def decode(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def write_video(path, frames):
    """H.264 with frames that are shown in another order than they are decoded in."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "3", "b_strategy": "0", "crf": "10"})
        stream.height, stream.width = frames.shape[1:3]
        stream.time_base = Fraction(1, 25)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


needs_jax = pytest.mark.skipif(find_spec("jax") is None, reason="needs JAX")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Clips in ``data``: three videos, the last of which is held out by default, and images."""
    folder = tmp_path_factory.mktemp("offline")
    (folder / "data").mkdir()
    for seed, name in enumerate(("a", "b", "z")):
        write_video(folder / "data" / f"{name}.mp4", make_clip(60, 96, 128, seed))
    write_folder(folder / "data" / "images", make_clip(30, 64, 72, seed=4))
    for name in ("x", "y"):
        write_folder(folder / "photos" / name, make_clip(7, 120, 150, seed=ord(name)))
    return folder


def elsewhere(folder):
    """An environment like the other machine: of what rlsp_tf requires, it has the kit and ``EXPECTED``."""
    (folder / "elsewhere").mkdir()
    required = {re.match(r"[\w.-]+", each)[0].lower() for each in requires("rlsp_tf") if "extra" not in each}
    for module, packages in packages_distributions().items():
        if module not in EXPECTED and {each.lower() for each in packages} & (required - set(PACKAGES)):
            (folder / "elsewhere" / f"{module}.py").write_text("raise ImportError('not on this machine')")
    assert (folder / "elsewhere" / "tensorflow.py").is_file()
    return {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(folder / "elsewhere"),
    }


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(0, 200))
def test_shares_are_as_large_as_the_room_allows(sizes, room):
    def taken(share):
        return sum(min(size, share) for size in sizes)

    share = shares(sizes, room)
    assert taken(share) <= room
    assert share == max(sizes) or taken(share + 1) > room


@pytest.mark.slow
@pytest.mark.parametrize("part", [0, 0.5, 0.7, 1])
def test_an_excerpt_decodes_to_the_first_frames(folder, tmp_path, part):
    source = folder / "data" / "a.mp4"
    target = tmp_path / "excerpt.mp4"
    count, of = excerpt(source, target, int(part * source.stat().st_size))
    assert of == 60
    assert count >= LEAST_FRAMES
    if part == 0:
        assert count < LEAST_FRAMES + 4  # up to three frames are decoded after one that is shown later
    else:
        assert count == of or part < 1
        assert target.stat().st_size < 1.05 * part * source.stat().st_size  # those frames, and the header
    np.testing.assert_array_equal(decode(target), decode(source)[:count])


@pytest.mark.slow
def test_real_clips_are_cut_well(data, tmp_path):
    source = data / "train" / "mdn_flower.mp4"
    count, of = excerpt(source, tmp_path / "cut.mp4", source.stat().st_size // 3)
    assert 24 < count < of / 2
    np.testing.assert_array_equal(decode(tmp_path / "cut.mp4"), decode(source)[:count])


@pytest.mark.slow
def test_an_excerpt_of_images_is_the_first_files(folder, tmp_path):
    source = folder / "data" / "images"
    assert excerpt(source, tmp_path / "images", 0) == (24, 30)
    names = [f"frame_{index:03d}.png" for index in range(24)]
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == names
    assert all((tmp_path / "images" / name).read_bytes() == (source / name).read_bytes() for name in names)


@pytest.mark.slow
def test_what_cannot_be_packed_is_named(folder, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(RLSPError, match=r"broken\.mp4: not? .*video that can be read"):
        pack(tmp_path / "data", tmp_path / "kit", packages=())
    assert not (tmp_path / "kit").exists()
    with pytest.raises(RLSPError, match=r"would take .* MiB, more than 0"):
        pack(folder / "data", tmp_path / "kit", packages=(), limit=10_000)
    assert not (tmp_path / "kit").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    assert main(["pack", str(folder / "data"), str(tmp_path / "mine")]) == 1
    assert "mine: exists and is not an unchanged offline kit; " in capsys.readouterr().err
    assert [*(tmp_path / "mine").iterdir()] == [tmp_path / "mine" / "thesis.txt"]


@pytest.mark.slow
def test_only_a_kit_as_it_was_made_is_replaced(folder, tmp_path):
    kit = tmp_path / "kit"
    pack(folder / "data", kit, packages=())
    pack(folder / "data", kit, packages=())
    thesis = kit / "clips" / "thesis.txt"
    thesis.touch()
    with pytest.raises(RLSPError, match="kit: exists and is not an unchanged offline kit; "):
        pack(folder / "data", kit, packages=())
    thesis.unlink()
    for data, what in ((kit / "clips", "contains the input"), (kit.parent, "lies in the input")):
        with pytest.raises(RLSPError, match=f"kit: {what} "):
            pack(data, kit, packages=())
    assert (kit / "clips" / "a.mp4").is_file()


@pytest.mark.slow
def test_a_kit_is_the_same_whenever_it_is_packed(folder, tmp_path):
    kits = [tmp_path / "first", tmp_path / "second"]
    for kit in kits:
        notes = pack(folder / "data", kit, packages=())
        time.sleep(1.1)  # the clock of archives ticks in seconds
    assert default_held_out(["a", "b", "images", "z"]) == ["z"]
    assert notes[3].startswith("z: 2")
    assert notes[3].endswith("of 60 frames, to validate on")
    assert notes[:3] == [f"{name} frames" for name in ("a: 60 of 60", "b: 60 of 60", "images: 30 of 30")]
    files = [{path.relative_to(kit): path for path in kit.rglob("*") if path.is_file()} for kit in kits]
    assert files[0].keys() == files[1].keys()
    assert all(path.read_bytes() == files[1][name].read_bytes() for name, path in files[0].items())


def test_clips_that_differ_in_nothing_but_the_suffix_are_both_packed_and_stay_within_the_kit(
    folder, tmp_path
):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("a.mp4", "a.mkv"):
        write_video(data / name, make_clip(30, 32, 48))
    write_folder(data / "a", make_clip(3, 32, 48))
    before = {file: file.read_bytes() for file in data.rglob("*") if file.is_file()}
    pack(data, tmp_path / "kit", packages=())
    assert {file: file.read_bytes() for file in data.rglob("*") if file.is_file()} == before
    clips = tmp_path / "kit" / "clips"
    assert {file.relative_to(clips) for file in clips.rglob("*") if file.is_file()} == {
        file.relative_to(data) for file in before
    }


def test_photographs_are_packed_as_they_are_and_the_same_are_held_out(folder, tmp_path):
    whole = find_photographs([folder / "photos"])
    sizes = [file.stat().st_size for _, file in whole]
    _pack_photographs(folder / "photos", tmp_path / "part", sum(sizes) * 3 // 4)
    part = find_photographs([tmp_path / "part"])
    assert HELD_OUT <= len(part) < len(whole)
    assert sum(file.stat().st_size for _, file in part) <= sum(sizes) * 3 // 4
    sources = dict(whole)
    assert all(file.read_bytes() == sources[name].read_bytes() for name, file in part)
    held_out = [by_chance([name for name, _ in files])[:HELD_OUT] for files in (whole, part)]
    assert held_out[0] == held_out[1]


def test_large_checkpoints_are_compressed_and_can_still_be_read(tmp_path, monkeypatch, rng):
    model = small_model(rng, SMALL)
    model.save(tmp_path / "last.keras")
    (tmp_path / "log.csv").write_text("step,steps_per_second\n10,1\n20,30\n30,31\n")
    before = (tmp_path / "last.keras").stat().st_size
    monkeypatch.setattr("rlsp_tf.training.offline_kit.FILE_LIMIT", before - 1)
    assert finish(tmp_path) == f"{tmp_path}: step 30, 30.0 steps/s"
    assert (tmp_path / "last.keras").stat().st_size < before
    assert zipfile.ZipFile(tmp_path / "last.keras").testzip() is None
    for read, written in zip(
        load_model(tmp_path / "last.keras").get_weights(), model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(read, written)


def test_what_the_machine_lacks_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("rlsp_tf.training.offline_kit.EXPECTED", ("numpy", "a_module_of_nobody"))
    with pytest.raises(RLSPError, match="has no module a_module_of_nobody"):
        make_ready(folder / "data", tmp_path / "cache")


@pytest.mark.slow
@needs_jax
@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
def test_a_kit_trains_without_tensorflow_survives_kill_9_and_tensorflow_goes_on(folder, tmp_path):
    kit, run = tmp_path / "kit", tmp_path / "run"
    pack(folder / "data", kit, photographs=folder / "photos", packages=())
    environment = {
        **elsewhere(tmp_path),
        "PYTHON": sys.executable,
        "RLSP_WORK": str(tmp_path / "work"),
    }
    command = [str(kit / "train.sh"), "MINUTES", str(run), "--network", "3-8", "--batch", "2"]
    command += ["--frames", "3", "--crop", "8", "--every", "20"]

    command[1] = "10"
    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 300
        while not (run / "best.keras").exists() and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    assert (run / "best.keras").exists(), (tmp_path / "log").read_text()
    assert not (run / "last.keras").exists() or first.returncode == -signal.SIGKILL

    command[1] = "0"  # as long as two steps take, from one row of the log to the next
    second = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    for phase in ("packages ready", "clips ready", "done"):
        assert f"offline kit: {phase} after" in second.stderr

    options = replace(OPTIONS, mixture=Mixture(photo_share=0.7, flat_share=0.03))
    photographs = [kit / "photographs"]
    cache = tmp_path / "work" / "clips"
    train([kit / "clips"], run, options, photographs=photographs, cache=cache, resume=True, minutes=0)
    sittings = [json.loads(line) for line in (run / "sittings.jsonl").read_text().splitlines()]
    steps = [sitting["step"] for sitting in sittings]
    assert ["jax" in sitting for sitting in sittings] == [True, True, False]
    assert "tensorflow" in sittings[2]
    assert steps[0] == 0
    assert steps[1] % 20 == 0
    assert steps[2] == steps[1] + 2
    with (run / "log.csv").open(newline="") as file:
        logged = [int(row["step"]) for row in csv.DictReader(file)]
    index = json.loads((run / "clips.json").read_text())
    assert len(index["training photographs"]) + len(index["validation photographs"]) == 14
    assert logged == sorted(set(logged))
    assert logged[-2:] == [steps[2], steps[2] + 2]
    picture = load_model(run / "best.keras").predict(make_clip(3, 12, 16)[None], verbose=0)
    assert picture.shape == (1, 3, 48, 64, 1)
    assert np.isfinite(picture).all()


@pytest.mark.slow
@needs_jax
def test_a_loss_that_is_no_number_stops_jax_with_the_batches_saved(folder, tmp_path, rng):
    model = small_model(rng, OPTIONS.network)
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    model.save(tmp_path / "nan.keras")
    cache = tmp_path / "cache"
    command = [sys.executable, "-m", "rlsp_tf", "train", "--data", str(folder / "data"), "--out", "run"]
    command += ["--cache", str(cache), "--init", "nan.keras", "--batch", "2", "--frames", "3", "--crop", "8"]
    run = subprocess.run(command, cwd=tmp_path, env=elsewhere(tmp_path), capture_output=True, text=True)
    assert run.returncode == 1
    assert "run: the loss is not finite at step 10; its batch was saved as" in run.stderr
    training, _ = split_clips(index_clips([folder / "data"], cache=cache)[0], None)
    sampler = ClipSampler(training, batch=2, frames=3, crop=8, seed=0)
    with np.load(tmp_path / "run" / "not_a_number_step_10.npz") as saved:
        # JAX does ten steps at once.
        for part, name in enumerate(("lr", "hr")):
            expected = np.concatenate([sampler.samples(step)[part] for step in range(10)])
            np.testing.assert_array_equal(saved[name], expected)
    assert not (tmp_path / "run" / "last.keras").exists()
