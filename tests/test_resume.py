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

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from networks import SMALL, needs_bytes, small_model
from rlsp_tf import cli, journal, segments
from rlsp_tf.errors import Interrupted, RLSPError
from rlsp_tf.images import write_png
from rlsp_tf.join import decoding_times
from rlsp_tf.resumed import ResumedStep
from rlsp_tf.steps import KerasStep, load_step
from rlsp_tf.stopping import Stop
from rlsp_tf.streaming import RecurrentStream
from rlsp_tf.tiles import StripStep
from rlsp_tf.upscale import upscale
from small_disk import small_disk
from videos import frame_times, gradient, make_video, packets

MODULE = importlib.import_module("rlsp_tf.upscale")  # whose name in the package is that of the function
OPTIONS = {"segment": 2, "warm_start": 2, "preset": "ultrafast"}


class StopSoon(Stop):
    """As if a signal came when it has been asked so many times; it is asked about twice for every frame."""

    def __init__(self, asked):
        super().__init__()
        self._left = asked

    def __bool__(self):
        self._left -= 1
        if self._left < 0:
            self.signal = "SIGTERM"
        return super().__bool__()


@pytest.fixture(scope="module")
def step():
    return KerasStep(small_model(np.random.default_rng(0), SMALL))


@pytest.fixture
def film(tmp_path):
    """19 frames of uneven length, with sound."""
    times = np.cumsum(np.random.default_rng(1).integers(2000, 6000, 19))
    return make_video(tmp_path / "film.mkv", map(int, times), size=(32, 24), audio=("aac",))


def in_sittings(source, target, step, **options):
    """Upscales, interrupted again and again; gives how many frames were finished after each sitting."""
    finished = []
    for sitting in range(50):
        try:
            upscale(source, target, step, stop=StopSoon(2 + 9 * sitting), **options)
            return finished
        except Interrupted as error:
            assert not target.exists()
            finished.append(int(re.search(r"(\d+) frames are finished|$", str(error))[1] or 0))
    raise AssertionError("it never ends")


def written(path):
    """Everything that a file or folder holds."""
    return {file.name: file.read_bytes() for file in path.iterdir()} if path.is_dir() else path.read_bytes()


@pytest.mark.parametrize("options", [{}, {"scene_cuts": frozenset({6, 11})}, {"warm_start": 0}])
def test_a_film_in_sittings_is_the_film_in_one(options, step, film, tmp_path):
    at_once, in_parts = tmp_path / "once.mp4", tmp_path / "parts.mp4"
    upscale(film, at_once, step, **OPTIONS | options)
    finished = in_sittings(film, in_parts, step, **OPTIONS | options)
    assert len(set(finished)) > 3
    assert written(in_parts) == written(at_once)
    assert frame_times(at_once) == frame_times(film)
    assert packets(at_once, "audio") == packets(film, "audio")
    assert {path.name for path in tmp_path.iterdir()} == {film.name, at_once.name, in_parts.name}


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
        upscale(film, target, step, stop=StopSoon(12), **OPTIONS)
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
        f"{interrupted}: a run with another {name} was interrupted; run that again to go on, or add "
        "--no-resume to begin anew."
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


