import contextlib
import io
import itertools
import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import imageio.v3 as iio
import numpy as np
import pytest

from helpers.clips import index, write_folder
from helpers.synthetic import make_clip
from helpers.videos import make_video
from rlsp_tf.errors import RLSPError
from rlsp_tf.media.open import open_source
from rlsp_tf.media.sequences import rgb_frames
from rlsp_tf.pixels.color import PAPER_WEIGHTS
from rlsp_tf.pixels.degradation import degrade
from rlsp_tf.training.clips.clip import open_clip
from rlsp_tf.training.clips.index import default_cache, find_sources, split_clips
from rlsp_tf.training.clips.prepare import halve_frame


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_frames_without_loss_are_kept_as_they_are_and_blurred_as_degrade_does(tmp_path, cache):
    frames = make_clip(3, 50, 61)
    write_folder(tmp_path / "data" / "scene", frames)
    (clip,), _ = index(tmp_path / "data", cache=cache)
    assert (clip.name, clip.shape, clip.halved) == ("scene", (3, 50, 61), False)
    np.testing.assert_array_equal(clip.hr, frames)
    np.testing.assert_array_equal(clip.blurred[:, ::4, ::4], degrade(frames))
    # Seen from any other pixel, it is the blur of the whole frame that counts.
    np.testing.assert_array_equal(
        clip.blurred[:, 2::4, 3::4], degrade(frames, scale=1, sigma=1.5)[:, 2::4, 3::4]
    )


def test_frames_of_a_lossy_format_are_halved(data, cache):
    video = data / "video" / "realshort_320x240.mp4"
    decoded = np.stack(list(iio.imiter(video, plugin="pyav")))
    (clip,), _ = index(video, cache=cache)
    means = decoded.reshape(36, 120, 2, 160, 2, 3).mean(axis=(2, 4))
    np.testing.assert_array_equal(clip.hr, np.floor(means + 0.5).astype(np.uint8))
    (whole,), _ = index(video, cache=cache, halve="never")
    np.testing.assert_array_equal(whole.hr, decoded)


def test_halving_drops_an_odd_row_and_column():
    frame = np.arange(5 * 3 * 3, dtype=np.uint8).reshape(5, 3, 3)
    corner = frame[:4, :2].astype(float)
    expected = (corner[0::2, :1] + corner[1::2, :1] + corner[0::2, 1:] + corner[1::2, 1:]) / 4
    np.testing.assert_array_equal(halve_frame(frame), np.floor(expected + 0.5))


def test_a_cut_between_real_clips_ends_a_shot(data, tmp_path, cache):
    short = np.stack(list(iio.imiter(data / "video" / "realshort_320x240.mp4", plugin="pyav")))[:12]
    world = iio.imiter(data / "video" / "world_480x270.mp4", plugin="pyav")
    other = np.stack([next(world)[:240, :320] for _ in range(9)])
    write_folder(tmp_path / "data" / "cut", [*short, *other, *short[::-1]])
    (clip,), _ = index(tmp_path / "data", cache=cache)
    assert clip.shots == [(0, 12), (12, 21), (21, 33)]
    assert clip.part(5, 15).shots == [(5, 12), (12, 15)]


def test_cuts_are_those_that_ffmpeg_finds(data, tmp_path, cache):
    film = iio.imiter(data / "video" / "tears_of_steel_800x332.webm", plugin="pyav")
    frames = [frame[:320:2, :512:2] for frame in itertools.islice(film, 150, 230)]
    write_folder(tmp_path / "data" / "film", frames)
    (clip,), _ = index(tmp_path / "data", cache=cache)
    graph = av.filter.Graph()
    source = graph.add_buffer(width=64, height=40, format=av.VideoFormat("gray"), time_base=Fraction(1))
    detector, sink = graph.add("scdet", "threshold=10:sc_pass=1"), graph.add("buffersink")
    source.link_to(detector)
    detector.link_to(sink)
    graph.configure()
    cuts = []
    for count, frame in enumerate(clip.blurred[:, ::4, ::4]):
        luma = np.rint(frame @ PAPER_WEIGHTS + 16).astype(np.uint8)
        picture = av.VideoFrame.from_ndarray(luma, format="gray")
        picture.pts, picture.time_base = count, Fraction(1)
        graph.push(picture)
        with contextlib.suppress(av.BlockingIOError):
            cuts.append(graph.pull().pts)
    assert list(clip.cuts) == cuts
    assert len(cuts) == 2


