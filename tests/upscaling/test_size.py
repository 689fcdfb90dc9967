"""The size of a result: what is asked for, what fits, and what it is refused for."""

from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from helpers.stops import StopSoon
from helpers.videos import gradient, make_video
from rlsp_tf.errors import Interrupted, RLSPError, UsageError
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.media.frames import Frame
from rlsp_tf.media.images import read_image, write_png
from rlsp_tf.media.resize import Resizer
from rlsp_tf.media.video_reader import VideoSource
from rlsp_tf.upscaling.size import Geometry, Size
from rlsp_tf.upscaling.upscale import Recipe, upscale

OPTIONS = {"segment": 2, "warm_start": 2, "codec": "ffv1", "scene_cuts": "off"}


@pytest.mark.parametrize(
    ("clip", "asked", "even", "form"),
    [
        ((480, 270), {}, True, (1920, 1080)),
        ((15, 11), {}, True, (60, 44)),
        ((480, 270), {"box": (1920, 1080)}, True, (1920, 1080)),
        ((480, 270), {"box": (1280, 1080)}, True, (1280, 720)),
        ((800, 332), {"box": (1920, 1080)}, True, (1920, 796)),  # 796.8
        ((800, 332), {"box": (1920, 1080)}, False, (1920, 797)),
        ((332, 800), {"box": (1920, 1080)}, True, (448, 1080)),  # 448.2
        ((480, 270), {"box": (1921, 1081)}, True, (1920, 1080)),
        ((480, 270), {"height": 720}, True, (1280, 720)),
        ((320, 240), {"height": 1081}, True, (1442, 1080)),  # as wide as 1081 lines ask for
        ((480, 270), {"scale": Fraction(1)}, True, (480, 270)),
        ((481, 271), {"scale": Fraction(3, 2)}, False, (722, 406)),  # 721.5 and 406.5, to the even one
        ((481, 271), {"scale": Fraction(3, 2)}, True, (722, 406)),
        ((481, 271), {"scale": Fraction(1)}, True, (480, 272)),
        ((30, 20), {"scale": Fraction(16)}, True, (480, 320)),
    ],
)
def test_what_fits(clip, asked, even, form):
    frames = SimpleNamespace(path="clip", width=clip[0], height=clip[1], color=None)
    assert Size(**asked).of(frames, 4, even=even) == (*form, False)


def test_the_aspect_ratio_that_is_shown_counts(tmp_path):
    """PAL in 16:9: 720x576 with pixels of 64:45."""
    path = make_video(tmp_path / "pal.mkv", range(2), size=(180, 144), sample_aspect_ratio=Fraction(64, 45))
    with VideoSource(path) as frames:
        assert Size(box=(1920, 1080)).of(frames, 4, even=True) == Geometry(1920, 1080, True)
        assert Size(height=576).of(frames, 4, even=True) == Geometry(1024, 576, True)
        assert Size(scale=Fraction(2)).of(frames, 4, even=True) == Geometry(360, 288, False)


@pytest.mark.parametrize("asked", [{"box": (400, 400)}, {"height": 200}])
def test_nothing_gets_smaller(asked):
    frames = SimpleNamespace(path="clip", width=480, height=270, color=None)
    with pytest.raises(RLSPError, match=r"clip: is 480x270; a result of \d+x\d+ would be smaller\. Ask"):
        Size(**asked).of(frames, 4, even=True)


def test_nor_too_large():
    frames = SimpleNamespace(path="clip", width=16, height=12, color=None)
    with pytest.raises(RLSPError, match=r"1440x1080 would be more than 16 times as large"):
        Size(box=(1920, 1080)).of(frames, 4, even=True)


@pytest.mark.parametrize(
    "asked",
    [
        {"box": (4, 4), "height": 4},
        {"height": 4, "scale": Fraction(2)},
        {"scale": Fraction(1, 2)},
        {"scale": Fraction(17)},
        {"height": 0},
        {"box": (0, 5)},
    ],
)
def test_what_makes_no_sense_is_wrong_usage(asked):
    with pytest.raises(UsageError):
        Size(**asked)


def frames_of(path):
    with VideoSource(path) as source:
        return list(source), source.color, source.sample_aspect_ratio


