"""What other programs read of a result: its frame rate, its tags, and what its camera has told."""

import re
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from helpers.media import copy, cover_of, cropped, with_cover
from helpers.networks import small_model
from helpers.videos import frame_times, gradient, make_video, packets
from rlsp_tf.cli.main import main as cli
from rlsp_tf.errors import RLSPError
from rlsp_tf.media.images import write_png
from rlsp_tf.media.video_reader import VideoSource
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.upscaling.plan import targets_of
from rlsp_tf.upscaling.upscale import upscale

SUFFIXES = [".mp4", ".mov", ".mkv", ".webm"]
OPTIONS = {"segment": 10, "warm_start": 0}


@pytest.fixture
def model(rng):
    return small_model(rng, RLSPConfig(filters=2, layers=2))


def default_duration(path):
    """Of the first track in a Matroska file, in nanoseconds (element 0x23E383); ``None`` if it has none."""
    content = path.read_bytes()
    at = content.find(b"\x23\xe3\x83")
    return None if at < 0 else int.from_bytes(content[at + 4 : at + 4 + (content[at + 3] & 0x7F)], "big")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "rate",
    [
        Fraction(25),
        Fraction(30000, 1001),
        *(pytest.param(Fraction(rate), marks=pytest.mark.slow) for rate in (12, 120)),
    ],
)
@pytest.mark.parametrize("source", [".mp4", ".mkv"])
def test_a_constant_rate_is_declared(source, rate, suffix, step, tmp_path):
    path = make_video(
        tmp_path / f"film{source}", range(13), time_base=1 / rate, size=(16, 16), framerate=rate
    )
    target = tmp_path / f"large{suffix}"
    upscale(path, target, step, **OPTIONS)
    capture = cv2.VideoCapture(str(target))
    # Times in milliseconds stay what they are in MP4, where the rate is what they make of it.
    rounded = Fraction(1, 1000) if source == ".mkv" and suffix in (".mp4", ".mov") else 0
    assert abs(13 / capture.get(cv2.CAP_PROP_FPS) - 13 / rate) <= rounded + 1e-9
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 13
    read = 0
    while capture.read()[0]:
        read += 1
    assert read == 13
    with av.open(str(target)) as container:
        assert rounded or container.streams.video[0].average_rate == rate
    if suffix in (".mkv", ".webm"):
        # To the nanosecond, in which it is declared.
        assert abs(default_duration(target) - 10**9 / rate) <= 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_rate_that_varies_is_not_declared(suffix, step, tmp_path):
    times = [0, 40, 41, 100, 117, 1000, 1033, 1900]
    path = make_video(tmp_path / "film.mkv", times, time_base=Fraction(1, 1000), size=(16, 16))
    target = tmp_path / f"large{suffix}"
    upscale(path, target, step, **OPTIONS)
    assert frame_times(target) == [Fraction(time, 1000) for time in times]
    if suffix in (".mkv", ".webm"):
        assert default_duration(target) is None


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_hevc_has_the_tag_that_players_of_apple_ask_for(suffix, step, tmp_path):
    path = make_video(tmp_path / "film.mp4", size=(16, 16))
    upscale(path, tmp_path / f"large{suffix}", step, codec="libx265", **OPTIONS)
    with av.open(str(tmp_path / f"large{suffix}")) as container:
        assert container.streams.video[0].codec_tag == "hvc1"


CAMERA = {
    "com.apple.quicktime.make": "Apple",
    "com.apple.quicktime.model": "iPhone 12",
    "com.apple.quicktime.location.ISO6709": "+48.1351+011.5820+519.000/",
    "com.apple.quicktime.creationdate": "2021-05-01T12:00:00+0200",
}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_a_camera_tells_goes_along(suffix, step, tmp_path):
    film = make_video(tmp_path / "film.mov", size=(16, 16), audio=["aac"])
    path = tmp_path / "phone.mov"
    with (
        av.open(str(film)) as source,
        av.open(str(path), "w", container_options={"movflags": "use_metadata_tags"}) as output,
    ):
        copies = {stream: output.add_stream_from_template(stream, opaque=True) for stream in source.streams}
        output.metadata.update(CAMERA, creation_time="2021-05-01T10:00:00.000000Z")
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream]
                output.mux(packet)
    upscale(path, tmp_path / f"large{suffix}", step, **OPTIONS)
    with av.open(str(tmp_path / f"large{suffix}")) as container:
        # Matroska has names in capitals.
        told = {name.lower(): value for name, value in container.metadata.items()}
    for name, value in CAMERA.items():
        assert told[name.lower()] == value
    assert told["creation_time"].startswith("2021-05-01T10:00:00")


