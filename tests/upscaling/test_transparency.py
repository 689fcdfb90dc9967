"""Transparent films: what is seen through them before is seen through them after."""

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from helpers.media import contents
from helpers.networks import SMALL, small_model
from helpers.videos import gradient, make_video
from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.step import KerasStep, StepWrapper
from rlsp_tf.inference.transparency import enlarge_alpha
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.media.images import write_png
from rlsp_tf.media.video_reader import VideoSource
from rlsp_tf.upscaling.plan import join_ranges, make_plan, render_range
from rlsp_tf.upscaling.upscale import Recipe, upscale, upscale_clip

OPTIONS = {"segment": 3, "warm_start": 2}


@pytest.fixture(scope="module")
def step():
    return KerasStep(small_model(np.random.default_rng(0), SMALL))


def picture(index, hidden=0):
    """A disc with a soft edge that moves over nothing, RGBA; ``hidden`` is the colour of nothing."""
    rows, columns = np.mgrid[:24, :32]
    distance = np.hypot(rows - 12, columns - 8 - index)
    alpha = np.clip(255 * (9 - distance) / 3, 0, 255).astype(np.uint8)
    rgb = gradient(index, 32, 24)
    rgb[alpha == 0] = hidden
    return np.dstack([rgb, alpha])


def film(path, codec, pixel_format, count=9, hidden=0, **settings):
    frames = [av.VideoFrame.from_ndarray(picture(index, hidden), "rgba") for index in range(count)]
    if codec.startswith("libvpx"):
        settings["stream_metadata"] = {"alpha_mode": "1"}
    return make_video(
        path,
        range(count),
        time_base=Fraction(1, 25),
        codec=codec,
        pixel_format=pixel_format,
        size=(32, 24),
        frames=frames,
        **settings,
    )


def alphas(path):
    """Of all frames, with the decoder that reads them, and their depth."""
    with VideoSource(path) as source:
        return [frame.alpha for frame in source], source.depth


FILMS = [
    ("vp9.webm", "libvpx-vp9", "yuva420p"),
    ("prores.mov", "prores_ks", "yuva444p10le"),
    ("animation.mov", "qtrle", "argb"),
    ("moving.png", "apng", "rgba"),
]
LARGE = [("large.webm", None), ("large.mov", "prores_ks"), ("large.mkv", "ffv1"), ("large.mkv", "libvpx")]


@pytest.mark.slow
@pytest.mark.parametrize(("target", "encoder"), LARGE)
@pytest.mark.parametrize(("name", "codec", "pixel_format"), FILMS)
def test_alpha_is_kept_where_it_can_be(name, codec, pixel_format, target, encoder, step, tmp_path):
    container = {"container": "apng"} if codec == "apng" else {}
    path = film(tmp_path / name, codec, pixel_format, **container)
    notes = upscale(path, tmp_path / target, step, codec=encoder, crf=4, **OPTIONS)
    assert not any("transparency" in note for note in notes)
    before, depth = alphas(path)
    after, large_depth = alphas(tmp_path / target)
    assert len(after) == len(before)
    # Lossless, nearly lossless, and lossy at the quality asked for; in codes of 8 bits.
    tolerance = {"ffv1": 0, "prores_ks": 0.5}.get(encoder, 16)
    for small, large in zip(before, after, strict=True):
        expected = enlarge_alpha(small, 4, depth=depth, target_depth=large_depth)
        assert large.shape == (96, 128)
        off = np.abs(large.astype(float) - expected) * 255 / (2**large_depth - 1)
        assert off.max() <= tolerance