def test_a_clip_is_decoded_once(tmp_path, cache):
    folder = write_folder(tmp_path / "data" / "scene", make_clip(2, 32, 32))
    (clip,), _ = index(tmp_path / "data", cache=cache)
    made = (clip.folder / "hr.raw").stat().st_mtime_ns
    (again,), _ = index(tmp_path / "data", cache=cache)
    assert again == clip
    assert (again.folder / "hr.raw").stat().st_mtime_ns == made
    # So is a copy of it in another place, with times of its own.
    shutil.copytree(tmp_path / "data", tmp_path / "copy", copy_function=shutil.copyfile)
    (copied,), _ = index(tmp_path / "copy", cache=cache)
    assert copied == replace(clip, source=str(tmp_path / "copy" / "scene"))
    assert (copied.folder / "hr.raw").stat().st_mtime_ns == made
    # A source that has changed since is another one.
    iio.imwrite(folder / "frame_000.png", make_clip(1, 32, 32, seed=1)[0])
    (changed,), _ = index(tmp_path / "data", cache=cache)
    assert changed.folder != clip.folder
    assert changed.sha256 != clip.sha256


def test_a_damaged_clip_in_the_cache_is_made_anew(tmp_path, cache):
    frames = make_clip(2, 32, 32)
    write_folder(tmp_path / "data" / "scene", frames)
    (clip,), _ = index(tmp_path / "data", cache=cache)
    with (clip.folder / "blurred.raw").open("r+b") as file:
        file.truncate(100)
    (again,), _ = index(tmp_path / "data", cache=cache)
    np.testing.assert_array_equal(again.blurred[:, ::4, ::4], degrade(frames))


def test_what_killed_processes_left_in_the_cache_is_removed(tmp_path, cache):
    write_folder(tmp_path / "data" / "scene", make_clip(2, 32, 32))
    dead = cache / ".other-0123.4194305-89abcdef.part"  # more than the largest process id there can be
    dead.mkdir(parents=True)
    foreign = cache / ".other-4567.4194305-89abcdef.part"
    foreign.mkdir()
    (foreign / "thesis.txt").touch()
    index(tmp_path / "data", cache=cache)
    assert not dead.exists()
    assert (foreign / "thesis.txt").exists()


def test_clips_made_ready_can_be_moved_and_used_without_their_source(tmp_path, cache):
    frames = make_clip(2, 32, 32)
    write_folder(tmp_path / "data" / "scene", frames)
    (clip,), _ = index(tmp_path / "data", cache=cache)
    shutil.move(clip.folder, tmp_path / "kit")
    shutil.rmtree(tmp_path / "data")
    (moved,), _ = index(tmp_path / "kit", cache=cache)
    np.testing.assert_array_equal(moved.hr, frames)
    with pytest.raises(RLSPError, match="prepared for scale 4, not 2"):
        index(tmp_path / "kit", cache=cache, scale=2)


