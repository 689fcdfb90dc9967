"""The authors' PyTorch checkpoints become models that compute the same, come back whole, or are refused."""

import io
import json
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path

import av
import imageio.v3 as iio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.networks import small_model
from helpers.synthetic import make_clip
from helpers.videos import make_video
from rlsp_tf.cli.main import main as rlsp
from rlsp_tf.converters.cli import main
from rlsp_tf.converters.pytorch import config_of, keras_from_pytorch, load_pytorch, save_pytorch
from rlsp_tf.errors import RLSPError
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.network.model import rlsp_layer
from rlsp_tf.network.weights import load_model
from rlsp_tf.pixels.degradation import degrade

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'rlsp_tf[pytorch]'")

from helpers.reference_pytorch import Authors, authors, save  # noqa: E402

MS = Fraction(1, 1000)
SMALL = RLSPConfig(filters=4, layers=3, output="rgb")


def bits(tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor).view(np.uint32)


def assert_same_weights(state: dict, expected: dict) -> None:
    assert list(state) == list(expected)
    for name in expected:
        np.testing.assert_array_equal(bits(state[name]), bits(expected[name]))


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


@pytest.fixture
def network(rng: np.random.Generator) -> Authors:
    return authors(rng, SMALL)


@pytest.fixture
def checkpoint(tmp_path: Path, network: Authors) -> Path:
    return save(tmp_path / "rlsp.pt", network)


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (RLSPConfig(filters=4, layers=2, output="rgb"), (1, 1, 5, 7)),
        (RLSPConfig(filters=6, layers=3, scale=2, state_filters=5, output="rgb"), (2, 2, 7, 4)),
        (RLSPConfig(filters=5, layers=4, scale=3, state_filters=8, output="rgb"), (1, 4, 3, 9)),
        (RLSPConfig(filters=3, layers=2, scale=1, state_filters=2, output="rgb"), (1, 3, 1, 1)),
        (RLSPConfig(filters=16, layers=7, output="rgb"), (1, 5, 9, 11)),
    ],
)
def test_outputs_are_those_of_the_network_in_the_checkpoint(config, size, tmp_path, rng) -> None:
    network = authors(rng, config)
    scale = None if config.state_filters == config.filters else config.scale
    model = load_pytorch(save(tmp_path / "rlsp.pt", network), scale=scale)
    assert rlsp_layer(model).config == config
    clip = rng.uniform(0, 255, (*size, 3)).astype("float32")
    expected = network.upscale(clip)
    assert np.std(expected - clip.repeat(config.scale, 2).repeat(config.scale, 3)) > 5
    # float32 here, float64 there, of values up to about 500 through seven layers and five steps.
    np.testing.assert_allclose(model.predict(clip, verbose=0), expected, rtol=0, atol=1e-3)


def test_the_authors_7_128_is_recognised(tmp_path: Path) -> None:
    config = RLSPConfig.from_name("7-128")
    shapes = {name: tuple(weight.shape) for name, weight in Authors(config).state_dict().items()}
    assert shapes["conv1.weight"] == (128, 9 + 48 + 128, 3, 3)
    assert config_of(shapes, "x.pt") == RLSPConfig(filters=128, layers=7, output="rgb")


