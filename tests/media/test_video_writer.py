"""Frames and sound come out as they went in: times, samples, colour tags, packets."""

from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.media import assert_planes, copy
from helpers.small_disk import small_disk
from helpers.videos import TICK, frame_times, gradient, make_video, packets
from rlsp_tf.errors import RLSPError, UsageError
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.media.frames import Frame
from rlsp_tf.media.images import FolderSource, write_png
from rlsp_tf.media.pixel_formats import planes_from_rgb
from rlsp_tf.media.video_reader import VideoSource
from rlsp_tf.media.video_writer import VideoSink
from rlsp_tf.pixels.color import ColorSpec


def read(path):
    with VideoSource(path) as source:
        return list(source), source


@pytest.fixture
def clip(tmp_path):
    """Two seconds with sound, B-frames and a variable frame rate."""
    pts = [index * 3600 + (index % 3) * 700 for index in range(50)]
    exact = {"video_track_timescale": "90000"}
    return make_video(tmp_path / "clip.mp4", pts, audio=["aac"], container_options=exact)


@pytest.mark.parametrize("name", ["realshort_320x240.mp4", "world_480x270.mp4"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_real_videos_keep_every_time_stamp_and_every_bit_of_sound(data, name, suffix, tmp_path):
    path, target = data / "video" / name, tmp_path / f"copy{suffix}"
    sink, _ = copy(path, target, preset="ultrafast")
    assert sink.notes == []
    assert frame_times(target) == frame_times(path)
    assert packets(target, "audio") == packets(path, "audio")
    before, after = VideoSource(path), VideoSource(target)
    assert (after.time_base, after.rate, after.frames) == (before.time_base, before.rate, before.frames)


@pytest.mark.slow
def test_a_long_real_video_is_copied_in_little_memory(data, tmp_path):
    path, target = data / "video" / "tears_of_steel_800x332.webm", tmp_path / "copy.mkv"
    status = Path("/proc/self/statm")
    resident, times = [], []
    with VideoSource(path) as source:
        sink = VideoSink(target, source, width=800, height=332, encoder=EncoderOptions(preset="ultrafast"))
        with sink:
            for index, frame in enumerate(source):
                sink.write(frame)
                times.append(frame.pts * source.time_base)
                if index % 600 == 400 and status.exists():
                    resident.append(int(status.read_text().split()[1]) * 4096)
    assert sink.notes == []
    assert len(times) == 1691
    assert frame_times(target) == times
    assert packets(target, "audio") == packets(path, "audio")
    with VideoSource(target) as after:
        assert after.sample_aspect_ratio == source.sample_aspect_ratio == Fraction(399, 400)
    # 1200 frames between the first look and the last are 480 MB.
    assert not resident or resident[-1] - resident[0] < 20 * 2**20


@pytest.mark.parametrize(
    "codec",
    ["libx264", *(pytest.param(name, marks=pytest.mark.slow) for name in ("libx265", "libvpx-vp9"))],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_times_and_sound_stay_together_in_every_container(codec, suffix, clip, tmp_path):
    if (suffix == ".webm") != (codec == "libvpx-vp9"):
        return
    target = tmp_path / f"copy{suffix}"
    sink, _ = copy(clip, target, codec=codec, crf=30)
    times, expected = frame_times(target), frame_times(clip)
    (heard,) = packets(clip, "audio")
    if suffix == ".webm":
        assert len(packets(target, "audio")) == 1
        assert sink.notes == [
            f"{clip}: sound stream 1 (aac) became opus, since .webm cannot hold it as it is."
        ]
        assert max(abs(a - b) for a, b in zip(times, expected, strict=True)) <= Fraction(1, 2000)
        return
    assert sink.notes == []
    (copied,) = packets(target, "audio")
    assert [content for _, content in copied] == [content for _, content in heard]
    if suffix == ".mkv":
        # The sound's first packet lies before 0, where Matroska has no times: everything moves alike.
        shift = -heard[0][0]
        assert shift == Fraction(1024, 48000)
    else:
        shift = 0
        assert times == expected
        assert copied == heard
    tolerance = Fraction(1, 1000)  # half a millisecond each for the time and the shift
    for (time, _), (before, _) in zip(copied, heard, strict=True):
        assert abs(time - before - shift) <= tolerance
    for time, before in zip(times, expected, strict=True):
        assert abs(time - before - shift) <= tolerance


@settings(max_examples=20)
@given(
    steps=st.lists(st.integers(1, 300_000), max_size=12),
    start=st.integers(0, 10**6),
    time_base=st.sampled_from(
        [TICK, Fraction(1, 30), Fraction(1, 1000), Fraction(1001, 30000), Fraction(1499, 45000)]
    ),
)
def test_any_time_stamps_are_kept_exactly(steps, start, time_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("times")
    pts = [start]
    for step in steps:
        pts.append(pts[-1] + step)
    source = make_video(folder / "source.mp4", [0], size=(16, 16))
    with VideoSource(source) as template:
        template.time_base = time_base
        (frame,) = template
        with VideoSink(folder / "times.mp4", template, width=16, height=16) as sink:
            for tick in pts:
                sink.write(replace(frame, pts=tick, duration=None))
    assert frame_times(folder / "times.mp4") == [tick * time_base for tick in pts]


def test_a_late_start_is_kept(tmp_path):
    exact = {"video_track_timescale": "90000", "movie_timescale": "90000"}
    path = make_video(
        tmp_path / "late.mp4", range(450_001, 540_001, 3600), audio=["aac"], container_options=exact
    )
    copy(path, tmp_path / "copy.mp4")
    assert frame_times(tmp_path / "copy.mp4") == frame_times(path)
    assert frame_times(path)[0] == Fraction(450_001, 90_000)
    ((first, *_),) = packets(path, "audio")
    ((copied, *_),) = packets(tmp_path / "copy.mp4", "audio")
    assert abs(first[0] - copied[0]) <= Fraction(1, 48000)


@pytest.mark.parametrize("step", [3600, 3003])
def test_the_last_frame_lasts_as_long_as_the_others(step, tmp_path):
    exact = {"video_track_timescale": "90000", "movie_timescale": "90000"}
    path = make_video(tmp_path / "clip.mp4", range(0, 20 * step, step), container_options=exact)
    copy(path, tmp_path / "copy.mp4")
    with av.open(str(tmp_path / "copy.mp4")) as container:
        assert container.streams.video[0].duration == 20 * step


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "libsvtav1", "ffv1"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_shortest_clips_are_clips(codec, count, tmp_path):
    path = make_video(tmp_path / "clip.mp4", range(0, count * 3600, 3600))
    copy(path, tmp_path / "copy.mp4", codec=codec, crf=30)
    assert frame_times(tmp_path / "copy.mp4") == frame_times(path)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize(
    "tags",
    [
        {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 1},
        {"colorspace": 5, "color_primaries": 5, "color_trc": 4, "color_range": 1},
        {
            "colorspace": 9,
            "color_primaries": 9,
            "color_trc": 16,
            "color_range": 1,
            "pixel_format": "yuv420p10le",
        },
        {"colorspace": 1, "color_primaries": 12, "color_trc": 13, "color_range": 2},
        {"colorspace": 4, "color_primaries": 4, "color_trc": 4, "color_range": 1},
    ],
    ids=lambda tags: str(tags["colorspace"]),
)
def test_colour_tags_and_the_shape_of_pixels_are_carried(tags, codec, tmp_path):
    path = make_video(tmp_path / "tagged.mp4", [0, 3600], sample_aspect_ratio=Fraction(16, 11), **tags)
    copy(path, tmp_path / "copy.mp4", codec=codec)
    before, after = VideoSource(path), VideoSource(tmp_path / "copy.mp4")
    assert after.tags == before.tags == (tags["colorspace"], tags["color_primaries"], tags["color_trc"])
    assert after.color == before.color
    assert after.color.full_range == (tags["color_range"] == 2)
    assert after.sample_aspect_ratio == Fraction(16, 11)


def test_a_guessed_matrix_is_written_down(tmp_path):
    """Else a player would take the enlarged video, which has more lines, for another one."""
    path = make_video(tmp_path / "small.mp4", [0], size=(64, 48))
    with (
        VideoSource(path) as source,
        VideoSink(tmp_path / "large.mp4", source, width=64, height=1080) as sink,
    ):
        (frame,) = source
        sink.write(
            replace(
                frame, planes=tuple(np.zeros((h, w), np.uint8) for h, w in [(1080, 64), (540, 32), (540, 32)])
            )
        )
    assert VideoSource(tmp_path / "large.mp4").color == source.color == ColorSpec("bt601", full_range=False)


@pytest.mark.parametrize(
    ("pixel_format", "codec", "options"),
    [
        ("yuv420p", "libx264", {"crf": 0}),
        ("yuv422p", "libx264", {"crf": 0}),
        ("yuv444p10le", "ffv1", {}),
        ("yuv420p16le", "ffv1", {}),
        ("yuvj420p", "ffv1", {}),
        ("nv12", "ffv1", {}),
    ],
)
def test_lossless_encoders_lose_nothing(pixel_format, codec, options, tmp_path):
    made_by = "rawvideo" if pixel_format == "nv12" else "mjpeg" if pixel_format == "yuvj420p" else "ffv1"
    path = make_video(
        tmp_path / "source.mkv", range(0, 18000, 3600), codec=made_by, pixel_format=pixel_format
    )
    sink, written = copy(path, tmp_path / "copy.mkv", codec=codec, **options)
    frames, source = read(tmp_path / "copy.mkv")
    for frame, expected in zip(frames, written, strict=True):
        assert_planes(frame.planes, expected.planes)
    assert sink.notes == []
    assert source.color == replace(sink.color, chroma_location="left")


@pytest.mark.parametrize("pixel_format", ["rgb48le", "bgr0", "gbrp10le"])
def test_rgb_stays_rgb_with_a_lossless_encoder(pixel_format, tmp_path):
    path = make_video(tmp_path / "source.mkv", range(0, 10800, 3600), codec="ffv1", pixel_format=pixel_format)
    sink, written = copy(path, tmp_path / "copy.mkv", codec="ffv1")
    frames, _ = read(tmp_path / "copy.mkv")
    assert sink.color is None
    assert_planes([frame.planes[0] for frame in frames], [frame.planes[0] for frame in written])


def test_rgb_becomes_bt709_elsewhere(tmp_path, rng):
    for index in range(3):
        write_png(tmp_path / f"{index}.png", rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    source = FolderSource(tmp_path)
    with VideoSink(tmp_path / "clip.mp4", source, width=64, height=48, encoder=EncoderOptions(crf=0)) as sink:
        for frame in source:
            sink.write(frame)
    assert sink.color == ColorSpec("bt709", full_range=False)
    frames, clip = read(tmp_path / "clip.mp4")
    assert clip.color == sink.color
    assert clip.tags == (1, 1, 1)
    for frame, image in zip(frames, source, strict=True):
        assert_planes(frame.planes, planes_from_rgb(image.planes[0], sink.color))


@pytest.mark.parametrize(
    ("codec", "suffix", "stored", "note"),
    [
        (
            "libvpx",
            ".webm",
            (8, (2, 2)),
            "keeps 8 of 12 bits per sample and fewer chroma samples than there were",
        ),
        (
            "libsvtav1",
            ".mp4",
            (10, (2, 2)),
            "keeps 10 of 12 bits per sample and fewer chroma samples than there were",
        ),
        ("libx264", ".mp4", (10, (2, 1)), "keeps 10 of 12 bits per sample"),
        ("libx265", ".mp4", (12, (2, 1)), None),
        ("ffv1", ".mkv", (12, (2, 1)), None),
    ],
)
def test_the_encoder_gets_what_is_nearest_and_a_loss_is_said(codec, suffix, stored, note, tmp_path):
    path = make_video(tmp_path / "deep.mkv", [0], codec="ffv1", pixel_format="yuv422p12le")
    source = VideoSource(path)
    sink = VideoSink(
        tmp_path / f"copy{suffix}", source, width=64, height=48, encoder=EncoderOptions(codec, crf=30)
    )
    assert (sink.color.depth, sink.color.subsampling) == stored
    expected = [f"{sink.path}: {codec} {note}; ffv1 in .mkv keeps them all."] if note else []
    assert sink.notes == expected
    with sink:
        sink.write(Frame((gradient(0, 64, 48),), pts=0))
    frames, after = read(sink.path)
    assert (after.color.depth, after.color.subsampling) == stored
    assert len(frames) == 1


@pytest.mark.parametrize(
    ("rate", "time_base"),
    [(None, Fraction(1, 25)), (29.97, Fraction(100, 2997)), (Fraction(30000, 1001), Fraction(1001, 30000))],
)
def test_images_get_a_rate(rate, time_base, tmp_path):
    for index in range(5):
        write_png(tmp_path / f"{index}.png", gradient(index, 64, 48))
    source = FolderSource(tmp_path)
    with VideoSink(
        tmp_path / "clip.mp4", source, width=64, height=48, encoder=EncoderOptions(rate=rate)
    ) as sink:
        for frame in source:
            sink.write(frame)
    assert frame_times(tmp_path / "clip.mp4") == [index * time_base for index in range(5)]


REFUSED = [
    ({"path": "clip.mp4"}, r"clip\.mp4: exists already; give another name or --force"),
    ({"path": "clip.mp4", "force": True}, r"clip\.mp4: is the input; give the output another name"),
    (
        {"path": "new.avi"},
        r"new\.avi: not a video that can be written; choose \.mp4, \.m4v, \.mov, \.mkv, \.webm",
    ),
    ({"path": "clip.mp4/new.mp4"}, r"new\.mp4: .*clip\.mp4 is a file, not a folder; choose another place"),
    (
        {"path": "new.webm", "encoder": EncoderOptions(codec="libx264")},
        r"new\.webm: \.webm cannot hold video of libx264; choose libvpx-vp9, or name it \.mkv",
    ),
    (
        {"path": "new.mov", "encoder": EncoderOptions(codec="libvpx-vp9")},
        r"new\.mov: \.mov cannot hold video of libvpx-vp9; choose libx264",
    ),
    (
        {"encoder": EncoderOptions(codec="x264")},
        r"^x264: FFmpeg has no such encoder; choose for example libx264, libx265",
    ),
    ({"encoder": EncoderOptions(codec="aac")}, r"^aac: does not encode video"),
    ({"encoder": EncoderOptions(codec="gif")}, r"^gif: takes none of the usual pixel formats"),
    (
        {"encoder": EncoderOptions(preset="quick")},
        r"^quick: not a preset of libx264; choose one of ultrafast, superfast",
    ),
    (
        {"encoder": EncoderOptions(codec="libvpx-vp9", preset="fast")},
        r"^libvpx-vp9: has no presets; leave out --preset",
    ),
    (
        {"encoder": EncoderOptions(codec="libsvtav1", preset="fast")},
        r"libsvtav1 refuses 64x48 in yuv420p with crf 18, preset fast; check",
    ),
    (
        {"encoder": EncoderOptions(crf=-3)},
        r"new\.mp4: libx264 refuses 64x48 in yuv420p with crf -3; check --codec, --crf and --preset",
    ),
    ({"width": 63}, r"new\.mp4: libx264 refuses 63x48 in yuv420p with crf 18; the size must be even"),
]


@pytest.mark.parametrize(("options", "sentence"), REFUSED, ids=lambda value: str(value))
def test_what_cannot_be_written_is_one_sentence_and_no_file(options, sentence, clip, tmp_path):
    options = {"path": "new.mp4", "width": 64, "height": 48, **options}
    path = tmp_path / options.pop("path")
    content = clip.read_bytes()
    with VideoSource(clip) as source, pytest.raises(RLSPError, match=sentence):
        VideoSink(path, source, **options).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
    assert clip.read_bytes() == content


@pytest.mark.parametrize("rate", [25, 0, -1.0, float("nan"), float("inf")])
def test_a_rate_is_for_images_only_and_above_zero(rate, clip, tmp_path):
    write_png(tmp_path / "image.png", gradient(0, 64, 48))
    source = VideoSource(clip) if rate == 25 else FolderSource(tmp_path / "image.png")
    with pytest.raises(UsageError, match="has a frame rate of its own" if rate == 25 else "must be above 0"):
        VideoSink(tmp_path / "new.mp4", source, width=64, height=48, encoder=EncoderOptions(rate=rate))


@pytest.mark.parametrize(
    "planes",
    [
        (np.zeros((48, 63, 3), np.uint8),),
        (np.zeros((48, 64), np.uint8),) * 3,
        (np.zeros((48, 64), np.uint16), np.zeros((24, 32), np.uint16), np.zeros((24, 32), np.uint16)),
    ],
)
def test_frames_of_another_form_are_refused(planes, clip, tmp_path):
    with VideoSource(clip) as source:
        sink = VideoSink(tmp_path / "new.mp4", source, width=64, height=48)
        with pytest.raises(RLSPError, match=r"new.mp4: a frame must be uint8"), sink:
            sink.write(Frame(planes, pts=0))
    assert not sink.path.exists()


def test_no_frame_is_no_video(clip, tmp_path):
    with VideoSource(clip) as source:
        sink = VideoSink(tmp_path / "new.mp4", source, width=64, height=48)
        with pytest.raises(RLSPError, match="no frame was given"), sink:
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_what_existed_stays_until_the_new_one_is_complete(clip, tmp_path):
    target = tmp_path / "old.mkv"
    target.write_bytes(b"old")
    with VideoSource(clip) as source:
        sink = VideoSink(target, source, width=64, height=48, force=True)

        def interrupted():
            with sink:
                for frame in islice(source, 30):
                    sink.write(frame)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "old.mkv"]
    copy(clip, target, force=True)
    assert len(frame_times(target)) == 50


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("kib", [4, 64, 512])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(suffix, kib, data, tmp_path):
    path = data / "video" / "realshort_320x240.mp4"
    with small_disk(tmp_path / "disk", kib) as disk:
        with pytest.raises(
            RLSPError, match=f"^{disk}/copy{suffix}: no space left on device; free some space"
        ):
            copy(path, disk / f"copy{suffix}", crf=0)
        assert list(disk.iterdir()) == []
