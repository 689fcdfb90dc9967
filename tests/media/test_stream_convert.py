"""Sound and text that a container cannot hold become what it can hold, at the same times."""

from fractions import Fraction

import av
import numpy as np
import pytest

from helpers.media import copy
from helpers.videos import frame_times, make_video, packets

CLICKS = (0.25, 0.5, 0.75)


def clicking(path, codec, *, layout="stereo", rate=48000, format=None):
    """A second of video and of silence with clicks, in float or whole numbers as the encoder has it."""
    with av.open(str(path), "w", metadata_errors="surrogateescape") as output:
        video = output.add_stream("libx264", rate=25)
        video.codec_context.width, video.codec_context.height = 32, 32
        sound = output.add_stream(codec, rate=rate)
        sound.codec_context.layout = layout
        sound.codec_context.bit_rate = 128_000
        if format:
            sound.codec_context.format = format
        sound.metadata["language"] = "deu"
        samples = np.zeros((sound.codec_context.layout.nb_channels, rate), np.float32)
        for click in CLICKS:
            samples[:, round(click * rate) : round(click * rate) + 8] = 0.5
        for index in range(25):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 10 * index, np.uint8))
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(video.encode(frame))
            first = index * rate // 25
            heard = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples[:, first : (index + 1) * rate // 25]),
                format="fltp",
                layout=layout,
            )
            heard.sample_rate, heard.pts, heard.time_base = rate, first, Fraction(1, rate)
            output.mux(sound.encode(heard))
        output.mux(video.encode(None))
        output.mux(sound.encode(None))
    return path


def heard_in(path):
    """Samples of the first channel of a file's sound, their times in seconds, and the encoder's name."""
    with av.open(str(path)) as container:
        (stream,) = container.streams.audio
        times, samples = [], []
        resampler = av.AudioResampler("fltp", stream.codec_context.layout, stream.codec_context.sample_rate)
        for frame in container.decode(stream):
            for each in resampler.resample(frame):
                after = times[-1][-1] + 1 / each.sample_rate if times else 0.0
                first = after if each.pts is None else float(each.pts * each.time_base)
                times.append(first + np.arange(each.samples) / each.sample_rate)
                samples.append(each.to_ndarray()[0])
        return np.concatenate(times), np.concatenate(samples), stream.codec_context


def clicks_in(path):
    """When clicks are heard, after the first frame is seen."""
    times, samples, _ = heard_in(path)
    found = [
        times[near][np.abs(samples[near]).argmax()]
        for near in (np.abs(times - times[0] - click) < 0.1 for click in CLICKS)
    ]
    return np.array(found) - float(frame_times(path)[0])


@pytest.mark.parametrize(
    ("codec", "source", "suffix", "becomes"),
    [
        ("aac", ".mp4", ".webm", "opus"),
        ("pcm_s16le", ".mkv", ".webm", "opus"),
        ("libopus", ".mkv", ".mov", "aac"),
        ("wmav2", ".wmv", ".mp4", "aac"),
        ("wmav2", ".wmv", ".mkv", "opus"),
        ("flac", ".mkv", ".mov", "alac"),
        ("pcm_u8", ".mkv", ".mp4", "alac"),
    ],
)
def test_sound_is_converted_and_stays_in_time(codec, source, suffix, becomes, tmp_path):
    path = clicking(tmp_path / f"clip{source}", codec)
    video = "libvpx-vp9" if suffix == ".webm" else "libx264"
    sink, _ = copy(path, tmp_path / f"copy{suffix}", codec=video)
    (note,) = (note for note in sink.notes if "sound" in note)
    assert note.endswith(f" became {becomes}, since {suffix} cannot hold it as it is.")
    _, samples, context = heard_in(tmp_path / f"copy{suffix}")
    assert (context.name, context.layout.name, context.sample_rate) == (becomes, "stereo", 48000)
    # Milliseconds of Matroska on both sides; a click of 8 samples is spread a little.
    np.testing.assert_allclose(clicks_in(tmp_path / f"copy{suffix}"), clicks_in(path), rtol=0, atol=0.002)
    assert 0.4 < np.abs(samples).max() < 0.6
    with av.open(str(tmp_path / f"copy{suffix}")) as container:
        # Both are German; QuickTime and ASF know the older code.
        older = ".mov" in (source, suffix) or source == ".wmv"
        assert container.streams.audio[0].language == ("ger" if older else "deu")
    if becomes == "alac":
        before = heard_in(path)[1]
        np.testing.assert_array_equal(samples[: len(before)], before)


