"""Every frame of a video file once, in time, as it was decoded; broken files as far as they go."""

from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.media import assert_planes, cropped, random_planes
from helpers.videos import TICK, frame_times, gradient, make_video, memory
from rlsp_tf.benchmarks.excerpts import decodable
from rlsp_tf.benchmarks.faults.damage import damage
from rlsp_tf.errors import RLSPError
from rlsp_tf.media.pixel_formats import to_video_frame
from rlsp_tf.media.video_reader import VideoSource
from rlsp_tf.pixels.color import ColorSpec

REAL = {
    "realshort_320x240.mp4": (36, 320, 240, Fraction(45000, 1499), Fraction(1, 90000)),
    "world_480x270.mp4": (901, 480, 270, Fraction(30), Fraction(1, 30)),
    "tears_of_steel_800x332.webm": (1691, 800, 332, Fraction(24), Fraction(1, 1000)),
}


def read(path):
    """All frames, and the source with the notes it has in the end."""
    with VideoSource(path) as source:
        return list(source), source


@pytest.mark.parametrize("name", REAL)
def test_real_videos_are_read_completely(data, name):
    path = data / "video" / name
    count, width, height, rate, time_base = REAL[name]
    with VideoSource(path) as source:
        assert (source.width, source.height, source.rate, source.time_base) == (
            width,
            height,
            rate,
            time_base,
        )
        assert source.color == ColorSpec("bt601", full_range=False)
        assert source.depth == 8
        assert source.frames == pytest.approx(count, abs=2)
        times = [frame.pts * time_base for frame in source]
    assert len(times) == count
    assert times == frame_times(path)
    assert not [note for note in source.notes if "matrix" not in note]


def test_real_frames_are_those_of_the_decoder(data):
    path = data / "video" / "realshort_320x240.mp4"
    frames, _ = read(path)
    with av.open(str(path)) as container:
        decoded = [frame.to_ndarray() for frame in container.decode(video=0)]
    for frame, expected in zip(frames, decoded, strict=True):  # yuv420p below each other in one array
        y, chroma = expected[:240], expected[240:].reshape(2, 120, 160)
        assert_planes(frame.planes, [y, *chroma])
        assert frame.duration == 2998


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        (ColorSpec("bt601", False), (64, 48)),
        (ColorSpec("bt601", False), (63, 47)),
        (ColorSpec("bt601", False), (1, 1)),
        (ColorSpec("bt601", False, 10, (2, 1)), (63, 47)),
        (ColorSpec("bt601", False, 12, (1, 1)), (64, 48)),
        (ColorSpec("bt601", False, 16, (2, 2)), (64, 48)),
    ],
    ids=str,
)
def test_planes_pass_without_a_rounding(spec, size, rng, tmp_path):
    name = {(2, 2): "420", (2, 1): "422", (1, 1): "444"}[spec.subsampling]
    pixel_format = f"yuv{name}p" + (f"{spec.depth}le" if spec.depth > 8 else "")
    clips = [random_planes(rng, size, spec.subsampling, spec.depth) for _ in range(5)]
    made = [to_video_frame(planes, pixel_format) for planes in clips]
    path = make_video(
        tmp_path / "noise.mkv",
        range(0, 18000, 3600),
        codec="ffv1",
        pixel_format=pixel_format,
        size=size,
        frames=made,
    )
    frames, source = read(path)
    for frame, planes in zip(frames, clips, strict=True):
        assert_planes(frame.planes, planes)
    assert source.color == spec
    assert (source.width, source.height) == size


@pytest.mark.parametrize("deep", [False, True])
def test_rgb_stays_rgb(deep, rng, tmp_path):
    dtype, pixel_format = (np.uint16, "rgb48le") if deep else (np.uint8, "bgr0")
    clip = rng.integers(0, np.iinfo(dtype).max + 1, (3, 47, 63, 3), dtype=dtype)
    made = [to_video_frame([rgb], pixel_format) for rgb in clip]
    path = make_video(
        tmp_path / "rgb.mkv",
        [0, 3600, 7200],
        codec="ffv1",
        pixel_format=pixel_format,
        size=(63, 47),
        frames=made,
    )
    frames, source = read(path)
    assert_planes([frame.planes[0] for frame in frames], list(clip))
    assert source.color is None
    assert source.depth == (16 if deep else 8)
    assert source.notes == []


