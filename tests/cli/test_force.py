"""What --force replaces and what is removed: what the program wrote, and nothing of anybody else."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from helpers.cli import fails
from helpers.networks import SMALL, small_model
from helpers.videos import make_video
from rlsp_tf.cli.main import main
from rlsp_tf.errors import RLSPError
from rlsp_tf.exporting.export import OURS as EXPORT
from rlsp_tf.exporting.export import export
from rlsp_tf.media.images import write_png
from rlsp_tf.system.files import atomic_file, atomic_folder, check_apart, named, others_in, remove_files
from rlsp_tf.training.run_folder import COLUMNS, RunFolder
from rlsp_tf.upscaling import work_folder as journal
from rlsp_tf.upscaling.upscale import upscale


@pytest.fixture
def frames(tmp_path, rng):
    """A clip with notes beside it: ``clip/notes.txt`` and ``clip/frames/a.png``, ``b.png``."""
    folder = tmp_path / "clip" / "frames"
    folder.mkdir(parents=True)
    for name in ("a.png", "b.png"):
        write_png(folder / name, rng.integers(0, 256, (12, 16, 3), np.uint8))
    (tmp_path / "clip" / "notes.txt").write_text("of great worth")
    return folder


def everything(folder: Path) -> dict[str, bytes | str | None]:
    """Content of all files below a folder, ``None`` for folders, and where links lead."""
    return {
        path.relative_to(folder).as_posix(): os.fspath(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


def refused(call, folder: Path) -> str:
    """What a call says that fails and leaves everything below a folder as it was."""
    before = everything(folder)
    with pytest.raises(RLSPError) as raised:
        call()
    assert everything(folder) == before
    return str(raised.value)


def test_an_output_that_contains_the_input_is_refused(step, frames, tmp_path):
    clip = frames.parent
    for source in (frames, frames / "a.png"):
        said = refused(lambda source=source: upscale(source, clip, step, force=True), tmp_path)
        assert said == f"{clip}: contains the input {source}; give the output another name."


def test_an_output_in_the_input_is_refused(step, frames, tmp_path):
    for target in (frames / "large", frames / "film.mp4"):
        said = refused(lambda target=target: upscale(frames, target, step), tmp_path)
        assert said == f"{target}: lies in the input {frames}; choose another place."


@pytest.mark.parametrize("make", [os.link, os.symlink])
def test_an_output_that_is_the_input_by_another_name_is_refused(make, step, tmp_path):
    film = make_video(tmp_path / "film.mp4", range(0, 4 * 3600, 3600), size=(32, 24))
    make(film, tmp_path / "other.mp4")
    said = refused(lambda: upscale(film, tmp_path / "other.mp4", step, force=True), tmp_path)
    assert said == f"{tmp_path / 'other.mp4'}: is the input; give the output another name."


def test_an_input_by_way_of_a_link_is_found(frames, tmp_path):
    (tmp_path / "way").symlink_to(frames)
    with pytest.raises(RLSPError, match="clip: contains the input"):
        check_apart(frames.parent, tmp_path / "way")
    check_apart(tmp_path / "clip2", tmp_path / "way")  # as a name, it only begins like the other


def test_force_replaces_frames_of_the_same_names_and_nothing_else(step, frames, tmp_path):
    target = tmp_path / "large"
    upscale(frames, target, step)
    before = everything(target)
    assert before.keys() == {"a.png", "b.png"}
    (target / "b.png").write_bytes(b"spoilt")
    upscale(frames, target, step, force=True)
    assert everything(target) == before
    for name in ("c.png", "a.jpg", "empty"):
        (target / name).mkdir() if name == "empty" else (target / name).touch()
        said = refused(lambda: upscale(frames, target, step, force=True), tmp_path)
        assert said == (
            f"{target}: holds {name}, which this command does not write and --force does not remove; move "
            "it, or give another name."
        )
        (target / name).rmdir() if name == "empty" else (target / name).unlink()
    (target / "b.png").unlink()
    (target / "b.png").symlink_to(tmp_path / "clip" / "notes.txt")
    assert "holds b.png" in refused(lambda: upscale(frames, target, step, force=True), tmp_path)


def test_frames_of_a_video_replace_numbered_frames_only(step, tmp_path):
    film = make_video(tmp_path / "film.mp4", range(0, 4 * 3600, 3600), size=(32, 24))
    target = tmp_path / "large"
    upscale(film, target, step)
    upscale(film, target, step, force=True)
    (target / "holiday.png").touch()
    assert "holds holiday.png" in refused(lambda: upscale(film, target, step, force=True), tmp_path)


def test_what_comes_into_a_folder_while_its_successor_is_written_stays(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "ours.png").touch()

    def write():
        with atomic_folder(target, force=True, ours=named(r"ours\.png")) as part:
            (part / "ours.png").write_bytes(b"new")
            (target / "thesis.txt").write_text("of great worth")

    with pytest.raises(RLSPError, match=r"holds thesis\.txt"):
        write()
    assert everything(tmp_path) == {"out": None, "out/ours.png": b"", "out/thesis.txt": b"of great worth"}


@pytest.mark.parametrize("what", ["file", "folder", "nothing"])
def test_a_link_as_output_is_refused_before_any_work(what, step, frames, tmp_path):
    place = tmp_path / "place"
    if what == "folder":
        place.mkdir()
    elif what == "file":
        place.touch()
    for name in ("link", "link.mp4"):
        (tmp_path / name).symlink_to(place)
        said = refused(lambda name=name: upscale(frames, tmp_path / name, step, force=True), tmp_path)
        assert said == f"{tmp_path / name}: is a link to {place}; give that name instead."


def test_a_pipe_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with (
        pytest.raises(RLSPError, match="is a device or a pipe"),
        atomic_file(tmp_path / "pipe.json", force=True),
    ):
        pass
    assert (tmp_path / "pipe.json").is_fifo()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["degrade", "compare", "demo", "evaluate", "export"])
def test_no_command_removes_what_it_did_not_write(command, frames, tmp_path, capsys):
    model = tmp_path / "net.keras"
    small_model(np.random.default_rng(0), SMALL).save(model)
    clip = frames.parent
    words = {
        "degrade": [frames, clip],
        "compare": [frames, frames, "--out", clip],
        "demo": [clip, "--model", model],
        "evaluate": ["--hr", frames, "--sr", frames, "--report", clip],
        "export": [model, clip, "--format", "saved_model"],
    }[command]
    before = everything(tmp_path)
    said = fails(capsys, command, *words, "--force")
    assert "holds frames" in said or "holds notes.txt" in said or "contains the input" in said
    assert everything(tmp_path) == before


@pytest.mark.slow
def test_an_export_replaces_an_export(tmp_path):
    model = tmp_path / "net.keras"
    small_model(np.random.default_rng(0), SMALL).save(model)
    for _ in range(2):
        export(model, tmp_path / "saved", format="saved_model", force=True)
    assert [*others_in(tmp_path / "saved", EXPORT)] == []
    (tmp_path / "package.onnx.json").write_text(json.dumps({"name": "of another program"}))
    said = refused(lambda: export(model, tmp_path / "package.onnx", format="onnx", force=True), tmp_path)
    assert "package.onnx.json: is no card of an export" in said


def test_results_do_not_replace_what_they_are_of(frames, tmp_path, capsys):
    image = frames / "a.png"
    before = everything(tmp_path)
    words = ("evaluate", "--hr", image, "--sr", image, "--json", image, "--force")
    assert "a.png: is the input; give the output another name." in fails(capsys, *words)
    assert everything(tmp_path) == before


def test_a_run_of_training_does_not_begin_over_files_of_anybody_else(frames, tmp_path, capsys):
    out = tmp_path / "run"
    out.mkdir()
    (out / "best.keras").write_text("of great worth")
    with pytest.raises(
        RLSPError, match=r"run: holds best\.keras, which would be replaced, but no config\.json"
    ):
        RunFolder(out).check_free()
    (out / "best.keras").unlink()
    (out / "log.csv").write_text(",".join(COLUMNS) + "\n")
    RunFolder(out).check_free()
    (out / "log.csv").write_text("time,temperature\n")
    with pytest.raises(RLSPError, match=r"run: holds log\.csv"):
        RunFolder(out).check_free()
    said = fails(capsys, "train", "--data", frames.parent, "--out", frames.parent / "run")
    assert f"{frames.parent / 'run'}: lies in the input {frames.parent}; choose another place." in said


def work_folder(path: Path) -> Path:
    """A work folder with a finished segment, a state and what a killed run has left half written."""
    path.mkdir()
    run = {"version": 1, "run": {}, "rows": None}
    segment = {"name": "000000.mp4", "frames": 2, "size": 3, "steps": 2, "times": [[0, 1], [1, 1]]}
    (path / journal.JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in (run, segment)))
    for name in ("lock", "state-000001.npz", "000000.mp4", "000001.mp4", ".large.7-0123abcd.part.mp4"):
        (path / name).touch()
    (path / "000002").mkdir()
    (path / "000002" / "frame.png").touch()
    return path


def clean(folder: Path, capsys) -> str:
    assert main(["clean", str(folder), "--older-than", "0"]) == 0
    return capsys.readouterr().out


def test_all_that_a_run_leaves_is_cleaned_away(tmp_path, capsys):
    work_folder(tmp_path / "large.mp4.rlsp")
    assert clean(tmp_path, capsys) == f"removed {tmp_path / 'large.mp4.rlsp'}: 2 frames, 0.0 MB\n"
    assert everything(tmp_path) == {}


def test_of_a_work_folder_only_what_runs_name_is_removed(tmp_path, capsys):
    work = work_folder(tmp_path / "large.mp4.rlsp")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "frame.png").write_text("of great worth")
    (work / "thesis.txt").write_text("of great worth")
    (work / "empty").mkdir()
    (work / "000003").symlink_to(outside)
    (work / "000004.mp4").symlink_to(outside / "frame.png")
    said = clean(tmp_path, capsys)
    assert f"{work}: also holds files that rlsp upscale did not write; they are kept\n" in said
    assert everything(tmp_path).keys() == {
        "outside",
        "outside/frame.png",
        *(f"large.mp4.rlsp{name}" for name in ("", "/thesis.txt", "/empty", "/000003", "/000004.mp4")),
    }


NO_JOURNALS = {
    "a lock alone beside a thesis": {"lock": "", "thesis.txt": "of great worth"},
    "a lock with something in it": {"lock": "yarn", "000000.mp4": ""},
    "another program's journal": {"lock": "", "journal.jsonl": '{"entry": 1}\n', "thesis.txt": ""},
    "a journal that is a text": {"journal.jsonl": "Dear diary", "000000.mp4": ""},
    "another program's plan": {"plan.json": '{"run": "a mile"}', "000000.mp4": ""},
    "numbered files": {"000000.mp4": "of great worth"},
}


@pytest.mark.parametrize("content", NO_JOURNALS.values(), ids=NO_JOURNALS)
def test_a_folder_without_a_journal_of_ours_is_left_alone(content, step, frames, tmp_path, capsys):
    theirs = tmp_path / "large.rlsp"
    theirs.mkdir()
    for name, text in content.items():
        (theirs / name).write_text(text)
    before = everything(tmp_path)
    assert clean(tmp_path, capsys) == ""
    assert everything(tmp_path) == before
    said = refused(lambda: upscale(frames, tmp_path / "large", step), tmp_path)
    assert said == f"{theirs}: is in the way of the work folder, which needs this name; rename or move it."


@pytest.mark.parametrize("what", ["folder", "lock", "journal.jsonl"])
def test_a_work_folder_by_way_of_a_link_is_none(what, step, frames, tmp_path, capsys):
    work = work_folder(tmp_path / "elsewhere")
    if what == "folder":
        (tmp_path / "large.rlsp").symlink_to(work)
    else:
        other = work_folder(tmp_path / "large.rlsp")
        (other / what).unlink()
        (other / what).symlink_to(work / what)
    before = everything(tmp_path)
    assert clean(tmp_path, capsys) == ""
    assert everything(tmp_path) == before
    assert "is in the way" in refused(lambda: upscale(frames, tmp_path / "large", step), tmp_path)


def test_what_a_run_leaves_that_ended_before_its_first_segment_is_gone_on_with(step, frames, tmp_path):
    work = tmp_path / "large.rlsp"
    (work / "000000").mkdir(parents=True)
    (work / "lock").touch()
    (work / "000000" / "a.png").touch()
    upscale(frames, tmp_path / "large", step)
    assert not work.exists()


def test_removing_files_follows_no_link(tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    (outside / "x").touch()
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "x").touch()
    (folder / "link").symlink_to(outside)
    remove_files(folder, lambda path: True)
    assert everything(tmp_path).keys() == {"folder", "folder/link", "outside", "outside/x"}
