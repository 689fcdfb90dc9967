"""Pictures before and after, and estimates, in the page's process and in the one for 8 bits."""

import os
import signal
from fractions import Fraction

import numpy as np
import psutil
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="needs rlsp_tf[ui]")

from helpers.networks import SMALL, needs_bytes, small_model
from helpers.videos import make_video
from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.load import load_step
from rlsp_tf.ui.choices import Order
from rlsp_tf.ui.looks import Looks
from rlsp_tf.ui.uploads import uploads_of
from rlsp_tf.upscaling.preview import preview_frame


@pytest.fixture
def model(tmp_path):
    small_model(np.random.default_rng(0), SMALL).save(tmp_path / "small.keras")
    return str(tmp_path / "small.keras")


@pytest.fixture
def upload(tmp_path):
    make_video(tmp_path / "film.mp4", range(8), time_base=Fraction(1, 25))
    ((found,), _) = uploads_of([tmp_path / "film.mp4"], tmp_path, together=False)
    return found


@pytest.mark.parametrize("precision", ["float32", pytest.param("int8", marks=needs_bytes)])
def test_a_look_shows_what_the_library_makes(tmp_path, upload, model, precision):
    looks = Looks(tmp_path)
    moment = preview_frame(upload.source, load_step(model, precision=precision), at=0.1)
    size = moment.after.shape[1::-1]
    paths, seconds = looks.pictures(upload, model, precision, 0.1, size, close_up=False)
    assert seconds == moment.seconds
    for path, exact in zip(paths, (moment.before, moment.after), strict=True):
        # The pictures are JPEG of quality 95.
        assert np.abs(np.asarray(Image.open(path), float) - exact).mean() < 2
    order = Order("film.mp4", (), model, precision, "mp4")
    assert looks.estimate(upload, order).precision == precision


@needs_bytes
def test_a_process_for_8_bits_that_is_killed_is_started_again(tmp_path, upload, model):
    looks = Looks(tmp_path)
    before = set(psutil.Process().children())
    looks.pictures(upload, model, "int8", 0.1, (64, 48), close_up=False)
    for process in set(psutil.Process().children()) - before:
        os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(RLSPError, match="has ended unexpectedly"):
        looks.pictures(upload, model, "int8", 0.2, (64, 48), close_up=False)
    assert looks.pictures(upload, model, "int8", 0.2, (64, 48), close_up=False)[1] > 0.1
