"""Contenders agree before they are timed. No test asserts a time."""

import json
import re
from importlib import metadata

import numpy as np
import pytest

from helpers import reference_numpy
from helpers.graphs import write_meta
from helpers.networks import needs_bytes, small_model
from rlsp_tf.benchmarks import harness as benchmark
from rlsp_tf.benchmarks.contenders import AUTHORS, OTHERS, OURS, Contender, Ours
from rlsp_tf.benchmarks.report import PLOT, describe
from rlsp_tf.benchmarks.step import (
    CLIP_STEPS,
    ROUNDS,
    SIZE,
    STEPS,
    Preparation,
    benchmark_step,
    compare_outputs,
)
from rlsp_tf.cli.main import build_parser, main
from rlsp_tf.converters.tf1 import save_tf1
from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.hardware import computes_int8
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.pixels.metrics import cost

CONFIG = RLSPConfig(layers=3, filters=6)
QUICK = {"size": (12, 7), "rounds": 2, "steps": 2, "warm_up": 1}
OURS_HERE = [each for each in OURS if each.precision != "int8" or computes_int8()]
HERE = [each for each in OTHERS if all(map(benchmark.installed, each.packages))]


@pytest.fixture(scope="module", autouse=True)
def _at_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "REST", 0)
        yield


@pytest.fixture
def only_float32(monkeypatch, forked_workers):
    """Of ours; who else there is takes time and decides nothing."""
    monkeypatch.setattr("rlsp_tf.benchmarks.step.OURS", OURS[:1])


@pytest.fixture(scope="module")
def authors(tmp_path_factory):
    """A folder as of the authors: graph and weights of one network, the graph alone of another, and more."""
    folder = tmp_path_factory.mktemp("authors")
    save_tf1(small_model(np.random.default_rng(0), CONFIG), folder / "ckpt_3-6")
    write_meta(folder / "ckpt_3-6.meta", CONFIG)
    write_meta(folder / "ckpt_2-7.meta", RLSPConfig(layers=2, filters=7))
    write_meta(folder / "other.meta")  # of another scale
    return folder


@pytest.fixture(
    scope="module",
    params=[pytest.param(names, marks=pytest.mark.slow) for names in (("3-6",), ("2-7", "3-6"))],
    ids=" ".join,
)
def networks(request):
    """What the command is told to time; every network costs half a minute."""
    return request.param


@pytest.fixture(scope="module")
def result(networks, authors, tmp_path_factory):
    """By the command line, all contenders."""
    file = tmp_path_factory.mktemp("result") / "step.json"
    options = [
        "--size",
        "12x7",
        "--sizes",
        "6x4",
        "9x8",
        "--rounds",
        "2",
        "--steps",
        "2",
        "--json",
        str(file),
    ]
    options += [word for network in networks for word in ("--network", network)]
    assert main(["benchmark", "step", "--authors", str(authors), *options]) == 0
    return json.loads(file.read_text())


def test_all_contenders_take_part_and_agree(result, networks):
    names = [each.name for each in (*OURS_HERE, AUTHORS, *HERE)]
    assert result["benchmark"] == "step"
    assert result["size"] == [12, 7]
    weights = {"3-6": "the authors' (ckpt_3-6)", "2-7": "random"}
    found = [(sheet["network"], sheet["weights"]) for sheet in result["networks"]]
    assert found == [(network, weights[network]) for network in networks]
    for sheet in result["networks"]:
        assert [each["name"] for each in sheet["contenders"]] == names
        for each in sheet["contenders"]:
            assert len(each["rounds"]) == 2
            assert each["milliseconds"] == pytest.approx(np.mean(each["rounds"]))  # the median of two
            assert min(each["rounds"]) > 0
            if each["precision"] == "float32":
                assert each["difference"] <= 1e-3
            else:
                # Not the float32 network in disguise.
                assert each["difference"] > 1e-3
                assert each["cost"] <= (0.5 if each["precision"] == "int8" else 0.05)
    for package in {package for each in HERE for package in each.packages}:
        assert result["versions"][package] == metadata.version(package)


def test_ratios_are_told_to_the_authors_and_the_fastest_other_as_good(result):
    for sheet in result["networks"]:
        contenders = {each["name"]: each for each in sheet["contenders"]}
        expected = []
        for own in OURS_HERE:
            allowed = contenders[own.name]["cost"] + 0.01
            as_good = [each.name for each in HERE if contenders[each.name]["cost"] <= allowed]
            as_good.sort(key=lambda name: contenders[name]["milliseconds"])
            expected += [(own.name, rival) for rival in (AUTHORS.name, *as_good[:1])]
        assert [(each["of"], each["to"]) for each in sheet["ratios"]] == expected
        for each in sheet["ratios"]:
            quotients = np.divide(contenders[each["to"]]["rounds"], contenders[each["of"]]["rounds"])
            assert each["ratio"] == pytest.approx(np.mean(quotients))


