"""Strips give what whole frames give, whatever their height and for however many steps."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from helpers.cli import fails
from helpers.networks import small_model
from helpers.synthetic import make_clip
from rlsp_tf.cli.main import main
from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.recurrent_stream import RecurrentStream
from rlsp_tf.inference.step import KerasStep
from rlsp_tf.inference.strips import BASE, PER_PIXEL, StripStep, strips, within_memory
from rlsp_tf.network.config import RLSPConfig


def run_stream(step, clip):
    stream = RecurrentStream(step)
    outputs = [output for frame in clip for output in stream.push(tf.constant(frame[None], tf.float32))]
    return np.concatenate([*outputs, *stream.flush()])


@pytest.mark.parametrize("rows", [1, 5, 6, 11, 30])
@pytest.mark.parametrize(
    "config", [RLSPConfig(filters=5, layers=3), RLSPConfig(filters=4, layers=5, output="rgb")]
)
def test_strips_give_what_whole_frames_give(rng, config, rows):
    """The clip is long enough for the receptive field to grow across the whole frame."""
    step = KerasStep(small_model(rng, config, precision="float32"))
    clip = make_clip(12, 23, 9)
    # float32 sums in another order, carried on over twelve steps.
    np.testing.assert_allclose(run_stream(StripStep(step, rows), clip), run_stream(step, clip), atol=2e-3)


def test_strips_see_as_far_as_the_network_reaches_and_no_further(rng):
    """With one row less around a strip its edge differs, so the overlap is not larger than necessary."""
    config = RLSPConfig(filters=5, layers=4)
    model = small_model(rng, config, precision="float32")
    clip = make_clip(3, 24, 9)
    whole = run_stream(KerasStep(model), clip)
    short = StripStep(KerasStep(model), 8)
    short.config = RLSPConfig(filters=5, layers=3)  # believes that it reaches less far
    assert np.abs(run_stream(short, clip) - whole).max() > 0.01


def test_bfloat16_states_pass_through_strips_as_they_are(rng):
    step = KerasStep(small_model(rng, precision="bfloat16"))
    clip = make_clip(4, 21, 8)
    whole, parts = run_stream(step, clip), run_stream(StripStep(step, 6), clip)
    # The same rounding of the same numbers, but where a sum in another order lies on the other side.
    assert np.mean(np.abs(whole - parts) > 0.01) < 0.02


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 20))
def test_strips_cover_a_frame_once_and_are_neither_too_high_nor_too_low(height, rows, reach):
    parts = strips(height, rows, reach)
    assert [row for top, bottom in parts for row in range(top, bottom)] == list(range(height))
    sizes = [bottom - top for top, bottom in parts]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(reach, height)
    assert max(sizes) <= max(rows, 2 * reach)


def test_frames_that_fit_are_left_whole_and_large_ones_are_cut(rng):
    step = KerasStep(small_model(rng))
    assert within_memory(step, 270, 480, 4e9) is step
    pixels = 2160 * 3840
    whole = BASE + 2 * pixels * PER_PIXEL
    cut = within_memory(step, 2160, 3840, BASE + pixels * (PER_PIXEL + 250))
    assert isinstance(cut, StripStep)
    assert within_memory(step, 2160, 3840, whole) is step
    # Eight frames of luma more, which a warm start makes at once.
    assert within_memory(step, 2160, 3840, whole, at_once=9) is not step
    assert within_memory(step, 2160, 3840, whole + 8 * pixels * 16 * 4, at_once=9) is step
    with pytest.raises(RLSPError, match=r"3840x2160 take \d+\.\d GB, more than the 2\.0 GB .* --memory"):
        within_memory(step, 2160, 3840, 2e9)


def test_the_command_line_cuts_and_refuses(rng, tmp_path, capsys, monkeypatch):
    """The memory of an idle process is taken to be zero, so that small frames can be too large."""
    monkeypatch.setattr("rlsp_tf.inference.strips.BASE", 0.0)
    small_model(rng, precision="float32").save(tmp_path / "m.keras")
    (tmp_path / "lr").mkdir()
    for index, frame in enumerate(make_clip(3, 40, 30)):
        tf.io.write_file(str(tmp_path / "lr" / f"{index}.png"), tf.io.encode_png(frame))
    command = [
        "upscale",
        str(tmp_path / "lr"),
        "--model",
        str(tmp_path / "m.keras"),
        *("--precision", "float32", "--warm-start", "0"),
    ]
    assert main([*command, str(tmp_path / "whole")]) == 0
    used = []
    monkeypatch.setattr(StripStep, "__init__", _noting(StripStep.__init__, used))
    assert main([*command, str(tmp_path / "cut"), "--memory", "0.0016"]) == 0
    assert used
    for index in range(3):
        whole, cut = (
            tf.io.decode_png(tf.io.read_file(str(tmp_path / name / f"{index}.png"))).numpy().astype(int)
            for name in ("whole", "cut")
        )
        # A value near a half may round the other way.
        assert np.abs(whole - cut).max() <= 1
        assert np.mean(whole != cut) < 1e-3
    assert "--memory" in fails(capsys, *command, tmp_path / "none", "--memory", "0.001")
    assert not (tmp_path / "none").exists()


def _noting(init, used):
    def noting(self, step, rows):
        used.append(rows)
        init(self, step, rows)

    return noting