def test_bad_clips_are_named_and_skipped(data, tmp_path, cache):
    folder = tmp_path / "data"
    write_folder(folder / "good", make_clip(2, 32, 32))
    write_folder(folder / "sizes", [make_clip(1, 32, 32)[0], make_clip(1, 32, 40)[0]])
    (folder / "text.mp4").write_text("no video")
    (folder / "empty.webm").touch()
    (folder / "notes.txt").write_text("not a clip at all")
    whole = (data / "video" / "realshort_320x240.mp4").read_bytes()
    (folder / "cut_off.mp4").write_bytes(whole[: len(whole) // 2])  # its index is at the end
    (folder / "sound.mp4").write_bytes(sound_only(data / "video" / "world_480x270.mp4"))
    clips, notes = index(folder, cache=cache)
    assert [clip.name for clip in clips] == ["good"]
    for name in ("sizes/frame_001.png", "text.mp4", "empty.webm", "cut_off.mp4", "sound.mp4"):
        assert f"skipped {folder}/{name}: " in notes
    assert "notes.txt" not in notes
    assert not list(cache.glob(".*"))


def sound_only(video):
    """The bytes of an mp4 file with the sound of another one."""
    target = io.BytesIO()
    with av.open(str(video)) as source, av.open(target, "w", format="mp4") as output:
        stream = output.add_stream_from_template(source.streams.audio[0])
        for packet in itertools.islice(source.demux(audio=0), 20):
            packet.stream = stream
            output.mux(packet)
    return target.getvalue()


def test_a_video_that_ends_early_is_named_and_used_so_far(data, tmp_path, cache):
    whole = (data / "video" / "world_480x270.mp4").read_bytes()
    early = tmp_path / "early.mp4"
    early.write_bytes(whole[: len(whole) // 20])  # its index is at the beginning
    (clip,), notes = index(early, cache=cache)
    assert 0 < clip.shape[0] < 901
    assert f"{early}: is truncated; {clip.shape[0]} of 901 frames are used." in notes


def test_a_video_that_is_damaged_within_is_skipped(data, tmp_path, cache):
    content = bytearray((data / "video" / "world_480x270.mp4").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 20_000] = bytes(20_000)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "film.mp4").write_bytes(content)
    write_folder(tmp_path / "data" / "good", make_clip(2, 32, 32))
    clips, notes = index(tmp_path / "data", cache=cache)
    assert [clip.name for clip in clips] == ["good"]
    assert f"skipped {tmp_path / 'data' / 'film.mp4'}: is damaged; replace or remove it." in notes


def test_a_script_opens_nothing(tmp_path, cache):
    """FFmpeg alone would take it for a video: the one that it names."""
    film = make_video(tmp_path / "secret.mp4", range(0, 4 * 3600, 3600), size=(64, 64))
    folder = tmp_path / "data"
    write_folder(folder / "good", make_clip(2, 32, 32))
    (folder / "script.mp4").write_text(f"ffconcat version 1.0\nfile '{film}'\n")
    with av.open(str(folder / "script.mp4"), options={"safe": "0"}) as container:
        assert next(container.decode(video=0)).width == 64
    clips, notes = index(folder, cache=cache)
    assert [clip.name for clip in clips] == ["good"]
    assert f"skipped {folder}/script.mp4: not a video that can be read" in notes


def test_a_frame_of_more_pixels_than_are_read_is_skipped(tmp_path, cache, monkeypatch):
    folder = tmp_path / "data"
    write_folder(folder / "good", make_clip(2, 32, 32))
    make_video(folder / "large.mp4", range(0, 4 * 3600, 3600), size=(64, 64))
    monkeypatch.setattr("rlsp_tf.media.video_decoder.MOST_PIXELS", 64 * 64 - 1)
    clips, notes = index(folder, cache=cache)
    assert [clip.name for clip in clips] == ["good"]
    assert "large.mp4: claims frames of 64x64" in notes


@pytest.mark.skipif(
    not hasattr(av.VideoStream, "set_display_rotation"), reason="this PyAV cannot make such a file"
)
def test_a_video_is_seen_as_it_is_to_be_shown(tmp_path, cache):
    for name, rotation in (("plain.mp4", None), ("turned.mp4", 90)):
        make_video(tmp_path / name, range(0, 4 * 3600, 3600), size=(96, 64), rotation=rotation)
    clips, _ = index(tmp_path / "plain.mp4", tmp_path / "turned.mp4", cache=cache, halve="never")
    plain, turned = (clip.hr for clip in clips)
    # Chroma is sited elsewhere in a frame that lies on its side.
    luma = [frames.astype(float) @ PAPER_WEIGHTS for frames in (np.rot90(plain, axes=(1, 2)), turned)]
    assert turned.shape == (4, 96, 64, 3)
    assert np.abs(luma[0] - luma[1]).mean() < 2


@pytest.mark.parametrize(("lines", "matrix"), [(96, "bt601"), (720, "bt709")])
def test_a_matrix_that_is_not_told_is_taken_for_the_usual_one(lines, matrix, tmp_path, cache):
    """Colours of a video for training are those that upscaling gives them."""
    color = np.full((lines, 64, 3), [40, 180, 60], np.uint8)
    film = make_video(
        tmp_path / "film.mkv",
        [0, 3600],
        size=(64, lines),
        frames=[av.VideoFrame.from_ndarray(color)] * 2,
        codec="ffv1",
        pixel_format="yuv444p",
    )
    (clip,), _ = index(film, cache=cache)
    with open_source(film) as source:
        assert source.color.matrix == matrix
        shown = np.stack([*rgb_frames(source)])
    np.testing.assert_allclose(clip.hr.astype(int), shown, atol=1)  # swscale rounds otherwise


def test_links_to_nothing_and_in_circles_stop_no_training(tmp_path, cache):
    folder = tmp_path / "data"
    write_folder(folder / "good", make_clip(2, 32, 32))
    (folder / "nothing").symlink_to(tmp_path / "gone")
    (folder / "circle").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    clips, _ = index(folder, cache=cache)
    assert [clip.name for clip in clips] == ["good"]


def test_nothing_to_train_on_is_refused(tmp_path, cache):
    with pytest.raises(RLSPError, match=r"missing: no such file or folder"):
        index(tmp_path / "missing", cache=cache)
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(RLSPError, match=r"holds no video .*and no folder of images"):
        index(tmp_path, cache=cache)
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(RLSPError, match=r"(?s)no clip can be used.*skipped .*a\.mp4: not a video"):
        index(tmp_path, cache=cache)


def test_clips_are_found_everywhere_and_have_names_of_their_own(tmp_path):
    for name in ("a/x.mp4", "a/deeper/y.MKV", "b/x.mp4", "b/frames/1.jpg", "b/frames/2.jpg", ".hidden/z.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = dict(find_sources([tmp_path / "a", tmp_path / "b"]))
    same = (tmp_path / "b" / "x.mp4").as_posix()
    assert names == {
        "x": tmp_path / "a" / "x.mp4",
        "deeper/y": tmp_path / "a" / "deeper" / "y.MKV",
        "frames": tmp_path / "b" / "frames",
        same: tmp_path / "b" / "x.mp4",
    }


def test_a_clip_says_what_is_wrong_with_it(tmp_path):
    with pytest.raises(RLSPError, match=r"clip\.json: no such file; remove"):
        open_clip(tmp_path)
    (tmp_path / "clip.json").write_text(json.dumps({"source": "x"}))
    with pytest.raises(RLSPError, match=r"clip\.json: is damaged; remove"):
        open_clip(tmp_path)


def test_clips_are_held_out_by_name_or_every_fifth(tmp_path, cache):
    for index_ in range(7):
        write_folder(tmp_path / "data" / f"{index_}", make_clip(1, 16, 16, seed=index_))
    clips, _ = index(tmp_path / "data", cache=cache)
    training, validation = split_clips(clips, ["2", "5"])
    assert [clip.name for clip in training] == ["0", "1", "3", "4", "6"]
    assert [clip.name for clip in validation] == ["2", "5"]
    training, validation = split_clips(clips, None)
    assert not {clip.name for clip in training} & {clip.name for clip in validation}
    assert (len(training), len(validation)) == (5, 2)
    with pytest.raises(RLSPError, match=r"8: no such clip to validate on; there are 0, 1, 2"):
        split_clips(clips, ["8"])
    with pytest.raises(RLSPError, match="every clip is held out"):
        split_clips(clips, [clip.name for clip in clips])


def test_a_single_clip_gives_its_last_fifth_for_validation(tmp_path, cache):
    write_folder(tmp_path / "data" / "scene", make_clip(10, 16, 16))
    clips, _ = index(tmp_path / "data", cache=cache)
    (training,), (validation,) = split_clips(clips, None)
    assert (training.start, training.stop, validation.start, validation.stop) == (0, 8, 8, 10)


def test_the_cache_is_where_the_system_has_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "rlsp_tf"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "rlsp_tf"
