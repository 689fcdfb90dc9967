"""What HDR10 says of a film's mastering display and brightness comes out as it went in."""

from fractions import Fraction

import pytest

from helpers.media import copy
from helpers.networks import small_model
from helpers.videos import make_video
from rlsp_tf.media.hdr import HDR10
from rlsp_tf.media.video_reader import VideoSource
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.upscaling.upscale import upscale

TOLD = HDR10(
    primaries=(
        (Fraction(34000, 50000), Fraction(16000, 50000)),
        (Fraction(13250, 50000), Fraction(34500, 50000)),
        (Fraction(7500, 50000), Fraction(3000, 50000)),
        (Fraction(15635, 50000), Fraction(16450, 50000)),
    ),
    luminance=(Fraction(1, 10000), Fraction(1000)),
    light=(1000, 400),
)


def film(path, said):
    return make_video(
        path,
        range(0, 18000, 3600),
        codec="libx265",
        pixel_format="yuv420p10le",
        options={"x265-params": f"log-level=error:{said}"},
        colorspace=9,
        color_primaries=9,
        color_trc=16,
    )


@pytest.fixture
def bright(tmp_path):
    display = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    return film(tmp_path / "bright.mkv", f"{display}:max-cll=1000,400")


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_it_is_written_by_every_encoder_that_can(codec, suffix, bright, tmp_path):
    sink, _ = copy(bright, tmp_path / f"copy{suffix}", codec=codec)
    assert sink.notes == []
    with VideoSource(bright) as before, VideoSource(tmp_path / f"copy{suffix}") as after:
        assert before.hdr10 == TOLD
        assert after.tags == before.tags == (9, 9, 16)
        if codec != "libsvtav1":
            assert after.hdr10 == TOLD
            return
        # AV1 has 16 bits behind the point for colours, 8 and 14 for light.
        for have, told in zip(after.hdr10.primaries, TOLD.primaries, strict=True):
            assert all(abs(a - b) <= Fraction(1, 65536) for a, b in zip(have, told, strict=True))
        for have, told in zip(after.hdr10.luminance, TOLD.luminance, strict=True):
            assert abs(have - told) <= Fraction(1, 16384) * 2
        assert after.hdr10.light == TOLD.light


def test_brightness_goes_along_without_a_display(tmp_path):
    path = film(tmp_path / "bright.mkv", "max-cll=300,100")
    copy(path, tmp_path / "copy.mkv")
    with VideoSource(tmp_path / "copy.mkv") as after:
        assert after.hdr10 == HDR10(light=(300, 100))


def test_an_encoder_that_cannot_write_it_is_said(bright, tmp_path):
    sink, _ = copy(bright, tmp_path / "copy.mkv", codec="ffv1")
    assert sink.notes == [
        f"{tmp_path / 'copy.mkv'}: ffv1 does not write HDR mastering metadata; its colour tags are kept."
    ]


def test_upscaling_keeps_it(bright, tmp_path, rng):
    target = tmp_path / "large.mp4"
    notes = upscale(
        bright, target, small_model(rng, RLSPConfig(filters=2, layers=2)), segment=2, warm_start=0
    )
    assert notes == []
    with VideoSource(target) as after:
        assert after.hdr10 == TOLD