@settings(max_examples=15)
@given(st.integers(1, 5), st.integers(2, 5), st.integers(1, 70), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_any_network_comes_back_bit_for_bit(tmp_path_factory, filters, layers, state, scale, seed) -> None:
    folder = tmp_path_factory.mktemp("any")
    config = RLSPConfig(filters, layers, state, scale, "rgb")
    network = authors(np.random.default_rng(seed), config)
    model = load_pytorch(save(folder / "there.pt", network), scale=scale)
    assert rlsp_layer(model).config == config
    save_pytorch(model, folder / "back.pt")
    assert_same_weights(read(folder / "back.pt")["rlsp"], network.state_dict())


def test_unusual_numbers_survive_the_way_by_a_keras_file(network, tmp_path) -> None:
    with torch.no_grad():
        network.conv1.bias[:] = torch.tensor([-0.0, 1e-45, 3.4e38, -1e-38])
    keras_from_pytorch(save(tmp_path / "there.pt", network), tmp_path / "model.keras")
    save_pytorch(load_model(tmp_path / "model.keras"), tmp_path / "back.pt")
    assert_same_weights(read(tmp_path / "back.pt")["rlsp"], network.state_dict())
    assert {file.name for file in tmp_path.iterdir()} == {"there.pt", "model.keras", "back.pt"}


def test_a_model_comes_back_bit_for_bit_and_the_same_file_each_time(tmp_path, rng) -> None:
    model = small_model(rng, SMALL)
    for name in ("one.pt", "two.pt"):
        save_pytorch(model, tmp_path / name)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two.pt").read_bytes()
    for ours, theirs in zip(
        load_pytorch(tmp_path / "one.pt").get_weights(), model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(bits(ours), bits(theirs))


def test_the_authors_training_goes_on_from_what_is_written(tmp_path, rng) -> None:
    model, path = small_model(rng, SMALL), tmp_path / "mine.pt"
    save_pytorch(model, path)
    written = read(path)
    assert (list(written), written["iteration"]) == (["rlsp", "optimizer", "iteration"], 0)
    network = Authors(SMALL)
    network.load_state_dict(written["rlsp"], strict=True)
    clip = rng.uniform(0, 255, (1, 2, 5, 6, 3)).astype("float32")
    # As above.
    np.testing.assert_allclose(model.predict(clip, verbose=0), network.upscale(clip), rtol=0, atol=1e-3)
    program = (
        "from helpers.reference_pytorch import train_on, RLSPConfig\n"
        f"steps = train_on({str(path)!r}, {SMALL!r})\n"
        "print(*steps['conv_out.bias'][:48].tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    # Adam's first step is the learning rate, less what float32 loses beside a bias of about 2.
    np.testing.assert_allclose(np.array(done.stdout.split(), float), np.full(48, -1e-4), rtol=0.01)


def test_weights_alone_and_the_format_of_old_are_read_too(network, tmp_path) -> None:
    expected = load_pytorch(save(tmp_path / "rlsp.pt", network)).get_weights()
    state = network.state_dict()
    torch.save(state, tmp_path / "alone.pt")
    torch.save(dict(network.named_parameters()), tmp_path / "parameters.pt")
    torch.save({"rlsp": state}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.save(
        {name: weight.to(memory_format=torch.channels_last) if weight.ndim == 4 else weight
         for name, weight in state.items()},
        tmp_path / "last.pt",
    )  # fmt: skip
    for name in ("alone", "parameters", "old", "last"):
        for ours, theirs in zip(load_pytorch(tmp_path / f"{name}.pt").get_weights(), expected, strict=True):
            np.testing.assert_array_equal(bits(ours), bits(theirs))


def widths(state: dict, dtype) -> dict:
    return {name: weight.to(dtype) for name, weight in state.items()}


@pytest.mark.parametrize("entry", ["params", "params_ema", "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "generator.module."])
def test_files_of_other_trainings_are_read(entry, prefix, network, tmp_path, rng) -> None:
    state = network.state_dict()
    expected = load_pytorch(save(tmp_path / "plain.pt", network)).get_weights()
    named = {f"{prefix}{name}": weight for name, weight in state.items()}
    named[f"{prefix}bn.num_batches_tracked"] = torch.tensor(7)
    contents = {entry: named, "optimizer": {"lr": 1.0}, "epoch": 3, 5: [1, 2]}
    if entry == "params_ema":
        contents["params"] = {name: weight + 1 for name, weight in named.items()}
    torch.save(contents, tmp_path / "other.pt")
    for ours, theirs in zip(load_pytorch(tmp_path / "other.pt").get_weights(), expected, strict=True):
        np.testing.assert_array_equal(bits(ours), bits(theirs))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_other_number_formats_and_safetensors_are_read(dtype, network, tmp_path) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="needs safetensors")
    narrow = widths(network.state_dict(), getattr(torch, dtype))
    torch.save({"rlsp": widths(narrow, torch.float32)}, tmp_path / "wide.pt")
    torch.save(narrow, tmp_path / "narrow.pt")
    counts = {"module.n.num_batches_tracked": torch.tensor(7)}
    named = {f"module.{name}": weight for name, weight in narrow.items()}
    safetensors.save_file(named | counts, tmp_path / "narrow.safetensors")
    expected = load_pytorch(tmp_path / "wide.pt").get_weights()
    for name in ("narrow.pt", "narrow.safetensors"):
        for ours, theirs in zip(load_pytorch(tmp_path / name).get_weights(), expected, strict=True):
            np.testing.assert_array_equal(bits(ours), bits(theirs))


def test_damaged_safetensors_are_refused(network, tmp_path, monkeypatch) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="needs safetensors")
    path = tmp_path / "rlsp.safetensors"
    safetensors.save_file({"conv1.weight": torch.ones(4).int()}, path)
    with pytest.raises(RLSPError, match=r"rlsp\.safetensors: 'conv1\.weight' is I32; give"):
        load_pytorch(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(RLSPError, match=r"rlsp\.safetensors: no safetensors file, or a damaged one"):
        load_pytorch(path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(RLSPError, match=r"safetensors .*pip install 'rlsp_tf\[pytorch\]'"):
        load_pytorch(path)


def test_a_scale_that_was_taken_is_told(tmp_path, rng, capsys) -> None:
    config = RLSPConfig(filters=4, layers=2, state_filters=5, output="rgb")
    path = save(tmp_path / "open.pt", authors(rng, config))
    assert main(["pytorch", str(path), str(tmp_path / "m.keras")]) == 0
    assert "open.pt: does not say what its scale is, 4 was taken; or give --scale." in capsys.readouterr().err
    assert rlsp_layer(load_model(tmp_path / "m.keras")).config == config
    assert main(["pytorch", str(path), str(tmp_path / "n.keras"), "--scale", "4"]) == 0
    assert not capsys.readouterr().err


class TestScale:
    """Networks of several scales can have the same shapes; ``scale`` chooses one."""

    def test_any_that_fits_can_be_given(self, checkpoint: Path) -> None:
        for scale in (1, 2, 3, 4):  # 48 + 4 channels
            config = rlsp_layer(load_pytorch(checkpoint, scale=scale)).config
            assert (config.scale, config.state_filters) == (scale, 52 - 3 * scale**2)

    @pytest.mark.parametrize("scale", [-1, 0, 5])
    def test_others_are_refused(self, scale: int, checkpoint: Path) -> None:
        with pytest.raises(RLSPError, match=rf"rlsp\.pt: cannot be of scale {scale}, .* from 1 to 4\.$"):
            load_pytorch(checkpoint, scale=scale)

    def test_it_is_asked_for_where_the_widths_leave_it_open(self, tmp_path: Path, rng) -> None:
        config = RLSPConfig(filters=4, layers=2, state_filters=5, scale=2, output="rgb")
        path = save(tmp_path / "open.pt", authors(rng, config))
        with pytest.raises(
            RLSPError, match=r"open\.pt: .* scale 1 to 2 .*\(17 channels\); give .* with --scale"
        ):
            load_pytorch(path)

    def test_the_only_one_is_taken(self, tmp_path: Path, rng) -> None:
        config = RLSPConfig(filters=4, layers=2, state_filters=5, scale=1, output="rgb")
        assert rlsp_layer(load_pytorch(save(tmp_path / "one.pt", authors(rng, config)))).config == config


def rename(state: dict, old: str, new: str) -> None:
    state[new] = state.pop(old)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s: s.pop("conv1.bias"), r"missing conv1\.bias\."),
        (lambda s: s.pop("conv_out.weight"), r"missing conv_out\.weight\."),
        (lambda s: s.pop("conv_list.0.weight"), r"unexpected 'conv_list\.0\.bias'"),
        (lambda s: s.pop("conv_list.0.bias"), r"missing conv_list\.0\.bias"),
        (lambda s: rename(s, "conv_list.0.weight", "conv_list.1.weight"), r"missing conv_list\.0\.weight"),
        (lambda s: rename(s, "conv_list.0.weight", "conv_list.00.weight"), r"missing conv_list\.0\.weight"),
        (lambda s: rename(s, "conv1.bias", "module.conv1.bias"), r"unexpected 'module\.conv1\.bias'"),
        (lambda s: s.update({"conv1.gamma": torch.ones(4)}), r"unexpected 'conv1\.gamma'"),
        (lambda s: s.update({"a\nb": torch.ones(4)}), r"unexpected 'a\\nb'"),
        (lambda s: s.update({"conv1.weight": torch.ones(4, 61, 5, 5)}), r"conv1\.weight has shape"),
        (lambda s: s.update({"conv1.weight": torch.ones(61, 4, 3, 3)}), r"conv1\.weight has shape"),
        (lambda s: s.update({"conv_list.0.weight": torch.ones(4, 5, 3, 3)}), r"conv_list\.0\.weight has"),
        (lambda s: s.update({"conv_out.bias": torch.ones(1, 52)}), r"conv_out\.bias has shape"),
        (lambda s: s.update({"conv_out.bias": torch.ones(51)}), r"conv_out\.weight has shape"),
        (lambda s: s.update({"conv_out.bias": torch.ones(29)}), r"give the right one with --scale"),
        (lambda s: s.update({"conv_out.bias": torch.ones(3)}), r"conv_out makes 3 channels, too few"),
        (lambda s: s.update({"conv_out.bias": torch.ones(0)}), r"conv_out makes 0 channels, too few"),
        (lambda s: s.update({"conv1.bias": torch.ones(0), "conv_out.bias": torch.ones(4)}), "filters must"),
        (lambda s: s.update({"conv1.bias": torch.ones(4).int()}), "'conv1.bias' is int32, strided, cpu"),
        (
            lambda s: s.update({"conv1.bias": torch.ones(4).to_sparse()}),
            "'conv1.bias' is float32, sparse_coo",
        ),
        (lambda s: s.update({"conv1.bias": torch.ones(4, device="meta")}), "'conv1.bias' is .*, meta;"),
        (lambda s: s.update({"conv1.bias": [1.0]}), "'conv1.bias' is list instead of a tensor"),
        (lambda s: s.update({7: torch.ones(4)}), "7 is Tensor instead of a tensor|7 is no name"),
        (lambda s: s["conv1.weight"][0, 0, 0].fill_(np.nan), r"NaN or infinity in conv1\.weight;"),
        (lambda s: s["conv_out.bias"].fill_(np.inf), r"NaN or infinity in conv_out\.bias;"),
        (lambda s: s.clear(), r"missing conv1\.bias, missing conv1\.weight, missing conv_out\.bias"),
    ],
)
def test_what_is_not_exactly_an_rlsp_network_is_refused(change, complaint, network, tmp_path) -> None:
    state = OrderedDict(network.state_dict())
    change(state)
    for path, contents in ((tmp_path / "odd.pt", {"rlsp": state}), (tmp_path / "alone.pt", state)):
        torch.save(contents, path)
        with pytest.raises(RLSPError, match=complaint) as refusal:
            load_pytorch(path)
        assert str(refusal.value).startswith(f"{path}: ")
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("contents", "complaint"),
    [
        (torch.ones(3), "holds Tensor instead of weights by name"),
        ([torch.ones(3)], "holds list instead"),
        ({"rlsp": torch.ones(3)}, "holds Tensor instead"),
        ({"weights": {}}, "'weights' is dict instead of a tensor"),
        ({"rlsp": {}, "ema": {}, 1: {}}, "give a checkpoint of RLSP"),
    ],
)
def test_other_contents_are_refused(contents, complaint, tmp_path) -> None:
    torch.save(contents, tmp_path / "other.pt")
    with pytest.raises(RLSPError, match=rf"other\.pt: {complaint}"):
        load_pytorch(tmp_path / "other.pt")


@pytest.mark.parametrize("keep", [0, 1, 2, 4, 100, 5000, -5000, -100, -1])
@pytest.mark.parametrize("modern", [True, False])
def test_truncated_files_are_refused(keep, modern, network, tmp_path) -> None:
    path = tmp_path / "cut.pt"
    torch.save({"rlsp": network.state_dict()}, path, _use_new_zipfile_serialization=modern)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RLSPError, match=r"cut\.pt: not a file that torch\.save wrote, or a damaged one; "):
        load_pytorch(path)


def test_damage_to_the_weights_is_found(network, checkpoint) -> None:
    whole = checkpoint.read_bytes()
    for weight in network.state_dict().values():
        position = whole.index(weight.numpy().tobytes())
        checkpoint.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(RLSPError, match=r"rlsp\.pt: is damaged \(checksum of .*/data/\d+\); copy"):
            load_pytorch(checkpoint)


@settings(max_examples=150)
@given(st.data())
def test_any_other_damage_is_refused_or_makes_no_difference(tmp_path_factory, data) -> None:
    folder = tmp_path_factory.getbasetemp() / "damage"
    folder.mkdir(exist_ok=True)
    config = RLSPConfig(filters=1, layers=2, scale=1, output="rgb")
    network = authors(np.random.default_rng(0), config)
    torch.save({"rlsp": network.state_dict()}, folder / "whole.pt")
    content = bytearray((folder / "whole.pt").read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[position] ^= data.draw(st.integers(1, 255))
    (folder / "damaged.pt").write_bytes(content)
    try:
        model = load_pytorch(folder / "damaged.pt")
    except RLSPError as refusal:
        named = str(folder / "damaged.pt") in str(refusal)
    else:
        named = True
        save_pytorch(model, folder / "back.pt", force=True)
        assert_same_weights(read(folder / "back.pt")["rlsp"], network.state_dict())
    assert named


@pytest.mark.parametrize("kind", ["text", "png", "zip", "keras", "pickle"])
def test_other_files_are_refused(kind, tmp_path, rng) -> None:
    path = tmp_path / "other.pt"
    if kind == "text":
        path.write_text("These are no weights.")
    elif kind == "png":
        path.write_bytes(iio.imwrite("<bytes>", np.zeros((4, 4, 3), np.uint8), extension=".png"))
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "text")
    elif kind == "keras":
        small_model(rng).save(tmp_path / "model.keras")
        (tmp_path / "model.keras").rename(path)
    else:
        path.write_bytes(pickle.dumps({"rlsp": {}}))
    with pytest.raises(RLSPError, match=r"other\.pt: not a file that torch\.save wrote") as refusal:
        load_pytorch(path)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path) -> None:
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(RLSPError, match="no such file") as refusal:
            load_pytorch(path)
        assert str(path) in str(refusal.value)


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_code_in_a_file_is_not_run(network, tmp_path, capsys) -> None:
    trace, path = tmp_path / "trace", tmp_path / "hostile.pt"
    contents = {"rlsp": network.state_dict(), "optimizer": Hostile(trace), "iteration": 0}
    pickled = pickle.dumps(Hostile(trace), 2)
    torch.save(contents, path)
    files = [path.read_bytes(), pickled]
    torch.save(contents, path, _use_new_zipfile_serialization=False)
    files += [path.read_bytes(), pickle.dumps(Hostile(trace))]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            info = tarfile.TarInfo(name)
            info.size = len(pickled)
            tar.addfile(info, io.BytesIO(pickled))
    files.append(archive.getvalue())
    for number, content in enumerate(files):
        path.write_bytes(content)
        assert main(["pytorch", str(path), str(tmp_path / "model.keras")]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"rlsp-convert: error: {path}: ")
        assert said.count("\n") == 1
        assert "weights_only" not in said
        if number in (0, 2):
            assert "asks to run" in said
        assert not trace.exists()
    assert not (tmp_path / "model.keras").exists()
    pickle.loads(pickled)  # it would have
    assert trace.exists()


