"""``rlsp preview`` as a user meets it."""

import json

import av
import imageio.v3 as iio
import numpy as np
import pytest

from helpers.cli import fails
from helpers.networks import small_model
from helpers.videos import frame_times, make_video
from rlsp_tf.cli.main import main
from rlsp_tf.evaluation.side_by_side import Canvas, region_of_difference
from rlsp_tf.network.weights import load_model
from rlsp_tf.upscaling.preview import preview_frame


@pytest.fixture
def model(tmp_path, rng):
    small_model(rng).save(tmp_path / "small.keras")
    return tmp_path / "small.keras"


@pytest.fixture
def film(tmp_path, monkeypatch):
    """A film in a folder of its own, and another folder that commands run in."""
    (tmp_path / "films").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return make_video(tmp_path / "films" / "holiday.mkv", range(0, 50 * 3600, 3600), audio=["aac"])


def preview(*arguments):
    return main(["preview", *map(str, arguments)])


def test_a_moment_becomes_a_picture_in_the_current_folder(film, model, tmp_path, capsys):
    assert preview(film, "--at", "0:01.2", "--model", model) == 0
    said = capsys.readouterr()
    moment = preview_frame(film, load_model(model, precision="float32"), at=1.2)
    size = moment.after.shape[:2]
    region = region_of_difference([(moment.before, moment.after)], size, 4)
    canvas = Canvas(size, region, 4, ("before (bicubic)", "after (RLSP 3-6)"))
    picture = iio.imread(tmp_path / "here" / "holiday-preview.png")
    # The precision that is fastest may be another one than float32.
    assert np.abs(picture.astype(int) - canvas.draw([moment.before, moment.after])).mean() < 1
    assert said.out == ""
    assert f"{film} at 0:01.200, computed on " in said.err
    assert "holiday-preview.png: " in said.err
    assert [*(tmp_path / "here").iterdir()] == [tmp_path / "here" / "holiday-preview.png"]


def test_nothing_is_replaced_without_force(film, model, tmp_path, capsys):
    target = tmp_path / "here" / "holiday-preview.png"
    target.write_text("mine")
    assert "holiday-preview.png: exists already" in fails(capsys, "preview", film, "--model", model)
    assert target.read_text() == "mine"
    assert preview(film, "--model", model, "--force") == 0
    assert iio.imread(target).ndim == 3


def test_some_seconds_become_a_video(film, model, tmp_path):
    target = tmp_path / "new" / "folder" / "moment.mp4"
    assert preview(film, "--at", "1", "--seconds", "0.4", "--out", target, "--model", model) == 0
    assert frame_times(target) == [pytest.approx(index / 25) for index in range(10)]
    with av.open(target) as container:
        assert container.streams.video[0].width > 2 * 4 * 64
        assert not container.streams.audio  # which begins elsewhere


def test_seconds_end_with_the_film(film, model, tmp_path):
    assert preview(film, "--at", "1.9", "--seconds", "60", "--model", model) == 0
    assert len(frame_times(tmp_path / "here" / "holiday-preview.mp4")) == 3


def test_a_folder_of_images_and_an_image(model, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "frames"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    for index in range(4):
        iio.imwrite(folder / f"{index}.png", np.full((9, 14, 3), 40 * index, np.uint8))
    assert preview(folder, "--at", "0.08", "--model", model, "--json") == 0
    said = json.loads(capsys.readouterr().out)["results"][0]
    assert (said["output"], said["at"], said["frames"]) == ("frames-preview.png", pytest.approx(0.08), 1)
    assert preview(folder / "1.png", "--model", model) == 0
    assert iio.imread("1-preview.png").shape[1] >= 2 * 56


@pytest.mark.parametrize("moment", ["1:2:3:4", "-1", "x", "1:x", "1:75", ""])
def test_a_wrong_time_is_wrong_usage(moment, capsys):
    with pytest.raises(SystemExit, match="2"):
        preview("film.mp4", f"--at={moment}")
    said = capsys.readouterr().err
    assert "expected a time such as 83.5, 1:23.5 or 01:02:03" in said
    assert said.startswith("usage: rlsp preview")


def test_wrong_names_are_refused_before_the_work(film, model, tmp_path, capsys):
    common = ("preview", film, "--model", model, "--out")
    assert "add --seconds 3" in fails(capsys, *common, "x.mp4", code=2)
    assert "end in .png" in fails(capsys, *common, "x.jpg", code=2)
    assert "leave it out" in fails(capsys, *common, "x.png", "--seconds", "2", code=2)
    assert "no such file" in fails(capsys, "preview", "none.mp4", "--model", model, "--out", "new/x.png")
    assert "has no frame at 3:00.000" in fails(capsys, *common, "new/x.png", "--at", "3:00")
    assert not [*(tmp_path / "here").iterdir()]
