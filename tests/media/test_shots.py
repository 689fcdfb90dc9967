"""Shots are found while frames pass, and each begins anew, warmed by its own first frames."""

import os
import subprocess
import sys
import weakref

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from helpers.cli import fails
from helpers.networks import SMALL, small_model
from helpers.streams import stream
from helpers.synthetic import make_clip
from rlsp_tf.cli.main import main
from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.recurrent_stream import RecurrentStream
from rlsp_tf.inference.step import KerasStep
from rlsp_tf.inference.upscaler import StreamingUpscaler
from rlsp_tf.media.frames import Frame
from rlsp_tf.media.shots import AROUND, detect_shots, listed_shots, read_cuts
from rlsp_tf.network.model import RLSP, rlsp_layer


def frames_of(clip):
    return [Frame((frame,), pts=index) for index, frame in enumerate(clip)]


def begins(clip, depth=8):
    marked = list(detect_shots(frames_of(clip), depth))
    assert [frame.pts for frame, _ in marked] == list(range(len(clip)))
    return [frame.pts for frame, begins in marked if begins]


def run_stream(recurrent, clip):
    outputs = [output for frame in clip for output in recurrent.push(tf.constant(frame[None], tf.float32))]
    return np.concatenate([*outputs, *recurrent.flush()])


@pytest.mark.parametrize("seed", range(4))
def test_cuts_between_scenes_are_found_and_motion_is_none(seed):
    first, second, third = (make_clip(count, 60, 80, seed=3 * seed + i) for i, count in enumerate((9, 12, 7)))
    assert begins(np.concatenate([first, second, third])) == [0, 9, 21]
    assert begins(first) == [0]


def test_real_shots(data):
    """Joined sequences are cut where they were joined, and nowhere else."""
    import imageio.v3 as iio

    parts = []
    for name in ("calendar", "city", "foliage", "walk"):
        files = sorted((data / "vid4" / name).glob("*.png"))[:20]
        parts.append(np.stack([iio.imread(file)[:480:2, :704:2] for file in files]))
    assert begins(np.concatenate(parts)) == [0, 20, 40, 60]


def test_deep_samples_and_planes_are_looked_at_alike():
    clip = np.concatenate([make_clip(8, 60, 80), make_clip(8, 60, 80, seed=1)])
    assert begins(clip.astype(np.uint16) * 257, depth=16) == [0, 8]
    luma = [Frame((frame[..., 1].astype(np.uint16) * 4,) * 3, pts=t) for t, frame in enumerate(clip)]
    assert [frame.pts for frame, begins in detect_shots(luma, 10) if begins] == [0, 8]


@given(st.integers(0, 12))
def test_every_frame_passes_and_few_wait(count):
    clip = make_clip(12, 8, 8)[:count]
    given = 0

    def frames():
        nonlocal given
        for frame in frames_of(clip):
            given += 1
            yield frame

    for passed, (frame, _) in enumerate(detect_shots(frames())):
        assert frame.pts == passed
        assert given <= passed + AROUND + 2
    assert given == count


def test_listed_cuts(tmp_path):
    (tmp_path / "cuts.txt").write_text("3, 5\n\n9;")
    assert read_cuts(tmp_path / "cuts.txt") == {3, 5, 9}
    assert [begins for _, begins in listed_shots(range(5), frozenset((3,)))] == [
        True,
        False,
        False,
        True,
        False,
    ]
    (tmp_path / "cuts.txt").write_text("")
    assert read_cuts(tmp_path / "cuts.txt") == frozenset()
    (tmp_path / "cuts.txt").write_text("3\n00:12")
    with pytest.raises(RLSPError, match=r"cuts\.txt: '00:12' is not a frame number"):
        read_cuts(tmp_path / "cuts.txt")
    with pytest.raises(RLSPError, match=r"missing: cannot be read"):
        read_cuts(tmp_path / "missing")


@pytest.mark.parametrize("length", [1, 2, 3, 9, 20])
@pytest.mark.parametrize("warm_start", [1, 4, 30])
def test_a_warm_stream_is_the_layer_with_a_warm_start(rng, length, warm_start):
    model = small_model(rng, precision="float32")
    layer = RLSP(SMALL, warm_start=warm_start, dtype="float32")
    layer.build((None, None, None, None, 3))
    layer.set_weights(rlsp_layer(model).get_weights())
    clip = make_clip(length, 6, 7)
    outputs = run_stream(RecurrentStream(model, warm_start=warm_start), clip)
    # The same float32 operations, in graphs that may sum in another order.
    np.testing.assert_allclose(outputs, layer(clip[None].astype(np.float32))[0], atol=1e-3)
    assert RLSP.from_config(layer.get_config()).warm_start == warm_start


