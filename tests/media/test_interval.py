"""A part of a clip: the frames of its time and no others, with the sound and all else of that time."""

import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from helpers.media import contents, copy, cover_of, with_cover
from helpers.videos import gradient, make_video, packets
from rlsp_tf.errors import RLSPError, UsageError
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.media.images import FolderSource, write_png
from rlsp_tf.media.interval import Interval, clock_time, packets_from_key_frame
from rlsp_tf.media.open import open_sink, open_source
from rlsp_tf.media.video_decoder import VideoDecoder
from rlsp_tf.media.video_reader import VideoSource
from rlsp_tf.media.video_writer import VideoSink

FRAMES, RATE = 90, 30


def read(path, interval=Interval()):
    with VideoSource(path, interval=interval) as source:
        return [(frame.pts * source.time_base, frame.planes) for frame in source]


def expected(path, start, duration=None):
    """What decoding the whole file and choosing by time gives."""
    whole = read(path)
    origin = whole[0][0]
    chosen = [
        (time, planes)
        for time, planes in whole
        if time - origin >= start and (duration is None or time - origin < start + duration)
    ]
    shift = chosen[0][0] if start else 0
    return [(time - shift, planes) for time, planes in chosen]


def assert_frames(found, want):
    assert [time for time, _ in found] == [time for time, _ in want]
    for (_, planes), (_, others) in zip(found, want, strict=True):
        for plane, other in zip(planes, others, strict=True):
            np.testing.assert_array_equal(plane, other)


KINDS = {
    "mp4": (".mp4", "libx264", {"g": "12", "bf": "3"}),
    "open": (".mp4", "libx264", {"x264-params": "open-gop=1:keyint=9:bframes=3"}),
    "refresh": (".mkv", "libx264", {"x264-params": "intra-refresh=1:keyint=12:bframes=0"}),
    "hevc": (".mkv", "libx265", {"x265-params": "log-level=error:keyint=15:bframes=3"}),
    "one key frame": (".mp4", "libx264", {"g": "1000", "bf": "3"}),
    "ts": (".ts", "libx264", {"x264-params": "open-gop=1:keyint=9:bframes=2"}),
    "mpeg": (".mpg", "mpeg2video", {"g": "9", "bf": "2"}),
    "webm": (".webm", "libvpx-vp9", {"g": "20", "cpu-used": "8", "deadline": "realtime"}),
    "avi": (".avi", "mpeg4", {"g": "10", "bf": "2"}),
    "raw": (".h264", "libx264", {"g": "10"}),
}


@pytest.fixture(scope="module", params=KINDS)
def film(request, tmp_path_factory):
    suffix, codec, options = KINDS[request.param]
    path = tmp_path_factory.mktemp("film") / f"film{suffix}"
    return make_video(path, range(FRAMES), time_base=Fraction(1, RATE), codec=codec, options=options)


@pytest.mark.parametrize(
    ("start", "duration"),
    [
        (Fraction(1, 100), None),
        (Fraction(1, 3), Fraction(1, 2)),
        (Fraction(11, 30), Fraction(1, 30)),
        (Fraction(4, 5), Fraction(1)),
        (Fraction(1501, 1000), Fraction(1, 10)),
        (Fraction(2), None),
        (Fraction(89, 30), None),
        (Fraction(0), Fraction(1, 2)),
    ],
    ids=str,
)
def test_the_frames_are_those_of_the_whole(film, start, duration):
    found = read(film, Interval(start, duration))
    assert_frames(found, expected(film, start, duration))
    if start:
        assert found[0][0] == 0


@pytest.mark.parametrize(
    "duration", [None, Fraction(1, 25), Fraction(1, 10), Fraction(1), Fraction(9)], ids=str
)
@pytest.mark.parametrize("start", [Fraction(0), Fraction(1), Fraction(11, 30), Fraction(101, 100)], ids=str)
def test_the_number_of_frames_is_known_beforehand(start, duration, tmp_path):
    rate = Fraction(30000, 1001)
    path = make_video(tmp_path / "film.mp4", range(40), time_base=1 / rate, size=(32, 24))
    with VideoSource(path, interval=Interval(start, duration)) as source:
        assert source.frames == len([*source])


