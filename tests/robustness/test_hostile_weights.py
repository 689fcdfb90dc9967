"""Files of weights made to run something, to read something else or to fill memory: each is refused."""

import base64
import io
import json
import marshal
import re
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from helpers.cli import fails
from helpers.keras_files import write
from helpers.networks import small_model
from rlsp_tf.errors import RLSPError
from rlsp_tf.network.keras_file import LARGEST, LARGEST_TEXT, check_weights
from rlsp_tf.network.weights import load_model

KERNEL = "layers/rlsp/cell/convolutions/conv2d/vars/0"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """The members of a file that is as it should be."""
    path = tmp_path_factory.mktemp("whole") / "model.keras"
    small_model(np.random.default_rng(0), precision="float32").save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hostile.keras"


def layer(kind: str, config: dict, **others: object) -> dict:
    """The configuration of a layer that comes between the clip and the network."""
    clip = {"class_name": "__keras_tensor__", "config": {"shape": [None, 4], "dtype": "float32"}}
    clip["config"]["keras_history"] = ["clip", 0, 0]
    return {
        "module": "keras.layers",
        "class_name": kind,
        "config": {"name": "evil", **config},
        "registered_name": None,
        "name": "evil",
        "inbound_nodes": [{"args": [clip], "kwargs": {}}],
        **others,
    }


def code(trace: Path) -> str:
    """Python that makes a file, compiled, as Keras packs functions."""
    function = compile(f"lambda x: open({str(trace)!r}, 'w').close() or x", "evil", "eval").co_consts[0]
    return base64.b64encode(marshal.dumps(function)).decode()


def attacks(trace: Path) -> dict[str, dict]:
    """Layers that make Keras call something, or read a file, if it lets itself be talked into it."""
    function = {"class_name": "__lambda__", "config": {"code": code(trace)}}
    function["config"] |= {"defaults": None, "closure": None}
    command = f"touch {trace}"

    def named(module: str, name: str, registered: str | None = None, **config: object) -> dict:
        return {"module": module, "class_name": name, "config": config, "registered_name": registered}

    plain_function = {"module": "builtins", "class_name": "function", "config": "system"}
    fetched = named("keras.utils", "get_file", fname="x", origin=f"file://{trace}", cache_dir=str(trace))
    return {
        "a Lambda layer": layer("Lambda", {"function": function, "output_shape": [4]}),
        "a lambda as activation": layer("Dense", {"units": 4, "activation": function}),
        "a system call": layer("system", {"command": command}, module="os"),
        "a process": layer("Popen", {"args": ["touch", str(trace)]}, module="subprocess"),
        "a function of Python": layer("Dense", {"units": 4, "activation": plain_function}),
        "an initializer of os": layer(
            "Dense", {"units": 4, "kernel_initializer": named("os", "system", command=command)}
        ),
        "a registered name": layer("Dense", {"units": 4}, registered_name="os>system"),
        "a name of ours": layer("system", {"command": command}, module="os", registered_name="rlsp_tf>RLSP"),
        "a download": layer("Dense", {"units": 4, "kernel_initializer": fetched}),
        "a vocabulary": layer("StringLookup", {"vocabulary": "/etc/passwd"}),
        "a SavedModel": layer("TFSMLayer", {"filepath": "/tmp", "call_endpoint": "serve"}),
        "an array": layer(
            "Dense", {"units": 4, "bias_initializer": {"class_name": "__numpy__", "config": {"value": [1]}}}
        ),
    }


NAMES = tuple(attacks(Path("x")))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_configuration_names_is_not_made(name, whole, path, tmp_path, capsys):
    trace = tmp_path / "trace"
    model = json.loads(whole["config.json"])
    model["config"]["layers"].insert(1, attacks(trace)[name])
    write(path, whole | {"config.json": json.dumps(model).encode()})
    for command in (
        ["upscale", tmp_path / "no.mp4", tmp_path / "x.mp4", "--model", path],
        ["export", path, tmp_path / "x.onnx", "--format", "onnx"],
        ["train", "--data", tmp_path, "--out", tmp_path / "run", "--init", path],
    ):
        said = fails(capsys, *command)
        assert f"{path}: no RLSP model, or a damaged one (other layers than one of RLSP); " in said
    assert not trace.exists()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_lambda_above_would_have_run(tmp_path):
    trace = tmp_path / "trace"
    lambda_layer = attacks(trace)["a Lambda layer"]
    keras.layers.Lambda.from_config(lambda_layer["config"], safe_mode=False)(np.zeros((1, 4)))
    assert trace.exists()


