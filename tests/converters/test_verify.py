"""A converted model is compared with the authors' files: names, weights, and outputs of their graph."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from helpers.graphs import CONFIG, v1, write_meta
from helpers.networks import small_model
from rlsp_tf.converters.tf1 import keras_from_tf1, save_tf1
from rlsp_tf.converters.verify import LARGEST_DIFFERENCE, verify
from rlsp_tf.errors import RLSPError
from rlsp_tf.network.config import RLSPConfig


@pytest.fixture
def converted(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, Path]:
    """The prefix of a checkpoint of three files, and the model converted from it."""
    prefix, model = tmp_path / "ckpt", tmp_path / "model.keras"
    save_tf1(small_model(rng, CONFIG), prefix)
    write_meta(tmp_path / "ckpt.meta")
    keras_from_tf1(prefix, model)
    return prefix, model


@pytest.mark.parametrize(("name", "prefix"), [("7-48", "ckpt_rslp_48"), ("7-64", "ckpt_rlsp_64")])
def test_the_authors_graph_computes_what_the_converted_model_does(
    name: str, prefix: str, data: Path, tmp_path: Path
) -> None:
    checkpoint = data / "rlsp-original/checkpoints" / prefix
    keras_from_tf1(checkpoint, tmp_path / "model.keras")
    names, weights, *outputs = verify(checkpoint, tmp_path / "model.keras")
    assert names == f"names and shapes: all 16 weights of a {name} network agree."
    assert weights.endswith("numbers agree bit for bit.")
    assert len(outputs) == 2
    assert all("grey levels from the authors' graph" in line for line in outputs)


@pytest.mark.slow
def test_the_authors_graph_for_7_128_computes_what_ours_does_with_any_weights(
    data: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Of this network only names, shapes and graph are there, no weights, so random ones are used."""
    small_model(rng, RLSPConfig.from_name("7-128")).save(tmp_path / "model.keras")
    names, weights, *outputs = verify(
        data / "rlsp-original/checkpoints/ckpt_rlsp_128", tmp_path / "model.keras"
    )
    assert names == "names and shapes: all 16 weights of a 7-128 network agree."
    assert weights.startswith("weights: not compared, there is no ")
    assert [line.split(" noise")[0] for line in outputs] == [
        "outputs: 3 steps of 40x24",
        "outputs: 3 steps of 23x17",
    ]


@pytest.mark.slow
def test_what_could_not_be_compared_is_said(converted: tuple[Path, Path]) -> None:
    prefix, model = converted
    assert [line.split(":")[0] for line in verify(prefix, model)] == [
        "names and shapes",
        "weights",
        "outputs",
        "outputs",
    ]
    Path(f"{prefix}.meta").unlink()
    *_, weights, outputs = verify(f"{prefix}.index", model)
    assert "agree bit for bit" in weights
    assert outputs == f"outputs: not compared, there is no {prefix}.meta, which holds the authors' graph."
    Path(f"{prefix}.data-00000-of-00001").unlink()
    _, weights, outputs = verify(prefix, model)
    assert weights == f"weights: not compared, there is no {prefix}.data-00000-of-00001."
    assert "not compared" in outputs
    Path(f"{prefix}.index").unlink()
    with pytest.raises(RLSPError, match=r"there is no ckpt\.index"):
        verify(prefix, model)


def test_one_changed_bit_of_one_weight_fails(converted: tuple[Path, Path], rng: np.random.Generator) -> None:
    prefix, path = converted
    model = small_model(rng, CONFIG)
    save_tf1(model, prefix, force=True)
    kernel = model.weights[4]
    values = kernel.numpy()
    values[2, 0, 1, 3] = np.nextafter(values[2, 0, 1, 3], np.float32(1))
    kernel.assign(values)
    model.save(path)
    with pytest.raises(RLSPError, match=r"weights differ from .*ckpt \(layer2/kernel\)"):
        verify(prefix, path)


def test_another_network_fails(converted: tuple[Path, Path], rng: np.random.Generator) -> None:
    prefix, path = converted
    small_model(rng, RLSPConfig(filters=5, layers=4, state_filters=4, scale=2)).save(path)
    with pytest.raises(RLSPError, match=r"another network than .*layers=4.*not .*layers=3"):
        verify(prefix, path)


def test_outputs_that_differ_by_more_than_the_limit_fail(converted: tuple[Path, Path]) -> None:
    prefix, path = converted
    write_meta(Path(f"{prefix}.meta"), residual=1 + 3 * LARGEST_DIFFERENCE / 16)
    with pytest.raises(RLSPError, match=r"noise differ by at most 3\..e-03 grey levels from the graph in"):
        verify(prefix, path)
    write_meta(Path(f"{prefix}.meta"), residual=np.nan)
    with pytest.raises(RLSPError, match="differ by at most nan"):
        verify(prefix, path)


def also_write_a_file(output: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies([tf.io.write_file("written.txt", "by a graph")]):
        return tf.identity(output)


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        (also_write_a_file, "it has WriteFile"),
        (lambda output: v1.py_func(lambda value: value, [output], tf.float32), "it has PyFunc"),
        (lambda output: tf.nn.depth_to_space(tf.concat([output] * 4, -1), 2), "its output has shape"),
        (lambda output: output * v1.get_variable("more", (), use_resource=False), "its weights are .*more"),
    ],
)
def test_graphs_that_do_something_else_are_not_run(
    extra, complaint, converted: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prefix, path = converted
    write_meta(Path(f"{prefix}.meta"), extra=extra)
    with pytest.raises(RLSPError, match=rf"ckpt\.meta: does not hold the authors' graph.*{complaint}"):
        verify(prefix, path)
    assert not Path("written.txt").exists()


@pytest.mark.parametrize("damage", [b"", b"<html>not found</html>", None])
def test_a_damaged_graph_is_named(damage: bytes | None, converted: tuple[Path, Path]) -> None:
    prefix, path = converted
    meta = Path(f"{prefix}.meta")
    meta.write_bytes(meta.read_bytes()[:-100] if damage is None else damage)
    with pytest.raises(RLSPError, match=r"ckpt\.meta: does not hold") as refusal:
        verify(prefix, path)
    assert "\n" not in str(refusal.value)
