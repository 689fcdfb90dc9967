"""Interlaced frames become whole ones on request; everything else about them stays."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from helpers.media import assert_planes
from helpers.networks import small_model
from helpers.videos import TICK, frame_times, gradient, make_video, marked, packets
from rlsp_tf.cli.main import main
from rlsp_tf.errors import RLSPError, UsageError
from rlsp_tf.media.deinterlace import deinterlaced
from rlsp_tf.media.images import write_png
from rlsp_tf.media.open import open_source
from rlsp_tf.media.pixel_formats import planes_of, to_video_frame
from rlsp_tf.media.video_reader import VideoSource

TOP, BOTTOM, WHOLE = "tff", "bff", "prog"


def make_marked(path, frames, modes, pts=None, **options):
    """Writes frames without loss; FFV1 keeps the mark of each."""
    frames = [marked(frame, mode) for frame, mode in zip(frames, modes, strict=True)]
    return make_video(
        path,
        range(0, len(frames) * 3600, 3600) if pts is None else pts,
        codec="ffv1",
        pixel_format=frames[0].format.name,
        size=(frames[0].width, frames[0].height),
        frames=frames,
        **options,
    )


def read(path, **options):
    with VideoSource(path, **options) as source:
        return list(source), source


RAMP = np.cumsum(np.random.default_rng(0).integers(0, 5, 112)).astype(np.uint8)


def scene(time):
    """Planes of 64x48 whose columns have one colour each, moving to the left by 3 pixels a field."""
    y, cb = RAMP[3 * time :][:64], RAMP[3 * time :][:64:2]
    return [np.tile(row, (lines, 1)) for row, lines in ((y, 48), (cb, 24), (255 - cb, 24))]


def woven(index, mode):
    """Planes of the scene in which the lines of the second field are half a frame later."""
    planes = [plane.copy() for plane in scene(2 * index)]
    for plane, later in zip(planes, scene(2 * index + 1), strict=True):
        second = 1 if mode == TOP else 0
        plane[second::2] = later[second::2]
    return planes


def combing(plane):
    """How far lines are from those above and below, which are like them if taken at one time."""
    plane = plane.astype(float)
    return np.abs(plane[1:-1] - (plane[:-2] + plane[2:]) / 2).mean()


@pytest.mark.parametrize("mode", [TOP, BOTTOM])
def test_moving_fields_become_the_scene_at_the_time_of_the_first(mode, tmp_path):
    """Where columns have one colour, lines between those of the first field are what these are. Along lines
    the scene only rises, so that nowhere the time before or after looks the same by chance."""
    made = [woven(index, mode) for index in range(8)]
    path = make_marked(
        tmp_path / "woven.mkv", [to_video_frame(planes, "yuv420p") for planes in made], [mode] * 8
    )
    for index, frame in enumerate(read(path)[0]):
        assert_planes(frame.planes, made[index])
        assert combing(frame.planes[0]) > 5
    frames, source = read(path, deinterlace=True)
    assert len(frames) == 8
    for index, frame in enumerate(frames):
        assert_planes(frame.planes, scene(2 * index))
        assert combing(frame.planes[0]) == 0
    assert not [note for note in source.notes if "interlaced" in note]


STILL = [
    *("yuv420p", "yuvj420p", "yuv422p", "yuv411p", "yuv420p10le", "yuv422p12le", "yuv444p16le"),
    *("yuva420p", "bgr0", "gbrp10le", "rgb48le", "gray", "gray10le", "gray16le", "nv12", "p010le", "yuyv422"),
]


@pytest.mark.parametrize("pixel_format", STILL)
def test_a_still_scene_stays_as_it_is_in_every_format(pixel_format, rng):
    """Noise, so that every sample counts; of the first frame, which has no past, only its own lines are."""
    deep = rng.integers(0, 2**16, (47, 65, 3), dtype=np.uint16)
    still = marked(av.VideoFrame.from_ndarray(deep, "rgb48le").reformat(format=pixel_format), TOP)
    expected = planes_of(still)
    (first, *others) = deinterlaced([still] * 4, Path("still.mkv"))
    for have, want in zip(planes_of(first[1]), expected, strict=True):
        np.testing.assert_array_equal(have[::2], want[::2])
    assert len(others) == 3
    for frame, picture in others:
        assert frame is still
        assert_planes(planes_of(picture), expected)


def test_progressive_frames_of_a_mixed_file_are_left_alone_and_the_others_said(tmp_path):
    modes = [WHOLE] * 3 + [TOP] * 3 + [WHOLE] * 2
    made = [woven(index, TOP) for index in range(8)]
    path = make_marked(tmp_path / "mixed.mkv", [to_video_frame(planes, "yuv420p") for planes in made], modes)
    frames, source = read(path)
    assert source.notes[-1] == (
        f"{path}: is interlaced from frame 3 on but was read as progressive; "
        "rlsp upscale --deinterlace deinterlaces it."
    )
    frames, source = read(path, deinterlace=True)
    assert [combing(frame.planes[0]) > 1 for frame in frames] == [mode == WHOLE for mode in modes]
    for frame, mode, planes in zip(frames, modes, made, strict=True):
        if mode == WHOLE:
            assert_planes(frame.planes, planes)
    assert not [note for note in source.notes if "interlaced" in note]


def test_without_marks_nothing_changes_and_that_is_said(tmp_path):
    path = make_video(tmp_path / "plain.mp4")
    frames, source = read(path, deinterlace=True)
    for frame, expected in zip(frames, read(path)[0], strict=True):
        assert_planes(frame.planes, expected.planes)
    assert source.notes[-1] == f"{path}: no frame is marked as interlaced; all were left as they are."


@pytest.mark.parametrize("pts", [[5], [5, 9000], [450, 4050, 7000, 20_000, 20_001, 99_999]])
def test_every_frame_comes_once_at_its_time_and_all_else_stays(pts, tmp_path):
    """MPEG-4 and its B-frames: x264 marks frames only if it is told to encode them so."""
    path = make_video(
        tmp_path / "times.mp4",
        pts,
        pixel_format="yuv422p10le",
        options={"flags": "+ildct+ilme", "bf": "2"},
        colorspace=9,
        color_primaries=9,
        color_trc=16,
        color_range=2,
        sample_aspect_ratio=Fraction(16, 11),
        rotation=90,
        container_options={"video_track_timescale": "90000", "movie_timescale": "90000"},
    )
    (before, source), (after, other) = read(path), read(path, deinterlace=True)
    assert [note for note in source.notes if "is interlaced but" in note]
    assert [(frame.pts, frame.duration) for frame in after] == [
        (frame.pts, frame.duration) for frame in before
    ]
    assert [frame.pts * other.time_base for frame in after] == [tick * TICK for tick in pts]
    for name in ("color", "tags", "depth", "width", "height", "rate", "sample_aspect_ratio", "frames"):
        assert getattr(other, name) == getattr(source, name)
    for frame, expected in zip(after, before, strict=True):
        for have, want in zip(frame.planes, expected.planes, strict=True):
            assert (have.shape, have.dtype) == (want.shape, want.dtype)


def test_upscale_deinterlaces_on_request(tmp_path, rng):
    made = [to_video_frame(woven(index, BOTTOM), "yuv420p") for index in range(4)]
    path = make_marked(tmp_path / "woven.mkv", made, [BOTTOM] * 4, audio=["aac"])
    whole = [to_video_frame(scene(2 * index), "yuv420p") for index in range(4)]
    reference = make_marked(tmp_path / "whole.mkv", whole, [WHOLE] * 4)
    small_model(rng).save(tmp_path / "small.keras")
    options = ["--model", str(tmp_path / "small.keras"), "--codec", "ffv1", "--precision", "float32"]
    assert main(["upscale", str(path), str(tmp_path / "a.mkv"), "--deinterlace", *options]) == 0
    assert main(["upscale", str(reference), str(tmp_path / "b.mkv"), *options]) == 0
    for frame, expected in zip(read(tmp_path / "a.mkv")[0], read(tmp_path / "b.mkv")[0], strict=True):
        assert_planes(frame.planes, expected.planes)
    assert frame_times(tmp_path / "a.mkv") == frame_times(path)
    assert packets(tmp_path / "a.mkv", "audio") == packets(path, "audio")


def test_images_are_not_deinterlaced(tmp_path):
    write_png(tmp_path / "0.png", gradient(0, 64, 48))
    for path in (tmp_path, tmp_path / "0.png"):
        with pytest.raises(UsageError, match=f"^{path}: only videos can be deinterlaced; leave out"):
            open_source(path, deinterlace=True)


@pytest.mark.parametrize(("size", "pixel_format"), [((2, 2), "yuv420p"), ((64, 48), "yuv440p10le")])
def test_what_cannot_be_deinterlaced_is_one_sentence(size, pixel_format, tmp_path):
    path = make_marked(tmp_path / "odd.mkv", [av.VideoFrame(*size, pixel_format)], [TOP])
    sentence = rf"odd\.mkv: frames of {size[0]}x{size[1]} in {pixel_format} cannot be deinterlaced; leave out"
    with pytest.raises(RLSPError, match=sentence):
        read(path, deinterlace=True)
