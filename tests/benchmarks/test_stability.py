"""Weights in the box are steady on everything; weights that are not are found out."""

import json

import numpy as np
import pytest

from helpers.cli import fails
from helpers.networks import echo, needs_bytes, small_model
from rlsp_tf.benchmarks.stability import benchmark_stability, measure_differences, unstable
from rlsp_tf.benchmarks.stability_clips import COLOURS, LEVELS, PERIOD, stability_clips
from rlsp_tf.cli.main import main
from rlsp_tf.exporting.export import export
from rlsp_tf.inference.step import KerasStep
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.pixels.resample import enlarge_matrix

SIZE = (20, 16)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16", pytest.param("int8", marks=needs_bytes)])
def test_the_weights_in_the_box_are_steady(precision):
    """A short form of the command; a network that diverges does so within some frames."""
    result = benchmark_stability(["7-48"], frames=40, size=SIZE, precisions=[precision])
    assert unstable(result) == []
    ((sheet,), clips) = result["models"], stability_clips(SIZE[1], SIZE[0])
    assert [clip["name"] for clip in sheet["clips"]] == list(clips)
    assert sheet["precision"] == precision
    greys = sheet["clips"][: len(LEVELS)]
    # A flat field is enlarged to a flat field, but for the edges of the frame.
    assert all(clip["last_rms"] < (6 if precision == "int8" else 1) for clip in greys)


@pytest.mark.parametrize("output", ["y", "rgb"])
def test_a_departure_is_the_distance_from_bicubic_interpolation(output, rng):
    """Of the residual alone, which repeats every pixel, of random frames."""
    model = small_model(rng, RLSPConfig(filters=2, layers=2, output=output))
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    noise = rng.integers(0, 256, (2, 3, 5, 6, 3), dtype=np.uint8)
    clips = {"a": lambda t: noise[0, t], "b": lambda t: noise[1, t]}
    found = measure_differences(KerasStep(model), clips, 3)
    weights = np.array([65.738, 129.057, 25.064]) / 256
    rows, columns = enlarge_matrix(5, 4), enlarge_matrix(6, 4)
    for n in range(2):
        for t in range(3):
            frame = noise[n, t].astype(float)
            frame = frame if output == "rgb" else (frame @ weights + 16)[..., None]
            bicubic = np.einsum("yh,hwc,xw->yxc", rows, frame, columns)
            away = np.repeat(np.repeat(frame, 4, 0), 4, 1) - bicubic
            # float32, numbers up to 255
            np.testing.assert_allclose(found.largest[t, n], np.abs(away).max(), atol=1e-3)
            np.testing.assert_allclose(found.rms[t, n], np.sqrt(np.mean(away**2)), atol=1e-3)
            centred = frame - frame.mean(axis=(0, 1))
            np.testing.assert_allclose(found.limit[t, n], 32 + 3 * np.sqrt(np.mean(centred**2)), atol=1e-3)


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_weights_that_diverge_end_in_a_sentence(precision, tmp_path, capsys):
    model, out, page = (tmp_path / name for name in ("echo.keras", "out.json", "page.md"))
    echo(1.5).save(model)
    arguments = ["--model", model, "--frames", 20, "--precision", precision, "--json", out]
    error = fails(capsys, "benchmark", "stability", *arguments)
    names = list(stability_clips(16, 16))
    assert f"{model}: is unstable in {precision} on {len(names)} of {len(names)} clips" in error
    # All that was found is written nevertheless.
    result = json.loads(out.read_text())
    (sheet,) = result["models"]
    assert not any(clip["stable"] for clip in sheet["clips"])
    white = next(clip for clip in sheet["clips"] if clip["name"] == "grey 255")
    y = 235.0
    for _ in range(19):
        y = 1.5 * y + 235
    assert white["last"] == pytest.approx(y - 235, rel=1e-2)  # bfloat16 has eight bits
    assert white["first"] == pytest.approx(235 * (1.5**10 - 1) / 0.5 - 235, rel=3e-2)
    assert main(["benchmark", "report", str(page), str(out)]) == 0
    text = page.read_text()
    assert f"### {model} (2-2)" in text
    assert text.count("(unstable) |\n") == len(names)


def test_growth_is_found_below_the_limit_too(tmp_path):
    """A slow echo: after 40 frames an output 20 levels away, which grows."""
    echo(0.0).save(tmp_path / "steady.keras")
    echo(0.95).save(tmp_path / "slow.keras")
    for name, stable in (("steady", True), ("slow", False)):
        result = benchmark_stability(
            [tmp_path / f"{name}.keras"], frames=12, size=(8, 8), precisions=["float32"]
        )
        black = result["models"][0]["clips"][0]
        assert black["name"] == "grey 0"
        assert black["stable"] == stable


def test_what_is_no_number_is_unstable(tmp_path):
    model = echo(0.0)
    *others, bias = model.get_weights()
    model.set_weights([*others, np.full_like(bias, np.inf)])
    clips = {"black": lambda t: np.zeros((4, 4, 3), np.uint8)}
    found = measure_differences(KerasStep(model), clips, 3)
    assert np.isposinf(found.largest).all()
    assert np.isposinf(found.rms).all()


@pytest.mark.slow
def test_an_export_runs_as_it_is(tmp_path):
    echo(0.1).save(tmp_path / "echo.keras")
    export(tmp_path / "echo.keras", tmp_path / "saved", format="saved_model")
    result = benchmark_stability([tmp_path / "saved"], frames=4, size=(8, 8))
    assert [sheet["precision"] for sheet in result["models"]] == ["float32"]


def test_clips_are_what_their_names_say():
    clips = stability_clips(12, 15)
    for name, clip in clips.items():
        frames = np.stack([clip(t) for t in range(PERIOD)])
        assert frames.shape == (PERIOD, 12, 15, 3), name
        assert frames.dtype == np.uint8
        np.testing.assert_array_equal(clip(7), frames[7])
        if "noise" not in name and "grain" not in name and name != "extremes in all channels":
            np.testing.assert_array_equal(clip(PERIOD + 7), frames[7])
    for level in LEVELS:
        np.testing.assert_array_equal(clips[f"grey {level}"](3), np.full((12, 15, 3), level))
    for name, colour in COLOURS.items():
        np.testing.assert_array_equal(clips[name](3), np.broadcast_to(colour, (12, 15, 3)))
    fade = clips["fades to black and white"]
    assert fade(PERIOD // 4).max() <= fade(0).max() // 10
    assert fade(PERIOD * 3 // 4).min() >= 255 - (255 - fade(PERIOD // 2).min()) // 10
    assert clips["letterbox bars"](0)[:2].max() == clips["letterbox bars"](0)[-2:].max() == 0
    for size in (1, 2):
        board = clips[f"checkerboard of {size}"](0)
        np.testing.assert_array_equal(board[:-size, :], 255 - board[size:, :])
        np.testing.assert_array_equal(board[:, :-size], 255 - board[:, size:])
        np.testing.assert_array_equal(clips[f"flickering checkerboard of {size}"](1), 255 - board)
    text = np.stack([clips["text scrolling over black"](t) for t in range(PERIOD)])
    np.testing.assert_array_equal(text[1:, :-1], text[:-1, 1:])
    assert text.max() == 255
    assert np.mean(text == 0) > 0.5
    scene, cuts = clips["still scene"](0).astype(int), clips["cuts"]
    assert np.abs(cuts(9).astype(int) - cuts(8)).mean() < np.abs(cuts(10).astype(int) - cuts(9)).mean() / 2
    assert scene.std() > 10
