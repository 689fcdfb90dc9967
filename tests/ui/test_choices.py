"""What the page lets people choose, and what it means to the library."""

from fractions import Fraction

import av
import pytest

from helpers.networks import SMALL, small_model
from helpers.videos import make_video
from rlsp_tf.errors import RLSPError
from rlsp_tf.media.interval import Interval
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.system.files import write_json
from rlsp_tf.ui import choices
from rlsp_tf.ui.choices import ORDER, Order, kinds, qualities, weights
from rlsp_tf.upscaling.upscale import upscale_clip


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.encoder.codec)
def test_every_kind_of_file_can_be_written_and_keeps_its_sound(kind, step, tmp_path):
    source, target = tmp_path / "source.mkv", tmp_path / f"result.{kind.suffix}"
    make_video(source, range(0, 3 * 3600, 3600), audio=["aac"])
    encoder = {name: getattr(kind.encoder, name) for name in ("codec", "crf", "preset")}
    order = Order("a", ("b",), "c", "auto", kind.suffix, "4x", **encoder)
    upscale_clip(source, target, step, order.recipe)
    with av.open(target) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        (video,) = container.streams.video
        assert len([*container.decode(video)]) == 3
        assert (video.width, video.height) == (256, 192)


def test_the_first_kind_is_the_one_that_plays_everywhere():
    assert kinds()[0].encoder.codec == "libx264"


@pytest.mark.parametrize(
    ("fastest", "bytes", "expected"),
    [
        ("bfloat16", True, ["float32", "auto", "int8"]),
        ("bfloat16", False, ["float32", "auto"]),
        ("float32", True, ["auto", "int8"]),
        ("float32", False, ["auto"]),
    ],
)
def test_no_two_qualities_are_the_same(monkeypatch, fastest, bytes, expected):
    monkeypatch.setattr(choices, "fastest_precision", lambda: fastest)
    monkeypatch.setattr(choices, "int8_is_fastest", lambda: bytes)
    assert [precision for _, precision in qualities()] == expected
    assert ["recommended" in label for label, _ in qualities()] == [each == "auto" for each in expected]


def test_weights_are_compared_to_the_first(tmp_path, rng):
    paths = []
    for name, filters in (("medium", 6), ("large", 12), ("small", 3), ("other", 6)):
        paths.append(str(tmp_path / f"{name}.keras"))
        small_model(rng, RLSPConfig(filters=filters, layers=SMALL.layers)).save(paths[-1])
    labels, values = zip(*weights(paths), strict=True)
    assert list(values) == paths
    assert labels[0] == "medium"
    assert labels[1].startswith("large (sharper, takes ")
    assert labels[2].startswith("small (less sharp, takes ")
    assert labels[3] == "other"
    with pytest.raises(RLSPError, match="missing"):
        weights([*paths, str(tmp_path / "missing.keras")])


def test_an_order_is_the_same_when_it_is_read_again(tmp_path):
    order = Order(
        "a.png",
        ("frames/1.png", "frames/2.png"),
        *("7-48", "int8", "mov", "1080p"),
        **{"codec": "prores_ks", "crf": 0, "rate": 12.5, "start": 0.667, "duration": 2},
    )
    order.write(tmp_path)
    assert Order.read(tmp_path) == order
    assert order.source(tmp_path) == tmp_path / "frames"
    assert order.result_name == "a-1080p.mov"
    # What was typed is a decimal number, which a float only comes near.
    assert Order.read(tmp_path).recipe.interval == Interval(Fraction(667, 1000), Fraction(2))


@pytest.mark.parametrize("value", [[], {}, {"title": "a"}, {"title": "a", "files": ["b"], "more": 1}])
def test_a_damaged_order_is_reported(tmp_path, value):
    write_json(tmp_path / ORDER, value)
    with pytest.raises(RLSPError, match=ORDER):
        Order.read(tmp_path)