@settings(max_examples=20)
@given(steps=st.lists(st.integers(1, 200_000), min_size=0, max_size=12), start=st.integers(0, 10**6))
def test_any_time_stamps_are_kept(steps, start, tmp_path_factory):
    pts = [start]
    for step in steps:
        pts.append(pts[-1] + step)
    exact = {"video_track_timescale": "90000", "movie_timescale": "90000"}
    path = make_video(tmp_path_factory.mktemp("vfr") / "vfr.mp4", pts, size=(16, 16), container_options=exact)
    frames, source = read(path)
    assert [frame.pts * source.time_base for frame in frames] == [tick * TICK for tick in pts]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"colorspace": 1, "color_primaries": 1, "color_trc": 1}, ColorSpec("bt709", False)),
        ({"colorspace": 5, "color_primaries": 5, "color_trc": 6}, ColorSpec("bt601", False)),
        (
            {"colorspace": 9, "color_primaries": 9, "color_trc": 16},
            ColorSpec("bt2020", False, chroma_location="topleft"),
        ),
        ({"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 2}, ColorSpec("bt709", True)),
    ],
)
def test_colour_tags_are_believed(tags, expected, tmp_path):
    frames, source = read(make_video(tmp_path / "tagged.mp4", [0, 3600], **tags))
    assert source.color == expected
    assert source.tags == (tags["colorspace"], tags["color_primaries"], tags["color_trc"])
    assert source.notes == []
    assert len(frames) == 2


@pytest.mark.parametrize("location", ["left", "center", "topleft", "top", "bottomleft", "bottom"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_the_place_of_chroma_is_believed(codec, location, tmp_path):
    options = {"chroma_sample_location": location}
    if codec == "libx265":
        options["x265-params"] = "log-level=error"
    path = make_video(tmp_path / "sited.mp4", range(0, 10800, 3600), codec=codec, options=options)
    assert read(path)[1].color.chroma_location == location


@pytest.mark.parametrize(
    ("size", "name", "rule"),
    [((64, 718), "BT.601", "below 720 lines"), ((64, 720), "BT.709", "from 720 lines on")],
)
def test_an_untagged_matrix_is_guessed_and_said(size, name, rule, tmp_path):
    path = make_video(tmp_path / "untagged.mp4", [0], size=size)
    _, source = read(path)
    assert source.notes == [
        f"{path}: does not say which colour matrix it uses; assumed {name}, as is usual {rule}."
    ]


def test_an_uncommon_matrix_is_said(tmp_path):
    _, source = read(make_video(tmp_path / "fcc.mkv", [0], colorspace=4))
    assert "uncommon colour matrix (H.273: 4); assumed BT.601" in source.notes[0]
    assert source.tags[0] == 4


@pytest.mark.skipif(
    not hasattr(av.VideoStream, "set_display_rotation"), reason="this PyAV cannot make such a file"
)
@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, 3), (0, 0)])
def test_frames_of_a_turned_camera_are_upright(degrees, turns, tmp_path):
    lying, _ = read(make_video(tmp_path / "lying.mp4", [0, 3600]))
    upright, source = read(
        make_video(tmp_path / "upright.mp4", [0, 3600], rotation=degrees, sample_aspect_ratio=Fraction(4, 3))
    )
    for frame, reference in zip(upright, lying, strict=True):
        assert_planes(frame.planes, [np.rot90(plane, turns) for plane in reference.planes])
    assert (source.height, source.width) == upright[0].planes[0].shape
    assert source.sample_aspect_ratio == (Fraction(3, 4) if turns % 2 else Fraction(4, 3))
    assert source.color.chroma_location == {0: "left", 1: "bottom", 2: "center", 3: "top"}[turns]


def test_transparency_is_read(tmp_path):
    _, source = read(make_video(tmp_path / "alpha.mov", [0], codec="qtrle", pixel_format="argb"))
    assert not source.transparent  # nothing can be seen through these
    clear = av.VideoFrame.from_ndarray(
        np.dstack([gradient(0, 64, 48), np.full((48, 64), 90, np.uint8)]), "rgba"
    )
    path = make_video(tmp_path / "clear.mov", [0], codec="qtrle", pixel_format="argb", frames=[clear])
    frames, source = read(path)
    assert source.transparent
    assert source.notes == []
    assert_planes(frames[0].planes, [gradient(0, 64, 48)])
    np.testing.assert_array_equal(frames[0].alpha, np.full((48, 64), 90))