@pytest.mark.parametrize(("layout", "rate"), [("5.1(side)", 44100), ("mono", 22050), ("quad", 48000)])
def test_all_channels_and_all_rates_fit(layout, rate, tmp_path):
    path = clicking(tmp_path / "clip.mkv", "flac", layout=layout, rate=rate, format="s16")
    copy(path, tmp_path / "copy.webm", codec="libvpx-vp9")
    _, _, context = heard_in(tmp_path / "copy.webm")
    assert context.sample_rate == 48000
    assert context.layout.nb_channels == {"5.1(side)": 6, "mono": 1, "quad": 4}[layout]
    np.testing.assert_allclose(clicks_in(tmp_path / "copy.webm"), CLICKS, rtol=0, atol=0.002)


def test_sound_that_is_damaged_is_converted_as_far_as_it_goes(tmp_path):
    path = make_video(tmp_path / "clip.mkv", audio=["aac"])
    content = bytearray(path.read_bytes())
    (heard,) = packets(path, "audio")
    for _, packet in heard[20:23]:
        at = content.index(packet)
        content[at : at + len(packet)] = bytes(len(packet))
    path.write_bytes(content)
    sink, _ = copy(path, tmp_path / "copy.webm", codec="libvpx-vp9")
    assert sink.notes[-1].startswith(f"{path}: is damaged; ")
    times, _, _ = heard_in(tmp_path / "copy.webm")
    assert times[-1] - times[0] > 0.9


@pytest.mark.parametrize(
    ("source", "suffix", "codec"),
    [(".mkv", ".mp4", "mov_text"), (".mkv", ".webm", "webvtt"), (".mp4", ".mkv", "subrip")],
)
def test_text_is_converted_and_stays_in_time(source, suffix, codec, tmp_path):
    (tmp_path / "two.srt").write_text(
        "1\n00:00:00,200 --> 00:00:00,600\nHello <i>you</i>\n\n2\n00:00:00,700 --> 00:00:00,900\n"
        "Wörld\nline two\n\n",
        "utf-8",
    )
    path = make_video(tmp_path / "clip.mkv", subtitles=tmp_path / "two.srt")
    if source == ".mp4":
        copy(path, tmp_path / "clip.mp4")
        path = tmp_path / "clip.mp4"
    video = "libvpx-vp9" if suffix == ".webm" else "libx264"
    sink, _ = copy(path, tmp_path / f"copy{suffix}", codec=video)
    assert any(f" became {codec}, since {suffix}" in note for note in sink.notes)
    with av.open(str(tmp_path / f"copy{suffix}")) as container:
        (stream,) = container.streams.subtitles
        assert stream.codec_context.codec.canonical_name == codec
        assert stream.language == "eng"
        found = []
        for packet in container.demux(stream):
            if packet.size:
                for text in packet.decode():
                    words = text.dialogue.decode().replace("{\\i1}", "").replace("{\\i0}", "")
                    found.append((float(packet.pts * packet.time_base), packet.duration, words))
    start = float(frame_times(tmp_path / f"copy{suffix}")[0])
    assert [words.replace("\\N", "\n") for _, _, words in found] == ["Hello you", "Wörld\nline two"]
    np.testing.assert_allclose([time - start for time, _, _ in found], [0.2, 0.7], rtol=0, atol=0.001)
