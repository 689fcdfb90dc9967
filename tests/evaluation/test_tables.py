"""What becomes of results: tables, JSON, CSV, Markdown, a page, and what an error leaves of them."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from helpers.networks import SMALL, small_model
from helpers.synthetic import make_clip
from rlsp_tf.cli.main import build_parser, main
from rlsp_tf.errors import RLSPError
from rlsp_tf.evaluation.evaluate import evaluate
from rlsp_tf.evaluation.tables import (
    PUBLISHED,
    VID4,
    text_tables,
    write_csv,
    write_markdown,
    write_results_json,
)
from rlsp_tf.media.degradations import degradation_named
from rlsp_tf.network.model import POLICIES
from rlsp_tf.pixels.metrics import METRICS, PROTOCOLS

INFINITY = float("inf")


def write_frames(folder: Path, clip: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for index, frame in enumerate(clip):
        iio.imwrite(folder / f"{index:04d}.png", frame)
    return folder


@pytest.fixture(scope="module")
def hr(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("vid4") / "hr"
    for seed, name in enumerate(VID4):
        write_frames(folder / name, make_clip(5 + seed, 40, 44, seed))
    return folder


@pytest.fixture(scope="module")
def results(hr) -> list:
    """Under two protocols: bicubic, a frame too bright by one, and the truth itself."""
    bright = hr.parent / "bright | by one"
    for name in VID4:
        frames = np.stack([iio.imread(path) for path in sorted((hr / name).iterdir())])
        write_frames(bright / name, np.clip(frames.astype(int) + 1, 0, 255).astype(np.uint8))
    protocols = [PROTOCOLS["rlsp"], PROTOCOLS["full"]]
    return evaluate(hr, sr=[bright, hr], protocols=protocols, command="rlsp evaluate --sr 'bright | by one'")


def no_such_constant(name):
    raise ValueError(f"{name} is not JSON")


def test_json_is_legal_and_complete(results, tmp_path):
    write_results_json(tmp_path / "two.json", results)
    read = json.loads((tmp_path / "two.json").read_text("utf-8"), parse_constant=no_such_constant)
    perfect = read[0]["models"][2]
    assert perfect["mean"]["psnr_y"] == "inf"
    assert perfect["sequences"][0]["frames"][0] == {
        "index": 2,
        "psnr_y": "inf",
        "ssim_y": 1.0,
        "psnr_rgb": "inf",
        "temporal_psnr_y": None,
    }
    assert json.loads(json.dumps(read).replace('"inf"', "Infinity")) == results

    write_results_json(tmp_path / "one.json", results[1:])
    one = json.loads((tmp_path / "one.json").read_text("utf-8"))
    assert one == read[1]
    assert one.keys() >= {"protocol", "models", "versions", "command"}
    assert one["models"][0].keys() == {"name", "config", "sha256", "precision", "mean", "sequences"}


def test_csv_has_every_number_once(results, tmp_path):
    write_csv(tmp_path / "all.csv", results)
    with (tmp_path / "all.csv").open(encoding="utf-8", newline="") as file:
        lines = {tuple(list(line.values())[:6]): line for line in csv.DictReader(file)}
    expected = {}
    for result in results:
        for model in result["models"]:
            key = (result["protocol"]["name"], "paper", model["name"], model["precision"] or "")
            expected[(*key, "", "")] = model["mean"]
            for sequence in model["sequences"]:
                expected[(*key, sequence["name"], "")] = sequence
                for frame in sequence["frames"]:
                    expected[(*key, sequence["name"], str(frame["index"]))] = frame
    assert lines.keys() == expected.keys()
    for key, numbers in expected.items():
        for metric in METRICS:
            text = lines[key][metric]
            assert (float(text) if text else None) == numbers[metric]


def test_tables_are_aligned_and_name_their_protocol(results):
    rlsp, full = text_tables(results).split("\n\n")
    assert rlsp.startswith("Protocol rlsp: 8 pixels cropped at every edge, first and last 2 frames dropped,")
    assert full.startswith("Protocol full: no crop, all frames,")
    _, degradation, *table, legend = full.splitlines()
    assert degradation == "Degradation paper: Gaussian blur of 1.5 pixels, every 4th pixel."
    assert len({len(line) for line in table}) == 1
    assert legend == "PSNR [dB] / SSIM of luma."
    rows = {re.split(r"\s{2,}", line)[0]: re.split(r"\s{2,}", line.strip())[1:] for line in table[1:]}
    assert list(rows) == [*VID4, "mean", "mean RGB", "mean temporal"]
    bright = results[1]["models"][1]
    assert rows["mean"][1] == f"{bright['mean']['psnr_y']:.3f} / {bright['mean']['ssim_y']:.4f}"
    assert rows["mean"][2] == "∞ / 1.0000"
    assert rows["mean RGB"][1] == f"{bright['mean']['psnr_rgb']:.3f}"


def test_published_numbers_stand_beside_vid4_under_their_protocol(results, hr):
    rlsp, full = text_tables(results).split("\n\n")
    assert "RLSP 7-128 (published)" in rlsp
    assert "27.46" in rlsp
    assert "published" not in full
    (other,) = evaluate(hr / "city", sr=[hr / "city"])
    assert "published" not in text_tables([other])
    coded = {**results[0], "degradation": degradation_named("crf23").to_dict() | {"description": "crf23"}}
    assert "published" not in text_tables([coded])
    assert {entry.protocol for entry in PUBLISHED} <= PROTOCOLS.keys()
    assert {name for entry in PUBLISHED for name in entry.cells} <= {*VID4, "mean"}


def test_markdown_has_the_same_cells_and_says_how_they_came_about(results, tmp_path):
    write_markdown(tmp_path / "RESULTS.md", results)
    page = (tmp_path / "RESULTS.md").read_text("utf-8")
    assert "```sh\nrlsp evaluate --sr 'bright | by one'\n```" in page
    tables = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]
    cells = [[re.split(r"(?<!\\) ?\| ?", line)[1:-1] for line in table] for table in tables]
    assert all(len({len(row) for row in table}) == 1 for table in cells)
    assert cells[0][0][:4] == ["", "bicubic", r"bright \| by one", "hr"]
    for table, text in zip(cells, text_tables(results).split("\n\n"), strict=False):
        for row, line in zip(table[2:], text.splitlines()[3:], strict=False):
            assert row == re.split(r"\s{2,}", line.strip())
    for protocol in ("rlsp", "full"):
        assert f"## Protocol `{protocol}`" in page
        assert f"Source: {PROTOCOLS[protocol].source}." in page
    assert "RLSP 7-128, RLSP 7-256: as published by Fuoli et al. 2019 (arXiv 1909.08080)." in page


def test_nothing_is_replaced_without_force(results, tmp_path):
    path = tmp_path / "there"
    for write in (write_results_json, write_csv, write_markdown):
        path.write_text("mine")
        with pytest.raises(RLSPError, match="there: exists already"):
            write(path, results)
        assert path.read_text() == "mine"
        write(path, results, force=True)
        assert path.read_text("utf-8").startswith(
            ('[\n {\n  "protocol"', "protocol,degradation", "# Results")
        )


# The command


def run(*arguments):
    return main(["evaluate", *map(str, arguments)])


@pytest.fixture
def model(tmp_path, rng) -> Path:
    small_model(rng).save(tmp_path / "small.keras")
    return tmp_path / "small.keras"


def test_the_command_prints_and_writes_all(hr, model, tmp_path, capsys):
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "csv", "markdown")}
    options = [part for kind, path in files.items() for part in (f"--{kind}", path)]
    assert (
        run("--model", model, "--hr", hr, "--protocol", "duf", *options, "--report", tmp_path / "page") == 0
    )
    printed = capsys.readouterr().out
    (expected,) = evaluate(hr, models=[model], protocols=[PROTOCOLS["duf"]])
    assert printed == text_tables([expected]) + "\n"
    written = json.loads(files["json"].read_text("utf-8"))
    assert written["models"] == json.loads(json.dumps(expected["models"]))
    assert files["csv"].read_text("utf-8").count("\n") == 1 + 2 * (1 + 4 + 26)
    assert "## Protocol `duf`" in files["markdown"].read_text("utf-8")
    assert "small" in (tmp_path / "page" / "index.html").read_text("utf-8")


def test_several_protocols_and_precisions_in_one_run(hr, model, capsys):
    arguments = [
        "--protocol",
        "full",
        "--protocol",
        "duf",
        "--precision",
        "float32",
        "--precision",
        "bfloat16",
    ]
    assert run("--model", model, "--hr", hr / "walk", *arguments) == 0
    full, duf = capsys.readouterr().out.split("\n\n")
    assert full.startswith("Protocol full")
    assert duf.startswith("Protocol duf")
    assert re.search(r"bicubic +small float32 +small bfloat16\n", full)


def test_several_degradations_have_a_table_each_and_one_of_means(hr, model, tmp_path, capsys):
    out = tmp_path / "out.md"
    names = ("paper", "crf30", "mpeg4-crf30")
    arguments = [part for name in names for part in ("--degradation", name)]
    assert run("--model", model, "--hr", hr / "walk", *arguments, "--markdown", out) == 0
    *tables, together = capsys.readouterr().out.strip().split("\n\n")
    heading, header, *rows = together.splitlines()
    assert (heading, header.split()) == ("Means, protocol rlsp:", ["degradation", "bicubic", "small"])
    assert [row.split()[0] for row in rows] == list(names)
    for name, table, row in zip(names, tables, rows, strict=True):
        (alone,) = evaluate(hr / "walk", models=[model], degradation=degradation_named(name))
        assert table == text_tables([alone])
        cells = [
            f"{mean['psnr_y']:.3f} / {mean['ssim_y']:.4f}" for mean in (m["mean"] for m in alone["models"])
        ]
        assert re.split(r"\s{2,}", row) == [name, *cells]
    page = out.read_text("utf-8")
    assert page.index("## Means, protocol `rlsp`") < page.index("degradation `paper`")
    assert [f"degradation `{name}`" in page for name in names] == [True] * 3
    assert run("--model", model, "--hr", hr / "walk", *arguments, "--report", tmp_path / "page") == 2
    assert "--report shows one degradation; give --degradation only once." in capsys.readouterr().err


def test_an_error_leaves_the_other_sequences(hr, tmp_path, capsys):
    for name in VID4:
        write_frames(tmp_path / "sr" / name, [iio.imread(path) for path in sorted((hr / name).iterdir())])
    broken = tmp_path / "sr" / "foliage" / "0001.png"
    broken.write_bytes(broken.read_bytes()[:-100])
    out = tmp_path / "out.json"
    assert run("--sr", tmp_path / "sr", "--hr", hr, "--json", out, "--report", tmp_path / "page") == 1
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert str(broken) in errors[0]
    assert "Not measured: foliage; the means do not include them." in captured.out
    written = json.loads(out.read_text("utf-8"))
    assert written["unfinished"] == ["foliage"]
    measured = [sequence["name"] for sequence in written["models"][1]["sequences"]]
    assert measured == ["calendar", "city", "walk"]
    assert (tmp_path / "page" / "index.html").is_file()


@pytest.mark.parametrize("option", ["--json", "--csv", "--markdown", "--report"])
def test_a_target_that_cannot_be_written_is_found_before_the_work(hr, tmp_path, option, capsys):
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for target in ("page", "file") if option == "--report" else ("file",):
        assert run("--sr", hr, "--hr", hr, option, tmp_path / target) == 1
        assert re.search(
            f"{target}: (exists .*another name|is a file; give the name of a folder)", capsys.readouterr().err
        )
    assert run("--sr", hr, "--hr", hr, option, tmp_path / "file" / "out") == 1
    captured = capsys.readouterr()
    assert "file is a file, not a folder; choose another place" in captured.err
    assert captured.out == ""
    assert (tmp_path / "file").read_text() == (tmp_path / "page" / "index.html").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--hr", "x"], "nothing to measure; give --model or --sr"),
        (["--hr", "x", "--sr", "y", "--lr", "z", "--degradation", "crf20"], "leave one of them out"),
        (["--hr", "x", "--sr", "y", "--precision", "float32"], "--precision is for models; give --model"),
        (["--hr", "x", "--sr", "y", "--warm-start", "2"], "--warm-start is for models; give --model"),
        (["--hr", "x", "--sr", "y", "--sr", "y"], "--sr y is given twice"),
        (
            ["--hr", "x", "--sr", "y", "--protocol", "rlsp", "--protocol", "duf", "--report", "z"],
            "one protocol",
        ),
    ],
)
def test_wrong_usage_exits_with_2(arguments, sentence, capsys):
    assert run(*arguments) == 2
    assert sentence in capsys.readouterr().err


def test_models_of_any_scale_have_their_own_low_resolution(hr, tmp_path, rng, capsys):
    small_model(rng, replace(SMALL, scale=2)).save(tmp_path / "twice.keras")
    assert run("--model", tmp_path / "twice.keras", "--hr", hr / "city", "--json", tmp_path / "out.json") == 0
    twice = json.loads((tmp_path / "out.json").read_text("utf-8"))["models"][0]["mean"]["psnr_y"]
    (four,) = evaluate(hr / "city", sr=[hr / "city"])
    assert twice > four["models"][0]["mean"]["psnr_y"] + 2


def test_the_command_knows_every_protocol_and_precision():
    parser = build_parser()._subparsers._group_actions[0].choices["evaluate"]
    choices = {action.dest: action.choices for action in parser._actions}
    assert set(choices["protocol"]) == PROTOCOLS.keys()
    assert set(choices["precision"]) == {*POLICIES, "int8"}