def test_webm_needs_no_codec_to_be_named(tmp_path, model):
    path = make_video(tmp_path / "film.mp4", size=(16, 16), audio=["aac"])
    model.save(tmp_path / "net.keras")
    arguments = ["--model", str(tmp_path / "net.keras"), "--warm-start", "0"]
    assert cli(["upscale", str(path), str(tmp_path / "large.webm"), *arguments]) == 0
    with av.open(str(tmp_path / "large.webm")) as container:
        assert [stream.codec_context.name for stream in container.streams] == ["vp9", "opus"]
    assert len(packets(tmp_path / "large.webm", "audio")[0]) > 40


def test_results_have_names_that_can_be_written(tmp_path):
    folder = tmp_path / "frames.d"
    folder.mkdir()
    (tmp_path / "film").write_bytes(b"a video without a suffix")
    names = {
        "a.jpg": "a.png",
        "b.TIFF": "b.png",
        "c.webp": "c.png",
        "d.png": "d.png",
        "e.gif": "e.mkv",
        "f.avi": "f.mkv",
        "g.vob": "g.mkv",
        "h.webm": "h.webm",
        "i.MP4": "i.MP4",
        "film": "film.mkv",
        "frames.d": "frames.d",
    }
    sources = [str(tmp_path / name) for name in names]
    assert targets_of(sources, "out") == [f"out/{name}" for name in names.values()]
    assert targets_of(["s3://films/a.vob", "s3://films/frames/"], "s3://out") == [
        "s3://out/a.mkv",
        "s3://out/frames",
    ]


def test_whatever_can_be_read_gets_a_result(tmp_path, model):
    """Pictures become PNG and animated ones a video, each in its own right."""
    model.save(tmp_path / "net.keras")
    write_png(tmp_path / "still.png", gradient(0, 16, 12))
    Image.fromarray(gradient(1, 16, 12)).save(tmp_path / "photo.jpg")
    pictures = [Image.fromarray(gradient(index, 16, 12)) for index in range(3)]
    for name in ("moving.png", "moving2.gif"):
        pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], duration=40)
    make_video(tmp_path / "film.webm", codec="libvpx-vp9", audio=["libopus"], size=(16, 16))
    names = ["still.png", "photo.jpg", "moving2.gif", "film.webm"]
    sources = [str(tmp_path / name) for name in [*names, "moving.png"]]
    arguments = ["--model", str(tmp_path / "net.keras"), "--out", str(tmp_path / "out"), "--warm-start", "0"]
    assert cli(["upscale", *sources, *arguments]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "film.webm",
        "moving.mkv",
        "moving2.mkv",
        "photo.png",
        "still.png",
    ]
    for name in ("moving.mkv", "moving2.mkv"):
        assert len(frame_times(tmp_path / "out" / name)) == 3
    assert np.asarray(Image.open(tmp_path / "out" / "photo.png")).shape == (48, 64, 3)


def test_several_frames_are_no_image(tmp_path, step):
    pictures = [Image.fromarray(gradient(index, 16, 12)) for index in range(3)]
    pictures[0].save(tmp_path / "moving.png", save_all=True, append_images=pictures[1:], duration=40)
    with pytest.raises(RLSPError, match="an image holds one frame"):
        upscale(tmp_path / "moving.png", tmp_path / "large.png", step)


TABLE = (Path(__file__).parents[2] / "docs" / "containers.md").read_text("utf-8")
LINES = [
    [word.strip() for word in line.split("|")[1:-1]]
    for line in re.findall(r"^\|.+\|$", TABLE.partition("|---|")[2], re.M)
]


def camera_file(folder):
    film = make_video(folder / "film.mov", size=(16, 16))
    with (
        av.open(str(film)) as source,
        av.open(str(folder / "x.mov"), "w", container_options={"movflags": "use_metadata_tags"}) as output,
    ):
        copied = output.add_stream_from_template(source.streams.video[0], opaque=True)
        copied.codec_context.framerate = 25
        copied.metadata["timecode"] = "01:02:03:04"
        output.metadata.update(CAMERA)
        for packet in source.demux():
            if packet.size:
                packet.stream = copied
                output.mux(packet)
    return folder / "x.mov"


def covered(folder):
    write_png(folder / "cover.png", gradient(3, 40, 30))
    return with_cover(make_video(folder / "plain.mp4"), folder / "cover.png", folder / "x.mp4")


