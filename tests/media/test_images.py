"""Folders of images: every pixel as it is in the file, every unfit file named."""

import io
import os
from fractions import Fraction

import av
import imageio.v3 as iio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageCms

from helpers.media import contents
from helpers.networks import small_model
from helpers.small_disk import small_disk
from rlsp_tf.errors import RLSPError
from rlsp_tf.media.frames import Frame
from rlsp_tf.media.images import FolderSink, FolderSource, ImageSink, read_image, write_png
from rlsp_tf.media.sequences import holds_luma
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.upscaling.upscale import upscale

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


BLACK = np.zeros((2, 3, 3), np.uint8)


def write_all(sink, frames, names=None):
    with sink:
        for index, frame in enumerate(frames):
            sink.write(Frame((frame,), name=names[index] if names else None))


@given(
    image=SHAPES.flatmap(lambda shape: st.sampled_from([shape, (*shape, 3)])).flatmap(
        lambda shape: st.sampled_from([np.uint8, np.uint16]).flatmap(lambda dtype: arrays(dtype, shape))
    )
)
def test_png_keeps_every_bit(image, tmp_path_factory):
    path = tmp_path_factory.mktemp("png") / "a:%03d #?.png"  # which FFmpeg must not take for a pattern
    write_png(path, image)
    back = read_image(path)
    assert back.dtype == image.dtype
    np.testing.assert_array_equal(back, image if image.ndim == 3 else np.stack([image] * 3, axis=-1))


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.uint8, 1), (np.uint16, 1)])
def test_others_read_the_png_that_is_written(dtype, channels, rng, tmp_path):
    image = rng.integers(0, np.iinfo(dtype).max + 1, (7, 5, 3)[: 2 + (channels == 3)], dtype=dtype)
    write_png(tmp_path / "image.png", image)
    np.testing.assert_array_equal(iio.imread(tmp_path / "image.png", plugin="pillow"), image)


def test_real_frames_come_back_as_they_are(data, tmp_path):
    folder = data / "vid4" / "foliage"
    source = FolderSource(folder)
    assert (source.frames, source.width, source.height) == (49, 720, 480)
    assert (source.rate, source.color, source.notes) == (None, None, [])
    files = sorted(folder.iterdir())
    with source, FolderSink(tmp_path / "copy") as sink:
        for file, frame in zip(files[:3], source, strict=False):
            np.testing.assert_array_equal(frame.planes[0], iio.imread(file))
            sink.write(frame)
    for file in files[:3]:
        np.testing.assert_array_equal(iio.imread(tmp_path / "copy" / file.name), iio.imread(file))


@pytest.mark.parametrize(
    ("mode", "suffix", "clear"),
    [
        ("1", ".png", False),
        ("L", ".png", False),
        ("LA", ".png", True),
        ("P", ".png", False),
        ("RGBA", ".png", True),
        ("RGB", ".bmp", False),
        ("RGBA", ".tif", True),
        ("CMYK", ".jpg", False),
        ("L", ".jpg", False),
        ("RGBA", ".webp", True),
    ],
)
def test_whatever_the_file_holds_becomes_rgb(mode, suffix, clear, rng, tmp_path):
    image = Image.fromarray(rng.integers(0, 256, (6, 4, 3), dtype=np.uint8)).convert(mode)
    if "A" in mode:
        image.putalpha(Image.fromarray(rng.integers(0, 256, (6, 4), dtype=np.uint8)))
    path = tmp_path / f"frame{suffix}"
    image.save(path, **({"lossless": True, "exact": True} if suffix == ".webp" else {}))
    source = FolderSource(path)
    (frame,) = source
    with Image.open(path) as decoded:
        np.testing.assert_array_equal(frame.planes[0], np.asarray(decoded.convert("RGB")))
        alpha = np.asarray(decoded.convert("RGBA"))[..., 3]
    assert frame.planes[0].shape == (6, 4, 3)
    assert source.notes == []
    assert source.transparent == clear
    if clear:
        np.testing.assert_array_equal(frame.alpha, alpha)
    else:
        assert frame.alpha is None