def test_ours_is_timed_at_other_sizes(result):
    for sheet in result["networks"]:
        assert [(each["width"], each["height"], each["name"]) for each in sheet["sizes"]] == [
            (*size, own.name) for size in ((6, 4), (9, 8)) for own in OURS_HERE
        ]


def test_every_number_is_printed(result):
    printed = describe(result)
    for sheet in result["networks"]:
        for each in sheet["contenders"]:
            times = each["rounds"]
            row = f"| {each['name']} | {each['milliseconds']:.1f} ({min(times):.1f} to {max(times):.1f}) |"
            assert row in printed
        for each in sheet["ratios"]:
            assert re.search(rf"\| {each['of']} \|.*\| {each['ratio']:.2f} \|", printed)
        for each in sheet["sizes"]:
            assert re.search(rf"\| {each['width']}x{each['height']} \|.*{each['milliseconds']:.1f}", printed)


@pytest.mark.slow
def test_what_is_missing_is_named(only_float32):
    absent = Contender("Fast", Ours, "float32", ("tqdm", "no-such-package", "nor-this"))
    result = benchmark_step(["2-7"], others=[absent], **QUICK)
    assert result["left_out"] == [{"name": "Fast", "reason": "no-such-package and nor-this not installed"}]
    (sheet,) = result["networks"]
    assert sheet["left_out"] == [{"name": AUTHORS.name, "reason": "give --authors"}]
    assert [each["name"] for each in sheet["contenders"]] == [OURS[0].name]
    assert sheet["ratios"] == []
    printed = describe(result)
    assert "Left out: Fast (no-such-package and nor-this not installed)" in printed
    assert f"Left out: {AUTHORS.name} (give --authors)" in printed


class Changed(Ours):
    """Ours with one weight changed: a little in float32, much in bfloat16, whose limit is wider."""

    def load(self):
        super().load()
        kernel = self._step._cell.convolutions[-1].kernel
        values = np.array(kernel)
        values[1, 1, :, 0] += 0.01 if self.precision == "float32" else 10
        kernel.assign(values)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "complaint"),
    [
        ("float32", r"by [\d.e-]+ grey levels where 0.001 are allowed"),
        ("bfloat16", r"by [\d.e-]+ dB where 0.05 are allowed"),
    ],
)
def test_a_contender_that_disagrees_is_an_error_that_names_it(only_float32, precision, complaint):
    with pytest.raises(RLSPError, match=f"^A rival: .*{complaint}"):
        benchmark_step(["2-7"], others=[Contender("A rival", Changed, precision)], **QUICK)


class Coarse(Changed):
    """Passes for one in 8 bits, of which Keras has none."""

    def load(self):
        self.precision = "bfloat16"
        super().load()


@pytest.mark.slow
def test_eight_bits_that_cost_too_much_are_left_out(only_float32):
    result = benchmark_step(["2-7"], others=[Contender("A rival", Coarse, "int8")], **QUICK)
    (sheet,) = result["networks"]
    assert [each["name"] for each in sheet["contenders"]] == [OURS[0].name]
    (_, left_out) = sheet["left_out"]
    assert left_out["name"] == "A rival"
    assert re.fullmatch(r"costs \d+\.\d{3} dB, more than 0\.5", left_out["reason"])


@needs_bytes
def test_so_is_ours_where_it_refuses_8_bits(forked_workers):
    """Random weights whose feedback is far from grey levels."""
    (sheet,) = benchmark_step(["2-5"], others=(), **QUICK)["networks"]
    assert [each["name"] for each in sheet["contenders"]] == ["rlsp_tf float32", "rlsp_tf bfloat16"]
    (_, ours) = sheet["left_out"]
    assert ours["name"] == "rlsp_tf int8"
    assert re.match(r"in 8 bits this network loses \d+\.\d\d dB, more than 0\.5", ours["reason"])


def test_outputs_that_are_no_frames_disagree():
    reference = np.zeros((2, 8, 8, 1), np.float32)
    for precision, unit in (("float32", "grey levels"), ("bfloat16", "dB"), ("int8", "dB")):
        contender = Contender("A rival", Ours, precision)
        assert compare_outputs(contender, reference, reference)["cost"] == 0
        with pytest.raises(RLSPError, match=f"^A rival: .* by nan {unit}"):
            compare_outputs(contender, reference * np.float32("nan"), reference)
        with pytest.raises(RLSPError, match=r"^A rival: its output has shape \(2, 8, 7, 1\), not"):
            compare_outputs(contender, reference[:, :, :-1], reference)


