"""The network in 8 bits against integers in NumPy and against float32."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from helpers.networks import SMALL, needs_bytes, small_model
from helpers.videos import gradient
from rlsp_tf import StreamingUpscaler
from rlsp_tf.cli.main import main
from rlsp_tf.errors import RLSPError
from rlsp_tf.exporting.export import scene
from rlsp_tf.inference import int8
from rlsp_tf.inference.int8 import Int8Convolution, Int8Step
from rlsp_tf.inference.load import load_step
from rlsp_tf.inference.step import KerasStep, windows
from rlsp_tf.inference.strips import StripStep
from rlsp_tf.media.images import write_png
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.network.model import rlsp_layer
from rlsp_tf.pixels.metrics import luma, luma_of, psnr


def sums(features: np.ndarray, layer: Int8Convolution) -> np.ndarray:
    """``scale * sum(byte * kernel) + bias``, float64, the sum in integers."""
    _, height, width, _ = features.shape
    padded = np.pad(features.astype(np.int64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel = layer.kernel.astype(np.int64)
    total = sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))
    return total * layer.scale.astype(np.float64) + layer.bias


def run(step, clip):
    """Upscales a clip; returns its frames and the last state."""
    state, frames = step.initial_state(1, *clip.shape[1:3]), []
    for window in windows(clip, step.config):
        frame, state = step(window, state)
        frames.append(np.asarray(frame)[0])
    return np.stack(frames), state


@pytest.fixture
def step(rng):
    return Int8Step(small_model(rng, precision="float32"))


@needs_bytes
def test_a_step_is_what_integers_in_numpy_give(rng, step):
    clip = rng.integers(0, 256, (4, 7, 9, 3), np.uint8)
    state = step.initial_state(1, 7, 9)
    for window in windows(clip, step.config):
        _, (hidden, feedback) = step(window, state)
        inputs = [each.numpy() for each in (*window, *state)]
        inputs[-1] = np.rint(inputs[-1]).clip(0, 255)
        features = np.concatenate(inputs, axis=-1)
        for layer in step.convolutions[:-2]:
            features = np.rint(sums(features, layer).clip(0, 255))
        exact = sums(features, step.convolutions[-2]).clip(0, 255)
        # Between two bytes float32 may decide otherwise than float64, no more.
        np.testing.assert_allclose(hidden, exact, rtol=0, atol=0.5 + 1e-4)
        output = step.convolutions[-1]
        expected = sums(features, output) + step._cell.residual(window[1]).numpy()
        # The bias is rounded to a unit of the sums, and so is the sum with it.
        np.testing.assert_allclose(feedback, expected, rtol=0, atol=output.scale[0] + 1e-4)
        state = [hidden, feedback]
        assert hidden.dtype == tf.uint8
        assert feedback.dtype == tf.float32


@needs_bytes
def test_our_weights_lose_hundredths_of_a_decibel():
    lr, hr = scene(41, 67, 4)  # not the size that ranges are learned at
    exact, found = (run(load_step("7-48", precision=name), lr)[0] for name in ("float32", "int8"))
    assert np.abs(exact - found).max() > 0.5  # it is another computation
    loss = psnr(luma_of(exact), luma(hr)) - psnr(luma_of(found), luma(hr))
    assert loss < 0.05


@needs_bytes
@pytest.mark.parametrize("level", [0, 128, 200, 230, 255])
def test_flat_frames_stay_flat_up_to_their_edges(level):
    """Features are largest at the edges of bright frames, where ranges learned elsewhere are too small."""
    clip = np.full((12, 48, 64, 3), level, np.uint8)
    exact, found = (run(load_step("7-48", precision=name), clip)[0] for name in ("float32", "int8"))
    # Features span some hundred grey levels, and a byte is a 255th of that; a corner sums up a few of them.
    assert np.abs(exact - found).max() < 7


@needs_bytes
@pytest.mark.parametrize("color", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 255, 255), (255, 255, 0)])
def test_frames_of_one_colour_keep_it_near_their_edges(color):
    """With ranges that were learned without such frames, blue and red are off by 50 grey levels there."""
    clip = np.broadcast_to(np.uint8(color), (4, 24, 32, 3))
    exact, found = (run(load_step("7-48", precision=name), clip)[0] for name in ("float32", "int8"))
    # The ranges hold 60 % of the largest features, which are those of a few pixels.
    assert np.abs(exact - found).max() < 12


def test_kernels_are_rounded_for_the_inputs_that_they_meet(rng):
    # Inputs as of images: large, and nearly the same at all taps.
    inputs = rng.uniform(0, 255, (500, 1)) + rng.normal(0, 5, (500, 36))
    kernel = rng.normal(0, 1, (36, 8))
    scale = int8._smallest_scale(kernel, 4)
    rounded = int8._round(kernel, scale, inputs, 4)
    np.testing.assert_array_equal(rounded, np.rint(rounded).clip(-127, 127))
    assert np.abs(rounded * scale - kernel).max() < 3 * scale.max()
    nearest = np.rint(kernel / scale)
    errors = [np.mean((inputs @ (each * scale - kernel)) ** 2) for each in (rounded, nearest)]
    assert errors[0] < errors[1] / 10


def test_kernels_that_need_no_rounding_stay(rng):
    kernel = rng.integers(-64, 65, (18, 4)).astype(float)
    rounded = int8._round(kernel * 0.25, np.full(4, 0.25), rng.uniform(0, 255, (50, 18)), 2)
    np.testing.assert_array_equal(rounded, kernel)


@pytest.mark.parametrize("channels", [4, 5])
@pytest.mark.parametrize("shift", [-1.0, 0.0, 1.0])
def test_two_products_fit_into_16_bits(rng, channels, shift):
    kernel = rng.normal(shift, 1, (9 * channels, 8))
    scale = int8._smallest_scale(kernel, channels)
    rounded = int8._round(kernel, scale, rng.uniform(0, 255, (500, 9 * channels)), channels)
    taps = rounded.reshape(9, channels, 8)
    taps = np.pad(taps, ((0, 0), (0, channels % 2), (0, 0))).reshape(9, -1, 2, 8)
    largest = 255 * np.maximum(taps, 0).sum(2).max(), 255 * np.minimum(taps, 0).sum(2).min()
    assert -(2**15) <= largest[1] <= largest[0] < 2**15
    # No step is larger than it has to be: a number, or a pair, is at its limit in every column.
    reached = np.maximum(np.abs(kernel).max(0) / scale / 127, np.abs(rounded).max(0) / 127)
    pairs = np.abs(np.stack([np.maximum(taps, 0).sum(2), np.minimum(taps, 0).sum(2)])).max((0, 1, 2)) / 128
    assert (np.maximum(reached, pairs) > 0.98).all()


@needs_bytes
def test_strips_give_what_whole_frames_give_bit_for_bit(rng, step):
    clip = rng.integers(0, 256, (3, 29, 8, 3), np.uint8)
    frames, state = run(step, clip)
    in_strips, state_of_strips = run(StripStep(step, 5), clip)
    np.testing.assert_array_equal(in_strips, frames)
    for one, other in zip(state_of_strips, state, strict=True):
        np.testing.assert_array_equal(one, other)


@needs_bytes
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_reset_begins_anew(rng, step, frames):
    clip = rng.integers(0, 256, (frames, 6, 5, 3), np.uint8)
    upscaler = StreamingUpscaler(step)
    first, second = ([x for each in clip for x in upscaler.push(each)] + upscaler.flush() for _ in range(2))
    assert len(first) == frames
    np.testing.assert_array_equal(first, second)


@needs_bytes
@pytest.mark.parametrize(
    "config",
    [
        RLSPConfig(filters=5, layers=2, output="rgb"),
        RLSPConfig(filters=4, layers=3, scale=2, frames_before=2, frames_after=0),
        RLSPConfig(filters=6, layers=3, state_filters=4),
    ],
    ids=["rgb", "another window", "fewer filters in the state"],
)
def test_other_networks_come_close_to_float32(rng, config):
    model = small_model(rng, config, precision="float32")
    clip = scene(21, 34, config.scale)[0]
    exact, found = run(KerasStep(model), clip)[0], run(Int8Step(model), clip)[0]
    # Features span some hundred grey levels, and a byte is a 255th of that.
    assert np.sqrt(np.mean((exact - found) ** 2)) < 2
    assert np.abs(exact - found).max() > 0


@needs_bytes
def test_channels_that_are_never_active_do_no_harm(rng):
    model = small_model(rng, precision="float32")
    layer = rlsp_layer(model).cell.convolutions[0]
    kernel, bias = layer.get_weights()
    kernel[..., 2], bias[2], bias[3] = 0, 0, -1e4
    layer.set_weights([kernel, bias])
    clip = scene(21, 34, 4)[0]
    exact, found = run(KerasStep(model), clip)[0], run(Int8Step(model), clip)[0]
    assert np.sqrt(np.mean((exact - found) ** 2)) < 2


@needs_bytes
def test_the_same_weights_give_the_same_fingerprint(rng, step, tmp_path):
    small_model(np.random.default_rng(7), precision="float32").save(tmp_path / "a.keras")
    a, b = (load_step(tmp_path / "a.keras", precision="int8") for _ in range(2))
    assert (a.precision, a.itemsize) == ("int8", 1)
    assert a.fingerprint == b.fingerprint
    assert len({a.fingerprint, step.fingerprint, load_step(tmp_path / "a.keras").fingerprint}) == 3


@needs_bytes
def test_weights_that_are_no_numbers_are_refused(rng):
    model = small_model(rng, precision="float32")
    layer = rlsp_layer(model).cell.convolutions[1]
    kernel, bias = layer.get_weights()
    kernel[0, 0, 0, 0] = np.nan
    layer.set_weights([kernel, bias])
    with pytest.raises(RLSPError, match="so its weights are damaged"):
        Int8Step(model)


@needs_bytes
def test_a_network_that_loses_too_much_is_refused(rng, monkeypatch):
    monkeypatch.setattr(int8, "LARGEST_COST", 1e-6)
    with pytest.raises(RLSPError, match=r"loses \d+\.\d\d dB, more than 1e-06; use --precision auto"):
        Int8Step(small_model(rng, precision="float32"))


@needs_bytes
def test_a_tensorflow_without_it_is_told(tmp_path):
    source, target = tmp_path / "small.png", tmp_path / "large.png"
    write_png(source, gradient(0, 16, 12))
    words = [sys.executable, "-m", "rlsp_tf", "upscale", source, target, "--precision", "int8"]
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"}
    ran = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert not target.exists()
    assert ran.returncode == 1
    last = ran.stderr.splitlines()[-1]
    assert "its oneDNN is missing or turned off; set TF_ENABLE_ONEDNN_OPTS to 1" in last


@needs_bytes
def test_commands_turn_on_what_tensorflow_needs_for_it(tmp_path):
    source, target = tmp_path / "small.png", tmp_path / "large.png"
    write_png(source, gradient(0, 16, 12))
    words = [sys.executable, "-m", "rlsp_tf", "upscale", source, target, "--precision", "int8"]
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    subprocess.run(words, env=environment, check=True)
    assert target.exists()


def test_processors_without_it_are_told(tmp_path, rng, monkeypatch, capsys):
    monkeypatch.setattr(int8, "computes_int8", lambda: False)
    small_model(rng, SMALL, precision="float32").save(tmp_path / "m.keras")
    video = tmp_path / "in.mp4"
    video.write_bytes(b"")
    words = ["upscale", str(video), str(tmp_path / "out.mp4"), "--model", str(tmp_path / "m.keras")]
    assert main([*words, "--precision", "int8"]) == 1
    assert "no instructions for 8 bits" in capsys.readouterr().err