@pytest.mark.parametrize("where", ["dtype", "config", "name", "border", "activation"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_within_our_layer_is_made_either(name, where, whole, path, tmp_path):
    """Of what a layer of ours was saved with, only numbers and the name of a precision count."""
    trace = tmp_path / "trace"
    model = json.loads(whole["config.json"])
    model["config"]["layers"][1]["config"][where] = attacks(trace)[name]
    write(path, whole | {"config.json": json.dumps(model).encode()})
    if where in ("dtype", "config"):
        with pytest.raises(RLSPError, match=r"hostile\.keras: (no RLSP model|was saved in)"):
            load_model(path)
    else:
        assert_loads_the_same(path, whole)
    assert not trace.exists()


def assert_loads_the_same(path: Path, whole: dict[str, bytes]) -> None:
    kept = path.with_name("whole.keras")
    write(kept, whole)
    for ours, theirs in zip(
        load_model(path).get_weights(), keras.saving.load_model(kept).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def changed(whole: dict[str, bytes], change) -> dict[str, bytes]:
    """The members, with other arrays."""
    content = io.BytesIO(whole["model.weights.h5"])
    with h5py.File(content, "r+") as file:
        change(file)
    return whole | {"model.weights.h5": content.getvalue()}


def replaced(name: str, make):
    def change(file: h5py.File) -> None:
        shape = file[name].shape
        del file[name]
        make(file, name, shape)

    return change


@pytest.mark.parametrize(
    ("reason", "make"),
    [
        ("'0' is a link", lambda file, name, shape: link(file, name, h5py.ExternalLink("other.h5", "/x"))),
        ("'0' is a link", lambda file, name, shape: link(file, name, h5py.SoftLink("/vars"))),
        (
            "the bytes of '0' are not in it",
            lambda file, name, shape: file.create_dataset(name, shape, "f4", external=[("x", 0, 9**9)]),
        ),
        ("the bytes of '0' are not in it", lambda file, name, shape: virtual(file, name, shape)),
        ("the bytes of '0' are not in it", lambda file, name, shape: file.create_dataset(name, shape, "f4")),
        (
            "the bytes of '0' are not in it",
            lambda file, name, shape: file.create_dataset(name, (10**6, 10**6), "f4", chunks=(10, 10)),
        ),
        ("'0' is there twice", lambda file, name, shape: link(file, name, file["layers/rlsp"])),
        ("no weights of layer0", lambda file, name, shape: file.create_group(name)),
        ("no weights of layer0", lambda file, name, shape: None),
        ("float64 instead of", lambda file, name, shape: file.create_dataset(name, data=np.zeros(shape))),
        (
            r"\(3, 3, 1, 6\) of float32 instead of \(3, 3, 31, 6\)",
            lambda file, name, shape: file.create_dataset(name, data=np.zeros((3, 3, 1, 6), "f4")),
        ),
    ],
)  # fmt: skip
def test_arrays_lie_in_the_file_and_have_the_shapes_of_the_network(reason, make, whole, path):
    write(path, changed(whole, replaced(KERNEL, make)))
    with pytest.raises(RLSPError, match=rf"hostile\.keras: no RLSP model, or a damaged one \(.*{reason}"):
        load_model(path)


def test_a_training_does_not_go_on_with_arrays_of_other_files(whole, path):
    """All of its checkpoint is looked at before Keras loads it, also what the network does not need."""
    write(path, whole)
    check_weights(path)
    write(path, changed(whole, lambda file: link(file, "more", h5py.ExternalLink("other.h5", "/x"))))
    with pytest.raises(
        RLSPError, match=r"hostile\.keras: is damaged \('more' is a link\); begin another run"
    ):
        check_weights(path)


def link(file: h5py.File, name: str, target: object) -> None:
    file[name] = target


def virtual(file: h5py.File, name: str, shape: tuple[int, ...]) -> None:
    layout = h5py.VirtualLayout(shape, "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape)
    file.create_virtual_dataset(name, layout)


@pytest.mark.parametrize(
    "name", ["../evil", "/tmp/evil", "..\\evil", "assets/x.pkl", "assets/../../evil", "model.weights.npz"]
)
def test_an_archive_with_anything_else_is_refused(name, whole, path, tmp_path):
    write(path, whole | {name: b"x"})
    with pytest.raises(RLSPError, match=rf"{re.escape(repr(name))} beside the network"):
        load_model(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_archive_that_would_fill_memory_is_refused_before_it_is_unpacked(whole, path):
    for name in ("config.json", "model.weights.h5"):
        write(path, whole | {name: b"\0" * 1000}, zipfile.ZIP_DEFLATED)
        content = path.read_bytes()
        # In the directory at the end, sizes stand 22 bytes before the name.
        place = content.rindex(name.encode()) - 22
        assert content[place : place + 4] == (1000).to_bytes(4, "little")
        path.write_bytes(content[:place] + (LARGEST + 1).to_bytes(4, "little") + content[place + 4 :])
        most = LARGEST_TEXT if name.endswith(".json") else LARGEST
        with pytest.raises(RLSPError, match=rf"{name} would have more than {most} bytes"):
            load_model(path)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"filters": 9000, "state_filters": 9000}, r"instead of \(3, 3, 9025, 9000\)"),
        ({"layers": 1000}, r"instead of \(3, 3, 6, 6\)"),
        ({"filters": 10**9}, "filters must be an integer from 1 to 10000"),
        ({"scale": True}, "scale must be an integer"),
        ({"colour": 1}, "unknown RLSPConfig fields: 'colour'"),
    ],
)
def test_a_configuration_that_would_fill_memory_is_refused_before_the_network_is_made(
    config, reason, whole, path, monkeypatch
):
    monkeypatch.setattr("rlsp_tf.network.weights.build_model", None)
    model = json.loads(whole["config.json"])
    model["config"]["layers"][1]["config"]["config"] |= config
    write(path, whole | {"config.json": json.dumps(model).encode()})
    with pytest.raises(RLSPError, match=reason):
        load_model(path)


def test_a_file_that_was_compressed_is_as_good(whole, path):
    write(path, whole, zipfile.ZIP_DEFLATED)
    assert_loads_the_same(path, whole)


def test_a_file_in_another_precision_than_ours_needs_one(whole, path):
    model = json.loads(whole["config.json"])
    model["config"]["layers"][1]["config"]["dtype"] = "float64"
    write(path, whole | {"config.json": json.dumps(model).encode()})
    with pytest.raises(RLSPError, match=r"was saved in 'float64'; give one of float32, bfloat16"):
        load_model(path)
    assert load_model(path, precision="float32").count_params() > 0


def test_no_module_asks_a_library_to_be_careless():
    """Nor to unpickle; processes of our own talk through multiprocessing."""
    careless = re.compile(
        r"import pickle|pickle\.load|allow_pickle=True|weights_only=False|safe_mode=False"
        r"|enable_unsafe_deserialization|saving\.load_model|models\.load_model|\beval\(|\bexec\("
    )
    root = Path(__file__).parents[2]
    for file in [*root.glob("rlsp_tf/**/*.py"), *root.glob("converters/*.py")]:
        assert not careless.search(file.read_text("utf-8")), file


def test_json_that_is_large_when_unpacked_is_not_parsed(whole, path, tmp_path, capsys):
    """48 MiB of brackets, 49 KB in the file, are 1.3 GB of Python's lists."""
    brackets = b"[" + b"[]," * (16 * 2**20 - 1) + b"[]]"
    write(path, whole | {"config.json": brackets}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**20
    said = fails(capsys, "upscale", tmp_path / "no.mp4", tmp_path / "x.mp4", "--model", path)
    assert (
        f"{path}: no RLSP model, or a damaged one (config.json would have more than 1048576 bytes); " in said
    )
    write(path, whole | {"metadata.json": brackets}, zipfile.ZIP_DEFLATED)
    with pytest.raises(RLSPError, match=r"metadata\.json would have more than 1048576 bytes"):
        check_weights(path)