def test_what_becomes_transparent_only_later_is_said(tmp_path):
    frames = [
        av.VideoFrame.from_ndarray(np.dstack([gradient(0, 64, 48), np.full((48, 64), a, np.uint8)]), "rgba")
        for a in (255, 255, 40)
    ]
    path = make_video(
        tmp_path / "later.mov", [0, 3600, 7200], codec="qtrle", pixel_format="argb", frames=frames
    )
    frames, source = read(path)
    assert [frame.alpha for frame in frames] == [None] * 3
    assert source.notes == [f"{path}: is opaque until 0.080 s and transparent then, which was dropped."]


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_the_alpha_of_vp8_and_vp9_is_read(codec, tmp_path, rng):
    """FFmpeg's own decoders of these leave it out."""
    blurred = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8), (48, 64))
    picture = av.VideoFrame(64, 48, "yuva420p")
    for index, samples in enumerate(
        (np.full((48, 64), 90), np.full((24, 32), 120), np.full((24, 32), 140), blurred)
    ):
        memory(picture, index)[:, : samples.shape[1]] = samples
    options = {"lossless": "1"} if codec == "libvpx-vp9" else {"crf": "4", "auto-alt-ref": "0"}
    path = make_video(
        tmp_path / "clear.webm",
        [0],
        codec=codec,
        pixel_format="yuva420p",
        frames=[picture],
        options=options,
        bit_rate=10**8,
        stream_metadata={"alpha_mode": "1"},
    )
    (frame,), source = read(path)
    assert source.transparent
    # VP8 has no lossless mode.
    tolerance = 0 if codec == "libvpx-vp9" else 2
    assert np.abs(frame.alpha.astype(int) - blurred).max() <= tolerance
    assert np.abs(frame.planes[0].astype(int) - 90).max() <= tolerance


def test_a_mark_of_alpha_that_is_not_there_harms_nothing(tmp_path):
    plain = make_video(tmp_path / "plain.webm", codec="libvpx-vp9")
    marked = make_video(tmp_path / "marked.webm", codec="libvpx-vp9", stream_metadata={"alpha_mode": "1"})
    expected, _ = read(plain)
    frames, source = read(marked)
    assert not source.transparent
    for frame, reference in zip(frames, expected, strict=True):
        assert frame.alpha is None
        assert frame.pts == reference.pts
        assert_planes(frame.planes, reference.planes)


