"""What commands say before and after a run, to people and to programs."""

import json

import pytest

from helpers.cli import fails
from helpers.commands import run_command
from helpers.networks import small_model
from helpers.videos import make_video
from rlsp_tf.cli.main import main
from rlsp_tf.system import progress
from rlsp_tf.system.quantities import megabytes
from rlsp_tf.upscaling import estimate


@pytest.fixture
def model(tmp_path, rng):
    small_model(rng).save(tmp_path / "small.keras")
    return str(tmp_path / "small.keras")


@pytest.fixture
def film(tmp_path):
    return make_video(tmp_path / "film.mkv", range(0, 30 * 3600, 3600), audio=["aac"])


def test_a_run_is_announced_and_summed_up(film, model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(estimate, "SHORTEST", 0)
    target = tmp_path / "large.mp4"
    assert main(["upscale", str(film), str(target), "--model", model]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    device, before, after, *notes = said.err.splitlines()
    assert device.startswith("rlsp: computing on ")
    assert before.startswith(
        f"rlsp: {target}: 256x192, 25 frames/s, 30 frames, libx264, with sound (aac); takes about "
    )
    assert after.startswith(f"rlsp: {target}: {megabytes(target.stat().st_size)}, 30 frames in ")
    assert after.endswith(" frames/s)")
    assert all(note.startswith("rlsp: note: ") for note in notes)


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_a_processor_that_multiplies_bytes_faster_is_made_use_of(
    film, model, tmp_path, capsys, monkeypatch, precision
):
    monkeypatch.setattr("rlsp_tf.inference.hardware.int8_is_fastest", lambda: True)
    monkeypatch.setattr("rlsp_tf.inference.load.fastest_precision", lambda: "float32")
    words = ["upscale", str(film), str(tmp_path / "large.mkv"), "--model", model, "--precision", precision]
    assert main(words) == 0
    device = capsys.readouterr().err.splitlines()[0]
    assert ("--precision int8 begins later and takes less than half the time" in device) == (
        precision == "auto"
    )


def test_quiet_is_silent_and_verbose_names_versions(film, model, tmp_path, capsys):
    assert main(["upscale", str(film), str(tmp_path / "a.mkv"), "--model", model, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["upscale", str(film), str(tmp_path / "b.mkv"), "--model", model, "--verbose"]) == 0
    said = capsys.readouterr().err
    assert "tensorflow 2." in said
    assert "network 3-6; SHA-256 " in said
    assert "--crf 18" in said


def test_programs_get_one_object(film, model, tmp_path, capsys):
    out = tmp_path / "large"
    films = [str(film), str(make_video(tmp_path / "two.mp4", range(0, 2 * 3600, 3600)))]
    assert main(["upscale", *films, "--out", str(out), "--model", model, "--json", "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    value = json.loads(said.out)
    assert [each["input"] for each in value["results"]] == films
    assert [each["output"] for each in value["results"]] == [f"{out}/film.mkv", f"{out}/two.mp4"]
    assert [each["frames"] for each in value["results"]] == [30, 2]
    assert [each["bytes"] for each in value["results"]] == [
        (out / name).stat().st_size for name in ("film.mkv", "two.mp4")
    ]
    assert value["failed"] == []
    assert value["notes"]
    assert value["versions"]["rlsp_tf"]


def test_what_failed_among_several_is_told_to_programs_too(film, model, tmp_path, capsys):
    paths = [str(film), str(tmp_path / "none.mp4")]
    assert main(["upscale", *paths, "--out", str(tmp_path / "out"), "--model", model, "--json"]) == 1
    said = capsys.readouterr()
    value = json.loads(said.out)
    assert len(value["results"]) == 1
    assert value["results"][0]["expected"]["codec"] == "libx264"
    assert value["failed"] == [f"{tmp_path / 'none.mp4'}: no such file; check the path."]
    assert said.err.splitlines()[-1] == f"rlsp: error: {value['failed'][0]}"


def test_standard_output_is_for_one_thing(film, model, capsys):
    assert "leave out one of them" in fails(capsys, "upscale", film, "-", "--model", model, "--json", code=2)


def test_degrade_and_compare_say_what_they_made_and_assumed(film, tmp_path, capsys):
    assert main(["degrade", str(film), str(tmp_path / "lr.mkv")]) == 0
    said = capsys.readouterr().err
    assert f"rlsp: {tmp_path / 'lr.mkv'}: " in said
    assert "30 frames in " in said
    assert "rlsp: note: " in said
    assert "colour matrix" in said
    pair = [str(film), str(tmp_path / "lr.mkv")]
    assert main(["compare", *pair, "--out", str(tmp_path / "both.mkv"), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["results"][0]["frames"] == 30
    assert "both.mkv: " in said.err


def commands(tmp_path, film, model):
    vid = ["--model", model, "--hr", str(film)]
    return {
        "upscale": ["upscale", str(film), str(tmp_path / "large.mkv"), "--model", model],
        "folder": ["upscale", str(film), str(tmp_path / "large"), "--model", model],
        "degrade": ["degrade", str(film), str(tmp_path / "lr")],
        "compare": ["compare", str(film), str(film), "--out", str(tmp_path / "both.mkv")],
        "evaluate": ["evaluate", *vid],
        "preview": [
            "preview",
            str(film),
            "--seconds",
            "1",
            "--out",
            str(tmp_path / "p.mkv"),
            "--model",
            model,
        ],
    }


@pytest.mark.parametrize("name", ["upscale", "folder", "degrade", "compare", "evaluate", "preview"])
def test_a_log_gets_lines(name, film, model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "FIRST", 0)
    monkeypatch.setattr(progress, "EVERY", 0)
    assert main(commands(tmp_path, film, model)[name]) == 0
    said = capsys.readouterr().err
    assert "\r" not in said
    assert "\x1b" not in said
    assert any(line.endswith("0 of 30 frames") or " of 25 frames" in line for line in said.splitlines()), said


def test_a_process_with_a_file_for_standard_error(film, model, tmp_path):
    with (tmp_path / "log").open("wb") as log:
        run_command(commands(tmp_path, film, model)["upscale"], stderr=log, check=True)
    said = (tmp_path / "log").read_bytes()
    assert b"\r" not in said
    assert b"30 frames in " in said


def test_an_unknown_option_shows_the_usage_of_its_command(capsys):
    for arguments, usage in (
        (["degrade", "a", "b", "--bogus"], "usage: rlsp degrade "),
        (["upscale", "a", "b", "--bogus"], "usage: rlsp upscale INPUT OUTPUT"),
        (["benchmark", "video", "a", "--bogus"], "usage: rlsp benchmark video "),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        said = capsys.readouterr().err
        assert said.startswith(usage)
        assert "unrecognized arguments: --bogus" in said


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("7-64", "rlsp-convert download 7-64 weights/"),
        ("weights/rlsp-7-128.keras", "rlsp-convert download 7-128 weights/"),
        ("mine", "rlsp-convert download 7-64 weights/"),
    ],
)
def test_weights_that_are_not_there_can_be_downloaded(name, command, film, tmp_path, capsys):
    sentence = fails(capsys, "upscale", film, tmp_path / "new" / "large.mkv", "--model", name)
    assert f"{name}: no such file or weight set" in sentence
    assert command in sentence
    assert not (tmp_path / "new").exists()
