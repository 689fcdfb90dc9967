"""What goes with a video goes with it into the next file, or a note says what does not."""

from fractions import Fraction

import av
import numpy as np
import pytest

from helpers.media import copy, cover_of, with_cover
from helpers.videos import frame_times, gradient, make_video, packets
from rlsp_tf.media.clock import Clock
from rlsp_tf.media.images import write_png
from rlsp_tf.media.stream_copy import StreamCopy
from rlsp_tf.media.video_reader import VideoSource


@pytest.fixture
def rich(tmp_path):
    (tmp_path / "two.srt").write_text(
        "1\n00:00:00,200 --> 00:00:00,600\nHello\n\n2\n00:00:00,700 --> 00:00:00,900\nWorld\n\n"
    )
    return make_video(
        tmp_path / "rich.mkv",
        audio=["aac", "libopus"],
        subtitles=tmp_path / "two.srt",
        attachment=True,
        chapters=True,
    )


def test_matroska_takes_everything_along(rich, tmp_path):
    target = tmp_path / "copy.mkv"
    sink, _ = copy(rich, target)
    assert sink.notes == []
    for kind in ("audio", "subtitle"):
        assert packets(target, kind) == packets(rich, kind)
    with av.open(str(rich)) as before, av.open(str(target)) as after:
        assert after.metadata["title"] == "Über den Wolken"
        assert after.chapters() == before.chapters()
        assert [stream.type for stream in after.streams] == [
            "video",
            "audio",
            "audio",
            "subtitle",
            "attachment",
        ]
        assert [stream.language for stream in after.streams] == [None, "deu", "deu", "eng", None]
        assert after.streams[4].name == "font.ttf"
        assert after.streams[4].mimetype == "application/x-truetype-font"
        # Padding before the first sound, of which no player must lose count.
        for index in (1, 2):
            assert (
                after.streams[index].codec_context.extradata == before.streams[index].codec_context.extradata
            )


def test_what_mp4_cannot_hold_is_said(rich, tmp_path):
    target = tmp_path / "copy.mp4"
    sink, _ = copy(rich, target)
    assert sink.notes == [
        f"{rich}: subtitle stream 3 (srt) became mov_text, since .mp4 cannot hold it as it is.",
        f"{rich}: attachment stream 4 (font.ttf) was left out, since .mp4 cannot hold it; "
        "name the output .mkv to keep it.",
    ]
    assert len(packets(target, "audio")) == 2
    for copied, heard in zip(packets(target, "audio"), packets(rich, "audio"), strict=True):
        assert [content for _, content in copied] == [content for _, content in heard]
        # MP4 counts samples where Matroska has counted milliseconds.
        assert max(abs(a - b) for (a, _), (b, _) in zip(copied, heard, strict=True)) <= Fraction(1, 48000)
    with av.open(str(target)) as after:
        assert [chapter["metadata"]["title"] for chapter in after.chapters()] == ["first", "second"]
        assert after.metadata["title"] == "Über den Wolken"
    # MP4 keeps titles of chapters in a stream; no note is due when it is not copied as such.
    again, _ = copy(target, tmp_path / "again.mp4")
    assert again.notes == []
    with av.open(str(tmp_path / "again.mp4")) as after:
        assert [chapter["metadata"]["title"] for chapter in after.chapters()] == ["first", "second"]


def test_a_cover_goes_along_and_is_no_clip(tmp_path):
    clip = make_video(tmp_path / "clip.mp4", audio=["aac"])
    write_png(tmp_path / "cover.png", gradient(3, 40, 30))
    path = with_cover(clip, tmp_path / "cover.png", tmp_path / "covered.mp4")
    content = (tmp_path / "cover.png").read_bytes()
    with VideoSource(path) as source:
        assert len(list(source)) == 25
    for source, target in [
        ("covered.mp4", "a.mp4"),
        ("a.mp4", "b.mkv"),
        ("b.mkv", "c.mkv"),
        ("c.mkv", "d.mp4"),
    ]:
        sink, _ = copy(tmp_path / source, tmp_path / target)
        assert sink.notes == []
        assert cover_of(tmp_path / target) == content
    sink, _ = copy(path, tmp_path / "e.mov")
    assert sink.notes == [
        f"{path}: video stream 2 (png) was left out, since .mov cannot hold it; "
        "name the output .mkv to keep it."
    ]


def test_sound_of_a_transport_stream_is_the_same_sound(tmp_path):
    """Its packets have headers that no other container wants, so the samples are compared."""
    path = make_video(tmp_path / "clip.ts", audio=["aac"])
    sink, _ = copy(path, tmp_path / "copy.mp4")

    def samples(path):
        with av.open(str(path)) as container:
            return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)

    np.testing.assert_array_equal(samples(tmp_path / "copy.mp4"), samples(path))
    assert sink.notes == []
    assert frame_times(tmp_path / "copy.mp4") == frame_times(path)