@pytest.mark.parametrize("frames", [1, 2, pytest.param(7, marks=pytest.mark.slow)])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "yuv444p", "yuva420p", "bgr0"])
def test_a_video_is_what_the_network_makes_resized(pixel_format, frames, step, tmp_path):
    """Lossless, so that planes can be compared."""
    film = make_video(
        *(tmp_path / "film.mkv", range(frames)),
        time_base=Fraction(1, 25),
        size=(28, 22),
        codec="ffv1",
        pixel_format=pixel_format,
    )
    upscale(film, tmp_path / "4x.mkv", step, **OPTIONS)
    notes = upscale(film, tmp_path / "large.mkv", step, scale=2.5, **OPTIONS)
    assert not any("interpolated" in note for note in notes)
    (whole, color, _), (found, found_color, _) = map(frames_of, (tmp_path / "4x.mkv", tmp_path / "large.mkv"))
    assert found_color == color
    assert len(found) == frames
    resize = Resizer(70, 56, color)
    for large, frame in zip(whole, found, strict=True):
        want = resize(large)
        assert frame.pts == large.pts
        for have, plane in zip(frame.planes, want.planes, strict=True):
            np.testing.assert_array_equal(have, plane)
        if pixel_format == "yuva420p":
            np.testing.assert_array_equal(frame.alpha, want.alpha)


@pytest.mark.parametrize("bits", [8, 16])
def test_images_are_too_and_may_be_odd(bits, step, tmp_path):
    dtype = np.uint8 if bits == 8 else np.uint16
    (tmp_path / "lr").mkdir()
    for index in range(3):
        write_png(tmp_path / "lr" / f"{index}.png", gradient(index, 15, 11).astype(dtype) * (2 ** (bits - 8)))
    upscale(tmp_path / "lr", tmp_path / "4x", step, warm_start=2)
    upscale(tmp_path / "lr", tmp_path / "large", step, warm_start=2, size=(45, 100))
    resize = Resizer(45, 33, None)
    for index in range(3):
        (want,) = resize(Frame((read_image(tmp_path / "4x" / f"{index}.png"),))).planes
        np.testing.assert_array_equal(read_image(tmp_path / "large" / f"{index}.png"), want)
    upscale(tmp_path / "lr" / "0.png", tmp_path / "one.png", step, height=33)
    assert read_image(tmp_path / "one.png").shape == (33, 45, 3)


def test_more_than_the_network_makes_is_said(step, tmp_path):
    film = make_video(tmp_path / "film.mp4", range(2), size=(16, 12))
    notes = upscale(film, tmp_path / "large.mp4", step, height=96, preset="ultrafast", warm_start=0)
    assert f"{film}: the network makes it 4 times larger; the rest up to 128x96 is interpolated." in notes
    assert len(frames_of(tmp_path / "large.mp4")[0]) == 2


def test_pixels_become_square_or_keep_their_form(step, tmp_path):
    film = make_video(tmp_path / "film.mp4", range(2), size=(16, 12), sample_aspect_ratio=Fraction(4, 3))
    for name, options in (("fit.mp4", {"height": 24}), ("twice.mkv", {"scale": 2})):
        upscale(film, tmp_path / name, step, preset="ultrafast", warm_start=0, **options)
    sizes = []
    for name in ("fit.mp4", "twice.mkv"):
        with av.open(str(tmp_path / name)) as container:
            video = container.streams.video[0]
            sizes.append((video.width, video.height, video.sample_aspect_ratio))
    assert sizes == [(42, 24, 1), (32, 24, Fraction(4, 3))]


def test_another_size_is_another_run(step, tmp_path):
    film, target = make_video(tmp_path / "film.mkv", range(9), size=(16, 12)), tmp_path / "large.mkv"
    with pytest.raises(Interrupted):
        upscale(film, target, step, scale=2, stop=StopSoon(6), **OPTIONS)
    with pytest.raises(RLSPError, match=r"another --scale \(2 then, 3 now\)"):
        upscale(film, target, step, scale=3, **OPTIONS)
    with pytest.raises(RLSPError, match=r"another --scale \(2 then, None now\)"):
        upscale(film, target, step, **OPTIONS)
    upscale(film, target, step, scale=2, **OPTIONS)
    upscale(film, tmp_path / "once.mkv", step, scale=2, **OPTIONS)
    # The interruption ended one segment early, which is all that a lossless codec shows.
    for found, want in zip(frames_of(target)[0], frames_of(tmp_path / "once.mkv")[0], strict=True):
        np.testing.assert_array_equal(found.planes[0], want.planes[0])


def test_few_players_play_h264_of_such_a_size(tmp_path):
    film = make_video(tmp_path / "film.mp4", range(1), size=(1280, 720))
    with VideoSource(film) as frames:
        small = Recipe(size=Size(height=2160)).sink(frames, 4, tmp_path / "a.mp4")
        large = Recipe().sink(frames, 4, tmp_path / "b.mp4")
        other = Recipe(encoder=EncoderOptions("libx265")).sink(frames, 4, tmp_path / "c.mp4")
    assert not any("players" in note for sink in (small, other) for note in sink.notes)
    (note,) = [note for note in large.notes if "players" in note]
    assert "5120x2880" in note
    assert "libx265" in note
    assert "libsvtav1" in note
