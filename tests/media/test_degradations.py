"""Kernels against formulas, noise against its strength, codecs against a file that FFmpeg wrote."""

import json
from dataclasses import replace

import av
import numpy as np
import pytest
from scipy.ndimage import correlate1d

from helpers.synthetic import make_clip
from rlsp_tf.errors import RLSPError
from rlsp_tf.media.degradations import (
    KERNELS,
    NAMES,
    PAPER,
    VIDEO,
    DegradingStream,
    SampledDegradation,
    degradation_named,
    filter_and_skip,
    kernel_taps,
)
from rlsp_tf.media.recompression import Codec
from rlsp_tf.pixels.degradation import degrade

CODECS = ("x264", "x265", "vp9", "mpeg4")


@pytest.fixture(scope="module")
def clip():
    return make_clip(6, 96, 128, seed=3)


def psnr(first, second):
    return 10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2))


def test_names_lead_to_degradations_that_say_what_they_are():
    assert degradation_named("paper") == PAPER
    assert degradation_named("video") == VIDEO
    assert str(PAPER) == "paper: Gaussian blur of 1.5 pixels, every 4th pixel"
    coded = "as in the paper, then {} at CRF {}{}, a key frame every 250 frames".format
    assert str(degradation_named("crf23")) == "crf23: " + coded("x264", 23, ", preset medium")
    assert str(degradation_named("x265-crf28")) == "x265-crf28: " + coded("x265", 28, ", preset veryfast")
    assert str(degradation_named("vp9-crf18")) == "vp9-crf18: " + coded("vp9", 18, "")
    assert json.loads(json.dumps(VIDEO.to_dict())) == VIDEO.to_dict()
    for name in ("jpeg", "crf52", "crf", "crf1.5", "vp9", "av1-crf23"):
        with pytest.raises(RLSPError, match=f"{name}: no degradation of this name; there are {NAMES}"):
            degradation_named(name)


def test_the_paper_s_degradation_has_one_recipe_which_is_degrade(clip, rng):
    recipe = PAPER.draw(rng)
    assert recipe == SampledDegradation()
    np.testing.assert_array_equal(recipe.apply(clip, 4), degrade(clip))
    deep = clip.astype(np.uint16) * 257
    np.testing.assert_array_equal(recipe.apply(deep, 4), degrade(deep))


def test_video_draws_every_kernel_codec_and_kind_of_noise():
    recipes = [VIDEO.draw(np.random.default_rng(seed)) for seed in range(400)]
    assert {recipe.kernel for recipe in recipes} == set(KERNELS)
    assert {recipe.codec.name for recipe in recipes} == set(CODECS)
    assert {recipe.grain for recipe in recipes if recipe.noise} == {True, False}
    assert 0.4 < np.mean([recipe.noise == 0 for recipe in recipes]) < 0.6
    assert {recipe.codec.crf for recipe in recipes} == set(range(15, 36))
    assert len({recipe.codec.gop for recipe in recipes}) == 3


@pytest.mark.parametrize(
    ("kernel", "formula"),
    [
        ("gaussian", lambda x: np.exp(-(x**2) / 2 / 0.3**2)),
        ("area", lambda x: np.select([abs(x) < 0.49, abs(x) < 0.51], [1, 0.5])),
        (
            "bicubic",
            lambda x: np.select(
                [abs(x) <= 1, abs(x) < 2],
                [1.5 * abs(x) ** 3 - 2.5 * x**2 + 1, -0.5 * abs(x) ** 3 + 2.5 * x**2 - 4 * abs(x) + 2],
            ),
        ),
        ("lanczos", lambda x: np.where(abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)),
    ],
)
def test_kernels_are_their_formulas_centred_on_the_pixel_that_is_kept(clip, kernel, formula):
    taps = formula(np.arange(-16, 17) / 4)
    taps = taps / taps.sum()
    frame = clip[0].astype(float)
    full = correlate1d(correlate1d(frame, taps, 0, mode="nearest"), taps, 1, mode="nearest")
    ours = filter_and_skip(clip[0], kernel_taps(kernel, 4, 0.3), 4)
    # Taps below a ten-thousandth of the largest are left out; float32.
    np.testing.assert_allclose(ours, full[::4, ::4], atol=0.05)
    assert SampledDegradation(kernel, 0.3).margin * 4 >= len(kernel_taps(kernel, 4, 0.3)) // 2


