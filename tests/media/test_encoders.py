"""What an encoder would refuse or ignore is said before any work."""

from fractions import Fraction

import av
import av.codec
import numpy as np
import pytest

from rlsp_tf.errors import RLSPError, UsageError
from rlsp_tf.media.encoders import WORST, EncoderOptions, check_encoder
from rlsp_tf.media.images import write_png
from rlsp_tf.media.open import open_sink, open_source


@pytest.fixture
def folder(tmp_path, rng):
    (tmp_path / "frames").mkdir()
    write_png(tmp_path / "frames" / "a.png", rng.integers(0, 256, (48, 64, 3), np.uint8))
    return tmp_path / "frames"


@pytest.mark.parametrize(("codec", "worst"), WORST.items())
def test_quality_is_within_the_range_of_the_encoder(codec, worst):
    check_encoder(codec, 0)
    check_encoder(codec, worst)
    for crf in (-1, worst + 1):
        with pytest.raises(UsageError) as raised:
            check_encoder(codec, crf)
        assert str(raised.value) == f"--crf for {codec} must be from 0 to {worst}, not {crf}."


def test_an_encoder_without_such_a_quality_ignores_it():
    check_encoder("ffv1", 99)


def test_a_quality_out_of_range_is_found_when_a_video_is_to_be_written(folder, tmp_path):
    with open_source(folder) as source, pytest.raises(UsageError, match="from 0 to 51, not 60"):
        open_sink(tmp_path / "film.mp4", source, width=64, height=48, encoder=EncoderOptions(crf=60))


def test_an_encoder_of_a_card_that_is_not_there_is_refused(folder, tmp_path):
    name = "h264_nvenc"
    if name not in av.codec.codecs_available:
        pytest.skip(f"this FFmpeg has no {name}")
    try:
        context = av.CodecContext.create(name, "w")
        context.width, context.height, context.pix_fmt, context.time_base = (
            640,
            480,
            "yuv420p",
            Fraction(1, 25),
        )
        context.open()
        pytest.skip("there is a card")
    except av.FFmpegError:
        pass
    with open_source(folder) as source, pytest.raises(RLSPError) as raised:
        open_sink(tmp_path / "film.mp4", source, width=64, height=48, encoder=EncoderOptions(name))
    assert str(raised.value) == (
        f"{name}: needs a graphics card or chip, and its driver, which this machine does not have; choose "
        "libx264 or libx265."
    )