def test_a_deep_tiff_keeps_its_bits(rng, tmp_path):
    """A baseline TIFF of 16-bit RGB, written here byte by byte: TIFF 6.0, sections 2 and 6."""
    image = rng.integers(0, 65536, (3, 5, 3), dtype=np.uint16)
    data = image.astype("<u2").tobytes()
    tags = [(256, 4, 1, 5), (257, 4, 1, 3), (258, 3, 3, 8 + len(data)), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, 8), (277, 3, 1, 3), (278, 4, 1, 3), (279, 4, 1, len(data))]
    entries = b"".join(
        tag.to_bytes(2, "little")
        + kind.to_bytes(2, "little")
        + count.to_bytes(4, "little")
        + value.to_bytes(4, "little")
        for tag, kind, count, value in tags
    )
    directory = 8 + len(data) + 6
    (tmp_path / "deep.tif").write_bytes(
        b"II*\0" + directory.to_bytes(4, "little") + data + b"\x10\0" * 3
        + len(tags).to_bytes(2, "little") + entries + bytes(4)
    )  # fmt: skip
    np.testing.assert_array_equal(read_image(tmp_path / "deep.tif"), image)


def test_a_photograph_is_turned_as_its_camera_was(rng, tmp_path):
    image = rng.integers(0, 256, (6, 4, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the scene is at the right-hand side of the file
    Image.fromarray(image).save(tmp_path / "photo.png", exif=exif)
    source = FolderSource(tmp_path / "photo.png")
    (frame,) = source
    np.testing.assert_array_equal(frame.planes[0], np.rot90(image, -1))
    assert (source.height, source.width) == (4, 6)


def test_frames_come_in_natural_order_and_are_numbered(tmp_path):
    names = ["b1", "a10", "a2", "A1", "a2b"]
    write_all(
        FolderSink(tmp_path / "clip"), [np.full((2, 3, 3), index, np.uint8) for index in range(5)], names
    )
    source = FolderSource(tmp_path / "clip")
    frames = list(source)
    assert [frame.name for frame in frames] == ["A1", "a2", "a2b", "a10", "b1"]
    assert [frame.planes[0][0, 0, 0] for frame in frames] == [3, 2, 4, 1, 0]
    assert [(frame.pts, frame.duration) for frame in frames] == [(index, 1) for index in range(5)]
    assert source.time_base == Fraction(1, 25)
    assert source.frames == 5


def test_frames_without_a_name_are_counted(tmp_path):
    write_all(FolderSink(tmp_path / "clip"), [BLACK] * 2)
    assert contents(tmp_path / "clip") == ["frame_000000.png", "frame_000001.png"]


def test_what_is_no_image_is_passed_over_and_said(tmp_path):
    write_all(FolderSink(tmp_path / "clip"), [BLACK])
    for name in ("notes.txt", ".DS_Store", "a.json", "b.csv", "Thumbs.db"):
        (tmp_path / "clip" / name).write_text("no image")
    (tmp_path / "clip" / "folder.png").mkdir()
    source = FolderSource(tmp_path / "clip")
    assert source.frames == 1
    assert source.notes == [
        f"{tmp_path / 'clip'}: ignored files that are not images: Thumbs.db, a.json, b.csv and 1 more."
    ]


def png_bytes(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


@pytest.fixture
def clip(tmp_path, rng):
    """A folder of three frames, of which a test spoils the last."""
    write_all(FolderSink(tmp_path / "clip"), rng.integers(0, 256, (3, 40, 60, 3), dtype=np.uint8))
    return tmp_path / "clip"


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda content: b"", "is empty"),
        (lambda content: b"no image", "not an image that can be read .its content is of no known format"),
        (lambda content: content[:20], "not an image that can be read"),
        (
            lambda content: png_bytes(np.zeros((40, 61, 3), np.uint8)),
            "is 61x40, but frame_000000.png is 60x40",
        ),
    ],
)
def test_an_unfit_file_is_named_before_work_begins(clip, spoil, sentence):
    file = clip / "frame_000002.png"
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(RLSPError, match=f"^{file}: {sentence}"):
        FolderSource(clip)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_truncated_file_is_named_when_its_turn_comes(dtype, tmp_path, rng):
    frames = rng.integers(0, np.iinfo(dtype).max, (2, 40, 60, 3), dtype=dtype)
    write_all(FolderSink(tmp_path / "clip"), frames)
    file = tmp_path / "clip" / "frame_000001.png"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    frames = iter(FolderSource(tmp_path / "clip"))
    next(frames)
    with pytest.raises(RLSPError, match=f"^{file}: not an image that can be read .*truncated"):
        next(frames)


