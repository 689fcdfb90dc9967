"""Folders that are missing for an output are made by every command, and by none if its inputs are wrong."""

from pathlib import Path

import pytest

from helpers.networks import small_model
from helpers.synthetic import make_clip
from helpers.videos import make_video
from rlsp_tf.cli.main import main
from rlsp_tf.converters.cli import main as convert
from rlsp_tf.errors import RLSPError
from rlsp_tf.media.images import write_png
from rlsp_tf.system.files import atomic_file, atomic_folder, made_folder
from rlsp_tf.training.run_folder import RunFolder


@pytest.fixture
def inputs(tmp_path, rng):
    """What commands read: a film, a folder of images, a network, and results of a benchmark."""
    folder = tmp_path / "in"
    (folder / "hr").mkdir(parents=True)
    for index, image in enumerate(make_clip(5, 40, 44, 1)):
        write_png(folder / "hr" / f"{index}.png", image)
    make_video(folder / "film.mkv", range(0, 3 * 3600, 3600))
    small_model(rng).save(folder / "small.keras")
    return folder


def commands(source, out):
    """Every command with an output: the arguments, and what it writes."""
    model = ["--model", source / "small.keras"]
    film, hr = source / "film.mkv", source / "hr"
    evaluated = ["evaluate", *model, "--hr", hr]
    return {
        "video": (["upscale", film, out / "a" / "x.mkv", *model], out / "a" / "x.mkv"),
        "images": (["upscale", hr, out / "a" / "x", *model], out / "a" / "x"),
        "image": (["upscale", hr / "0.png", out / "a" / "x.png", *model], out / "a" / "x.png"),
        "several": (["upscale", film, "--out", out / "a", *model], out / "a" / "film.mkv"),
        "preview": (["preview", film, "--out", out / "a" / "x.png", *model], out / "a" / "x.png"),
        "degraded": (["degrade", hr, out / "a" / "lr"], out / "a" / "lr"),
        "degraded video": (["degrade", film, out / "a" / "lr.mkv"], out / "a" / "lr.mkv"),
        "still": (["compare", hr, hr, "--out", out / "a" / "x.png"], out / "a" / "x.png"),
        "compared": (["compare", film, film, "--out", out / "a" / "x.mkv"], out / "a" / "x.mkv"),
        "json": ([*evaluated, "--json", out / "a" / "x.json"], out / "a" / "x.json"),
        "csv": ([*evaluated, "--csv", out / "a" / "x.csv"], out / "a" / "x.csv"),
        "markdown": ([*evaluated, "--markdown", out / "a" / "x.md"], out / "a" / "x.md"),
        "report": ([*evaluated, "--report", out / "a" / "page"], out / "a" / "page" / "index.html"),
        "export": (
            ["export", source / "small.keras", out / "a" / "x.onnx", "--format", "onnx"],
            out / "a" / "x.onnx",
        ),
        "checkpoint": (["tf1", source / "small.keras", out / "a" / "x"], out / "a" / "x.index"),
    }


NAMES = [*commands(Path(), Path())]


def run(arguments):
    return (convert if arguments[0] == "tf1" else main)([*map(str, arguments)])


@pytest.mark.parametrize("name", NAMES)
def test_folders_are_made(name, inputs, tmp_path):
    arguments, result = commands(inputs, tmp_path / "new")[name]
    assert run(arguments) == 0
    assert result.exists()
    assert not [*(tmp_path / "new").rglob("*.part*")]


@pytest.mark.parametrize("name", NAMES)
def test_none_are_made_if_inputs_are_wrong(name, inputs, tmp_path, capsys):
    for each in [*inputs.rglob("*")]:
        if each.is_file():
            each.write_bytes(b"damaged")
    arguments, _ = commands(inputs, tmp_path / "new")[name]
    assert run(arguments) == 1
    assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_training_makes_its_folder(tmp_path):
    run_folder = RunFolder(tmp_path / "runs" / "mine")
    assert run_folder.path.is_dir()


def test_a_training_without_clips_makes_none(inputs, tmp_path, capsys):
    out = tmp_path / "runs" / "mine"
    for data in (tmp_path / "none", inputs / "small.keras"):
        assert run(["train", "--data", data, "--out", out, "--cache", tmp_path / "cache"]) == 1
    assert not out.parent.exists()


def test_what_was_made_for_nothing_is_removed(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()

    def fail(make, folder, name=None):
        with make(folder):
            assert (kept / "a" / "b").is_dir()
            if name:
                (kept / "a" / name).touch()
            raise KeyError

    for make in (atomic_file, atomic_folder):
        with pytest.raises(KeyError):
            fail(make, kept / "a" / "b" / "c")
        assert not [*kept.iterdir()]
    with pytest.raises(KeyError):
        fail(made_folder, kept / "a" / "b", "mine")
    assert [path.name for path in (kept / "a").iterdir()] == ["mine"]
    assert kept.is_dir()


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(RLSPError, match=r"file is a file, not a folder; choose another place"),
        atomic_file(tmp_path / "file" / "a" / "b.png"),
    ):
        pass
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]
