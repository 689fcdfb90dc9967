"""The authors' checkpoints become models that compute the same, come back bit for bit, or are refused."""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import reference_numpy
from helpers.networks import small_model
from rlsp_tf.converters.tf1 import keras_from_tf1, load_tf1, read_shapes, read_tensors, save_tf1
from rlsp_tf.errors import RLSPError
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.network.model import rlsp_layer
from rlsp_tf.network.weights import load_model

AUTHORS = {"7-48": "ckpt_rslp_48", "7-64": "ckpt_rlsp_64"}  # the first is misspelt in their repository


def authors_tensors(rng: np.random.Generator, filters: int, layers: int = 7, scale: int = 4, state: int = 0):
    """Makes random tensors with the names and shapes that the ``.index`` of the authors' files lists."""
    state = state or filters
    outputs = [filters] * (layers - 1) + [state, scale**2]
    inputs = [9 + state + scale**2] + [filters] * layers
    tensors = {"beta1_power": np.float32(0.0), "beta2_power": np.float32(0.1)}
    for layer, shape in enumerate(zip(inputs, outputs, strict=True)):
        for part, size in (("kernel", (3, 3, *shape)), ("bias", shape[1:])):
            spread = 0.7 / np.sqrt(9 * shape[0]) if part == "kernel" else 2.0
            for slot in ("", "/Adam", "/Adam_1"):
                tensors[f"layer{layer}/{part}{slot}"] = rng.normal(0, spread, size).astype("float32")
    return tensors


def write(prefix: Path, tensors: dict) -> Path:
    """Writes a checkpoint with TensorFlow alone, without code of the project."""
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )
    return prefix


def weights_of(tensors: dict) -> list[np.ndarray]:
    """Returns kernel and bias of layer 0, 1, ..., as the reference takes them."""
    layers = sum(name.endswith("/bias") for name in tensors)
    return [tensors[f"layer{layer}/{part}"] for layer in range(layers) for part in ("kernel", "bias")]


def bits(array: np.ndarray) -> np.ndarray:
    return np.asarray(array).view(np.uint32)


def data_file(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".data-00000-of-00001")


def index_file(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".index")


@pytest.fixture
def small(tmp_path: Path, rng: np.random.Generator) -> Path:
    """The prefix of a checkpoint of a small network."""
    return write(tmp_path / "small", authors_tensors(rng, filters=3, layers=2))


@pytest.mark.parametrize("name", AUTHORS)
def test_the_authors_checkpoints_are_recognised_and_copied_bit_for_bit(name: str, data: Path) -> None:
    prefix = data / "rlsp-original/checkpoints" / AUTHORS[name]
    model = load_tf1(prefix)
    assert rlsp_layer(model).config == RLSPConfig.from_name(name)
    reader = tf.train.load_checkpoint(str(prefix))
    for layer in range(8):
        for part in ("kernel", "bias"):
            (variable,) = (v for v in model.weights if v.path == f"rlsp/cell/layer{layer}/{part}")
            np.testing.assert_array_equal(
                bits(variable.numpy()), bits(reader.get_tensor(f"layer{layer}/{part}"))
            )


def test_the_layout_of_these_tests_is_that_of_the_authors_7_128(data: Path, rng: np.random.Generator) -> None:
    expected = {name: tensor.shape for name, tensor in authors_tensors(rng, filters=128).items()}
    assert read_shapes(data / "rlsp-original/checkpoints/ckpt_rlsp_128") == expected


def test_a_7_128_checkpoint_computes_what_the_paper_says(tmp_path: Path, rng: np.random.Generator) -> None:
    tensors = authors_tensors(rng, filters=128)
    model = load_tf1(write(tmp_path / "ckpt_rlsp_128", tensors))
    assert rlsp_layer(model).config == RLSPConfig.from_name("7-128")
    clip = rng.uniform(0, 255, (1, 2, 5, 6, 3)).astype("float32")
    expected, _ = reference_numpy.rlsp(clip, weights_of(tensors))
    # Eight float32 convolutions in turn, of up to 1377 products a sum, on values of up to about 300.
    np.testing.assert_allclose(model.predict(clip, verbose=0), expected, atol=1e-3)


