"""Other sizes, and parts of a clip: by the command line, in ranges, through pipes and after interruptions."""

import json
import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest

from helpers.commands import run_command
from helpers.media import contents
from helpers.networks import SMALL, small_model
from helpers.stops import StopSoon
from helpers.videos import frame_times, gradient, make_video, packets
from rlsp_tf.cli.main import main
from rlsp_tf.errors import Interrupted, RLSPError
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.media.images import read_image, write_png
from rlsp_tf.media.interval import Interval
from rlsp_tf.upscaling.plan import Plan, join_ranges, make_plan, render_range
from rlsp_tf.upscaling.size import Size
from rlsp_tf.upscaling.upscale import Recipe, upscale, upscale_clip

OPTIONS = {"segment": 4, "warm_start": 2, "codec": "ffv1", "scene_cuts": frozenset({7})}


@pytest.fixture
def model(rng, tmp_path):
    small_model(rng, SMALL).save(tmp_path / "net.keras")
    return str(tmp_path / "net.keras")


@pytest.fixture
def film(tmp_path):
    """2.4 seconds with sound."""
    return make_video(
        tmp_path / "film.mkv", range(60), time_base=Fraction(1, 25), size=(32, 24), audio=("aac",)
    )


def lossless(path):
    with av.open(str(path)) as file:
        return [(frame.pts, frame.to_ndarray(format="yuv420p")) for frame in file.decode(video=0)]


def assert_same(one, other):
    assert [pts for pts, _ in one] == [pts for pts, _ in other]
    for (_, planes), (_, others) in zip(one, other, strict=True):
        np.testing.assert_array_equal(planes, others)


def test_an_interval_is_what_a_film_of_its_frames_gives(film, step, tmp_path):
    """Frames 30 to 44, which no other frame gets into."""
    with av.open(str(film)) as file:
        frames = list(file.decode(video=0))[30:45]
    part = make_video(
        *(tmp_path / "part.mkv", range(15)),
        time_base=Fraction(1, 25),
        size=(32, 24),
        codec="ffv1",
        frames=frames,
    )
    upscale(part, tmp_path / "part-4x.mkv", step, **OPTIONS)
    upscale(film, tmp_path / "cut.mkv", step, start=1.2, duration=Fraction(3, 5), **OPTIONS)
    assert_same(lossless(tmp_path / "cut.mkv"), lossless(tmp_path / "part-4x.mkv"))
    (heard,), (copied,) = packets(film, "audio"), packets(tmp_path / "cut.mkv", "audio")
    chosen = [content for time, content in heard if Fraction("1.2") <= time < Fraction("1.8")]
    assert [content for _, content in copied] == chosen
    assert 0 <= copied[0][0] < Fraction(1024, 48000)


def test_an_interrupted_interval_goes_on(film, step, tmp_path):
    target, options = tmp_path / "large.mkv", {"start": 0.8, "duration": 0.8, "scale": 1.5, **OPTIONS}
    upscale(film, tmp_path / "once.mkv", step, **options)
    with pytest.raises(Interrupted):
        upscale(film, target, step, stop=StopSoon(12), **options)
    with pytest.raises(RLSPError, match=r"another --duration \(4/5 then, 1 now\)"):
        upscale(film, target, step, **{**options, "duration": 1})
    with pytest.raises(RLSPError, match=r"another --start \(4/5 then, None now\)"):
        upscale(film, target, step, **{**options, "start": 0})
    upscale(film, target, step, **options)
    assert len(lossless(target)) == 20
    assert_same(lossless(target), lossless(tmp_path / "once.mkv"))
    assert packets(target, "audio") == packets(tmp_path / "once.mkv", "audio")


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
@pytest.mark.parametrize("split", [False, True])
def test_ranges_of_an_interval_in_another_size(suffix, split, step, tmp_path):
    film = make_video(
        tmp_path / f"film{suffix}", range(60), time_base=Fraction(1, 25), size=(32, 24), audio=("aac",)
    )
    recipe = Recipe(
        warm_start=2,
        segment=4,
        encoder=EncoderOptions(codec="ffv1"),
        size=Size(height=40),
        interval=Interval(Fraction(2, 5), Fraction(8, 5)),
    )
    cuts = frozenset({13, 29})
    plan = make_plan(film, step, recipe, cuts, length=5, split=split)
    plan = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    work = tmp_path / "ranges.mkv.rlsp"
    work.mkdir()
    for index in reversed(range(len(plan.ranges))):
        render_range(film, work / "ranges.mkv", step, recipe, plan, index)
    join_ranges(film, work, tmp_path / "ranges.mkv", step, recipe, plan)
    upscale_clip(film, tmp_path / "once.mkv", step, recipe, scene_cuts=cuts)
    assert plan.ranges[-1].stop == 40
    if split:
        assert len(lossless(tmp_path / "ranges.mkv")) == 40
        assert frame_times(tmp_path / "ranges.mkv") == frame_times(tmp_path / "once.mkv")
    else:
        assert [part.start for part in plan.ranges] == [0, 13, 29]
        assert packets(tmp_path / "ranges.mkv", "video") == packets(tmp_path / "once.mkv", "video")
    assert packets(tmp_path / "ranges.mkv", "audio") == packets(tmp_path / "once.mkv", "audio")