@pytest.mark.parametrize(
    ("target", "encoder"), [("large.mp4", None), ("large.mkv", None), ("large.mp4", "libvpx-vp9")]
)
def test_where_it_cannot_be_kept_it_is_said_and_nothing_else_changes(target, encoder, step, tmp_path):
    """Neither a mark of alpha stays, nor is anything filled in, since all of it is seen now."""
    path = film(tmp_path / "vp9.webm", "libvpx-vp9", "yuva420p", options={"lossless": "1"})
    opaque = tmp_path / "opaque.mkv"
    with VideoSource(path) as source:
        planes = [frame.planes for frame in source]
    frames = []
    for each in planes:
        frame = av.VideoFrame(32, 24, "yuv420p")
        for plane, samples in zip(frame.planes, each, strict=True):
            rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
            rows[:, : plane.width] = samples
        frames.append(frame)
    make_video(
        opaque, range(9), time_base=Fraction(1, 25), codec="ffv1", size=(32, 24), frames=frames, color_range=1
    )
    # Where bars are depends on the key frames of a file.
    options = {**OPTIONS, "bars": "compute"}
    notes = upscale(path, tmp_path / target, step, codec=encoder, **options)
    codec = encoder or "libx264"
    assert (
        f"{path}: transparency was left out, since {codec} in {target[5:]} cannot hold it; "
        "name the output .webm, or .mov with --codec prores_ks, to keep it." in notes
    )
    upscale(opaque, tmp_path / f"reference{target[5:]}", step, codec=encoder, **options)
    decoded = []
    for file in (tmp_path / target, tmp_path / f"reference{target[5:]}"):
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            assert "alpha_mode" not in {name.lower() for name in stream.metadata}
            assert b"\x53\xc0\x81\x01" not in file.read_bytes()  # AlphaMode of Matroska
            decoded.append([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    np.testing.assert_array_equal(*decoded)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_lies_under_nothing_is_not_seen(dtype, step, tmp_path):
    """Black, white or magenta: the files are the same, byte for byte."""
    for name, hidden in (("black", 0), ("white", 255), ("magenta", (255, 0, 255))):
        (tmp_path / name).mkdir()
        for index in range(4):
            pixels = picture(index, hidden).astype(dtype) * (1 if dtype == np.uint8 else 257)
            write_png(tmp_path / name / f"{index}.png", pixels)
        upscale(tmp_path / name, tmp_path / f"{name}-large", step, **OPTIONS)
    black = [file.read_bytes() for file in sorted((tmp_path / "black-large").iterdir())]
    for name in ("white", "magenta"):
        assert [file.read_bytes() for file in sorted((tmp_path / f"{name}-large").iterdir())] == black


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_a_transparent_image_stays_one(suffix, step, tmp_path):
    path = tmp_path / f"still{suffix}"
    Image.fromarray(picture(3)).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    assert upscale(path, tmp_path / "large.png", step, warm_start=0) == []
    with Image.open(tmp_path / "large.png") as image:
        assert image.mode == "RGBA"
        expected = enlarge_alpha(picture(3)[..., 3], 4, depth=8, target_depth=8)
        np.testing.assert_array_equal(np.asarray(image)[..., 3], expected)


def test_frames_of_a_transparent_video_become_transparent_images(step, tmp_path):
    path = film(tmp_path / "vp9.webm", "libvpx-vp9", "yuva420p")
    upscale(path, tmp_path / "large", step, **OPTIONS)
    before, _ = alphas(path)
    for small, file in zip(before, sorted((tmp_path / "large").iterdir()), strict=True):
        with Image.open(file) as image:
            expected = enlarge_alpha(small, 4, depth=8, target_depth=8)
            np.testing.assert_array_equal(np.asarray(image)[..., 3], expected)


class Dying(StepWrapper):
    """A step with a power failure after so many calls."""

    def __init__(self, step, calls):
        super().__init__(step)
        self._left = calls

    def __call__(self, window, state):
        self._left -= 1
        if self._left < 0:
            raise RLSPError("the power fails.")
        return super().__call__(window, state)


@pytest.mark.slow
@pytest.mark.parametrize(("target", "encoder"), LARGE[:3])
def test_stopped_and_gone_on_with_it_is_the_same(target, encoder, step, tmp_path):
    path = film(tmp_path / "vp9.webm", "libvpx-vp9", "yuva420p")
    once, parts = tmp_path / f"once-{target}", tmp_path / f"parts-{target}"
    options = {**OPTIONS, "codec": encoder, "scene_cuts": frozenset({3, 6})}
    upscale(path, once, step, **options)
    sentences = []
    for calls in range(4, 40, 4):
        try:
            upscale(path, parts, Dying(step, calls), **options)
            break
        except RLSPError as error:
            sentences.append(str(error))
    assert any("frames are finished" in sentence for sentence in sentences)
    assert_same(once, parts)


@pytest.mark.parametrize(("target", "encoder"), LARGE[:3])
def test_ranges_of_a_transparent_film_are_the_film(target, encoder, step, tmp_path):
    path = film(tmp_path / "vp9.webm", "libvpx-vp9", "yuva420p")
    once, joined = tmp_path / f"once-{target}", tmp_path / f"ranges-{target}"
    recipe, cuts = Recipe(encoder=EncoderOptions(codec=encoder), **OPTIONS), frozenset({3, 6})
    upscale_clip(path, once, step, recipe, scene_cuts=cuts)
    plan = make_plan(path, step, recipe, cuts, length=3)
    assert len(plan.ranges) == 3
    work = tmp_path / "work"
    work.mkdir()
    for index in (2, 0, 1):
        render_range(path, work / target, step, recipe, plan, index)
    join_ranges(path, work, joined, step, recipe, plan)
    assert_same(once, joined)


def assert_same(one, other):
    for (frames, _), (others, _) in [(alphas(one), alphas(other))]:
        np.testing.assert_array_equal(frames, others)
    with VideoSource(one) as first, VideoSource(other) as second:
        for frame, reference in zip(first, second, strict=True):
            assert frame.pts == reference.pts
            for plane, expected in zip(frame.planes, reference.planes, strict=True):
                np.testing.assert_array_equal(plane, expected)


def test_a_change_of_size_gives_a_film_of_what_came_before(step, tmp_path):
    first = make_video(tmp_path / "first.ts", size=(32, 24), audio=["aac"])
    other = make_video(tmp_path / "other.ts", size=(64, 48), audio=["aac"])
    path = tmp_path / "both.ts"
    path.write_bytes(first.read_bytes() + other.read_bytes())
    notes = upscale(path, tmp_path / "large.mkv", step, **OPTIONS)
    with VideoSource(first) as source:
        end = list(source)[-1].pts * source.time_base + Fraction(1, 25)
    assert any(f"changes from 32x24 yuv420p to 64x48 yuv420p at {float(end):.3f} s" in note for note in notes)
    with av.open(str(tmp_path / "large.mkv")) as container:
        assert len([*container.decode(video=0)]) == 25
    assert contents(tmp_path) == ["both.ts", "first.ts", "large.mkv", "other.ts"]