@settings(max_examples=15)
@given(st.integers(1, 5), st.integers(2, 5), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_any_network_shape_is_recognised(tmp_path_factory, filters, layers, state, scale, seed) -> None:
    tensors = authors_tensors(np.random.default_rng(seed), filters, layers, scale, state)
    model = load_tf1(write(tmp_path_factory.mktemp("shape") / "ckpt", tensors))
    assert rlsp_layer(model).config == RLSPConfig(filters, layers, state, scale)
    for ours, theirs in zip(model.get_weights(), weights_of(tensors), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_survive_the_way_there_and_back_bit_for_bit(tmp_path: Path, rng: np.random.Generator) -> None:
    tensors = authors_tensors(rng, filters=4)
    tensors["layer0/bias"][:] = [-0.0, np.inf, 1e-45, np.nan]
    keras_from_tf1(write(tmp_path / "there", tensors), tmp_path / "model.keras")
    save_tf1(load_model(tmp_path / "model.keras"), tmp_path / "back")
    back = read_tensors(tmp_path / "back")
    assert back.keys() == tensors.keys()
    for name in tensors:
        if "Adam" not in name and "power" not in name:
            np.testing.assert_array_equal(bits(back[name]), bits(tensors[name]))
    assert sorted(file.name for file in tmp_path.iterdir() if file.name.startswith(("back", ".", "tmp"))) == [
        "back.data-00000-of-00001",
        "back.index",
    ]


def test_the_authors_own_graph_restores_what_is_written(
    data: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    model = small_model(rng, RLSPConfig.from_name("7-48"))
    save_tf1(model, tmp_path / "mine")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = data / "rlsp-original/checkpoints/ckpt_rslp_48.meta"
        tf.compat.v1.train.import_meta_graph(str(meta)).restore(session, str(tmp_path / "mine"))
        restored = {v.op.name: session.run(v) for v in tf.compat.v1.trainable_variables()}
        assert session.run(["beta1_power:0", "beta2_power:0"]) == [np.float32(0.9), np.float32(0.999)]
    for ours, theirs in zip(model.get_weights(), weights_of(restored), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("suffix", [".index", ".meta", ".data-00000-of-00001"])
def test_any_file_of_a_checkpoint_stands_for_its_prefix(suffix: str, small: Path) -> None:
    weights = load_tf1(f"{small}{suffix}").get_weights()
    for ours, theirs in zip(weights, load_tf1(small).get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_unusual_characters_in_paths_are_only_characters(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = tmp_path / "with space [1-9]* été"
    folder.mkdir()
    model = small_model(rng)
    save_tf1(model, folder / "a?b")
    np.testing.assert_array_equal(load_tf1(folder / "a?b").get_weights()[0], model.get_weights()[0])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tensors: tensors.pop("layer1/bias"), "missing layer1/bias"),
        (lambda tensors: tensors.pop("layer1/kernel"), "unexpected layer2/kernel"),
        (lambda tensors: tensors.pop("layer2/kernel"), "fewer than three"),
        (lambda tensors: tensors.update({"layer0/gamma": np.ones(3, "float32")}), "unexpected layer0/gamma"),
        (lambda tensors: tensors.update({"global_step": np.int64(5)}), "unexpected global_step"),
        (
            lambda tensors: tensors.update({"layer7/bias/Adam": np.ones(3, "float32")}),
            "unexpected layer7/bias/Adam",
        ),
        (
            lambda tensors: tensors.update({"layer0/kernel": np.ones((3, 3, 9, 3), "float32")}),
            "layer0/kernel has",
        ),
        (lambda tensors: tensors.update({"layer2/bias": np.ones(15, "float32")}), "layer2/bias has shape"),
        (lambda tensors: tensors.update({"layer0/bias": np.ones((), "float32")}), "layer0/bias has shape"),
        (lambda tensors: tensors.update({"layer0/bias": np.ones(0, "float32")}), "filters must be"),
        (lambda tensors: tensors.update({"layer0/bias": np.ones(3, "float64")}), "layer0/bias is float64"),
        (lambda tensors: tensors.update({"layer0/bias": np.array([b"a"] * 3)}), "layer0/bias is object"),
    ],
)
def test_what_is_not_exactly_an_rlsp_network_is_refused(change, complaint, tmp_path, rng) -> None:
    tensors = authors_tensors(rng, filters=3, layers=2)
    change(tensors)
    prefix = write(tmp_path / "odd", tensors)
    with pytest.raises(RLSPError, match=complaint) as refusal:
        load_tf1(prefix)
    assert str(prefix) in str(refusal.value)


def test_another_models_checkpoint_is_refused_by_the_names_in_it(tmp_path: Path) -> None:
    prefix = tf.train.Checkpoint(step=tf.Variable(1.0)).write(str(tmp_path / "other"))
    with pytest.raises(RLSPError, match="unexpected _CHECKPOINTABLE_OBJECT_GRAPH, unexpected step"):
        load_tf1(prefix)


def test_damage_to_any_tensor_is_found_those_of_adam_included(small: Path) -> None:
    whole = data_file(small).read_bytes()
    positions = np.cumsum([0] + [tensor.nbytes for _, tensor in sorted(read_tensors(small).items())])
    assert positions[-1] == len(whole)
    for position in positions[:-1]:
        data_file(small).write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(RLSPError, match="is damaged") as refusal:
            load_tf1(small)
        assert str(data_file(small)) in str(refusal.value)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("left", [0, 1, 1000, -1])
def test_truncated_data_is_refused(left: int, small: Path) -> None:
    data_file(small).write_bytes(data_file(small).read_bytes()[:left])
    with pytest.raises(RLSPError, match=r"data-00000-of-00001: cannot be read"):
        load_tf1(small)


def test_missing_data_is_named(small: Path) -> None:
    data_file(small).unlink()
    with pytest.raises(RLSPError, match=r"small\.data-00000-of-00001: no such file"):
        load_tf1(small)


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_index_is_refused_or_makes_no_difference(tmp_path_factory, data) -> None:
    folder = tmp_path_factory.mktemp("index")
    small = write(folder / "ckpt", authors_tensors(np.random.default_rng(0), filters=1, layers=2, scale=1))
    expected = read_tensors(small)
    content = bytearray(index_file(small).read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
            content[position] ^= data.draw(st.integers(1, 255))
    index_file(small).write_bytes(content)
    try:
        read = read_tensors(small)
    except RLSPError as refusal:
        named = str(folder) in str(refusal)
    else:
        named = {name: value.tolist() for name, value in read.items()} == {
            name: value.tolist() for name, value in expected.items()
        }
    assert named
    shutil.rmtree(folder)


def test_a_wrong_prefix_is_told_which_there_are(small: Path) -> None:
    for wrong in (small.with_name("smal"), small.parent):
        with pytest.raises(RLSPError, match=r"not the prefix of a checkpoint.* has small\.$"):
            load_tf1(wrong)


def test_existing_files_stay_unless_forced(small: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    before = data_file(small).read_bytes()
    model = small_model(rng)
    with pytest.raises(RLSPError, match="exists already"):
        save_tf1(model, small)
    index_file(small).unlink()
    with pytest.raises(RLSPError, match="exists already"):
        save_tf1(model, small)
    assert data_file(small).read_bytes() == before
    save_tf1(model, small, force=True)
    np.testing.assert_array_equal(load_tf1(small).get_weights()[0], model.get_weights()[0])

    (tmp_path / "model.keras").write_text("precious")
    with pytest.raises(RLSPError, match="exists already"):
        keras_from_tf1(small, tmp_path / "model.keras")
    assert (tmp_path / "model.keras").read_text() == "precious"


@pytest.mark.parametrize(
    "config",
    [
        RLSPConfig(filters=2, layers=2, output="rgb"),
        RLSPConfig(filters=2, layers=2, frames_before=2, frames_after=0),
        RLSPConfig(filters=2, layers=2, frames_before=0, frames_after=0),
    ],
)
def test_networks_that_the_layout_cannot_tell_apart_are_not_written(config, tmp_path, rng) -> None:
    with pytest.raises(RLSPError, match=r"keep the \.keras file"):
        save_tf1(small_model(rng, config), tmp_path / "mine")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_prefix_to_write_to(tmp_path: Path, rng: np.random.Generator) -> None:
    with pytest.raises(RLSPError, match="is a folder; give a prefix"):
        save_tf1(small_model(rng), tmp_path)


@contextlib.contextmanager
def full_disk(room: int):
    """No file may grow beyond ``room`` bytes."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, rng: np.random.Generator) -> None:
    prefix = write(tmp_path / "ckpt", authors_tensors(rng, filters=40, layers=3))
    out = tmp_path / "out"
    out.mkdir()
    model = load_tf1(prefix)
    with full_disk(50_000):
        with pytest.raises(RLSPError, match=r"mine: cannot be written .*; free some space or "):
            save_tf1(model, out / "mine")
        with pytest.raises(OSError, match="too large") as failure:
            keras_from_tf1(prefix, out / "mine.keras")
    assert failure.value.filename == str(out / "mine.keras")
    assert not list(out.iterdir())
