"""RLSP over time: the reference, any size, state, training, saving, other backends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import rlsp_tf.network.model
import rlsp_tf.network.weights
from helpers import reference_numpy
from helpers.networks import SMALL, random_weights, small_model
from rlsp_tf.errors import RLSPError
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.network.model import RLSP, build_model, rlsp_layer
from rlsp_tf.network.weights import load_model
from rlsp_tf.system.files import sha256_of

# float32 against a float64 reference: 24 bits of a few hundred grey levels, over several steps.
FLOAT32 = {"atol": 3e-3, "rtol": 1e-5}


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 2, 1, 5), (2, 5, 7, 3), (1, 3, 13, 17)])
def test_predict_equals_the_reference(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    model = small_model(rng)
    clip = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected, _ = reference_numpy.rlsp(clip, model.get_weights())
    output = model.predict(clip, verbose=0)
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, expected, **FLOAT32)


@pytest.mark.parametrize(
    "config",
    [
        RLSPConfig(filters=4, layers=2, scale=2, output="rgb"),
        RLSPConfig(filters=4, layers=3, state_filters=2, scale=3, frames_before=0, frames_after=2),
    ],
)
def test_other_shapes_of_network_equal_the_reference(config: RLSPConfig, rng: np.random.Generator) -> None:
    model = small_model(rng, config)
    clip = rng.uniform(0, 255, (1, 4, 5, 6, 3)).astype("float32")
    expected, _ = reference_numpy.rlsp(
        clip, model.get_weights(), scale=config.scale, before=config.frames_before, after=config.frames_after
    )
    np.testing.assert_allclose(model.predict(clip, verbose=0), expected, **FLOAT32)


def test_returned_state_continues_a_clip(rng: np.random.Generator) -> None:
    layer = RLSP(SMALL, return_state=True)
    layer.build((None, None, None, None, 3))
    random_weights(layer, rng)
    first = rng.uniform(0, 255, (1, 3, 4, 5, 3)).astype("float32")
    second = rng.uniform(0, 255, (1, 2, 4, 5, 3)).astype("float32")
    _, *state = layer(first)
    output, hidden, feedback = layer(second, initial_state=state)

    _, reference_state = reference_numpy.rlsp(first, layer.get_weights())
    expected, (expected_hidden, expected_frame) = reference_numpy.rlsp(
        second, layer.get_weights(), state=reference_state
    )
    np.testing.assert_allclose(output, expected, **FLOAT32)
    np.testing.assert_allclose(hidden, expected_hidden, **FLOAT32)
    np.testing.assert_allclose(feedback, reference_numpy.space_to_depth(expected_frame, 4), **FLOAT32)


def test_state_is_not_kept_between_calls(rng: np.random.Generator) -> None:
    model = small_model(rng)
    clip = rng.integers(0, 256, (1, 3, 4, 5, 3), dtype=np.uint8)
    first = model.predict(clip, verbose=0)
    np.testing.assert_array_equal(model.predict(clip, verbose=0), first)


def test_clips_of_a_batch_do_not_meet(rng: np.random.Generator) -> None:
    model = small_model(rng)
    clips = rng.integers(0, 256, (3, 4, 5, 6, 3), dtype=np.uint8)
    together = model.predict(clips, verbose=0)
    for clip, output in zip(clips, together, strict=True):
        np.testing.assert_allclose(model.predict(clip[None], verbose=0)[0], output, **FLOAT32)


def test_unrolled_equals_looped(rng: np.random.Generator) -> None:
    model = small_model(rng)
    clip = keras.ops.convert_to_tensor(rng.uniform(0, 255, (2, 4, 5, 6, 3)).astype("float32"))
    unrolled = build_model(SMALL, unroll=True)
    unrolled.set_weights(model.get_weights())
    np.testing.assert_allclose(unrolled(clip), model(clip), **FLOAT32)


@pytest.mark.parametrize("unroll", [False, True])
def test_training_follows_the_gradient_through_time(unroll: bool, rng: np.random.Generator) -> None:
    """The gradient of the last frame alone, with respect to the first frame's pixels and the weights."""
    import tensorflow as tf

    layer = rlsp_layer(small_model(rng, unroll=unroll))
    clip = rng.uniform(0, 255, (1, 4, 3, 3, 3)).astype("float64")

    def loss(pixels: np.ndarray, weights: list[np.ndarray]) -> float:
        return reference_numpy.rlsp(pixels, weights)[0][:, -1].mean()

    with tf.GradientTape() as tape:
        pixels = tf.Variable(clip, dtype=tf.float32)
        value = tf.reduce_mean(layer(pixels)[:, -1])
    by_pixels, *by_weights = tape.gradient(value, [pixels, *layer.trainable_weights])

    weights = [weight.astype("float64") for weight in layer.get_weights()]
    step = 1e-4
    for index in [(0, 0, 1, 1, 0), (0, 0, 2, 0, 2), (0, 3, 1, 2, 1)]:
        moved = [clip.copy(), clip.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        expected = (loss(moved[0], weights) - loss(moved[1], weights)) / (2 * step)
        np.testing.assert_allclose(by_pixels[index], expected, rtol=1e-3, atol=1e-7)
    for position in range(len(weights)):
        index = tuple(size // 2 for size in weights[position].shape)
        moved_weights = []
        for sign in (1, -1):
            copy = [weight.copy() for weight in weights]
            copy[position][index] += sign * step
            moved_weights.append(copy)
        expected = (loss(clip, moved_weights[0]) - loss(clip, moved_weights[1])) / (2 * step)
        np.testing.assert_allclose(by_weights[position][index], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_fit_lowers_the_loss(rng: np.random.Generator) -> None:
    keras.utils.set_random_seed(1)
    model = build_model(RLSPConfig(filters=4, layers=2, scale=2))
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="mse")
    clip = rng.uniform(0, 255, (4, 3, 6, 6, 3)).astype("float32")
    target = model.predict(clip, verbose=0) + 3
    history = model.fit(clip, target, epochs=30, verbose=0).history["loss"]
    assert history[-1] < history[0] / 2


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_saved_model_comes_back(precision: str, tmp_path: Path, rng: np.random.Generator) -> None:
    model = small_model(rng, precision=precision)
    clip = rng.integers(0, 256, (1, 3, 4, 5, 3), dtype=np.uint8)
    output = model.predict(clip, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert rlsp_layer(loaded).config == SMALL
    assert rlsp_layer(loaded).dtype_policy.name == rlsp_layer(model).dtype_policy.name
    np.testing.assert_array_equal(loaded.predict(clip, verbose=0), output)


def test_precision_is_chosen_at_loading(tmp_path: Path, rng: np.random.Generator) -> None:
    model = small_model(rng)
    model.save(tmp_path / "model.keras")
    clip = rng.integers(0, 256, (1, 3, 4, 5, 3), dtype=np.uint8)
    exact = model.predict(clip, verbose=0)
    rounded = load_model(tmp_path / "model.keras", precision="bfloat16")
    output = rounded.predict(clip, verbose=0)
    assert output.dtype == np.float32
    assert 0 < np.abs(output - exact).max() < 255 / 2**5  # bfloat16 carries 8 bits, lost over 9 layers


@pytest.mark.slow
def test_jax_gives_the_same_numbers(tmp_path: Path, rng: np.random.Generator) -> None:
    pytest.importorskip("jax", reason="JAX is not installed: pip install jax")
    models = {precision: small_model(rng, precision=precision) for precision in ("float32", "bfloat16")}
    for precision, model in models.items():
        model.save(tmp_path / f"{precision}.keras")
    clip = rng.integers(0, 256, (2, 4, 6, 5, 3), dtype=np.uint8)
    np.save(tmp_path / "clip.npy", clip)
    script = (
        "import sys, numpy as np, keras\n"
        "from rlsp_tf.network.weights import load_model\n"
        "assert keras.backend.backend() == 'jax'\n"
        "for precision in sys.argv[1:]:\n"
        "    output = load_model(precision + '.keras').predict(np.load('clip.npy'), verbose=0)\n"
        "    np.save(precision + '.npy', output)\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", script, *models], env=environment, cwd=tmp_path, check=True)
    # bfloat16 rounds each convolution to 8 bits, and the backends sum in different orders.
    for precision, tolerance in (("float32", FLOAT32), ("bfloat16", {"atol": 2.0, "rtol": 0})):
        ours, theirs = models[precision].predict(clip, verbose=0), np.load(tmp_path / f"{precision}.npy")
        np.testing.assert_allclose(theirs, ours, **tolerance)


class TestLoading:
    """What load_model says when the file is not what it should be."""

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(RLSPError, match=r"nothing\.keras: no such file or weight set"):
            load_model(tmp_path / "nothing.keras")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(RLSPError, match="is a folder"):
            load_model(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"not a model"])
    def test_no_keras_file(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "x.keras").write_bytes(content)
        with pytest.raises(RLSPError, match=r"x\.keras: not a \.keras file"):
            load_model(tmp_path / "x.keras")

    def test_truncated(self, tmp_path: Path, rng: np.random.Generator) -> None:
        path = tmp_path / "x.keras"
        small_model(rng).save(path)
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(RLSPError, match=r"x\.keras"):
            load_model(path)

    def test_flipped_bits_in_the_weights(self, tmp_path: Path, rng: np.random.Generator) -> None:
        path = tmp_path / "x.keras"
        small_model(rng).save(path)
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 64] = bytes(b ^ 0xFF for b in content[middle : middle + 64])
        path.write_bytes(content)
        with pytest.raises(RLSPError, match=r"x\.keras.*damaged"):
            load_model(path)

    def test_another_network(self, tmp_path: Path) -> None:
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "x.keras")
        with pytest.raises(RLSPError, match=r"x\.keras: no RLSP model"):
            load_model(tmp_path / "x.keras")

    def test_unknown_precision(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="float32, bfloat16, float16"):
            load_model(tmp_path / "x.keras", precision="int4")


class TestWeightSets:
    """Names in the manifest, and the checksum."""

    @pytest.fixture
    def checkpoints(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Path:
        small_model(rng).save(tmp_path / "small.keras")
        manifest = {"small": {"file": "small.keras", "sha256": sha256_of(tmp_path / "small.keras")}}
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        monkeypatch.setattr(rlsp_tf.network.weights, "checkpoints", lambda: tmp_path)
        return tmp_path

    def test_are_found_by_name(self, checkpoints: Path) -> None:
        assert rlsp_layer(load_model("small")).config == SMALL

    def test_are_refused_when_the_checksum_differs(self, checkpoints: Path) -> None:
        with (checkpoints / "small.keras").open("ab") as file:
            file.write(b"\0")
        with pytest.raises(RLSPError, match="SHA-256 differs"):
            load_model("small")

    def test_are_listed_when_the_name_is_unknown(self, checkpoints: Path) -> None:
        with pytest.raises(RLSPError, match=r"or one of small\."):
            load_model("large")
