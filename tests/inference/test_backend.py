"""A network gives the same on every backend of Keras, where TensorFlow is not installed, too."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tensorflow as tf

from helpers import reference_numpy
from helpers.networks import small_model
from helpers.on_backend import SIZE, results
from helpers.synthetic import make_clip
from rlsp_tf.inference import backend

OTHERS = [
    pytest.param(
        name, marks=pytest.mark.skipif(not importlib.util.find_spec(name), reason=f"{name} is not installed")
    )
    for name in ("jax", "torch")
]


def other_backend(name: str, *arguments: object, **options: object) -> subprocess.CompletedProcess:
    """Runs Python on another backend."""
    path = [str(Path(__file__).parents[1]), *(each for each in sys.path if each)]
    environment = {
        **os.environ,
        "KERAS_BACKEND": name,
        "JAX_PLATFORMS": "cpu",
        "KERAS_TORCH_DEVICE": "cpu",
        "PYTHONPATH": os.pathsep.join(path),
    }
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backends")
    small_model(np.random.default_rng(0)).save(folder / "m.keras")
    (folder / "lr").mkdir()
    for index, frame in enumerate(make_clip(3, 16, 18)):
        iio.imwrite(folder / "lr" / f"{index}.png", frame)
    return folder


@pytest.fixture(scope="module")
def ours(folder: Path) -> dict[str, np.ndarray]:
    return results(folder)


def test_all_ways_of_running_a_network_give_the_reference(folder, ours):
    from rlsp_tf.network.weights import load_model

    expected, _ = reference_numpy.rlsp(
        make_clip(6, *SIZE)[None], load_model(folder / "m.keras").get_weights()
    )
    for way in ("whole", "stream", "strips"):
        np.testing.assert_allclose(ours[f"{way} float32"], expected[0], atol=3e-3)
    np.testing.assert_array_equal(ours["resumed float32"], ours["stream float32"][3:])
    np.testing.assert_array_equal(ours["resumed bfloat16"], ours["stream bfloat16"][3:])


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_other_backends_give_what_tensorflow_gives(name, folder, ours):
    run = other_backend(name, "-m", "helpers.on_backend", folder)
    assert run.returncode == 0, run.stderr
    with np.load(folder / "found.npz") as file:
        theirs = dict(file)
    assert theirs.keys() == ours.keys()
    for way, array in theirs.items():
        mine = ours[way].astype(float)
        assert (array.shape, array.dtype) == (ours[way].shape, ours[way].dtype), way
        if "float32" in way:
            # 24 bits of a few hundred grey levels, summed in another order over several steps.
            np.testing.assert_allclose(array, mine, atol=3e-3, err_msg=way)
        elif "bfloat16" in way:
            # Features have 8 bits, which every backend rounds in places of its own: as far from float32.
            exact = ours["stream float32"][-len(mine) :]
            errors = [np.sqrt(np.mean((each - exact) ** 2)) for each in (array, mine)]
            assert errors[0] < 1.1 * errors[1] + 0.01, (way, errors)
        else:
            # Integers: a number close to a half may be rounded to the other side.
            assert np.abs(array - mine).max() <= 1, way
            assert np.mean(array != mine) < 1e-3, way
    for precision in ("float32", "bfloat16"):
        np.testing.assert_array_equal(
            theirs[f"resumed {precision}"], theirs[f"stream {precision}"][3:], err_msg=precision
        )
    np.testing.assert_allclose(theirs["stream float32"], theirs["whole float32"], atol=3e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_what_only_tensorflow_does_is_refused_in_a_sentence(name, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").touch()
    (tmp_path / "model" / "rlsp.json").write_text('{"config": {}, "precision": "float32"}')
    commands = [
        ["upscale", "in.mp4", "out.mp4", "--precision", "int8"],
        ["upscale", "in.mp4", "out.mp4", "--model", "model"],
        ["export", "7-48", "out.onnx", "--format", "onnx"],
    ]
    script = f"from rlsp_tf.cli.main import main\nprint([main(command) for command in {commands}])"
    run = other_backend(name, "-c", script, cwd=tmp_path)
    assert run.stdout == "[1, 1, 1]\n"
    sentences = [line for line in run.stderr.splitlines() if "error" in line]
    assert len(sentences) == 3
    for sentence in sentences:
        assert "TensorFlow" in sentence
        assert f"KERAS_BACKEND is {name}" in sentence


def test_backends_that_are_unknown_or_missing_are_named(tmp_path):
    run = other_backend("mxnet", "-m", "rlsp_tf", "demo", tmp_path / "demo")
    assert run.returncode == 1
    assert run.stderr == "rlsp: error: KERAS_BACKEND is mxnet; make it one of tensorflow, jax, torch.\n"
    hidden = "import sys; sys.modules['jax'] = None; from rlsp_tf.cli.main import main; sys.exit(main())"
    run = other_backend("jax", "-c", hidden, "demo", tmp_path / "demo")
    assert run.returncode == 1
    assert run.stderr.startswith("rlsp: error: JAX is not installed; install it by: pip install jax")


def test_the_devices_are_named(monkeypatch):
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [])
    assert backend.devices() == ["CPU"]
    details = [{"device_name": "NVIDIA H100 80GB HBM3"}, {}]
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [0, 1])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.__getitem__)
    assert backend.devices() == ["NVIDIA H100 80GB HBM3", "GPU"]
    assert backend.backend_version() == ("TensorFlow", tf.__version__)


@pytest.mark.parametrize(
    ("text", "pair"), [("9.0", (9, 0)), ("12.1", (12, 1)), ("gfx90a", (0, 0)), ("", (0, 0))]
)
def test_compute_capabilities_of_jax_are_numbers(text, pair):
    assert backend._pair(text) == pair
