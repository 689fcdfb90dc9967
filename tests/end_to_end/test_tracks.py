"""What players show and play of a file, and when, is what comes out: edits, tracks, late beginnings."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition

from helpers.media import assert_planes, copy
from helpers.mp4_edits import with_edits
from helpers.networks import small_model
from helpers.videos import frame_times, make_video, packets
from rlsp_tf.media.video_reader import VideoSource
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.upscaling.upscale import upscale

EXACT = {"video_track_timescale": "90000", "movie_timescale": "90000"}
PACKET = Fraction(1024, 48000)


@pytest.fixture
def whole(tmp_path):
    """Three seconds at 25 frames/s, every frame a key frame; sound begins one packet before."""
    return make_video(
        tmp_path / "whole.mp4",
        range(0, 75 * 3600, 3600),
        audio=["aac"],
        container_options=EXACT,
        options={"g": "1", "bf": "0"},
    )


def frames_of(path):
    with VideoSource(path) as source:
        return list(source), source


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("parts", [[(6, 50)], [(6, 25), (50, 65)]], ids=["beginning", "middle"])
def test_what_an_edit_list_cuts_out_stays_out(parts, suffix, whole, tmp_path):
    seconds = [(begin / 25, end / 25) for begin, end in parts]
    # Sound has its own time, in which the packet before the beginning is the first.
    sound = [(begin + float(PACKET), end + float(PACKET)) for begin, end in seconds]
    path = with_edits(whole, tmp_path / "cut.mp4", [seconds, sound])
    target = tmp_path / f"copy{suffix}"
    sink, frames = copy(path, target)
    assert sink.notes == []
    everything, _ = frames_of(whole)
    shown = [index for begin, end in parts for index in range(begin, end)]
    for frame, index in zip(frames, shown, strict=True):
        assert_planes(frame.planes, everything[index].planes)
    times = frame_times(target)
    assert [time - times[0] for time in times] == [Fraction(n, 25) for n in range(len(shown))]

    (played,), (heard,) = packets(target, "audio"), packets(whole, "audio")
    at = {content: time for time, content in heard}
    # Half a millisecond of Matroska for each of two times; later parts of sound begin up to one packet off.
    tolerance, offset = Fraction(1, 1000), 0
    for begin, end in parts:
        inside = [
            (time - times[0], at[content] - Fraction(begin, 25))
            for time, content in played
            if Fraction(begin, 25) <= at[content] < Fraction(end, 25)
        ]
        assert abs(len(inside) * PACKET - Fraction(end - begin, 25)) <= 2 * PACKET
        for time, expected in inside:
            assert abs(time - expected - offset) <= tolerance
        tolerance, offset = tolerance + PACKET, offset + Fraction(end - begin, 25)
    # Beside them there is what decoders need to start, and what reaches into a part or out of it.
    assert len(played) * PACKET <= offset + 6 * PACKET
    assert sum(at[content] + PACKET < Fraction(parts[0][0], 25) for _, content in played) <= 4


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("late", ["video", "sound"])
def test_what_begins_later_does_so_still(late, suffix, whole, tmp_path):
    pause = [(None, 0.5)]
    film, sound = [(0, 3)], [(float(PACKET), 3)]
    edits = [pause + film, sound] if late == "video" else [film, pause + sound]
    path = with_edits(whole, tmp_path / "late.mp4", edits)
    ahead = frame_times(path)[0] - packets(path, "audio")[0][0][0]
    assert abs(ahead - PACKET - (Fraction(1, 2) if late == "video" else -Fraction(1, 2))) < Fraction(1, 48000)
    for source in (path, tmp_path / "between.mkv"):
        target = tmp_path / f"copy{suffix}"
        sink, _ = copy(source, target, force=True)
        assert sink.notes == []
        times, (heard,) = frame_times(target), packets(target, "audio")
        assert len(times) == 75
        assert [content for _, content in heard] == [content for _, content in packets(path, "audio")[0]]
        # Half a millisecond of Matroska for each of two times, in each of two files.
        assert abs(times[0] - heard[0][0] - ahead) <= Fraction(2, 1000)
        copy(path, tmp_path / "between.mkv", force=True)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_variable_frame_rate_of_matroska_is_kept(suffix, tmp_path):
    times = [0, 40, 41, 100, 117, 1000, 1033, 1900]
    path = make_video(tmp_path / "clip.mkv", times, time_base=Fraction(1, 1000))
    copy(path, tmp_path / f"copy{suffix}")
    assert frame_times(tmp_path / f"copy{suffix}") == [Fraction(time, 1000) for time in times]


def joined(target, *paths, dispositions=(), languages=(), titles=()):
    """All streams of some files in one."""
    containers = [av.open(str(path)) for path in paths]
    with av.open(str(target), "w") as output:
        streams = [stream for container in containers for stream in container.streams]
        copies = {stream: output.add_stream_from_template(stream, opaque=True) for stream in streams}
        for copied, value in zip(copies.values(), dispositions, strict=False):
            copied.disposition = value.value
        for name, values in (("language", languages), ("title", titles)):
            for copied, value in zip(copies.values(), values, strict=False):
                copied.metadata[name] = value
        found = [packet for container in containers for packet in container.demux() if packet.size]
        for packet in found:
            packet.dts = packet.pts if packet.dts is None else packet.dts
        for packet in sorted(found, key=lambda packet: packet.dts * packet.time_base):
            packet.stream = copies[packet.stream]
            output.mux(packet)
    return target


def test_of_several_videos_the_best_is_taken_and_the_others_said(tmp_path):
    small = make_video(tmp_path / "small.mp4", size=(32, 32))
    large = make_video(tmp_path / "large.mp4", size=(96, 64), audio=["aac"])
    other = make_video(
        tmp_path / "other.mp4", size=(48, 48), codec="mpeg4", time_base=Fraction(1, 25), pts=range(25)
    )
    path = joined(tmp_path / "three.mkv", small, large, other)
    assert len(av.open(str(path)).streams.video) == 3
    sink, frames = copy(path, tmp_path / "copy.mkv")
    assert sink.notes == [
        f"{path}: video stream {index} ({codec}) was left out."
        for index, codec in ((0, "h264"), (3, "mpeg4"))
    ]
    for frame, expected in zip(frames, frames_of(large)[0], strict=True):
        assert_planes(frame.planes, expected.planes)
    with av.open(str(tmp_path / "copy.mkv")) as after:
        assert [stream.type for stream in after.streams] == ["video", "audio"]


STYLE = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, \
Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, \
MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1
"""


