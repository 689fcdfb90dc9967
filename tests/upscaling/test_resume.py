"""Whatever interrupts an upscaling: the same call goes on, and gives what it would have given without."""

import importlib
import itertools
import json
import multiprocessing
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from helpers import kill_everywhere
from helpers.commands import Command, run_command
from helpers.networks import SMALL, needs_bytes, small_model
from helpers.small_disk import small_disk
from helpers.stops import StopSoon
from helpers.videos import frame_times, gradient, make_video, packets
from rlsp_tf.cli.main import main as cli
from rlsp_tf.errors import Interrupted, RLSPError
from rlsp_tf.inference.load import load_step
from rlsp_tf.inference.recurrent_stream import RecurrentStream
from rlsp_tf.inference.resumed import ResumedStep, Stretch
from rlsp_tf.inference.strips import StripStep
from rlsp_tf.media.images import write_png
from rlsp_tf.system.signals import Stop
from rlsp_tf.upscaling import segments
from rlsp_tf.upscaling import work_folder as journal
from rlsp_tf.upscaling.concatenate import decoding_times
from rlsp_tf.upscaling.upscale import upscale

MODULE = importlib.import_module(
    "rlsp_tf.upscaling.upscale"
)  # whose name in the package is that of the function
OPTIONS = {"segment": 2, "warm_start": 2, "preset": "ultrafast"}


class Dying:
    """A step with a power failure after so many calls; what is not finished then is lost."""

    def __init__(self, step, calls):
        self.config, self.precision = step.config, step.precision
        self.itemsize, self.fingerprint = step.itemsize, step.fingerprint
        self.initial_state = step.initial_state
        self.calls = 0
        self._step, self._last = step, calls

    def __call__(self, window, state):
        self.calls += 1
        if self.calls > self._last:
            raise RLSPError("the power fails.")
        return self._step(window, state)


@pytest.fixture
def film(tmp_path):
    """19 frames of uneven length, with sound."""
    times = np.cumsum(np.random.default_rng(1).integers(2000, 6000, 19))
    return make_video(tmp_path / "film.mkv", map(int, times), size=(32, 24), audio=("aac",))


def in_sittings(source, target, step, **options):
    """Upscales, cut off again and again; gives how many frames were finished after each sitting."""
    finished = []
    for sitting in range(50):
        try:
            upscale(source, target, Dying(step, 2 + 2 * sitting), **options)
            return finished
        except RLSPError as error:
            if "the power fails" not in str(error):
                raise
            assert not target.exists()
            finished.append(int(re.search(r"(\d+) frames are finished|$", str(error))[1] or 0))
    raise AssertionError("it never ends")


def written(path):
    """Everything that a file or folder holds."""
    return {file.name: file.read_bytes() for file in path.iterdir()} if path.is_dir() else path.read_bytes()


def lossless(path):
    """Times and planes of all frames."""
    with av.open(str(path)) as file:
        return [(frame.pts, frame.to_ndarray(format="yuv420p")) for frame in file.decode(video=0)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"scene_cuts": frozenset({6, 11})}, marks=pytest.mark.slow),
        pytest.param({"warm_start": 0}, marks=pytest.mark.slow),
    ],
)
def test_a_film_in_sittings_is_the_film_in_one(options, step, film, tmp_path):
    at_once, in_parts = tmp_path / "once.mp4", tmp_path / "parts.mp4"
    upscale(film, at_once, step, **OPTIONS | options)
    finished = in_sittings(film, in_parts, step, **OPTIONS | options)
    assert len(set(finished)) > 2
    assert written(in_parts) == written(at_once)
    assert frame_times(at_once) == frame_times(film)
    assert packets(at_once, "audio") == packets(film, "audio")
    assert {path.name for path in tmp_path.iterdir()} == {film.name, at_once.name, in_parts.name}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "suffix"), [("libx265", ".mov"), ("libvpx-vp9", ".webm"), ("ffv1", ".mkv"), ("libx264", ".mkv")]
)
def test_so_it_is_with_every_encoder(codec, suffix, step, film, tmp_path):
    at_once, in_parts = tmp_path / f"once{suffix}", tmp_path / f"parts{suffix}"
    options = {"segment": 3, "warm_start": 2, "codec": codec}
    upscale(film, at_once, step, **options)
    assert len(set(in_sittings(film, in_parts, step, **options))) > 2
    assert packets(at_once, "video") == packets(in_parts, "video")
    assert packets(at_once, "audio") == packets(in_parts, "audio")
    # To the millisecond in Matroska.
    np.testing.assert_allclose(
        np.array(frame_times(at_once), float), np.array(frame_times(film), float), rtol=0, atol=0.00051
    )