def subtitled(folder):
    (folder / "x.srt").write_text("1\n00:00:00,200 --> 00:00:00,600\nHello\n\n")
    return make_video(folder / "x.mkv", subtitles=folder / "x.srt")


def opened(path, look):
    with av.open(str(path)) as container:
        return look(container)


def codecs(kind):
    return lambda path: opened(
        path, lambda file: [s.codec_context.codec.canonical_name for s in file.streams if s.type == kind]
    )


def told(path):
    names = {name.lower().replace("com.apple.quicktime.", "") for name in CAMERA}
    tags = opened(path, lambda file: {**file.metadata})
    tags = {name.lower().replace("com.apple.quicktime.", ""): value for name, value in tags.items()}
    return {name: tags.get(name) for name in names}


def time_code(path):
    def look(file):
        tags = {**file.metadata, **file.streams.video[0].metadata}
        return [value for name, value in tags.items() if name.lower() == "timecode"]

    return opened(path, look)


def cover(path):
    try:
        return [cover_of(path)]
    except ValueError:
        return []


def sound_in(codec):
    return lambda folder: make_video(folder / "x.mkv", audio=[codec])


def transparent(folder):
    pixels = [np.dstack([gradient(n, 64, 48), np.full((48, 64), 40 * n, np.uint8)]) for n in range(3)]
    return make_video(
        folder / "x.webm",
        range(0, 3 * 3600, 3600),
        codec="libvpx-vp9",
        pixel_format="yuva420p",
        frames=[av.VideoFrame.from_ndarray(each, "rgba") for each in pixels],
        stream_metadata={"alpha_mode": "1"},
    )


def opacity(path):
    with VideoSource(path) as source:
        # Encoded again, it is a little off.
        return [round(float(frame.alpha.mean()) / 10) for frame in source if frame.alpha is not None]


def with_crop(folder):
    path = make_video(folder / "x.mkv", codec="ffv1", container_options={"write_crc32": "0"})
    return cropped(path, folder / "cropped.mkv", top=8, right=16)


KINDS = {
    "AAC sound": (sound_in("aac"), codecs("audio")),
    "Opus sound": (sound_in("libopus"), codecs("audio")),
    "FLAC sound": (sound_in("flac"), codecs("audio")),
    "SubRip subtitles": (subtitled, codecs("subtitle")),
    "languages of sound": (
        sound_in("libopus"),
        lambda path: opened(
            path, lambda file: [s.language.replace("ger", "deu") for s in file.streams.audio]
        ),
    ),
    "cover": (covered, cover),
    "fonts and other attachments": (
        lambda folder: make_video(folder / "x.mkv", attachment=True),
        lambda path: opened(path, lambda file: [s.name for s in file.streams if s.type == "attachment"]),
    ),
    "chapters": (
        lambda folder: make_video(folder / "x.mkv", chapters=True),
        lambda path: opened(
            path,
            lambda file: [
                (each["start"] * each["time_base"], each["metadata"]["title"]) for each in file.chapters()
            ],
        ),
    ),
    "title": (
        lambda folder: make_video(folder / "x.mkv"),
        lambda path: opened(path, lambda file: file.metadata["title"]),
    ),
    "make, model, place and date of a camera": (camera_file, told),
    "time code": (camera_file, time_code),
    "transparency": (transparent, opacity),
    "crop of a Matroska file": (
        with_crop,
        lambda path: opened(path, lambda file: [(s.width, s.height) for s in file.streams.video]),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_of_what_goes_along_is_true(kind, tmp_path):
    assert [line[0] for line in LINES] == list(KINDS)
    (words,) = (line[1:] for line in LINES if line[0] == kind)
    make, look = KINDS[kind]
    source = make(tmp_path)
    before = look(source)
    assert before
    for suffix, word in zip(SUFFIXES, words, strict=True):
        target = tmp_path / f"copy{suffix}"
        sink, _ = copy(source, target)
        after, notes = look(target), " ".join(sink.notes)
        if word == "kept":
            assert after == before
        elif word == "converted":
            assert len(after) == len(before)
            assert after != before
            assert f" became {after[0]}, since {suffix} cannot hold it" in notes
        elif word == "applied":
            assert before == [(64, 48)]
            assert after == [(48, 40)]
        else:
            assert word == "left out"
            assert not after
            assert re.search(rf" was left out, since (libx264 in )?{suffix} cannot hold it", notes)
