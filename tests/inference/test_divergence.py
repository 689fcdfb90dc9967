"""Weights that diverge while a clip is upscaled are noticed, and the user is told once."""

import json

import numpy as np
import pytest
import tensorflow as tf

from helpers.networks import echo
from helpers.synthetic import make_clip
from rlsp_tf.cli.main import main
from rlsp_tf.errors import Interrupted
from rlsp_tf.inference.divergence import SEVERAL, Watch, is_far
from rlsp_tf.inference.step import KerasStep
from rlsp_tf.media.images import write_png
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.system.signals import Stop
from rlsp_tf.upscaling.plan import join_ranges, make_plan, render_range
from rlsp_tf.upscaling.upscale import Recipe, upscale

GREY = 20
LUMA = GREY * 219.859 / 256 + 16
"""Luma of that grey, with the paper's coefficients."""


def first_far(gain):
    """Computes y = gain * y + luma and returns the first frame that is more than 32 grey levels off."""
    y, frame = LUMA, 0
    while abs(y - LUMA) <= 32:
        y, frame = gain * y + LUMA, frame + 1
    return frame


def write_frames(folder, frames):
    folder.mkdir()
    for index, frame in enumerate(frames):
        write_png(folder / f"{index:02d}.png", frame)
    return folder


@pytest.fixture
def grey(tmp_path):
    return write_frames(tmp_path / "grey", [np.full((6, 8, 3), GREY, np.uint8)] * 20)


# The frames are equal, and copies do not diverge.
OPTIONS = {"warm_start": 0, "scene_cuts": "off", "repeats": "compute"}


class StopSoon(Stop):
    def __init__(self, asked):
        super().__init__()
        self.signal, self._left = "SIGINT", asked

    def __bool__(self):
        self._left -= 1
        return self._left < 0


def about(notes):
    return [note for note in notes if "diverge" in note]


def sentence(path, frame):
    return (
        f"{path}: from frame {frame} on (counted from 0) the result is far from the input, which means that "
        "the weights diverge on it; look at it, and use other weights if it shows noise (rlsp benchmark "
        "stability tests them)."
    )


@pytest.mark.parametrize("gain", [1.0, 0.95, 1.5])
def test_the_frame_is_named_from_which_on_the_output_is_far_away(gain, grey, tmp_path):
    notes = upscale(grey, tmp_path / "large", echo(gain), **OPTIONS)
    assert first_far(gain) in (1, 2)
    assert about(notes) == [sentence(grey, first_far(gain))]


def test_weights_that_stay_near_are_not_told_of(grey, tmp_path):
    """With a gain of a tenth the output is off by a ninth of the luma at most, far below the limit."""
    assert about(upscale(grey, tmp_path / "large", echo(0.1), **OPTIONS)) == []
    clip = write_frames(tmp_path / "clip", make_clip(6, 24, 32))
    assert about(upscale(clip, tmp_path / "own", KerasStep(echo(0.0)), **OPTIONS)) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_far_away(value, grey, tmp_path):
    model = echo(0.0)
    *others, bias = model.get_weights()
    model.set_weights([*others, np.full_like(bias, value)])
    assert about(upscale(grey, tmp_path / "large", model, **OPTIONS)) == [sentence(grey, 0)]


def test_it_is_told_by_the_command_and_does_not_fail_it(grey, tmp_path, capsys):
    echo(1.5).save(tmp_path / "echo.keras")
    arguments = [grey, tmp_path / "large", "--model", tmp_path / "echo.keras", "--warm-start", 0]
    assert main(["upscale", *map(str, arguments), "--precision", "float32", "--repeats", "compute"]) == 0
    assert capsys.readouterr().err.count(f"rlsp: note: {sentence(grey, first_far(1.5))}\n") == 1


