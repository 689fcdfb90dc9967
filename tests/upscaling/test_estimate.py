"""What a run is said to make is what it makes."""

import tempfile

import av
import pytest

from helpers.videos import make_video
from rlsp_tf.errors import RLSPError
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.upscaling import estimate as module
from rlsp_tf.upscaling.estimate import estimate
from rlsp_tf.upscaling.upscale import Recipe, upscale


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Even small clips are measured, with temporary files in a folder that is empty in the end."""
    monkeypatch.setattr(module, "SHORTEST", 0)
    room = tmp_path / "temporary"
    room.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(room))
    yield
    assert not [*room.iterdir()]


def test_what_is_said_is_what_comes(tmp_path, step, measured):
    film = make_video(tmp_path / "film.mkv", range(0, 100 * 3600, 3600), audio=["aac"])
    target = tmp_path / "large.mp4"
    found = estimate(film, target, step)
    assert not target.exists()
    assert not [*tmp_path.glob("*.rlsp")]
    upscale(film, target, step)
    with av.open(target) as container:
        stream = container.streams.video[0]
        assert (found.width, found.height) == (stream.width, stream.height)
        assert found.rate == pytest.approx(float(stream.average_rate))
        assert found.frames == stream.frames == 100
        assert [each.codec_context.name for each in container.streams.audio] == ["aac"]
    assert found.codec == "libx264"
    assert found.along == ("sound (aac)",)
    assert "CPU" in found.device or "GPU" in found.device
    assert found.precision == "float32"
    assert found.seconds > 0
    # Half to twice, of clips that look alike throughout.
    assert 0.5 < found.size / target.stat().st_size < 2
    assert found.to_dict()["path"] == str(target)


def test_a_folder_of_images(tmp_path, step, measured):
    film = make_video(tmp_path / "film.mkv", range(0, 12 * 3600, 3600))
    found = estimate(film, tmp_path / "large", step)
    upscale(film, tmp_path / "large", step)
    size = sum(file.stat().st_size for file in (tmp_path / "large").iterdir())
    assert 0.5 < found.size / size < 2
    assert (found.codec, found.rate, found.along) == ("png", None, ())


def test_one_and_two_frames(tmp_path, step, measured):
    for count in (1, 2):
        film = make_video(tmp_path / f"{count}.mkv", range(0, count * 3600, 3600))
        assert estimate(film, tmp_path / "large.mkv", step).size > 0


def test_short_clips_are_not_measured(tmp_path, step):
    film = make_video(tmp_path / "film.mkv", range(0, 3 * 3600, 3600))
    assert estimate(film, tmp_path / "large.mkv", step).seconds is None


def test_sound_that_the_container_cannot_hold_is_converted(tmp_path, step):
    film = make_video(tmp_path / "film.mkv", range(0, 9 * 3600, 3600), audio=["aac"])
    found = estimate(film, tmp_path / "large.webm", step)
    assert found.codec == "libvpx-vp9"
    assert found.along == ("sound (aac, becomes opus)",)


def test_an_interrupted_run_has_less_to_do(tmp_path, step, measured):
    film = make_video(tmp_path / "film.mkv", range(0, 40 * 3600, 3600))
    target = tmp_path / "large.mkv"
    recipe = Recipe(encoder=EncoderOptions(), segment=5)

    class Full(Exception):
        pass

    count = 0

    def tick():
        nonlocal count
        count += 1
        if count == 25:
            raise Full

    with pytest.raises(Full):
        upscale(film, target, step, segment=5, tick=tick)
    found = estimate(film, target, step, recipe)
    assert 10 <= found.finished <= 25
    assert estimate(film, target, step, recipe, resume=False).finished == 0


def test_what_cannot_be_read_or_written_is_refused(tmp_path, step):
    film = make_video(tmp_path / "film.mkv", range(0, 9 * 3600, 3600))
    with pytest.raises(RLSPError, match="no such file"):
        estimate(tmp_path / "none.mp4", tmp_path / "large.mkv", step)
    (tmp_path / "large.mkv").touch()
    with pytest.raises(RLSPError, match="exists already"):
        estimate(film, tmp_path / "large.mkv", step)
    estimate(film, tmp_path / "large.mkv", step, force=True)