@pytest.mark.parametrize(
    ("pixel_format", "edges", "seen"),
    [
        ("yuv420p", {"top": 8, "bottom": 10}, (8, 38, 0, 64)),
        ("yuv420p", {"left": 6, "right": 3}, (0, 48, 6, 61)),
        ("yuv420p", {"top": 7, "left": 5}, (6, 48, 4, 64)),  # between samples of chroma
        ("yuv444p", {"top": 7, "left": 5}, (7, 48, 5, 64)),
        ("bgr0", {"top": 7, "right": 5}, (7, 48, 0, 59)),
    ],
)
def test_the_crop_of_matroska_is_applied(pixel_format, edges, seen, tmp_path):
    # Without a checksum of the header, which is edited.
    path = make_video(
        tmp_path / "film.mkv",
        [0, 3600],
        codec="ffv1",
        pixel_format=pixel_format,
        container_options={"write_crc32": "0"},
        audio=["aac"],
    )
    whole, _ = read(path)
    frames, source = read(cropped(path, tmp_path / "cropped.mkv", **edges))
    top, bottom, left, right = seen
    assert (source.height, source.width) == (bottom - top, right - left)
    assert source.sample_aspect_ratio in (None, 1)
    across = 2 if pixel_format == "yuv420p" else 1
    for frame, reference in zip(frames, whole, strict=True):
        luma, *chroma = reference.planes
        small = (slice(top // across, -(-bottom // across)), slice(left // across, -(-right // across)))
        assert_planes(frame.planes, [luma[top:bottom, left:right], *(plane[small] for plane in chroma)])


def test_interlaced_video_is_said(tmp_path):
    _, source = read(
        make_video(tmp_path / "fields.avi", [0], codec="dvvideo", size=(720, 576), time_base=Fraction(1, 25))
    )
    assert any("is interlaced" in note for note in source.notes)


def test_frames_without_time_stamps_get_them(tmp_path):
    path = make_video(tmp_path / "bare.h264", container="h264")
    frames, source = read(path)
    assert [frame.pts * source.time_base for frame in frames] == [Fraction(n, 25) for n in range(25)]
    assert f"{path}: 25 frames had missing or wrong time stamps and got new ones." in source.notes


@pytest.mark.parametrize("deinterlace", [False, True])
@pytest.mark.parametrize("suffix", [".h264", ".ts"])
def test_frames_of_another_size_are_left_out_and_it_is_said_since_when(suffix, deinterlace, tmp_path):
    """Those before stay, and those after, in the time that goes on: as a break for commercials."""
    first = make_video(tmp_path / f"first{suffix}")
    other = make_video(tmp_path / f"other{suffix}", range(0, 5 * 3600, 3600), size=(32, 32))
    path = tmp_path / f"both{suffix}"
    path.write_bytes(first.read_bytes() + other.read_bytes() + first.read_bytes())
    whole, _ = read(first)
    with VideoSource(path, deinterlace=deinterlace) as source:
        frames = list(source)
    for frame, reference in zip(frames, [*whole, *whole], strict=True):
        assert_planes(frame.planes, reference.planes)
    times = np.array([frame.pts * source.time_base for frame in frames], float)
    np.testing.assert_allclose(times - times[0], np.r_[:25, 30:55] / 25, atol=1e-9)
    at = {".h264": 1.0, ".ts": float(times[0]) + 1}[suffix]
    assert (
        f"{path}: changes from 64x48 yuv420p to 32x32 yuv420p at {at:.3f} s; the 5 frames of another form "
        "than the first were left out. Split it there to upscale them, too." in source.notes
    )


def truncated(path, share):
    content = path.read_bytes()
    short = path.with_name(f"short{path.suffix}")
    short.write_bytes(content[: int(len(content) * share)])
    return short


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_of_a_truncated_file_all_frames_that_are_there_come(suffix, tmp_path):
    options = {"movflags": "faststart"} if suffix == ".mp4" else None
    whole = make_video(
        tmp_path / f"whole{suffix}",
        range(0, 100 * 3600, 3600),
        audio=["aac"],
        container_options=options,
        max_b_frames=0,
    )
    everything, _ = read(whole)
    path = truncated(whole, 0.5)
    frames, source = read(path)
    assert 40 < len(frames) < 60
    # The last one may be cut in itself.
    for frame, reference in zip(frames[:-1], everything, strict=False):
        assert frame.pts == reference.pts
        assert_planes(frame.planes, reference.planes)
    if suffix != ".ts":  # which tells no duration
        assert any("until 4.0 s; it may be truncated" in note for note in source.notes)


def test_a_real_truncated_file_is_read_to_its_end(data, tmp_path):
    whole = data / "video" / "world_480x270.mp4"
    short = tmp_path / "short.mp4"
    content = whole.read_bytes()
    end = len(content) // 8
    short.write_bytes(content[:end])
    with av.open(str(whole)) as container:
        complete = sum(
            packet.size > 0 and packet.pos + packet.size <= end for packet in container.demux(video=0)
        )
    frames, source = read(short)
    with VideoSource(whole) as reference:
        for frame, expected in zip(frames[:-1], reference, strict=False):
            assert frame.pts == expected.pts
            assert_planes(frame.planes, expected.planes)
    assert len(frames) in (complete, complete + 1)  # some of the next may be there
    assert (
        f"{short}: ends at {len(frames) / 30:.1f} s, but should last until 30.0 s; it may be truncated."
        in source.notes
    )


def test_damage_costs_frames_but_not_the_rest(data, tmp_path):
    whole = data / "video" / "world_480x270.mp4"
    with av.open(str(whole)) as container:
        packet = list(container.demux(video=0))[450]
    content = bytearray(whole.read_bytes())
    content[packet.pos : packet.pos + packet.size] = np.random.default_rng(0).bytes(packet.size)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content)
    frames, source = read(path)
    # The packet is lost, and frames made of it until the next that stands for itself.
    assert 860 < len(frames) < 901
    assert frames[-1].pts == 900
    assert source.notes[-1] == f"{path}: is damaged in 1 places; frames are missing or damaged there."


def test_spoilt_frames_of_vp8_are_kept(tmp_path):
    """Its decoder shows them as far as they go, unless it has threads."""
    original = make_video(tmp_path / "film.webm", range(0, 8 * 3600, 3600), codec="libvpx").read_bytes()
    damaged = tmp_path / "damaged.webm"
    all_there = 0
    for seed in range(40):
        damaged.write_bytes(damage(original, "bits flipped", np.random.default_rng(seed)))
        there = decodable(damaged)
        if there:
            with VideoSource(damaged) as source:
                assert len(list(source)) == there
        all_there += there == 8
    assert all_there > 5


def test_a_gap_is_said(tmp_path):
    path = make_video(tmp_path / "gap.mp4", [0, 3600, 7200, 90000 * 9, 90000 * 9 + 3600])
    _, source = read(path)
    assert source.notes[-1] == (
        f"{path}: shows one frame for more than a second at 1 places, the first 0.1 s from the start; "
        "if that is not intended, it is damaged there."
    )


def test_sound_and_covers_are_no_video(tmp_path):
    path = tmp_path / "sound.m4a"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=48000)
        samples = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        samples.sample_rate = 48000
        output.mux([*stream.encode(samples), *stream.encode(None)])
    with pytest.raises(RLSPError, match=f"^{path}: has no video in it"):
        VideoSource(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty; copy or make it again"),
        (b"not a video\n" * 100, "not a video that can be read; check the file"),
        (np.random.default_rng(0).bytes(5000), "not a video that can be read; check the file"),
    ],
)
def test_what_is_no_video_is_named(content, sentence, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(RLSPError, match=f"^{path}: {sentence}"):
        VideoSource(path)


def test_a_video_without_a_single_good_frame_is_named(tmp_path):
    path = make_video(tmp_path / "clip.mkv", [0, 3600, 7200])
    content = bytearray(path.read_bytes())
    start = content.index(b"\x1f\x43\xb6\x75")  # the cluster, with all frames
    content[start + 30 :] = bytes(len(content) - start - 30)
    path.write_bytes(content)
    with pytest.raises(RLSPError, match=f"^{path}: no frame of its video can be decoded"):
        VideoSource(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RLSPError, match=r"missing.mp4: no such file; check the path"):
        VideoSource(tmp_path / "missing.mp4")


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4"])
@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    ],
)
def test_no_file_makes_another_one_be_read(playlist, name, tmp_path):
    other = make_video(tmp_path / "other.mp4", [0, 3600])
    (tmp_path / name).write_text(playlist.format(other))
    with pytest.raises(RLSPError, match=rf"{name}: .*check the file"):
        VideoSource(tmp_path / name)