def subtitles_of_srt(folder, word):
    path = folder / f"{word}.srt"
    path.write_text(f"1\n00:00:00,200 --> 00:00:00,600\n{word}\n\n")
    return path


def subtitles_of_mp4(folder, word):
    path = folder / f"{word}.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mov_text")
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.subtitle_header = STYLE.encode()
        packet = av.Packet(len(word).to_bytes(2, "big") + word.encode())
        packet.pts, packet.dts, packet.duration, packet.time_base = 200, 200, 400, Fraction(1, 1000)
        packet.stream = stream
        output.mux(packet)
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_tracks_keep_their_order_languages_titles_and_marks(suffix, tmp_path):
    clip = make_video(tmp_path / f"clip{suffix}", audio=["aac", "aac", "ac3"])
    write = subtitles_of_mp4 if suffix == ".mp4" else subtitles_of_srt
    texts = [write(tmp_path, word) for word in ("Hello", "Hallo", "Salut")]
    none, first = Disposition(0), Disposition.default
    path = joined(
        tmp_path / f"tracks{suffix}",
        clip,
        *texts,
        dispositions=[first, none, first, Disposition.comment, none, Disposition.forced, first],
        languages=["und", "deu", "eng", "fra", "eng", "deu", "fra"],
        titles=["Film", "Deutsch", "English", "Commentaire", "Text", "Untertitel", "Sous-titres"],
    )
    target = tmp_path / f"copy{suffix}"
    sink, _ = copy(path, target)
    assert sink.notes == []

    def told(path):
        with av.open(str(path)) as container:
            return [
                (
                    stream.type,
                    stream.language,
                    stream.metadata.get("title", stream.metadata.get("name")),
                    stream.disposition,
                )
                for stream in container.streams
            ]

    assert [kind for kind, *_ in told(path)] == ["video"] + ["audio"] * 3 + ["subtitle"] * 3
    assert told(target) == told(path)
    # FFmpeg fills the time without subtitles in MP4 with empty ones.
    for kind in ("audio", "subtitle"):
        after, before = (
            [[content for _, content in stream if content != b"\0\0"] for stream in packets(each, kind)]
            for each in (target, path)
        )
        assert after == before


def test_upscaling_keeps_shape_turn_time_and_sound(tmp_path, rng):
    clip = make_video(
        tmp_path / "clip.mp4",
        range(0, 30 * 3600, 3600),
        size=(32, 24),
        audio=["alac"],
        rotation=90,
        sample_aspect_ratio=Fraction(16, 11),
        container_options=EXACT,
        options={"g": "10", "bf": "2"},
    )
    b_frames = 0.08  # by which they delay the first frame in the time of its track
    film, sound = (6 / 25 + b_frames, 1 + b_frames), (6 / 25, 1)
    path = with_edits(clip, tmp_path / "cut.mp4", [[film], [sound]])
    target = tmp_path / "large.mp4"
    notes = upscale(path, target, small_model(rng, RLSPConfig(filters=2, layers=2)))
    assert [note for note in notes if "matrix" not in note] == []
    assert frame_times(target) == frame_times(path) == [Fraction(n, 25) for n in range(19)]
    with av.open(str(target)) as container:
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height, frame.rotation) == (96, 128, 0)
        assert container.streams.video[0].sample_aspect_ratio == Fraction(11, 16)

    def samples(path):
        with av.open(str(path)) as container:
            return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)

    np.testing.assert_array_equal(samples(target), samples(path))
