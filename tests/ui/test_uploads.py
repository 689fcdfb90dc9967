"""What people drop on the page."""

import errno
import os
import re
import time

import imageio.v3 as iio
import pytest
from PIL import Image

from helpers.synthetic import make_clip
from helpers.videos import make_video
from rlsp_tf.errors import RLSPError
from rlsp_tf.ui.uploads import clear, is_picture, put, uploads_of


@pytest.fixture
def pictures(tmp_path):
    """Three pictures, each in a folder of its own, as Gradio leaves them."""
    paths = []
    for index, frame in enumerate(make_clip(3, 9, 14)):
        paths.append(tmp_path / f"hash{index}" / f"image{9 + index}.png")
        paths[-1].parent.mkdir()
        iio.imwrite(paths[-1], frame)
    return paths


def test_a_video_is_described(tmp_path):
    path = tmp_path / "film.mp4"
    make_video(path, range(0, 50 * 3600, 3600))
    (upload,), _ = uploads_of([path], tmp_path, together=False)
    assert (upload.title, upload.source, upload.files) == ("film.mp4", path, (path,))
    assert (upload.width, upload.height, upload.frames, upload.rate) == (64, 48, 50, 25)
    assert upload.describe() == "64x48, 2 s, 25 frames a second"
    assert not upload.is_picture
    assert upload.sizes == {"4x": (256, 192), "2x": (128, 96)}


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((640, 480), [(2560, 1920), (1280, 960), (1440, 1080), (1920, 1440), (2880, 2160)]),
        ((480, 848), [(1920, 3392), (960, 1696), (1080, 1908), (1440, 2544), (2160, 3816)]),
        ((800, 332), [(3200, 1328), (1600, 664), (1920, 796), (2560, 1062), (3840, 1594)]),
        ((480, 270), [(1920, 1080), (960, 540), None, None, None]),
        ((1920, 1080), [(7680, 4320), (3840, 2160), None, (2560, 1440), None]),
    ],
)
def test_sizes_are_those_that_make_sense(tmp_path, size, sizes):
    make_video(tmp_path / "film.mp4", [0], size=size)
    (upload,), _ = uploads_of([tmp_path / "film.mp4"], tmp_path, together=False)
    named = dict(zip(("4x", "2x", "1080p", "1440p", "2160p"), sizes, strict=True))
    assert upload.sizes == {name: made for name, made in named.items() if made}


def test_pictures_are_apart_or_the_frames_of_one_video(pictures, tmp_path):
    apart, _ = uploads_of(pictures, tmp_path, together=False)
    assert [upload.source for upload in apart] == pictures
    assert all(upload.is_picture and upload.describe() == "14x9" for upload in apart)
    (video,), _ = uploads_of(pictures, tmp_path, together=True)
    assert (video.frames, video.rate, video.is_picture) == (3, None, False)
    assert video.describe() == "14x9, 3 pictures"
    assert {path.name: path.read_bytes() for path in video.source.iterdir()} == {
        path.name: path.read_bytes() for path in pictures
    }


def test_one_picture_alone_is_no_video(pictures, tmp_path):
    (upload,), _ = uploads_of(pictures[:1], tmp_path, together=True)
    assert upload.is_picture


@pytest.mark.parametrize("content", [b"", b"no video", "half a video"])
def test_a_file_that_cannot_be_read_is_called_by_its_name_and_left_out(tmp_path, content):
    path = tmp_path / "secret" / "film.mp4"
    path.parent.mkdir()
    good = [make_video(tmp_path / name) for name in ("one.mp4", "two.mp4")]
    if content == "half a video":
        content = good[0].read_bytes()[:-200]
    path.write_bytes(content)
    uploads, (sentence,) = uploads_of([good[0], path, good[1]], tmp_path, together=False)
    assert re.fullmatch(r"film\.mp4: .*\.", sentence)
    assert "secret" not in sentence
    # It keeps no other from being upscaled.
    assert [upload.source for upload in uploads] == good


def test_two_pictures_with_one_name_and_videos_cannot_be_frames(pictures, tmp_path):
    again = tmp_path / "again" / pictures[0].name
    again.parent.mkdir()
    put(pictures[1], again)
    with pytest.raises(RLSPError, match="is the name of two pictures"):
        uploads_of([*pictures, again], tmp_path, together=True)
    make_video(tmp_path / "film.mp4")
    with pytest.raises(RLSPError, match=r"^film\.mp4: is not a picture"):
        uploads_of([*pictures, tmp_path / "film.mp4"], tmp_path, together=True)


def test_a_frame_that_cannot_be_read_is_called_by_its_own_name(pictures, tmp_path):
    pictures[1].write_text("no picture")
    with pytest.raises(RLSPError, match=r"^image10\.png: not an image"):
        uploads_of(pictures, tmp_path, together=True)


def test_pictures_that_move_are_videos(tmp_path):
    first, *more = map(Image.fromarray, make_clip(3, 16, 16))
    first.save(tmp_path / "moves.png", save_all=True, append_images=more, duration=40)
    first.save(tmp_path / "rests.png")
    assert [is_picture(tmp_path / name) for name in ("moves.png", "rests.png")] == [False, True]
    (upload,), _ = uploads_of([tmp_path / "moves.png"], tmp_path, together=False)
    assert upload.rate == 25


def test_a_second_name_survives_the_first(tmp_path, monkeypatch):
    (tmp_path / "one").write_bytes(b"content")
    put(tmp_path / "one", tmp_path / "two")

    def refuse(*arguments):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    put(tmp_path / "one", tmp_path / "three")
    (tmp_path / "one").unlink()
    assert (tmp_path / "two").read_bytes() == (tmp_path / "three").read_bytes() == b"content"


def test_what_was_dropped_long_ago_is_removed(tmp_path, monkeypatch):
    for name in ("old/film.mp4", "new/film.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"content")
    clear(tmp_path, 60)
    assert len([*tmp_path.rglob("*.mp4")]) == 2
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    os.utime(tmp_path / "new/film.mp4", (now + 3590, now + 3590))
    clear(tmp_path, 60)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.mp4")] == ["new/film.mp4"]
    assert not (tmp_path / "old").exists()