def test_noise_has_its_strength_and_grain_is_grey_and_smooth():
    grey = np.full((4, 256, 256, 3), 128, np.uint8)
    for grain in (False, True):
        noise = SampledDegradation(noise=3.0, grain=grain).apply(grey, 4).astype(float) - 128
        # 4096 pixels a frame; rounding adds a twelfth to the variance.
        assert noise.std() == pytest.approx(np.sqrt(9 + 1 / 12), rel=0.03)
        neighbours = np.corrcoef(noise[:, :, 1:, 0].ravel(), noise[:, :, :-1, 0].ravel())[0, 1]
        channels = np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]
        frames = np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]
        assert abs(frames) < 0.05
        if grain:
            assert neighbours > 0.4
            assert channels == pytest.approx(1)
        else:
            assert abs(neighbours) < 0.05
            assert abs(channels) < 0.05


@pytest.mark.parametrize("name", CODECS)
def test_a_codec_gives_every_frame_back_worse_at_a_higher_crf(clip, name):
    lr = degrade(clip)
    values = [psnr(SampledDegradation(codec=Codec(name, crf)).apply(clip, 4), lr) for crf in (15, 25, 35)]
    assert values[0] > values[1] + 1 > values[2] + 2
    assert values[0] > 28


@pytest.mark.parametrize("name", CODECS)
def test_recompression_is_the_same_every_time(name):
    """With frames of odd and of small sizes, with which FFmpeg's x264 and x265 are not."""
    for height, width in ((48, 48), (33, 70)):
        clip = make_clip(9, height, width, seed=2)
        recipe = SampledDegradation(codec=Codec(name, 18))
        first = recipe.apply(clip.repeat(4, 1).repeat(4, 2), 4)
        assert first.shape == clip.shape
        for _ in range(3):
            np.testing.assert_array_equal(recipe.apply(clip.repeat(4, 1).repeat(4, 2), 4), first)


def test_x264_s_picture_is_that_of_a_file_made_by_ffmpeg(tmp_path):
    """The luma that is decoded, compared in YCbCr of a grey clip, which knows no colour conversion."""
    clip = make_clip(5, 128, 128)
    grey = np.repeat(np.rint(clip.mean(-1, keepdims=True)).astype(np.uint8), 3, axis=-1)
    with av.open(str(tmp_path / "grey.mkv"), "w") as container:
        options = {"crf": "28", "preset": "medium", "threads": "1"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        for frame in grey:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(tmp_path / "grey.mkv")) as container:
        luma = np.stack([frame.to_ndarray()[:128] for frame in container.decode(video=0)])
    stream = DegradingStream(SampledDegradation(codec=Codec(crf=28)), 4)
    frames = [each for frame in grey for each in stream.encode(frame)] + stream.flush()
    # Full range again; one level for the two roundings of swscale.
    assert np.abs(np.stack(frames)[..., 1] - np.clip((luma - 16.0) * 255 / 219, 0, 255)).max() <= 1.5


def test_colours_are_not_darkened_on_the_way():
    """Swscale without its exact flags loses half a grey level, which a network would learn to add."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), 3, axis=-1)
    ramp = ramp.repeat(8, 1).repeat(8, 2)
    stream = DegradingStream(SampledDegradation(codec=Codec(crf=0)), 4)
    (decoded,) = [*stream.encode(ramp[0]), *stream.flush()]
    assert abs(np.mean(decoded.astype(float) - ramp[0])) < 0.1


def test_a_lead_moves_the_key_frame_before_the_clip(clip):
    """A codec that has seen more frames has them in mind, so that the first one is not a key frame."""
    recipe = SampledDegradation(codec=Codec(crf=30))
    plain, led = recipe.apply(clip, 4), recipe.apply(clip, 4, lead=4)
    assert led.shape == plain.shape
    assert (led[0] != plain[0]).any()
    assert psnr(led, degrade(clip)) > 20


def test_a_recipe_depends_on_the_generator_alone():
    first, second = (VIDEO.draw(np.random.default_rng(5)) for _ in range(2))
    assert first == second
    clip = make_clip(4, 64, 64)
    np.testing.assert_array_equal(first.apply(clip, 4), second.apply(clip, 4))
    other = replace(first, noise=2.0, seed=1).apply(clip, 4)
    assert (other != replace(first, noise=2.0, seed=2).apply(clip, 4)).any()
