"""Orders, computed by processes of their own."""

import multiprocessing
import signal
import time
from dataclasses import replace
from fractions import Fraction

import av
import imageio.v3 as iio
import numpy as np
import psutil
import pytest

pytest.importorskip("starlette", reason="needs rlsp_tf[ui]")

from helpers.killed_page import place_and_die
from helpers.networks import SMALL, small_model
from helpers.synthetic import make_clip
from helpers.videos import make_video
from rlsp_tf.errors import Interrupted
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.network.weights import load_model
from rlsp_tf.serving.limits import Refused
from rlsp_tf.system.signals import Stop
from rlsp_tf.ui.choices import Order
from rlsp_tf.ui.limits import Limits
from rlsp_tf.ui.orders import Orders
from rlsp_tf.ui.playable import is_playable, write_picture, write_playable
from rlsp_tf.ui.uploads import uploads_of
from rlsp_tf.upscaling.upscale import Recipe, upscale
from rlsp_tf.upscaling.work_folder import JOURNAL, WorkFolder

FRAMES = 400


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.keras"
    small_model(np.random.default_rng(0), SMALL).save(path)
    return str(path)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A video that takes some seconds, in a container that browsers do not play."""
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    return make_video(path, range(FRAMES), time_base=Fraction(1, 25), audio=["aac"])


@pytest.fixture(scope="module")
def expected(film, model, tmp_path_factory):
    """What the library makes of it. Without loss, since a run that is stopped has a key frame more."""
    target = tmp_path_factory.mktemp("expected") / "result.mp4"
    upscale(film, target, load_model(model, precision="float32"), codec="libx264", crf=0, preset="ultrafast")
    return frames_of(target)


@pytest.fixture
def order(model):
    return Order("film.mkv", (), model, "float32", "mp4", codec="libx264", crf=0, preset="ultrafast")


def wait_for(true):
    deadline = time.monotonic() + 100
    while not (value := true()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def end_of(orders, client=""):
    """The only order of a client, when it is over."""

    def over():
        (placed,) = orders.of(client)
        return placed.job.is_over and placed

    return wait_for(over)


def frames_of(path):
    with av.open(path) as container:
        return np.stack([frame.to_ndarray() for frame in container.decode(video=0)])


def workers():
    """The processes that upscale for this one."""
    return [each for each in psutil.Process().children() if "rlsp_tf.ui.worker" in each.cmdline()]


@pytest.mark.slow
def test_an_order_goes_on_in_whatever_way_its_page_ends(tmp_path, film, order, expected):
    limits = Limits()
    with Orders(tmp_path, limits) as orders:
        (upload,), _ = uploads_of([film], orders.uploads, together=False)
        orders.place("anna", (upload, order))
        (placed,) = orders.of("anna")
        assert not orders.of("ben")
        with pytest.raises(Refused):
            orders.remove("ben", placed.job.name)
        journal = WorkFolder(placed.result).path / JOURNAL
        wait_for(journal.is_file)
        # The process itself is killed, as when memory runs out; what it has finished stays.
        (worker,) = workers()
        worker.kill()
        failed = end_of(orders, "anna")
        assert failed.job.state == "failed"
        assert "has ended unexpectedly" in failed.job.error
        assert journal.is_file()
        orders.again("anna", placed.job.name)
        told = wait_for(lambda: orders.of("anna")[0].job.frames)
        assert 0 < told <= FRAMES
    # The page ended properly; the worker has ended with it.
    assert not workers()
    assert not placed.result.exists()
    with Orders(tmp_path, limits) as orders:
        done = end_of(orders, "anna")
        assert (done.job.state, done.job.error, done.job.frames, done.job.total) == (
            "done",
            None,
            FRAMES,
            FRAMES,
        )
        assert done.job.name == placed.job.name
        np.testing.assert_array_equal(frames_of(done.result), expected)
        before = done.folder / "before.mp4"
        assert is_playable(before)
        assert frames_of(before).shape == frames_of(film).shape
        orders.remove("anna", done.job.name)
        assert not orders.of("anna")
        assert not [*(tmp_path / "jobs").iterdir()]
    assert film.is_file()


def test_orders_that_belong_together_are_all_queued_or_none(tmp_path, model):
    picture = tmp_path / "picture.png"
    iio.imwrite(picture, make_clip(1, 9, 14)[0])
    with Orders(tmp_path, Limits(jobs=2)) as orders:
        (upload,), _ = uploads_of([picture], orders.uploads, together=False)
        ordered = upload, Order("picture.png", (), model, "float32", "png")
        with pytest.raises(Refused, match="2"):
            orders.place("", ordered, ordered, ordered)
        assert not orders.of("")
        assert not [*(tmp_path / "jobs").iterdir()]
        names = orders.place("", ordered, ordered)
        assert [placed.job.name for placed in reversed(orders.of(""))] == names


@pytest.mark.slow
def test_what_cannot_be_done_is_said_without_names_of_the_server(tmp_path, film, model, order):
    with Orders(tmp_path, Limits(result=1000)) as orders:
        (upload,), _ = uploads_of([film], orders.uploads, together=False)
        orders.place("", (upload, order))
        failed = end_of(orders)
        assert failed.job.error.startswith("film.mkv: the result is larger than 1e-06 GB, the limit here")
        assert not WorkFolder(failed.result).path.exists()
        orders.remove("", failed.job.name)

        orders.place("", (replace(upload, title="gone.mkv"), replace(order, model="missing.keras")))
        failed = end_of(orders)
        assert "missing.keras: no such file or weight set" in failed.job.error
        assert str(tmp_path) not in failed.job.error
        orders.remove("", failed.job.name)

    with Orders(tmp_path, Limits(keep=4)) as orders:
        picture = tmp_path / "picture.png"
        clip = make_clip(1, 9, 14)
        iio.imwrite(picture, clip[0])
        (upload,), _ = uploads_of([picture], orders.uploads, together=False)
        orders.place("", (upload, Order("picture.png", (), model, "float32", "png")))
        done = end_of(orders)
        assert done.job.state == "done"
        upscale(picture, tmp_path / "expected.png", load_model(model, precision="float32"))
        np.testing.assert_array_equal(iio.imread(done.result), iio.imread(tmp_path / "expected.png"))
        assert [iio.imread(done.folder / f"{name}.jpg").shape for name in ("before", "after")] == [
            (9, 14, 3),
            (36, 56, 3),
        ]
        # Soon it is removed.
        wait_for(lambda: not done.folder.exists())
        assert not orders.of("")


@pytest.mark.slow
def test_a_worker_ends_with_a_page_that_is_killed(tmp_path, film, order):
    page = multiprocessing.get_context("spawn").Process(target=place_and_die, args=(tmp_path, film, order))
    page.start()
    page.join()
    assert page.exitcode == -signal.SIGKILL
    with Orders(tmp_path, Limits()) as orders:
        assert end_of(orders).job.state == "done"


@pytest.mark.slow
def test_a_part_begins_and_ends_with_its_frames_beside_those_of_the_original(tmp_path, film, model, order):
    part = {"start": 1.001, "duration": 0.4}
    with Orders(tmp_path, Limits()) as orders:
        (upload,), _ = uploads_of([film], orders.uploads, together=False)
        orders.place("", (upload, replace(order, **part)))
        done = end_of(orders)
        assert (done.job.state, done.job.total) == ("done", 10)
        step = load_model(model, precision="float32")
        upscale(film, tmp_path / "expected.mp4", step, codec="libx264", crf=0, preset="ultrafast", **part)
        np.testing.assert_array_equal(frames_of(done.result), frames_of(tmp_path / "expected.mp4"))
        before = frames_of(done.folder / "before.mp4").astype(float)
        # No other frame of the film is as near as the one at 1.04 s and those that follow; CRF 20.
        near = [np.abs(before - frames_of(film)[begin : begin + 10]).mean() for begin in range(20, 35)]
        assert range(20, 35)[np.argmin(near)] == 26

        orders.remove("", done.job.name)
        orders.place("", (upload, replace(order, start=1.001, duration=0.001)))
        sentence = (
            "film.mkv: has no frame between the beginning of the part and its end; give a longer length."
        )
        assert end_of(orders).job.error == sentence


@pytest.mark.parametrize("depth", [8, 16])
def test_what_is_transparent_in_a_picture_is_black_in_its_copy(tmp_path, depth):
    (clip,) = make_clip(1, 32, 48)
    alpha = np.zeros((32, 48), np.uint8)
    alpha[:, :24] = 255
    picture = np.dstack([clip, alpha])
    if depth == 16:
        picture = picture.astype(np.uint16) * 257
    iio.imwrite(tmp_path / "picture.png", picture, plugin="opencv")
    write_picture(tmp_path / "picture.png", tmp_path / "copy.jpg")
    copy = iio.imread(tmp_path / "copy.jpg").astype(float)
    assert np.abs(copy - clip * (alpha[..., None] / 255)).mean() < 3  # JPEG of quality 95


def test_a_copy_ends_when_it_should(tmp_path, film):
    stop = Stop(minutes=0)
    with pytest.raises(Interrupted):
        write_playable(film, tmp_path / "before.mp4", Recipe(), stop)
    assert not [*tmp_path.iterdir()]


def test_pictures_become_a_copy_that_plays(tmp_path):
    (tmp_path / "frames").mkdir()
    clip = make_clip(3, 34, 50)
    for index, frame in enumerate(clip):
        iio.imwrite(tmp_path / "frames" / f"{index}.png", frame)
    assert not is_playable(tmp_path / "frames")
    recipe = Recipe(encoder=EncoderOptions(rate=12))
    write_playable(tmp_path / "frames", tmp_path / "before.mp4", recipe, Stop())
    assert is_playable(tmp_path / "before.mp4")
    with av.open(tmp_path / "before.mp4") as container:
        assert container.streams.video[0].average_rate == 12
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.abs(np.stack(frames).astype(float) - clip).mean() < 6  # CRF 20, and half of the chroma


@pytest.mark.parametrize(
    ("name", "settings", "playable"),
    [
        ("a.mp4", {}, True),
        ("a.webm", {"codec": "libvpx-vp9"}, True),
        ("a.mkv", {}, False),
        ("a.mp4", {"pixel_format": "yuv444p"}, False),
        ("a.mov", {"codec": "prores_ks", "pixel_format": "yuv422p10le"}, False),
        ("a.mp4", {"codec": "libsvtav1"}, True),
        ("a.mp4", {"codec": "libx265"}, False),
    ],
)
def test_what_browsers_play_is_known(tmp_path, name, settings, playable):
    make_video(tmp_path / name, range(2), time_base=Fraction(1, 25), **settings)
    assert is_playable(tmp_path / name) == playable