def test_every_frame_may_be_the_first(tmp_path):
    options = {"x264-params": "open-gop=1:keyint=7:bframes=3"}
    path = make_video(
        tmp_path / "film.mp4", range(40), time_base=Fraction(1, 30), size=(32, 24), options=options
    )
    whole = [planes for _, planes in read(path)]
    for index in range(1, 40):
        ((_, planes),) = read(path, Interval(Fraction(index, 30), Fraction(1, 30)))
        np.testing.assert_array_equal(planes[0], whole[index][0])


@pytest.mark.parametrize(
    "name", ["realshort_320x240.mp4", "world_480x270.mp4", "tears_of_steel_800x332.webm"]
)
def test_real_files(name, data):
    """A few frames within a second in the middle of each."""
    path = data / "video" / name
    with VideoSource(path) as source:
        middle = Fraction(source.frames, 2) / source.rate
        frames = [
            (frame.pts * source.time_base, frame.planes)
            for _, frame in zip(range(source.frames // 2 + 6), source, strict=False)
        ]
    chosen = [each for each in frames if middle <= each[0] < middle + Fraction(1, 10)]
    assert len(chosen) >= 2
    found = read(path, Interval(middle, Fraction(1, 10)))
    assert_frames(found, [(time - chosen[0][0], planes) for time, planes in chosen])


def test_what_comes_before_is_not_decoded(tmp_path, monkeypatch):
    """Neither with an index nor without one, where time stamps are in order."""
    decoded = []
    decode = VideoDecoder._decode

    def counted(self, packets):
        for frame in decode(self, packets):
            decoded.append(frame)
            yield frame

    monkeypatch.setattr(VideoDecoder, "_decode", counted)
    for suffix in (".mp4", ".mkv", ".ts"):
        path = make_video(
            tmp_path / f"film{suffix}",
            range(300),
            time_base=Fraction(1, 30),
            size=(32, 24),
            options={"g": "10"},
        )
        decoded.clear()
        assert len(read(path, Interval(Fraction(9), Fraction(1, 10)))) == 3
        assert len(decoded) < 60, suffix


def test_time_stamps_that_start_again_are_counted_through(tmp_path):
    """Two transport streams in one file: its second half begins at the time of its first."""
    one = make_video(tmp_path / "one.ts", range(30), time_base=Fraction(1, 30), options={"g": "10"})
    path = tmp_path / "two.ts"
    path.write_bytes(one.read_bytes() * 2)
    for start in (Fraction(1, 2), Fraction(3, 2)):
        assert_frames(read(path, Interval(start, Fraction(1, 5))), expected(path, start, Fraction(1, 5)))


@pytest.mark.parametrize("start", [Fraction(3), Fraction(3600)])
def test_beyond_the_end_is_a_sentence(film, start):
    with pytest.raises(
        RLSPError, match=r"film.*: its last frame is at 0:02.9\d\d; --start must not be later"
    ):
        VideoSource(film, interval=Interval(start))


def test_a_gap_without_a_frame_is_a_sentence(film):
    with pytest.raises(RLSPError, match="has no frame between --start and the end of --duration"):
        VideoSource(film, interval=Interval(Fraction(101, 100), Fraction(1, 1000)))


@pytest.mark.parametrize("values", [{"start": Fraction(-1)}, {"duration": Fraction(0)}])
def test_no_time_is_negative(values):
    with pytest.raises(UsageError):
        Interval(**values)


def cut(path, target, interval, **encoder):
    """An interval in a new file; gives the notes."""
    with VideoSource(path, interval=interval) as source:
        size = {"width": source.width, "height": source.height}
        with VideoSink(target, source, **size, encoder=EncoderOptions(preset="ultrafast", **encoder)) as sink:
            for frame in source:
                sink.write(frame)
    return sink.notes


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """Four seconds, with sound, subtitles and chapters."""
    folder = tmp_path_factory.mktemp("rich")
    lines = [
        (0.2, 0.9, "Before"),
        (0.95, 1.15, "Into"),
        (1.2, 1.3, "Within"),
        (1.9, 3.9, "Out"),
        (3, 3.5, "After"),
    ]
    (folder / "text.srt").write_text(
        "".join(
            f"{n}\n00:00:{a:06.3f} --> 00:00:{b:06.3f}\n{text}\n\n".replace(".", ",")
            for n, (a, b, text) in enumerate(lines, 1)
        )
    )
    return make_video(
        folder / "film.mkv",
        range(0, 4 * 90000, 3600),
        audio=("aac", "ac3"),
        subtitles=folder / "text.srt",
        chapters=True,
    )


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_sound_and_subtitles_are_cut_alike(rich, suffix, tmp_path):
    target = tmp_path / f"cut{suffix}"
    cut(rich, target, Interval(Fraction(1), Fraction(1)))
    assert len(packets(target, "video")[0]) == 25
    assert min(time for time, _ in packets(target, "video")[0]) == 0
    for copied, heard in zip(packets(target, "audio"), packets(rich, "audio"), strict=True):
        chosen = [(time - 1, content) for time, content in heard if 1 <= time < 2]
        assert [content for _, content in copied] == [content for _, content in chosen]
        # A packet of AC-3 has 32 ms; times are rounded to 1 ms in Matroska.
        assert 0 <= copied[0][0] < Fraction(33, 1000)
        for (have, _), (want, _) in zip(copied, chosen, strict=True):
            assert abs(have - want) <= Fraction(1, 1000)
    with av.open(str(target)) as container:
        texts = [
            (
                float(packet.pts * packet.time_base),
                float((packet.pts + packet.duration) * packet.time_base),
                bytes(packet).decode("utf-8", "replace").strip("\0\x01\x02\x03\x04\x05\x06\x07\n\r ")[-6:],
            )
            for packet in container.demux(container.streams.subtitles[0])
            if packet.size > 2
        ]
    assert texts == [(0.0, 0.15, "Into"), (0.2, 0.3, "Within"), (0.9, 1.0, "Out")]


def test_chapters_are_cut_alike(tmp_path):
    """Of those at 0 to 0.5 and 0.5 to 1 seconds."""
    path = make_video(tmp_path / "film.mkv", chapters=True)
    for (start, duration), want in {
        (Fraction(6, 25), Fraction(1, 2)): [(0, 0.26, "first"), (0.26, 0.5, "second")],
        (Fraction(3, 5), None): [(0, 0.4, "second")],
        (Fraction(0), Fraction(2, 5)): [(0, 0.4, "first")],
    }.items():
        cut(path, tmp_path / "cut.mkv", Interval(start, duration))
        with av.open(str(tmp_path / "cut.mkv")) as container:
            found = [
                (
                    float(chapter["start"] * chapter["time_base"]),
                    float(chapter["end"] * chapter["time_base"]),
                    chapter["metadata"]["title"],
                )
                for chapter in container.chapters()
            ]
        assert found == want
        (tmp_path / "cut.mkv").unlink()


def test_without_an_interval_everything_stays(rich, tmp_path):
    """An interval that holds all is the whole."""
    copy(rich, tmp_path / "whole.mkv", preset="ultrafast")
    cut(rich, tmp_path / "cut.mkv", Interval(duration=Fraction(100)))
    for kind in ("video", "audio", "subtitle"):
        assert packets(tmp_path / "cut.mkv", kind) == packets(tmp_path / "whole.mkv", kind)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_cover_belongs_to_every_interval(suffix, tmp_path):
    clip = make_video(tmp_path / "clip.mp4", audio=["aac"], options={"g": "5"})
    write_png(tmp_path / "cover.png", gradient(3, 40, 30))
    path = with_cover(clip, tmp_path / "cover.png", tmp_path / "covered.mp4")
    assert cut(path, tmp_path / f"cut{suffix}", Interval(Fraction(3, 5), Fraction(1, 5))) == []
    assert cover_of(tmp_path / f"cut{suffix}") == (tmp_path / "cover.png").read_bytes()
    assert len(packets(tmp_path / f"cut{suffix}", "audio")[0]) in (9, 10)


def test_a_time_code_is_not_that_of_a_later_frame(tmp_path):
    path = make_video(tmp_path / "film.mov", stream_metadata={"timecode": "01:00:00:00"})
    notes = cut(path, tmp_path / "cut.mov", Interval(Fraction(1, 2)))
    assert f"{path}: its time code was left out, since it is that of the first frame." in notes
    with av.open(str(tmp_path / "cut.mov")) as container:
        assert "timecode" not in container.streams.video[0].metadata


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "lr").mkdir()
    for index in range(20):
        write_png(tmp_path / "lr" / f"{index:02d}.png", gradient(index, 16, 12))
    return tmp_path / "lr"


@pytest.mark.parametrize(
    ("start", "duration", "rate", "names"),
    [
        (Fraction(0), Fraction(2, 25), None, range(2)),
        (Fraction(1, 2), None, None, range(13, 20)),
        (Fraction(1), Fraction(1, 5), 10, range(10, 12)),
        (Fraction(3, 2), Fraction(100), 10, range(15, 20)),
    ],
)
def test_images_are_counted_by_their_rate(start, duration, rate, names, folder):
    source = FolderSource(folder, interval=Interval(start, duration), rate=rate)
    frames = list(source)
    assert [frame.name for frame in frames] == [f"{index:02d}" for index in names]
    assert [frame.pts for frame in frames] == [*range(len(names))]
    for frame, index in zip(frames, names, strict=True):
        np.testing.assert_array_equal(frame.planes[0], gradient(index, 16, 12))


def test_images_end_too(folder):
    with pytest.raises(RLSPError, match=r"lr: its last image is at 0:00.760, at 25 images per second; --s"):
        FolderSource(folder, interval=Interval(Fraction(4, 5)))
    with pytest.raises(RLSPError, match=r"lr: has no image between"):
        FolderSource(folder, interval=Interval(Fraction(1, 100), Fraction(1, 100)))


def test_a_rate_that_counts_is_not_called_ignored(folder, tmp_path):
    with open_source(folder, interval=Interval(Fraction(1)), rate=10) as source:
        sink = open_sink(tmp_path / "out", source, width=16, height=12, encoder=EncoderOptions(rate=10))
        with sink:
            for frame in source:
                sink.write(frame)
    assert sink.notes == []
    assert contents(tmp_path / "out") == [f"{index}.png" for index in range(10, 20)]


def test_a_key_frame_is_looked_for_in_packets_that_are_in_order(tmp_path):
    path = make_video(tmp_path / "film.mp4", range(30), time_base=Fraction(1, 30), options={"g": "10"})
    with av.open(str(path)) as container:
        given = [packet for packet in container.demux(video=0) if packet.size]
    second = given[0].time_base.denominator
    pts, margin = 25 * second // 30, 4 * second // 30
    keys = [index for index, packet in enumerate(given) if packet.is_keyframe]
    first = max(index for index in keys if given[index].pts + margin <= pts)
    assert 0 < first < keys[-1]
    assert list(packets_from_key_frame(iter(given), pts, margin)) == given[first:]
    assert packets_from_key_frame(reversed(given), 2 * pts, margin) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00.000"), (83.5, "1:23.500"), (Fraction(37231, 10), "1:02:03.100")]
)
def test_times_are_written_as_they_are_read(seconds, text):
    assert clock_time(seconds) == text