def test_an_image_is_a_clip_too(tmp_path):
    model = echo(0.0)
    *others, bias = model.get_weights()
    model.set_weights([*others, bias + 100])
    write_png(tmp_path / "one.png", np.full((6, 8, 3), GREY, np.uint8))
    notes = upscale(tmp_path / "one.png", tmp_path / "large.png", model)
    assert about(notes) == [sentence(tmp_path / "one.png", 0)]


def test_an_interrupted_run_remembers_what_it_has_seen(grey, tmp_path):
    step, target = KerasStep(echo(1.5)), tmp_path / "large"
    options = OPTIONS | {"segment": 4}
    with pytest.raises(Interrupted):
        upscale(grey, target, step, stop=StopSoon(12), **options)
    journal = (tmp_path / "large.rlsp" / "journal.jsonl").read_text().splitlines()
    assert json.loads(journal[-1])["diverged"] == first_far(1.5)
    assert about(upscale(grey, target, step, **options)) == [sentence(grey, first_far(1.5))]


def test_ranges_count_the_frames_of_the_clip(tmp_path):
    """The clip turns white at frame 9, where the network starts anew. It diverges on white, not on black."""
    frames = [np.full((6, 8, 3), level, np.uint8) for level in [0] * 9 + [255] * 9]
    clip = write_frames(tmp_path / "clip", frames)
    step, recipe = KerasStep(echo(0.6)), Recipe(warm_start=0, segment=3, repeats="compute")
    work, target = tmp_path / "large.rlsp", tmp_path / "large"
    plan = make_plan(clip, step, recipe, frozenset({9}), length=5)
    assert [part.start for part in plan.ranges] == [0, 9]
    work.mkdir()
    for index in (1, 0):
        render_range(clip, work / "large", step, recipe, plan, index)
    assert about(join_ranges(clip, work, target, step, recipe, plan)) == [sentence(clip, 10)]


@pytest.mark.parametrize("output", ["y", "rgb"])
def test_a_picture_is_near_itself_and_far_from_another(output):
    rgb = make_clip(1, 12, 16).astype(np.float32)
    weights = np.array([65.738, 129.057, 25.064], np.float32) / 256
    frame = rgb if output == "rgb" else rgb @ weights[:, None] + 16
    large = np.repeat(np.repeat(frame, 4, axis=1), 4, axis=2)
    config = RLSPConfig(output=output)
    contrast = frame.std(axis=(1, 2)) if output == "y" else frame - frame.mean(axis=(1, 2), keepdims=True)
    limit = 32 + 3 * np.sqrt(np.mean(np.square(contrast)))
    noise = np.random.default_rng(0).choice([-1, 1], large.shape).astype(np.float32)
    for away, far in ((0, False), (0.99 * limit, False), (1.01 * limit, True), (1e30, True)):
        assert is_far(tf.constant(large + away * noise), tf.constant(rgb), config) == far
    # What lies between the low-resolution pixels is not asked for.
    large[:, 1::4] = large[:, :, 1::4] = np.nan
    assert not is_far(tf.constant(large), tf.constant(rgb), config)
    large[0, 4, 8, 0] = np.nan
    assert is_far(tf.constant(large), tf.constant(rgb), config)


@pytest.mark.parametrize(
    ("far", "since"),
    [
        ("", None),
        ("....", None),
        ("." + "x" * (SEVERAL - 1) + ".", None),
        ("." + "x" * SEVERAL + "." + "x" * SEVERAL, 1),
        ("x." + "x" * SEVERAL + ".", 2),
        ("...x", 3),
        ("x", 0),
    ],
)
def test_several_frames_in_succession_are_told_of_or_the_last_ones(far, since):
    watch = Watch()
    for number, each in enumerate(far, start=100):
        watch.look(number, each == "x")
    watch.end()
    assert watch.since == (None if since is None else 100 + since)


def test_frames_that_do_not_follow_each_other_are_no_succession():
    watch = Watch()
    for number in (*range(SEVERAL - 1), SEVERAL):
        watch.look(number, True)
    watch.look(SEVERAL + 1, False)
    watch.end()
    assert watch.since is None