def test_a_header_cannot_ask_for_all_memory(tmp_path):
    """Matroska, with the elements PixelWidth (0xB0) and PixelHeight (0xBA) of two bytes changed."""
    path = make_video(tmp_path / "huge.mkv", [0, 3600], codec="rawvideo", size=(300, 300))
    content = path.read_bytes()
    for element in (b"\xb0", b"\xba"):
        assert content.count(element + b"\x82\x01\x2c") == 1
        content = content.replace(element + b"\x82\x01\x2c", element + b"\x82\x2e\xe0")
    path.write_bytes(content)
    with pytest.raises(RLSPError, match=r"huge\.mkv: claims frames of 12000x12000, more than 64 million"):
        VideoSource(path)


def test_a_header_that_is_wrong_is_no_busy_device(tmp_path):
    """As which FFmpeg's reader of YUV4MPEG reports it."""
    path = tmp_path / "huge.y4m"
    path.write_bytes(b"YUV4MPEG2 W100000 H100000 F25:1 C420\nFRAME\n" + bytes(1000))
    with pytest.raises(RLSPError, match=r"huge\.y4m: not a video that can be read; check the file"):
        VideoSource(path)


def test_names_are_names_and_nothing_else(tmp_path):
    plain = make_video(tmp_path / "plain.mp4", [0, 3600])
    odd = tmp_path / "concat:100% %03d 'ü' #1?.mp4"
    plain.rename(odd)
    frames, _ = read(odd)
    assert len(frames) == 2
