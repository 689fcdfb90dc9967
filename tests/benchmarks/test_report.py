"""What reduced precision costs, and pages of results."""

import json
import shlex
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from helpers.clips import write_folder
from helpers.networks import small_model
from helpers.results import step_result, train_result
from helpers.synthetic import make_clip
from rlsp_tf.benchmarks.quality import PRECISIONS
from rlsp_tf.benchmarks.report import describe, write_report
from rlsp_tf.benchmarks.sections import SECTIONS
from rlsp_tf.benchmarks.video import benchmark_video
from rlsp_tf.cli.main import main
from rlsp_tf.errors import RLSPError
from rlsp_tf.evaluation.evaluate import evaluate


@pytest.fixture(scope="module")
def quality(tmp_path_factory):
    """A folder with truth, two models and what the command found of them."""
    folder = tmp_path_factory.mktemp("quality")
    write_folder(folder / "hr" / "one", make_clip(6, 48, 64))
    write_folder(folder / "hr" / "two", make_clip(6, 40, 48, seed=1))
    for seed, name in enumerate("ab"):
        small_model(np.random.default_rng(seed), precision="float32").save(folder / f"{name}.keras")
    models = [f"--model={folder / name}.keras" for name in "ab"]
    arguments = ["--hr", str(folder / "hr"), *models, "--json", str(folder / "quality.json")]
    assert main(["benchmark", "quality", *arguments]) == 0
    return folder


@pytest.mark.slow
def test_the_cost_is_the_difference_of_what_evaluate_finds(quality):
    result = json.loads((quality / "quality.json").read_text())
    assert result["benchmark"] == "quality"
    assert result["protocol"] == "rlsp"
    assert result["sequences"] == ["one", "two"]
    assert [(sheet["name"], sheet["network"]) for sheet in result["models"]] == [("a", "3-6"), ("b", "3-6")]
    printed = describe(result)
    for sheet in result["models"]:
        for precision in PRECISIONS:
            (found,) = evaluate(
                quality / "hr", models=[quality / f"{sheet['name']}.keras"], precisions=[precision]
            )
            psnr = found["models"][1]["mean"]["psnr_y"]
            assert sheet["psnr"][precision] == pytest.approx(psnr, abs=1e-6)
            if precision != "float32":
                cost = sheet["psnr"]["float32"] - sheet["psnr"][precision]
                assert sheet["cost"][precision] == cost != 0
        numbers = [*sheet["psnr"].values(), *sheet["cost"].values()]
        cells = [sheet["name"], "3-6", *(f"{number:.3f}" for number in numbers)]
        assert f"| {' | '.join(cells)} |" in printed


def test_where_there_is_no_error_there_is_no_cost(tmp_path, capsys):
    """Black frames, and a network that only passes its residual on."""
    write_folder(tmp_path / "hr", np.zeros((5, 32, 32, 3), np.uint8))
    model = small_model(np.random.default_rng(0), precision="float32")
    model.set_weights([0 * weight for weight in model.get_weights()])
    model.save(tmp_path / "zero.keras")
    arguments = ["--hr", tmp_path / "hr", "--model", tmp_path / "zero.keras", "--json", tmp_path / "out.json"]
    assert main(["benchmark", "quality", *map(str, arguments)]) == 0
    (sheet,) = json.loads((tmp_path / "out.json").read_text())["models"]
    assert sheet["cost"] == dict.fromkeys(PRECISIONS[1:])
    cells = ["zero", "3-6", *["-"] * (2 * len(PRECISIONS) - 1)]
    assert f"| {' | '.join(cells)} |" in capsys.readouterr().out


@pytest.fixture
def files(tmp_path, quality):
    step = step_result("7-48", sizes=[(160, 90), (480, 270)])
    for name, result in (("step", step), ("train", train_result())):
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    return [tmp_path / "train.json", quality / "quality.json", tmp_path / "step.json"]


def test_a_page_has_all_numbers_and_where_they_are_from(tmp_path, files):
    (tmp_path / "pictures").mkdir()
    page, plot = tmp_path / "page.md", tmp_path / "pictures" / "sizes.png"
    arguments = [page, *files, "--plot", plot]
    assert main(["benchmark", "report", *map(str, arguments)]) == 0
    text = page.read_text()
    headings = ["## A step", "### 7-48", "## Training", "## Quality"]
    assert sorted(headings, key=text.index) == headings  # whatever the order of the files
    for line in (
        "| rlsp_tf bfloat16 | 20.0 (19.0 to 22.0) | 50.0 | 3.46 | costs 0.004 dB |",
        "| authors' graph | 30.0 (29.0 to 32.0) | 33.3 |  | at most 2.0e-04 grey levels apart |",
        "| 480x270 | 129.6 (128.6 to 131.6) | 129.6 (128.6 to 131.6) |",
        "Left out: OpenVINO int8 (nncf not installed).",
        "| ours | 9.00 (9.00 to 10.00) | what ours does |",
        "![Time against the size of frames, memory against the length of a video](pictures/sizes.png)",
    ):
        assert f"\n{line}\n" in text
    for file in files:
        result = json.loads(file.read_text())
        assert f"```sh\n{result['command']}\n```" in text
        assert f"load {result['machine']['load']:.1f} before" in text
        if result["benchmark"] == "quality":
            for sheet in result["models"]:
                numbers = [*sheet["psnr"].values(), *sheet["cost"].values()]
                assert f"| {sheet['name']} | 3-6 | {' | '.join(f'{n:.3f}' for n in numbers)} |" in text
    with Image.open(plot) as image:
        assert image.format == "PNG"
        assert np.asarray(image.convert("L")).std() > 1