def test_depths_do_not_mix(clip):
    write_png(clip / "frame_000003.png", np.zeros((40, 60, 3), np.uint16))
    with pytest.raises(
        RLSPError, match=r"frame_000003.png: has 16 bits per channel, but frame_000000.png has 8"
    ):
        FolderSource(clip)


def test_two_files_of_one_name_are_refused(clip):
    Image.new("RGB", (60, 40)).save(clip / "frame_000000.jpg")
    with pytest.raises(RLSPError, match=r"frame_000000\.(png|jpg) has the same name"):
        FolderSource(clip)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_numbers_of_32_bits_are_refused(mode, tmp_path):
    Image.new(mode, (4, 3)).save(tmp_path / "float.tif")
    with pytest.raises(RLSPError, match=r"float.tif: has 32 bits per channel; convert it"):
        FolderSource(tmp_path / "float.tif")


def test_a_folder_without_images_and_a_missing_image_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RLSPError, match=f"^{tmp_path / 'empty'}: has no images in it"):
        FolderSource(tmp_path / "empty")
    with pytest.raises(RLSPError, match=r"missing.png: no such file; check the path"):
        FolderSource(tmp_path / "missing.png")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything"
)
def test_a_file_that_may_not_be_read_is_named(clip):
    (clip / "frame_000001.png").chmod(0)
    with pytest.raises(RLSPError, match=r"frame_000001.png: may not be read; check its permissions"):
        FolderSource(clip)