def test_a_pipe_has_intervals_too(rich, tmp_path):
    """The reader in a process of its own, whose standard input is the file."""
    program = (
        "import sys\n"
        "from fractions import Fraction\n"
        "from rlsp_tf.media.encoders import EncoderOptions\n"
        "from rlsp_tf.media.interval import Interval\n"
        "from rlsp_tf.media.open import STDIN, VideoSource\n"
        "from rlsp_tf.media.video_writer import VideoSink\n"
        "with VideoSource(STDIN, interval=Interval(Fraction(1), Fraction(1))) as source:\n"
        "    size = {'width': source.width, 'height': source.height}\n"
        "    encoder = EncoderOptions(preset='ultrafast')\n"
        "    with VideoSink(sys.argv[1], source, **size, encoder=encoder) as sink:\n"
        "        for frame in source:\n"
        "            sink.write(frame)\n"
    )
    with rich.open("rb") as file:
        subprocess.run([sys.executable, "-c", program, tmp_path / "pipe.mkv"], stdin=file, check=True)
    cut(rich, tmp_path / "file.mkv", Interval(Fraction(1), Fraction(1)))
    for kind in ("video", "audio"):
        assert packets(tmp_path / "pipe.mkv", kind) == packets(tmp_path / "file.mkv", kind)