@pytest.mark.slow
@pytest.mark.parametrize("network", ["bfloat16", "strips", pytest.param("int8", marks=needs_bytes)])
def test_the_state_is_the_same_number_for_number(network, rng, film, tmp_path, monkeypatch):
    """Lossless, so that a difference in the last bit would show."""
    small_model(rng, SMALL).save(tmp_path / "net.keras")
    step = load_step(tmp_path / "net.keras", precision="float32" if network == "strips" else network)
    if network == "strips":
        monkeypatch.setattr(MODULE, "within_memory", lambda step, *size, **others: StripStep(step, 7))
    options = {"segment": 2, "warm_start": 2, "codec": "ffv1"}
    upscale(film, tmp_path / "once.mkv", step, **options)
    assert in_sittings(film, tmp_path / "parts.mkv", step, **options)
    assert packets(tmp_path / "once.mkv", "video") == packets(tmp_path / "parts.mkv", "video")


def test_folders_of_images_are_gone_on_with_too(step, tmp_path):
    source = tmp_path / "frames"
    source.mkdir()
    for index in range(11):
        write_png(source / f"scene{index}.png", gradient(index, 16, 12))
    options = {"segment": 2, "warm_start": 0}
    upscale(source, tmp_path / "once", step, **options)
    assert in_sittings(source, tmp_path / "parts", step, **options)
    assert written(tmp_path / "parts") == written(tmp_path / "once")
    assert set(written(tmp_path / "once")) == {file.name for file in source.iterdir()}


def test_frames_of_a_video_get_numbers_that_go_on(step, film, tmp_path):
    in_sittings(film, tmp_path / "parts", step, segment=2)
    assert sorted(written(tmp_path / "parts")) == [f"frame_{index:06d}.png" for index in range(19)]


@pytest.fixture
def interrupted(step, film, tmp_path):
    """A target of which eight frames are finished."""
    target = tmp_path / "large.mp4"
    with pytest.raises(Interrupted, match="8 frames are finished"):
        upscale(film, target, step, stop=StopSoon(10), **OPTIONS)
    return target


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"crf": 30}, "--crf (18 then, 30 now)"),
        ({"preset": None}, "--preset (ultrafast then, None now)"),
        ({"scene_cuts": "off"}, "--scene-cuts (auto then, off now)"),
        ({"warm_start": 3}, "--warm-start (2 then, 3 now)"),
        ({"chroma": "authors"}, "--chroma (aligned then, authors now)"),
        ({"segment": 5}, "segment length (2 then, 5 now)"),
    ],
)
def test_other_options_are_refused(change, name, step, film, interrupted):
    left = written(interrupted.with_name("large.mp4.rlsp"))
    with pytest.raises(RLSPError) as raised:
        upscale(film, interrupted, step, **OPTIONS | change)
    assert str(raised.value) == (
        f"{interrupted}: a run with another {name} was interrupted; repeat that command to continue it, or "
        "add --no-resume to start over."
    )
    assert written(interrupted.with_name("large.mp4.rlsp")) == left


def test_another_network_is_refused(film, interrupted):
    other = small_model(np.random.default_rng(1), SMALL)
    with pytest.raises(RLSPError, match="a run with another model was interrupted"):
        upscale(film, interrupted, other, **OPTIONS)