def test_a_few_bytes_do_not_become_more_than_there_is_memory(network, tmp_path) -> None:
    state = network.state_dict()
    for name, tensor in state.items():
        state[name] = torch.zeros(1).expand(tensor.shape)
    torch.save({"rlsp": state}, tmp_path / "strides.pt")
    with pytest.raises(RLSPError, match=r"strides\.pt: 'conv1\.weight' is larger than its bytes"):
        load_pytorch(tmp_path / "strides.pt")
    torch.save({"rlsp": network.state_dict()}, tmp_path / "whole.pt")
    with (
        zipfile.ZipFile(tmp_path / "whole.pt") as old,
        zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for member in old.namelist():
            new.writestr(member, old.read(member))
    with pytest.raises(RLSPError, match=r"packed\.pt: is damaged \(.* is compressed\)"):
        load_pytorch(tmp_path / "packed.pt")


@pytest.mark.parametrize(
    "config",
    [
        RLSPConfig(filters=2, layers=2),
        RLSPConfig(filters=2, layers=2, output="rgb", frames_before=2, frames_after=0),
        RLSPConfig(filters=2, layers=2, output="rgb", frames_before=0, frames_after=0),
    ],
)
def test_networks_that_the_layout_has_no_place_for_are_not_written(config, tmp_path, rng) -> None:
    with pytest.raises(RLSPError, match=r"mine\.pt: .*keep the \.keras file"):
        save_pytorch(small_model(rng, config), tmp_path / "mine.pt")
    assert not list(tmp_path.iterdir())


def test_existing_files_stay_unless_forced(checkpoint, tmp_path, rng) -> None:
    model, before = small_model(rng, SMALL), checkpoint.read_bytes()
    with pytest.raises(RLSPError, match=r"rlsp\.pt: exists already"):
        save_pytorch(model, checkpoint)
    assert checkpoint.read_bytes() == before
    (tmp_path / "model.keras").write_text("precious")
    with pytest.raises(RLSPError, match=r"model\.keras: exists already"):
        keras_from_pytorch(checkpoint, tmp_path / "model.keras")
    assert (tmp_path / "model.keras").read_text() == "precious"
    save_pytorch(model, checkpoint, force=True)
    np.testing.assert_array_equal(load_pytorch(checkpoint).get_weights()[0], model.get_weights()[0])


def test_a_full_disk_leaves_nothing_behind(tmp_path, rng) -> None:
    resource = pytest.importorskip("resource")
    model = small_model(rng, SMALL)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(OSError, match="too large") as failure:
            save_pytorch(model, tmp_path / "mine.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failure.value.filename == str(tmp_path / "mine.pt")
    assert not list(tmp_path.iterdir())


def test_without_pytorch_both_ways_say_how_to_get_it(checkpoint, tmp_path, rng, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(RLSPError, match=r"rlsp\.pt: .*pip install 'rlsp_tf\[pytorch\]'\.$"):
        load_pytorch(checkpoint)
    with pytest.raises(RLSPError, match=r"mine\.pt: .*pip install 'rlsp_tf\[pytorch\]'\.$"):
        save_pytorch(small_model(rng, SMALL), tmp_path / "mine.pt")


def test_importing_the_converter_or_asking_for_help_does_not_load_pytorch() -> None:
    program = (
        "import sys\nfrom rlsp_tf.converters.cli import main\n"
        "try: main(['pytorch', '--help'])\n"
        "except SystemExit: assert not {'torch', 'tensorflow', 'keras'} & set(sys.modules)\n"
        "import rlsp_tf.converters.pytorch\nassert 'torch' not in sys.modules"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "  rlsp-convert pytorch " in shown


PLAIN = ("--precision", "float32", "--warm-start", "0", "--scene-cuts", "off")
"""Options of ``rlsp upscale`` with which it does nothing but run the network in float32."""


class TestCommandLine:
    """rlsp-convert pytorch, and what rlsp does with the result."""

    def test_both_ways(self, network, checkpoint, tmp_path, capsys) -> None:
        model, back = tmp_path / "model.keras", tmp_path / "back.pt"
        assert main(["pytorch", str(checkpoint), str(model)]) == 0
        assert main(["pytorch", str(model), str(back)]) == 0
        captured = capsys.readouterr()
        assert captured.out == (
            f"{model}: written from {checkpoint}, a 3-4 network of scale 4 with 4 state channels.\n"
            f"{back}: written from {model}.\n"
        )
        assert captured.err == ""
        assert_same_weights(read(back)["rlsp"], network.state_dict())

    def test_the_scale(self, tmp_path, rng, capsys) -> None:
        config = RLSPConfig(filters=4, layers=2, state_filters=41, scale=2, output="rgb")
        source, model = save(tmp_path / "wide.pt", authors(rng, config)), tmp_path / "model.keras"
        assert main(["pytorch", str(source), str(model)]) == 0
        assert "4 was taken; or give --scale" in capsys.readouterr().err
        assert main(["pytorch", str(source), str(model), "--scale", "2", "--force"]) == 0
        assert rlsp_layer(load_model(model)).config == config
        assert main(["pytorch", str(model), str(tmp_path / "back.pt"), "--scale", "2"]) == 2
        assert "leave out --scale" in capsys.readouterr().err

    @pytest.mark.parametrize("names", [("a.keras", "b.keras"), ("a.pt", "b.pt")])
    def test_two_of_a_kind_are_a_usage_error(self, names, capsys) -> None:
        assert main(["pytorch", *names]) == 2
        assert capsys.readouterr().err == (
            f"rlsp-convert: error: {names[0]} and {names[1]}: one of the two must end in .keras, the other "
            "must not.\n"
        )

    def test_a_luma_model_is_refused(self, tmp_path, rng, capsys) -> None:
        small_model(rng).save(tmp_path / "luma.keras")
        assert main(["pytorch", str(tmp_path / "luma.keras"), str(tmp_path / "luma.pt")]) == 1
        assert "networks with RGB output" in capsys.readouterr().err
        assert not (tmp_path / "luma.pt").exists()

    def test_a_target_that_exists_needs_force(self, checkpoint, tmp_path, capsys) -> None:
        model = tmp_path / "model.keras"
        model.write_text("precious")
        assert main(["pytorch", str(checkpoint), str(model)]) == 1
        assert "exists already" in capsys.readouterr().err
        assert main(["pytorch", str(checkpoint), str(model), "--force"]) == 0

    @pytest.fixture
    def model(self, checkpoint, tmp_path) -> Path:
        assert main(["pytorch", str(checkpoint), str(tmp_path / "rgb.keras")]) == 0
        return tmp_path / "rgb.keras"

    def test_upscale_makes_the_images_of_the_network(self, network, model, tmp_path) -> None:
        clip = make_clip(3, 9, 14, seed=1)
        (tmp_path / "lr").mkdir()
        for index, frame in enumerate(clip):
            iio.imwrite(tmp_path / "lr" / f"{index}.png", frame)
        command = ["upscale", str(tmp_path / "lr"), str(tmp_path / "hr"), "--model", str(model), *PLAIN]
        assert rlsp(command) == 0
        made = np.stack([iio.imread(tmp_path / "hr" / f"{index}.png") for index in range(3)])
        difference = np.abs(made.astype(int) - eight_bits(network.upscale(clip[None])[0]))
        # float64 here, float32 there: a number close to half rounds the other way.
        assert difference.max() <= 1
        assert (difference == 0).mean() > 0.999

    def test_upscale_makes_the_planes_of_a_video(self, network, model, tmp_path) -> None:
        # What lies outside this range does not reach the network: tests/inference/test_color_path.py.
        grey = make_clip(4, 22, 30, seed=2)[..., 0].clip(16, 235)
        source, target = tmp_path / "lr.mkv", tmp_path / "hr.mkv"
        frames = [
            av.VideoFrame.from_ndarray(np.vstack([frame, np.full((11, 30), 128, np.uint8)]), "yuv420p")
            for frame in grey
        ]
        make_video(source, range(0, 160, 40), time_base=MS, codec="ffv1", size=(30, 22), frames=frames)
        command = ["upscale", str(source), str(target), "--model", str(model), "--codec", "ffv1", *PLAIN]
        assert rlsp(command) == 0

        # BT.601 in its limited range, as videos of this size are that do not say.
        level = (grey[..., None].repeat(3, -1) - 16.0) * 255 / 219
        red, green, blue = np.moveaxis(network.upscale(level[None])[0] / 255, -1, 0)
        y = 0.299 * red + 0.587 * green + 0.114 * blue
        with av.open(str(target)) as container:
            made = [frame.to_ndarray() for frame in container.decode(video=0)]
        made = np.stack(made).astype(int)
        assert made.shape == (4, 88 + 44, 120)
        difference = np.abs(made[:, :88] - np.clip(np.rint(16 + 219 * y), 0, 255))
        # float64 here, float32 there: a number close to half rounds the other way.
        assert difference.max() <= 1
        assert (difference == 0).mean() > 0.999
        cb, cr = np.moveaxis(made[:, 88:].reshape(4, 2, 44, 60), 1, 0)
        for plane, tint in ((cb, (blue - y) / 1.772), (cr, (red - y) / 1.402)):
            assert np.ptp(tint) * 224 > 20
            # The filter that makes 4:2:0 keeps the mean, but for the edges; the plane is rounded and clipped.
            np.testing.assert_allclose(plane.mean((1, 2)), 128 + 224 * tint.mean((1, 2)), atol=0.5)

    def test_evaluate_measures_the_pictures_of_the_network(self, network, model, tmp_path) -> None:
        clip = make_clip(6, 49, 66, seed=3)
        (tmp_path / "hr").mkdir()
        for index, frame in enumerate(clip):
            iio.imwrite(tmp_path / "hr" / f"{index}.png", frame)
        command = ["evaluate", "--model", str(model), "--hr", str(tmp_path / "hr"), "--protocol", "full"]
        report = ["--json", str(tmp_path / "numbers.json"), "--report", str(tmp_path / "report")]
        assert rlsp([*command, *report]) == 0

        truth = clip[:, :48, :64].astype(float)
        made = eight_bits(network.upscale(degrade(clip[:, :48, :64])[None])[0])
        weights = np.array([65.738, 129.057, 25.064]) / 256
        expected = {
            "psnr_rgb": 10 * np.log10(255**2 / np.mean((made - truth) ** 2, axis=(1, 2, 3))),
            "psnr_y": 10 * np.log10(255**2 / np.mean(((made - truth) @ weights) ** 2, axis=(1, 2))),
        }
        _, measured = json.loads((tmp_path / "numbers.json").read_text())["models"]
        assert measured["config"]["output"] == "rgb"
        for metric, decibels in expected.items():
            found = [frame[metric] for frame in measured["sequences"][0]["frames"]]
            # Pixels that round the other way: float64 here, float32 there.
            np.testing.assert_allclose(found, decibels, rtol=1e-4)
        assert (tmp_path / "report" / "index.html").stat().st_size > 0


def eight_bits(clip: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(clip), 0, 255).astype(int)