def test_without_sizes_there_is_no_plot(tmp_path):
    (tmp_path / "step.json").write_text(json.dumps(step_result("7-64")))
    write_report(tmp_path / "page.md", [tmp_path / "step.json"], plot=tmp_path / "plot.png", command="rlsp x")
    assert "```sh\nrlsp x\n```" in (tmp_path / "page.md").read_text()
    assert "![" not in (tmp_path / "page.md").read_text()
    assert not (tmp_path / "plot.png").exists()


def test_files_of_something_else_are_named(tmp_path, files):
    damaged = train_result()
    del damaged["ratio"]
    for name, content in (
        ("text", "no JSON"),
        ("list", "[]"),
        ("evaluation", '{"protocol": {}}'),
        ("incomplete", json.dumps(damaged)),
        ("missing", None),
        ("unknown", '{"benchmark": "patience"}'),
    ):
        file = tmp_path / f"{name}.json"
        if content is not None:
            file.write_text(content)
        with pytest.raises(RLSPError, match=f"{name}.json: ") as refusal:
            write_report(tmp_path / "page.md", [*files[:2], file], plot=tmp_path / "plot.png")
        if name == "unknown":
            assert f"'patience'; give a result of {', '.join(SECTIONS)}, faults." in str(refusal.value)
        assert not (tmp_path / "page.md").exists()


def test_nothing_is_replaced_unless_told(tmp_path, files):
    page, plot = tmp_path / "page.md", tmp_path / "plot.png"
    for existing in (page, plot):
        existing.write_text("mine")
        with pytest.raises(RLSPError, match=f"{existing.name}: exists already"):
            write_report(page, files, plot=plot)
        assert existing.read_text() == "mine"
        assert [path for path in (page, plot) if path.exists()] == [existing]
        write_report(page, files, plot=plot, force=True)
        for path in (page, plot):
            path.unlink()


@pytest.mark.parametrize("command", ["", "step", "train", "quality", "report"])
def test_help_has_examples_that_parse(command, capsys):
    with pytest.raises(SystemExit):
        main(["benchmark", *command.split(), "--help"])
    from rlsp_tf.cli.main import build_parser

    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  rlsp ")]
    assert lines
    for line in lines:
        build_parser().parse_args(shlex.split(line)[1:])


@pytest.mark.slow
def test_a_video_is_timed_in_parts_and_as_a_whole(tmp_path, monkeypatch, forked_workers):
    """A short one, by a small network; the page shows what was found."""
    monkeypatch.chdir(tmp_path)
    clip = make_clip(12, 24, 32)
    with av.open("film.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for frame in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode(None))
    small_model(np.random.default_rng(0), precision="float32").save("small.keras")
    result = benchmark_video("film.mp4", model="small.keras", precision="auto", rounds=2, frames=10, few=4)
    assert result["size"] == [32, 24]
    assert result["model"] == "small"
    for times in result["milliseconds"].values():
        assert len(times["rounds"]) == 2
    for part in ("decoding", "network", "encoding"):
        assert min(result["milliseconds"][part]["rounds"]) > 0
    sums = np.sum(
        [result["milliseconds"][part]["rounds"] for part in ("decoding", "network", "encoding")], axis=0
    )
    ratios = np.divide(result["milliseconds"]["whole"]["rounds"], sums)
    assert result["ratio"] == pytest.approx(np.median(ratios))
    frames = [each["frames"] for each in result["lengths"]]
    assert frames[-1] == 12  # the whole video
    assert all(1e8 < each["peak"] < 1e10 for each in result["lengths"])
    assert f"{result['ratio']:.2f}" in describe(result)
    Path("video.json").write_text(json.dumps(result))
    assert main(["benchmark", "report", "page.md", "video.json", "--plot", "plot.png"]) == 0
    page = Path("page.md").read_text()
    assert "`film.mp4`, 32x24 to 128x96, network small" in page
    assert "![" in page
    with pytest.raises(RLSPError, match=r"film\.mp4: has 12 frames, too few"):
        benchmark_video("film.mp4", model="small.keras", rounds=1, frames=90)
