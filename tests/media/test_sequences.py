"""Which sequences a folder holds, and their frames as RGB of 8 bits."""

import shutil

import av
import imageio.v3 as iio
import numpy as np
import pytest

from helpers.synthetic import make_clip
from rlsp_tf.errors import RLSPError
from rlsp_tf.media.open import open_source
from rlsp_tf.media.sequences import find_sequences, holds_luma, rgb_frames
from rlsp_tf.pixels.color import eight_bits


def write_frames(folder, clip, name="{:04d}.png"):
    folder.mkdir(parents=True)
    for index, frame in enumerate(clip):
        iio.imwrite(folder / name.format(index), frame)
    return folder


def read(path):
    with open_source(path) as source:
        return np.stack(list(rgb_frames(source)))


def test_vid4_has_four_sequences(data):
    sequences = find_sequences(data / "vid4")
    assert list(sequences) == ["calendar", "city", "foliage", "walk"]
    assert sequences["walk"] == data / "vid4" / "walk"
    assert find_sequences(data / "vid4" / "walk") == {"walk": data / "vid4" / "walk"}


def test_folders_and_videos_are_sequences_and_the_rest_is_not(tmp_path, monkeypatch):
    for folder in ("b", ".hidden"):
        (tmp_path / folder).mkdir()
    for file in ("a.mp4", "c.MKV", "README.txt", ".d.mp4"):
        (tmp_path / file).touch()
    expected = {"a": tmp_path / "a.mp4", "b": tmp_path / "b", "c": tmp_path / "c.MKV"}
    assert find_sequences(tmp_path) == expected
    assert find_sequences(tmp_path / "a.mp4") == {"a": tmp_path / "a.mp4"}
    monkeypatch.chdir(write_frames(tmp_path / "b" / "frames", make_clip(1, 8, 8)))
    assert list(find_sequences(".")) == ["frames"]


def test_what_holds_no_sequence_is_refused(tmp_path):
    with pytest.raises(RLSPError, match="nowhere: no such file or folder"):
        find_sequences(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(RLSPError, match=f"{tmp_path}: holds no images, folders of images or videos"):
        find_sequences(tmp_path)
    (tmp_path / "walk").mkdir()
    (tmp_path / "walk.mp4").touch()
    with pytest.raises(RLSPError, match=r"walk\.mp4: walk has the same name"):
        find_sequences(tmp_path)


def test_images_stay_as_they_are(tmp_path):
    clip = make_clip(3, 10, 12)
    np.testing.assert_array_equal(read(write_frames(tmp_path / "frames", clip)), clip)


def test_sixteen_bits_are_rounded_to_eight(tmp_path, data):
    deep = np.arange(0, 65536, 37, dtype=np.uint16)[:1764].reshape(42, 42)
    folder = write_frames(tmp_path / "frames", [deep])
    expected = np.rint(deep / 65535 * 255).astype(np.uint8)
    np.testing.assert_array_equal(read(folder), np.repeat(expected[None, ..., None], 3, axis=-1))


def test_planes_of_a_video_become_rgb(data):
    path = data / "video" / "realshort_320x240.mp4"
    frames = read(path)
    with av.open(str(path)) as container:
        expected = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert frames.shape == expected.shape == (36, 240, 320, 3)
    # FFmpeg repeats chroma where we interpolate it, so edges of colour differ.
    difference = np.abs(frames.astype(int) - expected)
    assert difference.mean() < 1.5
    assert np.median(difference) <= 1


@pytest.mark.parametrize("numbers", [[0, 1, 3, 4], [1, 3, 4, 5], [0, 2, 4, 5], [9, 10, 12]])
def test_a_missing_frame_is_found(tmp_path, numbers):
    clip = dict(zip(numbers, make_clip(len(numbers), 8, 8), strict=True))
    folder = tmp_path / "walk"
    folder.mkdir()
    for number, frame in clip.items():
        iio.imwrite(folder / f"frame_{number:04d}.png", frame)
    with pytest.raises(RLSPError, match=r"walk: the frames go (frame_\d+, ){2}frame_\d+, so one is missing"):
        read(folder)


@pytest.mark.parametrize(
    "names",
    [["2", "4", "6"], ["im7x4", "im8x4", "im9x4"], ["a", "b", "c"], ["a1", "a2", "b9"], ["1", "5"]],
)
def test_other_numberings_are_welcome(tmp_path, names):
    for name, frame in zip(names, make_clip(len(names), 8, 8), strict=True):
        iio.imwrite(tmp_path / f"{name}.png", frame)
    assert len(read(tmp_path)) == len(names)


def test_a_truncated_image_is_named(tmp_path):
    folder = write_frames(tmp_path / "walk", make_clip(3, 40, 40))
    broken = folder / "0002.png"
    broken.write_bytes(broken.read_bytes()[:-200])
    with pytest.raises(RLSPError, match=r"0002\.png: not an image that can be read"):
        read(folder)


def test_grey_images_hold_luma(tmp_path, data):
    frames = data / "rlsp-original" / "frames" / "7-64"
    assert holds_luma(frames / "walk_y")
    assert not holds_luma(frames / "calendar_rgb")
    assert not holds_luma(data / "video" / "realshort_320x240.mp4")
    # Grey content in a file of three channels is RGB.
    assert not holds_luma(write_frames(tmp_path / "grey", np.full((1, 4, 4, 3), 90, np.uint8)))
    shutil.copy(frames / "walk_y" / "frame_0000.png", tmp_path / "grey")
    with pytest.raises(RLSPError, match="grey: holds grey and coloured images"):
        holds_luma(tmp_path / "grey")


def test_eight_bits_are_rounded_and_clipped():
    pixels = np.array([-3.0, -0.4, 0.6, 1.4, 254.6, 255.4, 300.0])
    np.testing.assert_array_equal(eight_bits(pixels), np.array([0, 0, 1, 1, 255, 255, 255], np.uint8))
