"""The clients in docs/deploy.md, taken from the page as a reader would and run."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tensorflow as tf

from helpers.networks import SMALL, small_model
from helpers.synthetic import make_clip
from rlsp_tf.exporting.export import export
from rlsp_tf.network.weights import load_model

pytestmark = pytest.mark.slow
PAGE = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text("utf-8")


def code(language, first):
    """The block of code that begins with a line."""
    blocks = [
        block for block in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if block.startswith(first)
    ]
    assert len(blocks) == 1
    return blocks[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deploy")
    small_model(np.random.default_rng(0), precision="float32").save(folder / "model.keras")
    for kind, target in (("saved_model", "saved"), ("onnx", "m.onnx"), ("litert", "m.tflite")):
        export(folder / "model.keras", folder / target, format=kind)
    clip = make_clip(4, 10, 14)
    np.save(folder / "clip.npy", clip)
    (folder / "lr").mkdir()
    for index, frame in enumerate(clip):
        iio.imwrite(folder / "lr" / f"{index}.png", frame)
    return folder


@pytest.fixture(scope="module")
def luma(folder):
    """What Keras makes of the clip: float32 (T, 4H, 4W)."""
    clip = np.load(folder / "clip.npy")
    return load_model(folder / "model.keras").predict(clip[None], verbose=0)[0, ..., 0]


def run(folder, *command, **options):
    process = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, **options)
    assert process.returncode == 0, process.stderr
    return process.stdout


def same_rounded(actual, expected):
    """Equal after rounding, but where a value lies within float32's error of a half."""
    off = np.abs(actual.astype(float) - np.clip(np.rint(expected), 0, 255))
    assert off.max() <= 1
    near_half = np.abs(np.abs(expected - np.floor(expected)) - 0.5) < 2e-3
    assert not (off > 0)[~near_half].any()


def test_the_python_client(folder, luma):
    (folder / "client.py").write_text(code("python", "# client.py"))
    run(folder, sys.executable, "client.py", "saved", "lr/*.png", "out")
    frames = [iio.imread(folder / "out" / f"luma{index:04d}.png") for index in range(4)]
    same_rounded(np.stack(frames), luma)
    assert iio.imread(folder / "out" / "rgb0003.png").shape == (40, 56, 3)


@pytest.mark.parametrize(
    ("client", "model"), [("onnx_client.py", "m.onnx"), ("litert_client.py", "m.tflite")]
)
def test_the_clients_of_other_engines(folder, luma, client, model):
    (folder / client).write_text(code("python", f"# {client}"))
    run(folder, sys.executable, client, model, "clip.npy", f"{client}.npy")
    # float32 sums in another order.
    np.testing.assert_allclose(np.load(folder / f"{client}.npy"), luma, atol=2e-3)


def test_the_c_plus_plus_client(folder, luma):
    library = Path(tf.__file__).parent / "libtensorflow_cc.so.2"
    if not (shutil.which("g++") and library.is_file()):
        pytest.skip("needs g++ and a TensorFlow wheel with libtensorflow_cc.so.2")
    (folder / "client.cpp").write_text(code("cpp", "// client.cpp"))
    build = code("sh", "TF=$(python").rpartition("ffmpeg")[0]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run(folder, "sh", "-ec", build, env={**os.environ, "PATH": path})
    clip = np.load(folder / "clip.npy")
    raw = run(folder, "./client", "saved", 14, 10, SMALL.filters, input=clip.tobytes())
    same_rounded(np.frombuffer(raw, np.uint8).reshape(luma.shape), luma)
    assert run(folder, "./client", "saved", 14, 10, SMALL.filters, input=b"") == b""


def test_the_shell_client(folder, luma):
    command = code("sh", "saved_model_cli run").replace("rlsp-7-48", "saved").replace("clip.npy", "batch.npy")
    np.save(folder / "batch.npy", np.load(folder / "clip.npy")[None])
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run(folder, "sh", "-ec", command, env={**os.environ, "PATH": path})
    np.testing.assert_allclose(np.load(folder / "luma" / "frames.npy")[0, ..., 0], luma, atol=2e-3)


def test_the_request_of_the_page_is_one_that_the_step_takes(folder):
    command = code("sh", "python - > request.json").rpartition("curl")[0].replace("python", sys.executable)
    run(folder, "sh", "-ec", command.replace("image(48)", f"image({SMALL.filters})"))
    request = json.loads((folder / "request.json").read_text())
    signature = tf.saved_model.load(str(folder / "saved")).signatures[request["signature_name"]]
    outputs = signature(**{name: tf.constant(value) for name, value in request["inputs"].items()})
    assert outputs["frame"].shape == (1, 8, 8, 1)


def test_the_warm_up_is_what_a_server_replays(folder):
    """Serving's own package, where it is installed, writes it; its requests are run here."""
    if importlib.util.find_spec("tensorflow_serving") is None:
        pytest.skip("needs tensorflow-serving-api")
    from tensorflow_serving.apis import prediction_log_pb2

    (folder / "warm_up.py").write_text(code("python", "# warm_up.py"))
    run(folder, sys.executable, "warm_up.py", "saved", "12x8", "16x10")
    records = tf.data.TFRecordDataset(str(folder / "saved/assets.extra/tf_serving_warmup_requests"))
    shapes = []
    for record in records.as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        signature = tf.saved_model.load(str(folder / "saved")).signatures[request.model_spec.signature_name]
        outputs = signature(**{name: tf.make_ndarray(value) for name, value in request.inputs.items()})
        shapes.append(tuple(outputs["frames"].shape))
    assert shapes == [(1, 2, 32, 48, 3), (1, 2, 40, 64, 3)]
