"""Whatever is in a file of ours, it is read or refused with one sentence that names it."""

import contextlib
import csv
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rlsp_tf.network.model
import rlsp_tf.network.weights
from helpers.clips import write_folder
from helpers.keras_files import write
from helpers.networks import small_model
from helpers.results import step_result, train_result
from helpers.synthetic import make_clip
from rlsp_tf.benchmarks.report import write_report
from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.exported import read_card
from rlsp_tf.inference.load import load_step
from rlsp_tf.media.shots import read_cuts
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.network.keras_file import read_network
from rlsp_tf.network.weights import find_weights
from rlsp_tf.system.files import DEEPEST, read_json
from rlsp_tf.training.clips.clip import open_clip
from rlsp_tf.training.clips.index import index_clips
from rlsp_tf.training.run_folder import RunFolder, differences

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, 10**400, -(10**400), 1e308, -0.0]),
    st.floats(),  # NaN and infinity are in what Python takes for JSON
    st.text(st.characters(), max_size=20),
    st.sampled_from(["", "..", "/etc/passwd", "../x", "a\0b", "\ud800", "7-48", "y", "\n", "$\\frac$"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)
DEEP = st.sampled_from([DEEPEST - 1, DEEPEST, 900, 100_000]).map(lambda depth: "[" * depth + "]" * depth)


def places(value: object, place: tuple = ()) -> list[tuple]:
    """Where the parts of a JSON value are, the whole first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(deeper for key, each in inner for deeper in places(each, (*place, key)))]


@st.composite
def mutations(draw, whole: object) -> object:
    """A valid value with some parts deleted, doubled or replaced."""
    value = json.loads(json.dumps(whole))
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(places(value)[1:] or [(None,)]))
        parent = value
        for key in above:
            parent = parent[key]
        if not isinstance(parent, dict | list) or last is None:
            return value
        what = draw(st.sampled_from(["delete", "replace", "wrap"]))
        if what == "delete":
            del parent[last]
        else:
            parent[last] = draw(VALUES) if what == "replace" else [parent[last]]
        if not value:
            break
    return value


def contents(whole: object) -> st.SearchStrategy[bytes]:
    """Bytes, JSON, and what was valid before something happened to it."""
    text = json.dumps(whole).encode()
    cut = st.tuples(st.integers(0, len(text)), st.binary(max_size=3), st.integers(0, 5))
    return st.one_of(
        st.binary(max_size=200),
        VALUES.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
        mutations(whole).map(lambda value: json.dumps(value).encode()),
        DEEP.map(str.encode),
        DEEP.map(lambda deep: json.dumps(whole).replace("1", deep, 1).encode()),
        cut.map(lambda c: text[: c[0]] + c[1] + text[c[0] + c[2] :]),
    )


@contextlib.contextmanager
def valid_or_one_sentence(*named: str):
    try:
        yield
    except RLSPError as error:
        sentence = str(error)
        assert any(name in sentence for name in named), sentence
        assert "\n" not in sentence.strip()
        assert len(sentence) < 2000


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


ENTRY = {"file": "small.keras", "sha256": "0" * 64, "config": RLSPConfig().to_dict()}
CARD = {"format": "onnx", "config": RLSPConfig().to_dict(), "precision": "float32", "size": None}
CLIPS = {
    use: [{"name": "one", "source": "one.mp4", "sha256": "0" * 64, "cuts": [1]}]
    for use in ("training", "validation")
}


@given(contents({"one": 1, "two": [1, 2, {"three": "x"}]}))
def test_any_json(folder, content):
    file = folder / "any.json"
    file.write_bytes(content)
    with valid_or_one_sentence(str(file)):
        value = read_json(file, "write it again")
        json.dumps(value)
        differences(value, {"one": 1})


@given(
    contents({"small": ENTRY, "7-48": ENTRY}), st.sampled_from(["small", "7-48", "large", "a\0b", "\ud800"])
)
def test_the_manifest(folder, content, name):
    (folder / "manifest.json").write_bytes(content)
    (folder / "small.keras").write_bytes(b"weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rlsp_tf.network.weights, "checkpoints", lambda: folder)
        with valid_or_one_sentence("manifest.json", "small.keras", name):
            assert find_weights(name).parent == folder


@given(VALUES | mutations(RLSPConfig().to_dict()))
def test_a_configuration(value):
    with contextlib.suppress(ValueError):
        config = RLSPConfig.from_dict(value)
        assert RLSPConfig.from_dict(config.to_dict()) == config


@given(st.text() | st.from_regex(r"\d+-\d+", fullmatch=True) | st.just("7-" + "9" * 5000))
def test_the_name_of_a_network(name):
    with contextlib.suppress(RLSPError):
        assert RLSPConfig.from_name(name).layers >= 2


@given(contents(CARD))
def test_the_card_of_an_export(folder, content):
    export = folder / "x.onnx"
    export.write_bytes(b"no model")
    (folder / "x.onnx.json").write_bytes(content)
    with valid_or_one_sentence("x.onnx.json"):
        RLSPConfig.from_dict(read_card(export)["config"])
    with pytest.raises(RLSPError, match=r"x\.onnx"):
        load_step(export, precision="float32")


@given(contents({"network": RLSPConfig().to_dict(), "steps": 100, "batch": 1}))
def test_the_configuration_of_a_run(folder, content):
    run = RunFolder(folder / "run")
    (run.path / "config.json").write_bytes(content)
    with valid_or_one_sentence("config.json"):
        config = run.read_config()
        assert min(config["steps"], 1) <= 1
        differences({**config, "steps": None}, {"network": RLSPConfig().to_dict(), "steps": None})


@given(contents(CLIPS))
def test_the_clips_of_a_run(folder, content):
    run = RunFolder(folder / "run")
    (run.path / "clips.json").write_bytes(content)
    with valid_or_one_sentence("clips.json"):
        for clips in run.read_clips().values():
            differences(clips, {"one": "0" * 64})


def log_text(rows) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([["step", "loss", "val_psnr"], *rows])
    return text.getvalue().encode("utf-8", "surrogatepass")


CELLS = st.sampled_from(["1", "2", "", "nan", "inf", "-inf", "1e400", "-1", "x", "9" * 5000, "\0", "\ud800"])
LOG = st.one_of(
    st.binary(max_size=100),
    st.binary(max_size=100).map(lambda content: b"step,loss\n1,2\n" + content),
    st.lists(st.lists(CELLS, max_size=5), max_size=4).map(log_text),
    st.just(b'step,loss\n"' + b"x" * 200_000),
    st.just(b"colour,loss\n1,2\n"),
)


@given(LOG)
def test_the_log_of_a_run(folder, content):
    run = RunFolder(folder / "run")
    (run.path / "log.csv").write_bytes(content)
    with valid_or_one_sentence("log.csv"):
        rows = run.cut_log(10)
        assert all(row["step"] <= 10 for row in rows)
        # As text, because some numbers are none.
        assert repr(run.read_log()) == repr(rows)


@given(st.binary() | st.text(st.sampled_from("0123 ,;\n-٣²x")).map(str.encode) | st.just(b"9" * 5000))
def test_a_list_of_cuts(folder, content):
    (folder / "cuts.txt").write_bytes(content)
    with valid_or_one_sentence("cuts.txt"):
        assert all(cut >= 0 for cut in read_cuts(folder / "cuts.txt"))


@pytest.fixture(scope="module")
def clip(folder):
    """A clip made ready, whose card is then written over."""
    write_folder(folder / "data" / "scene", make_clip(3, 32, 40))
    (clip,), _ = index_clips([folder / "data"], cache=folder / "cache")
    return clip.folder, json.loads((clip.folder / "clip.json").read_text())


@given(st.data())
def test_a_clip_in_the_cache(clip, data):
    ready, card = clip
    (ready / "clip.json").write_bytes(data.draw(contents(card)))
    with valid_or_one_sentence(str(ready)):
        opened = open_clip(ready)
        assert opened.hr.shape == (*opened.shape, 3)
        assert all(start < stop for start, stop in opened.shots)
        json.dumps(opened.to_dict())
        for array in (opened.hr, opened.blurred, opened.detail, opened.motion):
            np.asarray(array).sum()


@pytest.mark.filterwarnings("ignore::UserWarning")  # letters without a glyph, say
@settings(max_examples=60)
@given(contents(step_result("7-48", sizes=[(160, 90)])) | contents(train_result()))
def test_the_result_of_a_benchmark(folder, content):
    (folder / "result.json").write_bytes(content)
    with valid_or_one_sentence("result.json"):
        write_report(folder / "page.md", [folder / "result.json"], plot=folder / "plot.png", force=True)


@pytest.fixture(scope="module")
def members(folder):
    """Of a small .keras file."""
    small_model(np.random.default_rng(0), precision="float32").save(folder / "whole.keras")
    with zipfile.ZipFile(folder / "whole.keras") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@given(st.data())
def test_the_configuration_in_a_keras_file(folder, members, data):
    config = data.draw(contents(json.loads(members["config.json"])))
    write(folder / "x.keras", members | {"config.json": config})
    with valid_or_one_sentence("x.keras"):
        assert len(read_network(folder / "x.keras").weights) == 8


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=20))
def test_the_arrays_in_a_keras_file(folder, members, damage):
    """With a checksum that is right, so that HDF5 gets to see it."""
    weights = bytearray(members["model.weights.h5"])
    for place, byte in damage:
        weights[int(place * len(weights))] = byte
    write(folder / "x.keras", members | {"model.weights.h5": bytes(weights)})
    with valid_or_one_sentence("x.keras"):
        assert len(read_network(folder / "x.keras").weights) == 8


@given(st.data())
def test_the_archive_of_a_keras_file(folder, members, data):
    write(folder / "x.keras", members)
    content = (folder / "x.keras").read_bytes()
    ends = st.integers(len(content) - 400, len(content)) | st.integers(0, len(content))
    start, more, less = data.draw(st.tuples(ends, st.binary(max_size=30), st.integers(0, 30)))
    (folder / "x.keras").write_bytes(content[:start] + more + content[start + less :])
    with valid_or_one_sentence("x.keras"):
        assert len(read_network(folder / "x.keras").weights) == 8