def test_weights_of_another_network_are_far_beyond_the_limits(tmp_path, rng):
    """What tells them apart is no PSNR against a truth that random weights miss anyhow."""
    clips = []
    for seed in (0, 1):
        model = small_model(np.random.default_rng(seed), CONFIG)
        clips.append(model.predict(rng.integers(0, 256, (1, 3, 9, 12, 3)), verbose=0))
    assert cost(clips[0] - clips[1]) > 1


@pytest.mark.slow
def test_random_weights_behave_as_trained_ones(tmp_path):
    """Against the NumPy network of the tests: refinements of some grey levels, which do not grow."""
    config = RLSPConfig(filters=48)
    assert Preparation(config, tmp_path, None).about == {"meta": None, "weights": "random"}
    clip = np.load(tmp_path / "clip.npy").astype(np.float64)
    assert clip.shape == (CLIP_STEPS, 30, 44, 3)
    with np.load(tmp_path / "weights.npz") as weights:
        arrays = [weights[f"layer{index}/{part}"] for index in range(8) for part in ("kernel", "bias")]
    output = reference_numpy.rlsp(clip[None], arrays)[0][0]
    luma = clip @ np.array([65.738, 129.057, 25.064]) / 256 + 16
    refinement = output[..., 0] - np.kron(luma, np.ones((1, 4, 4)))
    sizes = np.sqrt(np.mean(refinement**2, axis=(1, 2)))
    assert np.all((sizes > 2) & (sizes < 40))


@pytest.mark.slow
def test_the_authors_weights_are_those_in_the_files(authors, tmp_path):
    assert Preparation(CONFIG, tmp_path, authors).about["weights"] == "the authors' (ckpt_3-6)"
    expected = small_model(np.random.default_rng(0), CONFIG).layers[-1].cell.convolutions
    with np.load(tmp_path / "weights.npz") as weights:
        assert len(weights) == 2 * len(expected)
        for layer in expected:
            kernel, bias = layer.get_weights()
            np.testing.assert_array_equal(weights[f"{layer.name}/kernel"], kernel)
            np.testing.assert_array_equal(weights[f"{layer.name}/bias"], bias)


@pytest.mark.slow
def test_files_that_are_not_the_authors_are_named(only_float32, tmp_path):
    with pytest.raises(RLSPError, match=r"holds no \.meta file of the paper's authors"):
        benchmark_step(["2-7"], authors=tmp_path, others=(), **QUICK)
    (tmp_path / "broken.meta").write_bytes(b"<html>")
    with pytest.raises(RLSPError, match=r"broken\.meta: holds no graph of the paper's authors"):
        benchmark_step(["2-7"], authors=tmp_path, others=(), **QUICK)
    (tmp_path / "broken.meta").unlink()
    write_meta(tmp_path / "some.meta", CONFIG)
    result = benchmark_step(["2-7"], authors=tmp_path, others=(), **QUICK)
    reason = f"no graph of it in {tmp_path}"
    assert result["networks"][0]["left_out"] == [{"name": AUTHORS.name, "reason": reason}]
    (tmp_path / "some.data-00000-of-00001").write_bytes(b"damaged")
    with pytest.raises(RLSPError, match=r"some: a damaged checkpoint"):
        benchmark_step(["3-6"], authors=tmp_path, others=(), **QUICK)


def test_the_real_graphs_of_the_authors_are_found(data):
    from rlsp_tf.inference.authors_graph import find_graphs, read_weights

    graphs = find_graphs(data / "rlsp-original" / "checkpoints")
    assert {name: meta.stem for name, meta in graphs.items()} == {
        "7-48": "ckpt_rslp_48",
        "7-64": "ckpt_rlsp_64",
        "7-128": "ckpt_rlsp_128",
    }
    assert read_weights(graphs["7-128"]) is None
    assert read_weights(graphs["7-64"])["layer3/kernel"].shape == (3, 3, 64, 64)


def test_contenders_are_named_once():
    names = [each.name for each in (*OURS, AUTHORS, *OTHERS)]
    assert len(set(names)) == len(names)


def test_the_command_line_has_the_same_defaults():
    arguments = build_parser().parse_args(["benchmark", "step"])
    assert (arguments.size, arguments.sizes) == (SIZE, [])
    assert (arguments.rounds, arguments.steps) == (ROUNDS, STEPS)
    assert build_parser().parse_args(["benchmark", "report", "page.md", "step.json"]).plot == PLOT


@pytest.mark.parametrize(
    "arguments", [["--size", "480"], ["--sizes", "0x4"], ["--rounds", "0"], ["--steps", "x"]]
)
def test_wrong_options_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        main(["benchmark", "step", *arguments])
    assert "expected" in capsys.readouterr().err
