"""Exports beside the Keras model they came from: the same numbers, step by step and as a clip."""

import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import tensorflow as tf

from helpers import reference_numpy
from helpers.cli import fails
from helpers.networks import SMALL, small_model
from helpers.synthetic import make_clip
from rlsp_tf.cli.main import main
from rlsp_tf.errors import RLSPError
from rlsp_tf.exporting.export import COST, ROUNDINGS, SIZES, STEPS, export
from rlsp_tf.inference.exported import card_of, read_card
from rlsp_tf.inference.load import load_step
from rlsp_tf.inference.recurrent_stream import RecurrentStream
from rlsp_tf.inference.step import KerasStep
from rlsp_tf.inference.upscaler import StreamingUpscaler
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.network.model import rlsp_layer
from rlsp_tf.network.weights import load_model

RGB = RLSPConfig(filters=5, layers=3, state_filters=4, scale=3, output="rgb")
NAMES = {"saved_model": "exported", "onnx": "exported.onnx", "litert": "exported.tflite"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of luma, and every export of it in float32."""
    return write_exports(tmp_path_factory.mktemp("export"), "y", SMALL)


@pytest.fixture(scope="module")
def rgb_folder(folder):
    """The same folder, with a model of RGB and its exports too."""
    return write_exports(folder, "rgb", RGB)


def write_exports(folder, name, config):
    small_model(np.random.default_rng(0), config, precision="float32").save(folder / f"{name}.keras")
    for kind, target in NAMES.items():
        export(folder / f"{name}.keras", folder / f"{name}_{target}", format=kind)
    return folder


def run_stream(step, clip):
    stream = RecurrentStream(step)
    frames = [output for frame in clip for output in stream.push(tf.constant(frame[None], tf.float32))]
    return np.concatenate([np.asarray(frame) for frame in [*frames, *stream.flush()]])


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("length", [1, 2, 11])
def test_an_export_streams_as_the_model_does_at_any_size(folder, kind, length):
    assert_streams_alike(folder, "y", kind, length)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("length", [1, 11])
def test_so_does_one_of_rgb(rgb_folder, kind, length):
    assert_streams_alike(rgb_folder, "rgb", kind, length)


def assert_streams_alike(folder, output, kind, length):
    step = load_step(folder / f"{output}_{NAMES[kind]}")
    assert step.config == (SMALL if output == "y" else RGB)
    for height, width in ((9, 14), (5, 3)):
        clip = make_clip(length, height, width, seed=height)
        expected = load_model(folder / f"{output}.keras").predict(clip[None], verbose=0)[0]
        # float32 sums in another order, around 255, over a few layers and steps.
        np.testing.assert_allclose(run_stream(step, clip), expected, atol=2e-3)


def test_onnx_gives_what_the_equation_gives(folder, rng):
    """Against the NumPy network of the tests, which shares no code with either."""
    layer = rlsp_layer(load_model(folder / "y.keras"))
    clip = make_clip(4, 7, 6)
    expected = reference_numpy.rlsp(clip[None], layer.get_weights())[0][0]
    actual = run_stream(load_step(folder / "y_exported.onnx"), clip)
    np.testing.assert_allclose(actual, expected, atol=2e-3)


def test_the_card_says_what_was_found(folder):
    for kind, target in NAMES.items():
        card = read_card(folder / f"y_{target}")
        assert card["format"] == kind
        assert RLSPConfig.from_dict(card["config"]) == SMALL
        assert [(each["height"], each["width"]) for each in card["verification"]] == list(SIZES)
        for found in card["verification"]:
            assert found["steps"] == STEPS >= 10
            assert found["max_difference"] <= ROUNDINGS * found["rounding"]
            # A SavedModel may be the same operations; the others sum in another order.
            assert kind == "saved_model" or found["max_difference"] > 0
            # A value of up to 255 over 4 layers and 12 steps, each of which may round it.
            assert 0 < found["rounding"] < 4 * STEPS * 255 * np.finfo(np.float32).eps
            assert found["psnr"] == pytest.approx(found["psnr_float32"], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "precision", "size"),
    [
        ("saved_model", "bfloat16", None),
        ("litert", "dynamic", None),
        ("litert", "int8", (12, 17)),
        ("litert", "float32", (12, 17)),
        ("onnx", "float32", (12, 17)),
    ],
)
def test_other_precisions_and_fixed_sizes(tmp_path, kind, precision, size):
    """With weights that upscale, so that decibels mean something."""
    target = tmp_path / NAMES[kind]
    card = export("7-48", target, format=kind, precision=precision, size=size)
    assert card["precision"] == precision
    assert load_step(target, precision=precision).config == RLSPConfig(filters=48)
    for found in card["verification"]:
        assert ("rounding" in found) == (precision == "float32")
        assert found["psnr"] > found["psnr_float32"] - (1e-3 if precision == "float32" else COST[precision])
    if size:
        clip = make_clip(2, *size)
        reference = run_stream(KerasStep(load_model("7-48", precision="float32")), clip)
        # 8 bits for activations of up to about 270 err by up to one grey level, in each of 8 layers,
        # which add up like noise.
        bound = 8**0.5 if precision == "int8" else 2e-3
        assert np.abs(run_stream(load_step(target), clip) - reference).mean() < bound
        # At the edges of bright frames features are largest. Of some thousand errors like these, the largest
        # may be four times as large as usual.
        white = np.full_like(clip, 255)
        reference = run_stream(KerasStep(load_model("7-48", precision="float32")), white)
        assert np.abs(run_stream(load_step(target), white) - reference).max() < 4 * bound
        with pytest.raises(Exception, match=r"(?i)dimension|shape"):
            run_stream(load_step(target), make_clip(2, 13, 17))


@pytest.mark.slow
def test_an_export_that_differs_is_not_kept(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("rlsp_tf.exporting.export.ROUNDINGS", -1)  # even none at all is too much
    for kind, target in NAMES.items():
        with pytest.raises(RLSPError, match=r"differs from the Keras model by .* nothing was written"):
            export(folder / "y.keras", tmp_path / target, format=kind)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_saved_model_needs_nothing_of_ours(folder, tmp_path):
    """By REST requests as TensorFlow Serving takes them, where rlsp_tf and Keras cannot be imported."""
    clip = make_clip(3, 6, 5)
    window = np.concatenate([clip[[0]], clip[[0]], clip[[1]]], axis=-1).astype(float)
    channels = {"hidden": SMALL.hidden_channels, "feedback": SMALL.feedback_channels}
    state = {name: np.zeros((1, 6, 5, size)).tolist() for name, size in channels.items()}
    requests = [
        {"signature_name": "step", "inputs": {"window": window.tolist(), **state}},
        {"signature_name": "upscale", "inputs": {"clip": clip[None].tolist()}},
        {"signature_name": "upscale_rgb", "inputs": {"clip": clip[None].tolist()}},
        {"inputs": {"clip": clip[None].tolist()}},
        {"signature_name": "initial_state", "inputs": {"batch": 2, "height": 6, "width": 5}},
    ]
    (tmp_path / "requests.json").write_text(json.dumps(requests))
    code = """if True:
        import json, sys
        sys.modules["rlsp_tf"] = sys.modules["keras"] = None  # importing them fails
        import tensorflow as tf
        signatures = tf.saved_model.load(sys.argv[1]).signatures
        answers = []
        for request in json.load(open(sys.argv[2])):
            signature = signatures[request.get("signature_name", "serving_default")]
            specs = signature.structured_input_signature[1]
            inputs = request["inputs"].items()
            inputs = {name: tf.constant(value, specs[name].dtype) for name, value in inputs}
            outputs = signature(**inputs)
            answers.append({"outputs": {name: value.numpy().tolist() for name, value in outputs.items()}})
        json.dump(answers, open(sys.argv[3], "w"))"""
    files = [folder / "y_exported", tmp_path / "requests.json", tmp_path / "answers.json"]
    run = subprocess.run([sys.executable, "-c", code, *map(str, files)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    answers = [each["outputs"] for each in json.loads((tmp_path / "answers.json").read_text())]
    step, upscaled, rgb, default, initial = answers

    model = load_model(folder / "y.keras")
    expected = model.predict(clip[None], verbose=0)
    np.testing.assert_allclose(step["frame"], expected[:, 0], atol=1e-3)
    np.testing.assert_allclose(upscaled["frames"], expected, atol=1e-3)
    assert default == upscaled
    upscaler = StreamingUpscaler(model)
    frames = [frame for each in clip for frame in upscaler.push(each)] + upscaler.flush()
    difference = np.abs(np.array(rgb["frames"][0]) - np.stack(frames))
    # Colour is interpolated by other operations: a value near a half may round the other way.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    for name, size in channels.items():
        assert np.shape(initial[name]) == (2, 6, 5, size)
        assert not np.any(initial[name])


def test_onnx_files_are_of_the_current_standard(folder):
    model = onnx.load(folder / "y_exported.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import] == [21]
    assert [entry.name for entry in model.graph.input] == ["window", "hidden", "feedback"]
    assert [entry.name for entry in model.graph.output] == ["frame", "hidden_next", "feedback_next"]
    shape = [
        dimension.dim_param or dimension.dim_value
        for dimension in model.graph.input[0].type.tensor_type.shape.dim
    ]
    assert shape == ["batch", "height", "width", 9]


@pytest.mark.slow
def test_the_commands(folder, tmp_path, capsys):
    for kind, target in NAMES.items():
        command = ["export", str(folder / "y.keras"), str(tmp_path / target), "--format", kind]
        assert main(command) == 0
        printed = capsys.readouterr().out
        assert f"{target}: {kind} in float32" in printed
        assert "44x30, 12 steps: at most" in printed
        clip = tmp_path / f"frames_{kind}"
        clip.mkdir()
        for index, frame in enumerate(make_clip(3, 9, 14, seed=1)):
            tf.io.write_file(str(clip / f"{index}.png"), tf.io.encode_png(frame))
        large = [tmp_path / f"{kind}_large", tmp_path / f"{kind}_keras"]
        for out, model in zip(large, (tmp_path / target, folder / "y.keras"), strict=True):
            assert main(["upscale", str(clip), str(out), "--model", str(model)]) == 0
        for index in range(3):
            ours, theirs = (tf.io.decode_png(tf.io.read_file(str(out / f"{index}.png"))) for out in large)
            assert np.abs(ours.numpy().astype(int) - theirs.numpy()).max() <= 1
        error = fails(capsys, *command)
        assert "--force" in error
    assert main([*command, "--force"]) == 0


def test_what_cannot_be_exported_is_refused(folder, tmp_path, capsys):
    model = folder / "y.keras"

    def refused(name, *more):
        error = fails(capsys, "export", model, tmp_path / name, "--format", *more)
        assert str(tmp_path / name) in error
        return error

    assert "written in float32, not in int8" in refused("x.onnx", "onnx", "--precision", "int8")
    assert "float32 or dynamic or int8" in refused("x.tflite", "litert", "--precision", "bfloat16")
    assert "too small; 8x8" in refused("x.onnx", "onnx", "--size", "270x4")
    assert "ends in .onnx" in refused("x.tflite", "onnx")
    assert "the name of a folder" in refused("x.onnx", "saved_model")
    assert "leave --size out" in refused("x", "saved_model", "--size", "20x20")
    (tmp_path / "file").touch()
    assert "is a file, not a folder" in refused("file/x.onnx", "onnx")
    (tmp_path / "file").unlink()
    missing = fails(capsys, "export", tmp_path / "no.keras", tmp_path / "x.onnx", "--format", "onnx")
    assert "no.keras: no such file" in missing
    for wrong in (("--format", "caffe"), ("--format", "onnx", "--size", "20")):
        with pytest.raises(SystemExit, match="2"):
            main(["export", str(model), str(tmp_path / "x.onnx"), *wrong])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("package", "kind", "extra"),
    [
        ("onnx", "onnx", "onnx"),
        ("onnxruntime", "onnx", "onnx"),
        ("ai_edge_litert.interpreter", "litert", "litert"),
    ],
)
def test_a_missing_package_is_named(folder, tmp_path, monkeypatch, package, kind, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RLSPError, match=rf"pip install 'rlsp_tf\[{extra}\]'"):
        export(folder / "y.keras", tmp_path / NAMES[kind], format=kind)
    assert not list(tmp_path.iterdir())


def test_damaged_exports_are_named(folder, tmp_path):
    for kind, target in NAMES.items():
        whole = folder / f"y_{target}"
        with pytest.raises(
            RLSPError, match=rf"{target}: was exported in float32; export it again to have int8"
        ):
            load_step(whole, precision="int8")
        card = json.dumps(read_card(whole))
        described = read_card(whole)
        described["config"]["state_filters"] += 1
        foreign = tmp_path / f"foreign_{target}"
        (shutil.copytree if kind == "saved_model" else shutil.copyfile)(whole, foreign)
        card_of(foreign).write_text(json.dumps(described))
        with pytest.raises(RLSPError, match=rf"foreign_{target}: cannot be loaded \(it takes .*'hidden': 6"):
            load_step(foreign)
        broken = tmp_path / target
        if kind == "saved_model":
            broken.mkdir()
            (broken / "saved_model.pb").write_bytes(b"no model")
        else:
            broken.write_bytes(whole.read_bytes()[:1000])
        with pytest.raises(RLSPError, match=r"its card .* is missing"):
            load_step(broken)
        beside = broken / "rlsp.json" if kind == "saved_model" else tmp_path / f"{target}.json"
        beside.write_text("{}")
        with pytest.raises(RLSPError, match=rf"{beside.name}: is damaged"):
            load_step(broken)
        beside.write_text(card)
        with pytest.raises(RLSPError, match=rf"{target}: cannot be loaded"):
            load_step(broken)
    with pytest.raises(RLSPError, match=r"missing\.onnx: no such file"):
        load_step(tmp_path / "missing.onnx")