def test_another_input_is_refused_even_under_the_same_name(step, film, interrupted):
    content = bytearray(film.read_bytes())
    content[len(content) // 2] ^= 1
    film.write_bytes(content)
    with pytest.raises(RLSPError, match="a run with another input was interrupted"):
        upscale(film, interrupted, step, **OPTIONS)


def test_another_version_is_refused(step, film, interrupted, monkeypatch):
    monkeypatch.setattr(MODULE, "__version__", "0.0.1")
    with pytest.raises(RLSPError, match=r"another version of rlsp \(.* then, 0.0.1 now\)"):
        upscale(film, interrupted, step, **OPTIONS)


def test_without_resuming_it_begins_anew(step, film, interrupted, tmp_path):
    upscale(film, interrupted, step, resume=False, **OPTIONS | {"crf": 30})
    upscale(film, tmp_path / "once.mp4", step, **OPTIONS | {"crf": 30})
    assert written(interrupted) == written(tmp_path / "once.mp4")


def damage(file, kind):
    """Flips 200 bytes, cuts off half or removes a file."""
    content = bytearray(file.read_bytes())
    file.unlink()
    if kind == "flipped":
        for place in np.random.default_rng(0).choice(len(content), 200, replace=False):
            content[place] ^= 255
    if kind != "missing":
        file.write_bytes(content[: len(content) // 2] if kind == "short" else content)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "kind", "said", "steps"),
    [
        # Two steps more are run backwards before a shot begins.
        (["000000.mp4"], "flipped", "0 to 3", 2 + 4),
        (["000001.mp4"], "short", "4 to 7", 2 + 8),
        (["000000.mp4", "000001.mp4"], "missing", "0 to 3 and 4 to 7", 2 + 8),
        (["state-000002.npz"], "flipped", None, 2 + 8),
        (["state-000002.npz"], "missing", None, 2 + 8),
        (["state-000002.npz", "000001.mp4"], "flipped", "4 to 7", 2 + 8),
    ],
)
def test_what_is_damaged_is_computed_again_and_said(
    names, said, steps, kind, step, film, interrupted, tmp_path
):
    for name in names:
        damage(interrupted.with_name("large.mp4.rlsp") / name, kind)
    counted = Dying(step, 1000)
    notes = upscale(film, interrupted, counted, **OPTIONS)
    sentence = (
        f"{interrupted}: frames {said} had been finished, but were damaged on the disk; they were computed "
        "again."
    )
    assert [note for note in notes if "had been finished" in note] == [sentence] * (said is not None)
    assert counted.calls == steps + 11
    upscale(film, tmp_path / "once.mp4", step, **OPTIONS)
    assert written(interrupted) == written(tmp_path / "once.mp4")


def test_after_a_cut_a_damaged_segment_needs_nothing_before(step, film, tmp_path):
    options = OPTIONS | {"scene_cuts": frozenset({6, 12})}
    target = tmp_path / "large.mp4"
    with pytest.raises(Interrupted, match="14 frames are finished"):
        upscale(film, target, step, stop=StopSoon(2 + 6 + 2 + 6 + 2 + 2), **options)
    work = target.with_name("large.mp4.rlsp")
    segments = journal.read_journal(work / journal.JOURNAL).segments
    (at_cut,) = [index for index, each in enumerate(segments) if sum(s.frames for s in segments[:index]) == 6]
    damage(work / segments[at_cut].name, "flipped")
    counted = Dying(step, 1000)
    notes = upscale(film, target, counted, **options)
    last = 6 + segments[at_cut].frames - 1
    assert any(f"frames 6 to {last} had been finished" in note for note in notes)
    assert counted.calls == 2 + segments[at_cut].frames + 19 - 14


def test_damaged_images_of_a_folder_are_computed_again(step, film, tmp_path):
    upscale(film, tmp_path / "once", step, segment=2)
    with pytest.raises(Interrupted, match="13 frames are finished"):
        upscale(film, tmp_path / "large", step, segment=2, stop=StopSoon(8 + 13))
    damage(tmp_path / "large.rlsp" / "000000" / "frame_000002.png", "flipped")
    assert any("frames 0 to" in note for note in upscale(film, tmp_path / "large", step, segment=2))
    assert written(tmp_path / "large") == written(tmp_path / "once")


def test_what_is_damaged_when_all_is_finished_is_computed_again(step, film, tmp_path, monkeypatch):
    """Also what is damaged between the last look and the joining."""
    target = tmp_path / "large.mp4"
    end = journal.WorkFolder.end

    def damaging(work, *arguments):
        end(work, *arguments)
        damage(work.path / "000001.mp4", "flipped")

    monkeypatch.setattr(journal.WorkFolder, "end", damaging)
    with pytest.raises(
        RLSPError, match=r"large.mp4: its segment 000001.mp4 was damaged on the disk; run the command again"
    ):
        upscale(film, target, step, **OPTIONS)
    assert not target.exists()
    monkeypatch.undo()
    upscale(film, target, step, **OPTIONS)
    upscale(film, tmp_path / "once.mp4", step, **OPTIONS)
    assert written(target) == written(tmp_path / "once.mp4")


def test_a_journal_without_checksums_is_refused(step, film, interrupted):
    file = interrupted.with_name("large.mp4.rlsp") / "journal.jsonl"
    header, *lines = map(json.loads, file.read_text().splitlines())
    old = [{name: line[name] for name in ("name", "frames", "size", "steps", "times")} for line in lines]
    file.write_text("".join(json.dumps(each) + "\n" for each in [header, *old]))
    before = written(file.parent)
    with pytest.raises(RLSPError) as raised:
        upscale(film, interrupted, step, **OPTIONS)
    assert str(raised.value) == (
        f"{interrupted}: was begun by an earlier version of rlsp, which stored no checksums; finish it with "
        "that version, or add --no-resume to start over."
    )
    assert written(file.parent) == before


def in_short_sittings(source, target, step, **options):
    """Upscales, told to stop again and again; gives how many frames were finished after each sitting."""
    finished = []
    for _ in range(50):
        done = finished[-1] if finished else 0
        try:
            # A shot begins with some steps that give no frame.
            upscale(source, target, step, stop=StopSoon(done + 3 * options["warm_start"] + 5), **options)
            return finished
        except Interrupted as error:
            finished.append(int(re.search(r"(\d+) frames are finished|$", str(error))[1] or 0))
    raise AssertionError("it never ends")


@pytest.mark.parametrize("options", [{}, {"scene_cuts": frozenset({6, 11})}, {"warm_start": 0}])
def test_a_film_that_was_stopped_has_the_same_frames(options, step, film, tmp_path):
    """Without loss, where the result would show any difference in what the network gave."""
    options = {"segment": 3, "warm_start": 2, "codec": "ffv1"} | options
    upscale(film, tmp_path / "once.mkv", step, **options)
    finished = in_short_sittings(film, tmp_path / "parts.mkv", step, **options)
    assert len(finished) >= 2
    assert finished == sorted(set(finished))
    assert packets(tmp_path / "parts.mkv", "audio") == packets(tmp_path / "once.mkv", "audio")
    at_once, in_parts = lossless(tmp_path / "once.mkv"), lossless(tmp_path / "parts.mkv")
    assert [time for time, _ in in_parts] == [time for time, _ in at_once]
    for (_, frame), (_, other) in zip(at_once, in_parts, strict=True):
        np.testing.assert_array_equal(other, frame)


def test_images_of_a_run_that_was_stopped_are_the_same_files(step, film, tmp_path):
    options = {"segment": 3, "warm_start": 2}
    upscale(film, tmp_path / "once", step, **options)
    assert len(in_short_sittings(film, tmp_path / "parts", step, **options)) >= 2
    assert written(tmp_path / "parts") == written(tmp_path / "once")


def test_only_the_segment_that_was_stopped_is_encoded_in_two_parts(step, film, tmp_path):
    """Packets of all others are the same; in lossy codecs a part that is encoded apart is not."""
    options = {"segment": 3, "warm_start": 0, "preset": "ultrafast"}
    upscale(film, tmp_path / "once.mp4", step, **options)
    with pytest.raises(Interrupted, match="8 frames are finished"):
        upscale(film, tmp_path / "parts.mp4", step, stop=StopSoon(8), **options)
    upscale(film, tmp_path / "parts.mp4", step, **options)
    (at_once,), (in_parts,) = (packets(tmp_path / f"{name}.mp4", "video") for name in ("once", "parts"))
    assert len(at_once) == len(in_parts) == 19
    # Segments of six frames: the second was stopped after two.
    assert in_parts[:6] == at_once[:6]
    assert in_parts[6:12] != at_once[6:12]
    assert in_parts[12:] == at_once[12:]


def test_stopped_while_a_shot_is_run_backwards_nothing_is_lost(step, film, tmp_path):
    options = {"segment": 3, "warm_start": 4, "codec": "ffv1", "scene_cuts": frozenset({8})}
    upscale(film, tmp_path / "once.mkv", step, **options)
    with pytest.raises(Interrupted, match="8 frames are finished"):
        upscale(film, tmp_path / "parts.mkv", step, stop=StopSoon(4 + 8 + 2), **options)
    counted = Dying(step, 1000)
    upscale(film, tmp_path / "parts.mkv", counted, **options)
    assert counted.calls == 4 + 11
    for (_, frame), (_, other) in zip(
        lossless(tmp_path / "once.mkv"), lossless(tmp_path / "parts.mkv"), strict=True
    ):
        np.testing.assert_array_equal(other, frame)


def test_only_what_is_left_is_computed(step, film, interrupted):
    counted = Dying(step, 1000)
    upscale(film, interrupted, counted, **OPTIONS)
    assert counted.calls == 19 - 8


def test_if_only_the_end_is_missing_nothing_is_computed(step, film, interrupted, monkeypatch):
    def fail(*arguments, **options):
        raise RLSPError(f"{interrupted}: no space left on device; free some space.")

    monkeypatch.setattr(segments, "join_videos", fail)
    with pytest.raises(RLSPError) as raised:
        upscale(film, interrupted, step, **OPTIONS)
    assert str(raised.value) == (
        f"{interrupted}: no space left on device; free some space; 19 frames are finished, and the same "
        "command goes on from there."
    )
    monkeypatch.undo()
    monkeypatch.setattr(MODULE, "StreamingUpscaler", None)
    upscale(film, interrupted, step, **OPTIONS)
    assert frame_times(interrupted) == frame_times(film)


def test_two_runs_do_not_share_an_output(step, film, tmp_path):
    target = tmp_path / "large.mp4"
    with journal.WorkFolder(target), pytest.raises(RLSPError) as raised:
        upscale(film, target, step, **OPTIONS)
    assert str(raised.value) == (
        f"{target}.rlsp: another run is writing this output; wait for it, or give another name."
    )
    upscale(film, target, step, **OPTIONS)


def test_a_folder_of_someone_else_is_left_alone(step, film, tmp_path):
    theirs = tmp_path / "large.mp4.rlsp"
    theirs.mkdir()
    (theirs / "novel.txt").write_text("It was a dark and stormy night.")
    with pytest.raises(RLSPError, match=r"large\.mp4\.rlsp: is in the way"):
        upscale(film, tmp_path / "large.mp4", step, **OPTIONS)
    assert [*theirs.iterdir()] == [theirs / "novel.txt"]


@pytest.mark.slow
def test_a_full_disk_costs_nothing_that_was_finished(step, film, tmp_path):
    source = make_video(tmp_path / "long.mkv", range(0, 120 * 3600, 3600), size=(96, 64))
    options = {"codec": "ffv1", "segment": 5, "warm_start": 0}
    upscale(source, tmp_path / "once.mkv", step, **options)
    with small_disk(tmp_path / "disk", 3 * (tmp_path / "once.mkv").stat().st_size // 4096) as disk:
        with pytest.raises(RLSPError) as raised:
            upscale(source, disk / "large.mkv", step, **options)
        assert re.fullmatch(
            re.escape(f"{disk}/large.mkv: no space left on device; ") + r".*; \d\d frames are finished, "
            "and the same command goes on from there.",
            str(raised.value),
        )
        assert [path.name for path in disk.iterdir()] == ["large.mkv.rlsp"]
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        upscale(source, disk / "large.mkv", step, **options)
        assert packets(disk / "large.mkv", "video") == packets(tmp_path / "once.mkv", "video")
        assert [path.name for path in disk.iterdir()] == ["large.mkv"]


def _upscale_in_a_process(source, target, model, ready=None):
    step = load_step(model)
    if ready:
        ready.set()
    upscale(source, target, step, segment=2, warm_start=2, force=True)


def lines(file):
    """How many a file has, if it is there."""
    try:
        return file.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "name", "prepare"),
    [
        (kill_everywhere.upscale_one, "large.mp4", None),
        (kill_everywhere.upscale_one, "large", None),
        (kill_everywhere.upscale_one, "large.mp4", kill_everywhere.leave_damaged_work),
        (kill_everywhere.upscale_in_ranges, "large.mp4", None),
    ],
    ids=["film", "folder", "going on with what is damaged", "ranges"],
)
def test_killed_at_any_change_of_the_disk_it_ends_as_if_nothing_had_been(run, name, prepare, tmp_path):
    film = make_video(tmp_path / "film.mkv", range(0, 3 * 3600, 3600), size=(32, 24), audio=("aac",))
    (tmp_path / "kills").mkdir()
    names, wrong = kill_everywhere.kill_everywhere(film, tmp_path / "kills", run, name, prepare)
    assert wrong == []
    # Nothing was overlooked: what a run makes, notes, publishes and removes in the end.
    suffix = Path(name).suffix
    first = f"{name}.rlsp/000000{suffix}.rlsp" if run is kill_everywhere.upscale_in_ranges else f"{name}.rlsp"
    assert f"rename {first}/.000000.part{suffix} 1" in names
    assert sum(each.startswith(f"write half a line to {first}/journal.jsonl") for each in names) >= 3
    assert f"rename {name}.rlsp/.{Path(name).stem}.part{suffix} 1" in names
    assert names[-1].startswith(f"remove {name}.rlsp ")


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_as_if_nothing_had_been(rng, film, tmp_path):
    """kill -9 of the real network, while it works on segments and while it joins them."""
    model, target, work = (tmp_path / name for name in ("net.keras", "large.mp4", "large.mp4.rlsp"))
    small_model(rng, SMALL).save(model)
    upscale(film, tmp_path / "once.mp4", load_step(model), segment=2, warm_start=2)
    # Imports TensorFlow once for all of them.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["rlsp_tf.upscaling.upscale"])
    for _ in range(3):
        ready = processes.Event()
        process = processes.Process(target=_upscale_in_a_process, args=(film, target, model, ready))
        process.start()
        assert ready.wait(60)
        # In segments that come to an end meanwhile, since how fast that is depends on the machine.
        until = lines(work / journal.JOURNAL) + rng.integers(0, 3)
        while process.is_alive() and lines(work / journal.JOURNAL) < until:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        process.join()
    _upscale_in_a_process(film, target, model)
    assert written(target) == written(tmp_path / "once.mp4")
    assert {path.name for path in tmp_path.iterdir()} == {"film.mkv", "net.keras", "once.mp4", "large.mp4"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_a_run_after_the_frame_at_hand(name, rng, tmp_path):
    model, target = tmp_path / "net.keras", tmp_path / "large.mkv"
    small_model(rng, SMALL).save(model)
    source = make_video(tmp_path / "long.mkv", range(0, 250 * 3600, 3600), size=(64, 48))
    command = ["upscale", source, target, "--model", model]
    process = Command(command, stderr=subprocess.PIPE, text=True)
    # Written when the first frame of a segment is.
    while process.poll() is None and not [*tmp_path.glob("large.mkv.rlsp/.0*")]:
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    told = process.communicate()[1].splitlines()
    assert process.returncode == 130
    assert told[-2] == f"rlsp: {name}: saving what is finished; repeat the signal to stop at once"
    found = re.fullmatch(
        f"rlsp: error: {re.escape(str(target))}: stopped by {name}; (\\d+) frames are finished, and the same "
        "command goes on from there.",
        told[-1],
    )
    work = journal.read_journal(tmp_path / "large.mkv.rlsp" / journal.JOURNAL)
    assert work.frames == int(found[1])
    assert not target.exists()
    run_command(command, check=True)
    assert frame_times(target) == frame_times(source)


def test_where_nobody_asks_a_first_signal_ends_at_once():
    """While an input is hashed, say, or segments are joined."""
    stop = Stop()
    with stop.on_signals():
        with stop.asked_often():
            pass
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert stop.signal == "SIGINT"


@pytest.mark.parametrize("first", ["SIGINT", "SIGTERM"])
def test_a_second_signal_works_where_the_first_was_ignored(first):
    """As a shell lets programs in the background ignore Ctrl-C."""
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        stop = Stop()
        with stop.on_signals(), stop.asked_often():
            signal.raise_signal(getattr(signal, first))
            assert stop
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert stop.signal == first
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, usual)


HANGS = """
import signal, threading
from rlsp_tf.system.signals import Stop
stop = Stop()
with stop.on_signals(grace=0.1), stop.asked_often():
    signal.raise_signal(signal.SIGINT)
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        threading.Event().wait()  # a disk that does not answer
"""


def test_after_a_second_signal_nothing_can_hold_a_process_up():
    assert subprocess.run([sys.executable, "-c", HANGS], timeout=60).returncode == 130


def test_a_second_signal_is_not_lost_where_python_drops_exceptions():
    class Garbage:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    stop = Stop()
    with stop.on_signals(), stop.asked_often():
        assert not stop
        signal.raise_signal(signal.SIGINT)
        assert stop
        Garbage()
        with pytest.raises(KeyboardInterrupt):
            bool(stop)


def test_stale_work_is_cleaned_away_and_nothing_else(interrupted, tmp_path, capsys):
    theirs = tmp_path / "theirs.rlsp"
    theirs.mkdir()
    (theirs / "novel.txt").write_text("It was a dark and stormy night.")
    before = set(tmp_path.iterdir())
    assert cli(["clean", str(tmp_path)]) == 0  # young
    assert set(tmp_path.iterdir()) == before
    with journal.WorkFolder(interrupted):
        assert cli(["clean", str(tmp_path), "--older-than", "0"]) == 0  # at work
    assert set(tmp_path.iterdir()) == before
    assert capsys.readouterr().out == ""
    assert cli(["clean", str(tmp_path), "--older-than", "0"]) == 0
    assert re.match(r"removed .*large.mp4.rlsp: 8 frames, 0\.\d MB\n$", capsys.readouterr().out)
    assert before - set(tmp_path.iterdir()) == {tmp_path / "large.mp4.rlsp"}


def test_times_are_the_pairs_they_are_made_of():
    pairs = [(0, 40), (80, 40), (40, -(2**63))]
    times = journal.Times(pairs)
    assert list(times) == pairs
    assert (len(times), times[1], times[-1]) == (3, pairs[1], pairs[-1])


def test_half_a_line_tells_of_nothing(interrupted):
    file = interrupted.with_name("large.mp4.rlsp") / "journal.jsonl"
    content = file.read_bytes()
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    assert len(ends) == 3
    for length in range(len(content) + 1):
        file.write_bytes(content[:length])
        found = journal.read_journal(file)
        lines = sum(end <= length for end in ends)
        assert (len(found.segments) if found else 0) == max(0, lines - 1)


def test_after_half_a_line_a_journal_goes_on(step, film, interrupted, tmp_path):
    file = interrupted.with_name("large.mp4.rlsp") / "journal.jsonl"
    with file.open("ab") as lines:
        lines.write(b'{"name": "00')
    with pytest.raises(Interrupted):
        # At the end of a segment.
        upscale(film, interrupted, step, stop=StopSoon(14), **OPTIONS)
    assert journal.read_journal(file).frames > 8
    assert not any("anew" in note for note in upscale(film, interrupted, step, **OPTIONS))
    upscale(film, tmp_path / "once.mp4", step, **OPTIONS)
    assert written(interrupted) == written(tmp_path / "once.mp4")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
LINES = st.lists(
    st.binary()
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries(
        {"version": st.just(1) | VALUES, "run": st.just({}) | VALUES, "rows": VALUES}
    ).map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries(
        {
            "name": st.sampled_from(["000000.mp4", "../000000", "/etc/passwd", "..", ""]) | VALUES,
            "frames": st.just(1) | VALUES,
            "size": st.just(1) | VALUES,
            "steps": st.just(1) | VALUES,
            "times": st.just([[0, 1]]) | VALUES,
        }
    ).map(lambda value: json.dumps(value).encode()),
    max_size=4,
)


@given(LINES)
@example([b'{"version": 1, "run": {}, "rows": null}', b"[" * 100_000])
@example(
    [
        b'{"version": 1, "run": {}, "rows": null}',
        b'{"name": "000000.mp4", "frames": 1, "size": 1, "steps": 1, "times": [[99999999999999999999, 1]]}',
    ]
)
def test_a_journal_of_any_content_is_read_or_left(tmp_path_factory, lines):
    file = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    file.write_bytes(b"".join(line + b"\n" for line in lines))
    found = journal.read_journal(file)
    for segment in found.segments if found else ():
        assert (file.parent / segment.name).parent == file.parent
        assert segment.frames > 0
        assert len(segment.times) in (0, segment.frames)


@given(st.permutations(range(8)), st.lists(st.integers(1, 1000), min_size=8, max_size=8))
def test_packets_are_decoded_in_order_and_in_time(order, steps):
    moments = np.cumsum(steps).tolist()
    shown = [moments[index] for index in order]
    decoded = decoding_times(shown)
    assert all(early < late for early, late in itertools.pairwise(decoded))
    assert all(before <= at for before, at in zip(decoded, shown, strict=True))
    # As late as the order allows.
    assert any(before == at for before, at in zip(decoded, shown, strict=True))


def test_in_their_own_order_packets_are_decoded_when_they_are_shown():
    assert decoding_times([5, 7, 12]) == [5, 7, 12]
    assert decoding_times([]) == []


@pytest.mark.parametrize("done", [1, 3, 5])
def test_a_resumed_network_gives_what_is_left(done, step, rng):
    clip = rng.uniform(0, 255, (7, 1, 6, 8, 3)).astype("float32")

    def run(step):
        recurrent = RecurrentStream(step)
        outputs = [output for frame in clip for output in recurrent.push(frame)]
        return [*outputs, *recurrent.flush()]

    first = ResumedStep(step)
    states = []
    recurrent = RecurrentStream(first)
    for frame in clip:
        list(recurrent.push(frame))
        states.append((first.count, first.kept()))
    state = next(state for count, state in states if count == done)
    resumed = run(ResumedStep(step, [Stretch(done, None, lambda: state)]))
    assert resumed[: done - 1] == [None] * (done - 1)
    np.testing.assert_array_equal(np.stack(resumed[done - 1 :]), np.stack(run(step)[done - 1 :]))