def test_sound_of_a_truncated_file_goes_as_far_as_it_goes(tmp_path):
    whole = make_video(
        tmp_path / "whole.mp4",
        range(0, 360_000, 3600),
        audio=["aac"],
        container_options={"movflags": "faststart"},
    )
    short = tmp_path / "short.mp4"
    short.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    copy(short, tmp_path / "copy.mp4")
    (heard,), (copied,) = packets(whole, "audio"), packets(tmp_path / "copy.mp4", "audio")
    assert 60 < len(copied) < len(heard)
    assert copied[:-1] == heard[: len(copied) - 1]


def test_subtitles_that_begin_together_do_so_still(tmp_path):
    (tmp_path / "two.srt").write_text(
        "1\n00:00:00,200 --> 00:00:00,600\nLeft\n\n2\n00:00:00,200 --> 00:00:00,900\nRight\n\n"
    )
    path = make_video(tmp_path / "clip.mkv", subtitles=tmp_path / "two.srt")
    assert [time for time, _ in packets(path, "subtitle")[0]] == [Fraction(1, 5)] * 2
    copy(path, tmp_path / "copy.mkv")
    assert packets(tmp_path / "copy.mkv", "subtitle") == packets(path, "subtitle")


def test_a_file_put_together_of_two_goes_on_in_time(tmp_path):
    """As ``cat a.ts b.ts`` makes it: time starts anew in the middle."""
    part = make_video(tmp_path / "part.ts", range(0, 50 * 3600, 3600), audio=["aac"])
    path = tmp_path / "both.ts"
    path.write_bytes(part.read_bytes() * 2)
    for suffix in (".mp4", ".mkv"):
        target = tmp_path / f"copy{suffix}"
        copy(path, target)
        times = frame_times(target)
        assert len(times) == 100
        start = frame_times(part)[0]
        assert max(abs(time - start - Fraction(n, 25)) for n, time in enumerate(times)) <= Fraction(1, 1000)
        (heard,), (once,) = packets(target, "audio"), packets(part, "audio")
        assert len(heard) == 2 * len(once)
        steps = np.diff([float(time) for time, _ in heard])
        # Each packet lasts 1024 samples; MPEG-TS counts in 1/90000 s and Matroska in 1/1000 s.
        np.testing.assert_allclose(steps, 1024 / 48000, atol=1.1e-3)
        # Sound of the second part is early or late by what the first part's sound was shorter or longer.
        assert abs(heard[len(once)][0] - times[50] - (once[0][0] - start)) < Fraction(1, 10)


@pytest.mark.parametrize(
    ("suffix", "video", "sound"), [(".ts", "libx264", "aac"), (".vob", "mpeg2video", "mp2")]
)
@pytest.mark.parametrize("parts", [2, 5])
def test_parts_of_less_than_a_second_go_on_in_time_too(parts, suffix, video, sound, tmp_path):
    part = make_video(
        tmp_path / f"part{suffix}", range(10), codec=video, audio=[sound], time_base=Fraction(1, 25)
    )
    path = tmp_path / f"all{suffix}"
    path.write_bytes(part.read_bytes() * parts)
    sink, _ = copy(path, tmp_path / "copy.mp4")
    assert sink.notes == []
    times = frame_times(tmp_path / "copy.mp4")
    assert [time - times[0] for time in times] == [Fraction(n, 25) for n in range(10 * parts)]
    (heard,), (once,) = packets(tmp_path / "copy.mp4", "audio"), packets(part, "audio")
    assert [content for _, content in heard] == [content for _, content in heard[: len(once)]] * parts
    lasts = (1024 if sound == "aac" else 1152) / 48000
    # MP4 counts samples where these count 1/90000 s.
    np.testing.assert_allclose(np.diff([float(time) for time, _ in heard]), lasts, rtol=0, atol=1 / 48000)


def test_a_single_wrong_time_stamp_moves_nothing_else(tmp_path):
    clock = Clock()
    stamps, times = [0, 10, 20, 5, 40, 50, 0, 10, 20, 30], []
    for stamp in stamps:
        times.append(clock.read(stamp, times[-1], 10) if times else stamp)
    assert times == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]


def test_sound_after_a_restart_of_the_clock_waits_for_its_time(tmp_path, monkeypatch):
    """Else a muxer would hold all of it in memory."""
    part = make_video(tmp_path / "part.ts", range(0, 50 * 3600, 3600), audio=["aac"])
    path = tmp_path / "both.ts"
    path.write_bytes(part.read_bytes() * 2)
    found = []
    with VideoSource(path) as source, av.open(str(tmp_path / "copy.mkv"), "w") as output:
        video = output.add_stream_from_template(source.decoder.container.streams.video[0], opaque=True)
        with StreamCopy(source, output, video, ".mkv", []) as others:
            output.start_encoding()
            monkeypatch.setattr(others, "mux", found.append)
            start = frame_times(part)[0]
            for second in (1, 2, 3):
                others.copy_until(start + second)
                # As many as are due; MPEG-TS has sound somewhat before the picture.
                assert abs(len(found) - second * 48000 / 1024) < 6
            others.copy_until(None)
    assert len(found) == 2 * len(packets(part, "audio")[0])
