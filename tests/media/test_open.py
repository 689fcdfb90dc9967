"""One door for all clips: what a path is decides how it is read and written."""

import numpy as np
import pytest

from helpers.media import contents
from helpers.videos import frame_times, gradient, make_video, packets
from rlsp_tf.errors import RLSPError
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.media.frames import Frame
from rlsp_tf.media.images import FolderSink, FolderSource, ImageSink, read_image, write_png
from rlsp_tf.media.open import open_sink, open_source
from rlsp_tf.media.video_reader import VideoSource
from rlsp_tf.media.video_writer import VideoSink
from rlsp_tf.pixels.color import ColorSpec, ycbcr_to_rgb


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "frames.v2").mkdir()
    for index in range(4):
        write_png(tmp_path / "frames.v2" / f"{index}.png", gradient(index, 64, 48))
    return tmp_path / "frames.v2"


@pytest.fixture
def clip(tmp_path):
    return make_video(tmp_path / "clip.mp4", range(0, 14400, 3600), audio=["aac"])


def test_folders_images_and_videos_are_told_apart(folder, clip):
    assert isinstance(open_source(folder), FolderSource)
    assert isinstance(open_source(str(folder / "0.png")), FolderSource)
    with open_source(clip) as source:
        assert isinstance(source, VideoSource)


def test_a_missing_path_is_named_whatever_it_was_to_be(tmp_path):
    for name in ("missing", "missing.png", "missing.mp4"):
        with pytest.raises(RLSPError, match=f"^{tmp_path / name}: no such file; check the path"):
            open_source(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.mp4", VideoSink),
        ("a.MKV", VideoSink),
        ("a", FolderSink),
        ("a.d", FolderSink),
        ("frames.v2", FolderSink),
    ],
)
def test_the_name_of_the_output_decides_what_it_becomes(name, kind, folder, clip, tmp_path):
    (tmp_path / "new").mkdir()
    for source in (open_source(folder), open_source(clip)):
        assert isinstance(open_sink(tmp_path / "new" / name, source, width=64, height=48), kind)


def test_a_folder_may_be_called_like_a_video(folder, tmp_path):
    (tmp_path / "clip.mp4").mkdir()
    assert isinstance(open_sink(tmp_path / "clip.mp4", open_source(folder), width=64, height=48), FolderSink)


def test_one_image_becomes_one_image(folder, tmp_path):
    with open_source(folder / "2.png") as source:
        sink = open_sink(tmp_path / "large.png", source, width=128, height=96)
        assert isinstance(sink, ImageSink)
        with sink:
            for frame in source:
                sink.write(Frame((np.repeat(np.repeat(frame.planes[0], 2, 0), 2, 1),), name=frame.name))
    np.testing.assert_array_equal(read_image(tmp_path / "large.png")[::2, ::2], gradient(2, 64, 48))
    assert sink.notes == []


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("new.png", "an image holds one frame; name a folder or a video file"),
        ("new.avi", r"not a video that can be written; choose \.mp4"),
        ("new.ts", r"not a video that can be written; choose \.mp4"),
        ("frames.v2", "is the input; give the output another name"),
    ],
)
def test_an_output_that_cannot_be_is_one_sentence(name, sentence, folder, tmp_path):
    with pytest.raises(RLSPError, match=f"^{tmp_path / name}: {sentence}"):
        open_sink(tmp_path / name, open_source(folder), width=64, height=48, force=True)


def test_a_video_becomes_a_folder_without_its_sound_and_says_so(clip, tmp_path):
    with open_source(clip) as source:
        sink = open_sink(tmp_path / "frames", source, width=64, height=48)
        assert sink.color is None
        with sink:
            for frame in source:
                y, cb, cr = frame.planes
                rgb = ycbcr_to_rgb(y, *(np.repeat(np.repeat(c, 2, 0), 2, 1) for c in (cb, cr)), source.color)
                sink.write(
                    Frame((np.clip(np.rint(np.stack(rgb, -1)), 0, 255).astype(np.uint8),), pts=frame.pts)
                )
    assert contents(tmp_path / "frames") == [f"frame_{index:06d}.png" for index in range(4)]
    assert sink.notes == [
        f"{tmp_path / 'frames'}: images hold neither sound nor times; both are in {clip}, if you need them."
    ]


def test_a_folder_becomes_a_video_at_the_rate_asked_for(folder, tmp_path):
    with open_source(folder) as source:
        sink = open_sink(
            tmp_path / "clip.mkv", source, width=64, height=48, encoder=EncoderOptions("ffv1", rate=50)
        )
        with sink:
            for frame in source:
                sink.write(frame)
    assert [float(time) for time in frame_times(tmp_path / "clip.mkv")] == [0, 0.02, 0.04, 0.06]
    assert packets(tmp_path / "clip.mkv", "audio") == []


def test_planes_may_be_asked_for_in_another_form(clip, tmp_path):
    wanted = ColorSpec("bt601", full_range=False, depth=10, subsampling=(1, 1))
    with open_source(clip) as source:
        sink = open_sink(tmp_path / "new.mp4", source, width=64, height=48, color=wanted)
    assert sink.color == wanted
    with sink:
        sink.write(Frame((np.full((48, 64), 64, np.uint16),) * 3, pts=0))
    with open_source(tmp_path / "new.mp4") as source:
        assert source.color == wanted