@pytest.mark.parametrize(
    "image", [np.zeros((2, 2), np.float32), np.zeros((2, 2, 2), np.uint8), np.zeros((0, 2, 3), np.uint8)]
)
def test_only_images_are_written(image, tmp_path):
    with pytest.raises(RLSPError, match="an image must be uint8 or uint16"):
        write_png(tmp_path / "image.png", image)
    assert contents(tmp_path) == []


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_is_written_and_read(dtype, suffix, rng, tmp_path):
    pixels = rng.integers(0, np.iinfo(dtype).max + 1, (7, 9, 4)).astype(dtype)
    path = tmp_path / f"clear{suffix}"
    if suffix == ".png":
        write_png(path, pixels)
    elif dtype == np.uint8:
        Image.fromarray(pixels).save(path)
    else:
        encoder = av.CodecContext.create("tiff", "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 9, 7, "rgba64le", Fraction(1)
        (packet,) = encoder.encode(av.VideoFrame.from_ndarray(pixels, "rgba64le"))
        path.write_bytes(bytes(packet))
    (frame,) = FolderSource(path)
    np.testing.assert_array_equal(np.dstack([*frame.planes, frame.alpha]), pixels)
    assert frame.alpha.dtype == dtype


def test_a_colour_that_stands_for_clear_becomes_alpha(tmp_path):
    """PNG's chunk tRNS, for RGB and for palettes."""
    rgb = np.zeros((4, 6, 3), np.uint8)
    rgb[1:3, 2:4] = (10, 200, 30)
    Image.fromarray(rgb).save(tmp_path / "rgb.png", transparency=(10, 200, 30))
    Image.fromarray(rgb).quantize(2).save(tmp_path / "palette.png", transparency=bytes([255, 90]))
    (frame,) = FolderSource(tmp_path / "rgb.png")
    np.testing.assert_array_equal(frame.alpha == 0, rgb.any(axis=-1))
    with Image.open(tmp_path / "palette.png") as image:
        indices = np.asarray(image)
    (frame,) = FolderSource(tmp_path / "palette.png")
    np.testing.assert_array_equal(frame.alpha, np.uint8([255, 90])[indices])
    np.testing.assert_array_equal(frame.planes[0], rgb)


def test_images_with_alpha_and_without_are_one_clip(tmp_path):
    write_png(tmp_path / "0.png", np.full((4, 6, 4), 77, np.uint8))
    write_png(tmp_path / "1.png", np.full((4, 6, 3), 77, np.uint8))
    source = FolderSource(tmp_path)
    assert source.transparent
    assert [frame.alpha is None for frame in source] == [False, True]


def test_nothing_is_left_of_a_folder_that_was_not_finished(tmp_path):
    def frames():
        yield BLACK
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_all(FolderSink(tmp_path / "clip"), frames())
    assert contents(tmp_path) == []


def test_a_folder_is_replaced_only_by_force(clip):
    with pytest.raises(RLSPError, match="exists and is not empty"):
        write_all(FolderSink(clip), [BLACK])
    write_all(FolderSink(clip, force=True), [BLACK], ["new"])
    assert contents(clip) == ["new.png"]


def test_two_frames_of_one_name_are_refused(tmp_path):
    with pytest.raises(RLSPError, match="two frames are called same"):
        write_all(FolderSink(tmp_path / "clip"), [BLACK, BLACK], ["same", "same"])
    assert contents(tmp_path) == []


def test_one_image_is_one_frame(tmp_path, rng):
    image = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    write_all(ImageSink(tmp_path / "image.png"), [image], ["another"])
    (frame,) = FolderSource(tmp_path / "image.png")
    np.testing.assert_array_equal(frame.planes[0], image)
    assert frame.name == "image"
    with pytest.raises(RLSPError, match="an image holds one frame"):
        write_all(ImageSink(tmp_path / "two.png"), [image, image])
    with pytest.raises(RLSPError, match=r"give a name that ends in .png"):
        ImageSink(tmp_path / "image.jpg")
    assert contents(tmp_path) == ["image.png"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, rng):
    noise = rng.integers(0, 256, (400, 300, 3), dtype=np.uint8)
    with small_disk(tmp_path / "disk", kib=256) as disk:
        with pytest.raises(RLSPError, match="clip: no space left on device; free some space"):
            write_all(FolderSink(disk / "clip"), [BLACK, noise])
        with pytest.raises(RLSPError, match=r"image\.png: no space left on device; free some space"):
            write_all(ImageSink(disk / "image.png"), [noise])
        assert contents(disk) == []


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 12\n%%EndComments\n{} loop\n%%EOF\n"


@pytest.mark.parametrize("use", [read_image, FolderSource, holds_luma])
def test_an_image_that_is_a_program_is_not_run(use, tmp_path, monkeypatch):
    """Pillow gives PostScript to Ghostscript, whatever the file is called."""
    mark = tmp_path / "mark"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {mark}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    path = tmp_path / "clip.png"
    path.write_bytes(POSTSCRIPT)
    with Image.open(path) as image:
        assert image.format == "EPS"
    with pytest.raises(
        RLSPError, match=r"clip\.png: not an image that can be read \(its content is of no known"
    ):
        use(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("suffix", "known"), [(".png", True), (".webp", True), (".gif", False), (".ppm", False)]
)
def test_images_are_known_by_content_in_the_formats_that_are_promised(suffix, known, tmp_path):
    path = tmp_path / "image.jpg"
    iio.imwrite(path.with_suffix(suffix), BLACK)
    path.with_suffix(suffix).rename(path)
    if known:
        assert read_image(path).shape == BLACK.shape
    else:
        with pytest.raises(RLSPError, match="of no known format"):
            read_image(path)


def test_profiles_of_colour_are_kept(tmp_path, rng):
    """Photos of telephones have them. One of grey does not fit the RGB that grey becomes."""
    wide = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = rng.integers(0, 256, (12, 16, 3), np.uint8)
    for name in ("a.jpg", "b.png", "c.tif", "d.webp"):
        Image.fromarray(pixels).save(folder / name, icc_profile=bytes(wide))
    Image.fromarray(pixels).save(folder / "e.png")
    wide[16:20] = b"GRAY"
    Image.fromarray(pixels[..., 0]).save(folder / "f.png", icc_profile=bytes(wide))
    wide[16:20] = b"RGB "
    model = small_model(rng, RLSPConfig(filters=2, layers=2))
    upscale(folder, tmp_path / "large", model, warm_start=0)
    upscale(folder / "a.jpg", tmp_path / "large.png", model, warm_start=0)

    def profile_of(path):
        with Image.open(path) as image:
            return image.info.get("icc_profile")

    kept = {path.name: profile_of(path) for path in (tmp_path / "large").iterdir()}
    assert kept == {f"{name}.png": bytes(wide) if name in "abcd" else None for name in "abcdef"}
    assert profile_of(tmp_path / "large.png") == bytes(wide)