def test_the_command_takes_them(film, model, tmp_path):
    options = ["--model", model, "--size", "100x60", "--start", "0:01.2", "--duration", "0.4"]
    assert main(["upscale", str(film), str(tmp_path / "large.mp4"), *options]) == 0
    with av.open(str(tmp_path / "large.mp4")) as container:
        video = container.streams.video[0]
        assert (video.width, video.height, video.frames) == (80, 60, 10)
        assert video.start_time == 0
    assert frame_times(tmp_path / "large.mp4") == [Fraction(index, 25) for index in range(10)]


def test_a_pipe_does_too(film, model, tmp_path):
    options = ["--model", model, "--scale", "3/2", "--start", "1.2", "--duration", "0.4", "--codec", "ffv1"]
    assert main(["upscale", str(film), str(tmp_path / "file.mkv"), *options]) == 0
    with film.open("rb") as file:
        done = run_command(["upscale", "-", "-", *options], stdin=file, stderr=subprocess.PIPE, check=True)
    (tmp_path / "pipe.mkv").write_bytes(done.stdout)
    for kind in ("video", "audio"):
        assert packets(tmp_path / "pipe.mkv", kind) == packets(tmp_path / "file.mkv", kind)
    assert len(packets(tmp_path / "pipe.mkv", "video")[0]) == 10


def test_folders_of_images_too(model, tmp_path):
    (tmp_path / "lr").mkdir()
    for index in range(20):
        write_png(tmp_path / "lr" / f"{index:02d}.png", gradient(index, 15, 11))
    options = ["--model", model, "--rate", "10", "--start", "1", "--duration", "0:00.5", "--height", "33"]
    assert main(["upscale", str(tmp_path / "lr"), str(tmp_path / "large"), *options]) == 0
    assert contents(tmp_path / "large") == [f"{index}.png" for index in range(10, 15)]
    assert read_image(tmp_path / "large" / "12.png").shape == (33, 45, 3)
    again = ["--model", model, "--duration", "0.1", "--force"]
    assert main(["upscale", str(tmp_path / "lr"), str(tmp_path / "large"), *again]) == 0
    assert contents(tmp_path / "large") == ["00.png", "01.png", "02.png"]
    assert main(["upscale", str(tmp_path / "lr"), str(tmp_path / "large.mkv"), *options]) == 0
    assert frame_times(tmp_path / "large.mkv") == [Fraction(index, 10) for index in range(5)]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--size", "1920"], "expected width x height such as 1920x1080, not '1920'"),
        (["--size", "0x100"], "expected width x height"),
        (["--size", "1920x1080", "--scale", "2"], "not allowed with argument"),
        (["--height", "720", "--scale", "2"], "not allowed with argument"),
        (["--height", "0"], "whole number of at least 1"),
        (["--scale", "0.5"], "expected a number from 1 to 16 such as 2, 1.5 or 8/3, not '0.5'"),
        (["--scale", "2/0"], "expected a number from 1 to 16"),
        (["--scale", "nan"], "expected a number from 1 to 16"),
        (["--start", "abc"], "expected a time such as 83.5, 1:23.5 or 01:02:03, not 'abc'"),
        (["--start", "-5"], "expected a time such as 83.5, 1:23.5 or 01:02:03, not '-5'"),
        (["--start", "1:75"], "expected a time"),
        (["--duration", "1:2:3:4"], "expected a time"),
        (["--duration", "0"], "--duration must be above 0, not 0"),
    ],
    ids=str,
)
def test_what_is_neither_a_size_nor_a_time_is_wrong_usage(options, sentence, film, tmp_path, capsys):
    try:
        code = main(["upscale", str(film), str(tmp_path / "large.mkv"), *options])
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--start", "1:00:00"], "film.mkv: its last frame is at 0:02.360; --start must not be later."),
        (["--height", "12"], "film.mkv: is 32x24; a result of 16x12 would be smaller."),
        (["--height", "1080"], "more than 16 times as large"),
    ],
    ids=str,
)
def test_what_a_clip_does_not_have_is_a_failure(options, sentence, film, model, tmp_path, capsys):
    assert main(["upscale", str(film), str(tmp_path / "large.mkv"), "--model", model, *options]) == 1
    assert sentence in capsys.readouterr().err
    assert contents(tmp_path) == ["film.mkv", "net.keras"]