def test_a_warm_start_is_the_state_of_the_clip_run_backwards(rng):
    """By hand: the reversed clip through the network, its last state but one, then the clip."""
    model = small_model(rng, precision="float32")
    stateful = RLSP(SMALL, return_state=True, dtype="float32")
    stateful.build((None, None, None, None, 3))
    stateful.set_weights(rlsp_layer(model).get_weights())
    clip = make_clip(5, 6, 7)[None].astype(np.float32)
    # With the frame 0 given as a neighbour only.
    given = RLSP(SMALL, return_state=True, border="given", dtype="float32")
    given.build((None, None, None, None, 3))
    given.set_weights(stateful.get_weights())
    reverse = clip[:, ::-1]
    _, *state = given(np.concatenate([reverse[:, :1], reverse], axis=1))
    expected = stateful(clip, initial_state=state)[0]
    outputs = run_stream(RecurrentStream(model, warm_start=8), clip[0])
    np.testing.assert_allclose(outputs, expected[0], atol=1e-3)


def test_the_first_frames_of_a_shot_are_not_held_together(rng):
    """The network's outputs are large, and a warm start has several."""
    alive, outputs = [], []

    class Counting(KerasStep):
        def __call__(self, window, state):
            alive.append(sum(output() is not None for output in outputs))
            output, state = super().__call__(window, state)
            outputs.append(weakref.ref(output))
            return output, state

    upscaler = StreamingUpscaler(Counting(small_model(rng)), warm_start=4)
    made = [frame for each in make_clip(9, 8, 6) for frame in upscaler.push(each)] + upscaler.flush()
    assert len(made) == 9
    assert alive == [0] * 13


@pytest.mark.parametrize("warm_start", [0, 3])
def test_a_shot_is_upscaled_as_if_it_were_alone(rng, warm_start):
    model = small_model(rng)
    shots = [make_clip(count, 8, 6, seed=count) for count in (4, 1, 7)]
    alone = [
        frame
        for shot in shots
        for frame in stream(StreamingUpscaler(model, warm_start=warm_start), list(shot))
    ]
    upscaler = StreamingUpscaler(model, warm_start=warm_start)
    together = []
    for shot in shots:
        for index, frame in enumerate(shot):
            together += (upscaler.end_shot() if index == 0 else []) + upscaler.push(frame)
    together += upscaler.flush()
    np.testing.assert_array_equal(np.stack(together), np.stack(alone))


def test_the_commands(rng, tmp_path, capsys):
    small_model(rng).save(tmp_path / "m.keras")
    (tmp_path / "lr").mkdir()
    clip = np.concatenate([make_clip(6, 40, 60), make_clip(6, 40, 60, seed=1)])
    for index, frame in enumerate(clip):
        tf.io.write_file(str(tmp_path / "lr" / f"{index:02d}.png"), tf.io.encode_png(frame))
    (tmp_path / "cuts").write_text("6")
    command = ["upscale", str(tmp_path / "lr"), "--model", str(tmp_path / "m.keras")]

    def frames(name, *options):
        assert main([*command, str(tmp_path / name), *options]) == 0
        files = sorted((tmp_path / name).iterdir())
        return np.stack([tf.io.decode_png(tf.io.read_file(str(file))).numpy() for file in files])

    cold = ("--warm-start", "0")
    found, listed = frames("found", *cold), frames("listed", *cold, "--scene-cuts", str(tmp_path / "cuts"))
    off, warm = frames("off", *cold, "--scene-cuts", "off"), frames("warm")
    assert len(found) == len(off) == len(warm) == 12
    np.testing.assert_array_equal(found, listed)
    np.testing.assert_array_equal(found[:5], off[:5])  # the sixth has a neighbour in the next shot
    assert not np.array_equal(found[6], off[6])
    assert not np.array_equal(found[0], warm[0])
    assert "cannot be read" in fails(capsys, *command, tmp_path / "x", "--scene-cuts", tmp_path / "none")
    with pytest.raises(SystemExit) as end:
        main([*map(str, command), str(tmp_path / "x"), "--warm-start", "-1"])
    assert end.value.code == 2
    assert "from 0 to 100" in capsys.readouterr().err


def test_no_program_of_the_path_is_run(tmp_path):
    """PySceneDetect, when it is imported as a whole, runs what is called ffmpeg."""
    mark = tmp_path / "mark"
    for name in ("ffmpeg", "mkvmerge", "gs"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho $0 >> {mark}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    code = "import sys, rlsp_tf.media.shots as s; s.CutDetector(); print('scenedetect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr, mark.exists()) == ("False\n", "", False)
    subprocess.run([sys.executable, "-c", "import scenedetect"], env=environment, check=True)
    assert "ffmpeg" in mark.read_text()