@pytest.mark.parametrize("name", ["000001.mp4", "state-000002.npz"])
@pytest.mark.parametrize("damage", ["missing", "short"])
def test_what_is_damaged_is_computed_again_and_said(name, damage, step, film, interrupted, tmp_path):
    file = interrupted.with_name("large.mp4.rlsp") / name
    content = file.read_bytes()
    file.unlink()
    if damage == "short":
        file.write_bytes(content[: len(content) // 2])
    notes = upscale(film, interrupted, step, **OPTIONS)
    assert f"{interrupted}: what was finished of it is damaged; it was begun anew." in notes
    upscale(film, tmp_path / "once.mp4", step, **OPTIONS)
    assert written(interrupted) == written(tmp_path / "once.mp4")


def test_a_segment_that_is_spoilt_is_not_joined(step, film, interrupted):
    file = interrupted.with_name("large.mp4.rlsp") / "000001.mp4"
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(RLSPError, match=r"large.mp4: .*; 19 frames are finished"):
        upscale(film, interrupted, step, **OPTIONS)
    assert not interrupted.exists()


def test_only_what_is_left_is_computed(step, film, interrupted):
    calls = []

    class Counting:
        config, precision = step.config, step.precision
        itemsize, fingerprint = step.itemsize, step.fingerprint
        initial_state = step.initial_state

        def __call__(self, window, state):
            calls.append(1)
            return step(window, state)

    upscale(film, interrupted, Counting(), **OPTIONS)
    assert len(calls) == 19 - 8


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
        f"{target}.rlsp: another run is at work on this output; wait for it, or give another name."
    )
    upscale(film, target, step, **OPTIONS)


def test_a_folder_of_someone_else_is_left_alone(step, film, tmp_path):
    theirs = tmp_path / "large.mp4.rlsp"
    theirs.mkdir()
    (theirs / "novel.txt").write_text("It was a dark and stormy night.")
    with pytest.raises(RLSPError, match=r"large\.mp4\.rlsp: is in the way"):
        upscale(film, tmp_path / "large.mp4", step, **OPTIONS)
    assert [*theirs.iterdir()] == [theirs / "novel.txt"]


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


def test_killed_at_twenty_random_moments_it_ends_as_if_nothing_had_been(rng, film, tmp_path):
    """kill -9, which nothing in the process hears of, while it works on segments and while it joins them."""
    model, target, work = (tmp_path / name for name in ("net.keras", "large.mp4", "large.mp4.rlsp"))
    small_model(rng, SMALL).save(model)
    source = make_video(tmp_path / "long.mkv", range(0, 120 * 3600, 3600), size=(64, 48), audio=("aac",))
    upscale(source, tmp_path / "once.mp4", load_step(model), segment=2, warm_start=2)
    # Imports TensorFlow once for all of them.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["rlsp_tf.upscale"])
    kills, finished = 0, []
    while kills < 20:
        ready = processes.Event()
        process = processes.Process(target=_upscale_in_a_process, args=(source, target, model, ready))
        process.start()
        assert ready.wait(60)
        # In segments that come to an end meanwhile, since how fast that is depends on the machine.
        until = lines(work / journal.JOURNAL) + rng.integers(0, 8)
        while process.is_alive() and lines(work / journal.JOURNAL) < until:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.join()
        kills += process.exitcode != 0
        state = journal.read_journal(work / journal.JOURNAL)
        finished.append(state.frames if state else 0)
        if target.exists():
            assert written(target) == written(tmp_path / "once.mp4")
    _upscale_in_a_process(source, target, model)
    assert written(target) == written(tmp_path / "once.mp4")
    assert {path.name for path in tmp_path.iterdir()} == {
        *("film.mkv", "long.mkv", "net.keras", "once.mp4", "large.mp4")
    }
    # Kills came while there was something to lose.
    assert len(set(finished)) > 5


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_lets_a_segment_be_finished(name, rng, tmp_path):
    model, target = tmp_path / "net.keras", tmp_path / "large.mkv"
    small_model(rng, SMALL).save(model)
    source = make_video(tmp_path / "long.mkv", range(0, 400 * 3600, 3600), size=(64, 48))
    command = [sys.executable, "-m", "rlsp_tf", "upscale", source, target, "--model", model]
    process = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "large.mkv.rlsp").exists():
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    told = process.communicate()[1].splitlines()
    assert process.returncode == 130
    assert re.fullmatch(
        f"rlsp: {name}: finishing a segment, \\d+ frames; once more to stop at once", told[-2]
    )
    assert re.fullmatch(
        f"rlsp: error: {re.escape(str(target))}: stopped by {name}; [12]\\d\\d frames are finished, and the "
        "same command goes on from there.",
        told[-1],
    )
    assert not target.exists()
    subprocess.run([*map(str, command)], check=True, stderr=subprocess.DEVNULL)
    assert frame_times(target) == frame_times(source)


def test_a_second_signal_is_not_lost_where_python_drops_exceptions():
    class Garbage:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    stop = Stop()
    with stop.on_signals():
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
    assert cli.main(["clean", str(tmp_path)]) == 0  # young
    assert set(tmp_path.iterdir()) == before
    with journal.WorkFolder(interrupted):
        assert cli.main(["clean", str(tmp_path), "--older-than", "0"]) == 0  # at work
    assert set(tmp_path.iterdir()) == before
    assert capsys.readouterr().out == ""
    assert cli.main(["clean", str(tmp_path), "--older-than", "0"]) == 0
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
        upscale(film, interrupted, step, stop=StopSoon(28), **OPTIONS)
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
    resumed = run(ResumedStep(step, done, lambda: state))
    assert resumed[:done] == [None] * done
    np.testing.assert_array_equal(np.stack(resumed[done:]), np.stack(run(step)[done:]))
