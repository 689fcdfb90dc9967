"""What can fail when all frames are finished is tried before the first one is computed."""

import os
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from helpers.networks import small_model
from helpers.small_disk import small_disk
from helpers.stops import StopSoon
from helpers.videos import frame_times, make_video, packets
from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.step import KerasStep
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.system.files import LONGEST_NAME, fitting_name, temporary_path
from rlsp_tf.upscaling import concatenate as join
from rlsp_tf.upscaling import rehearsal
from rlsp_tf.upscaling.plan import join_ranges, make_plan, rehearse_ranges, render_range
from rlsp_tf.upscaling.upscale import Recipe, upscale
from rlsp_tf.upscaling.work_folder import work_name

OPTIONS = {"segment": 5, "warm_start": 0, "preset": "ultrafast"}


class Counted(KerasStep):
    """A small network that counts its steps."""

    steps = 0

    def __call__(self, window, state):
        self.steps += 1
        return super().__call__(window, state)


@pytest.fixture(scope="module")
def network():
    return small_model(np.random.default_rng(0), RLSPConfig(filters=2, layers=2))


@pytest.fixture
def step(network):
    return Counted(network)


def remade(path, target, *, metadata=None, video=None, rates=True):
    """The packets of a file in another one, with metadata of the file and of its video."""
    with (
        av.open(str(path), metadata_errors="surrogateescape") as source,
        av.open(str(target), "w", metadata_errors="surrogateescape") as output,
    ):
        copies = {stream: output.add_stream_from_template(stream, opaque=True) for stream in source.streams}
        for stream, copied in copies.items():
            if stream.type == "video":
                copied.codec_context.framerate = 25
                copied.metadata.update(video or {})
        output.metadata.update(metadata or {})
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream]
                output.mux(packet)
    return target


def without_matrix(notes):
    return [note for note in notes if "colour matrix" not in note]


@pytest.fixture
def film(tmp_path):
    return make_video(tmp_path / "film.mp4", size=(32, 24), audio=["aac"])


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_time_code_goes_along(suffix, film, step, tmp_path):
    path = remade(film, tmp_path / f"timed{suffix}", video={"timecode": "01:02:03:04"})
    assert av.open(str(path)).streams.video[0].metadata["timecode"] == "01:02:03:04"
    for target in (tmp_path / "large.mp4", tmp_path / "large.mov"):
        assert without_matrix(upscale(path, target, step, **OPTIONS)) == []
        with av.open(str(target)) as container:
            assert [stream.type for stream in container.streams] == ["video", "audio", "data"]
            assert container.streams.video[0].metadata["timecode"] == "01:02:03:04"
        assert packets(target, "audio") == packets(film, "audio")


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_metadata_of_any_encoding_goes_along(suffix, film, step, tmp_path):
    title = b"caf\xe9".decode("utf-8", "surrogateescape")
    path = remade(film, tmp_path / "latin.mkv", metadata={"title": title}, video={"title": title})
    assert without_matrix(upscale(path, tmp_path / f"large{suffix}", step, **OPTIONS)) == []
    with av.open(str(tmp_path / f"large{suffix}"), metadata_errors="surrogateescape") as container:
        assert container.metadata["title"] == title


@pytest.mark.parametrize("name", ["漢" * 82 + ".mp4", "x" * 251 + ".mkv", "ж" * 124 + ".mov"])
def test_the_longest_names_are_names(name, film, step, tmp_path):
    assert 246 < len(os.fsencode(name)) <= LONGEST_NAME
    path = tmp_path / name
    film.rename(path)
    target = tmp_path / "out" / name
    target.parent.mkdir()
    upscale(path, target, step, **OPTIONS)
    assert len(frame_times(target)) == 25
    assert list(target.parent.iterdir()) == [target]
    # A folder of images, and a run that was interrupted.
    folder = target.parent / ("漢" * 84)
    with pytest.raises(RLSPError, match="frames are finished"):
        upscale(path, folder, step, stop=StopSoon(10), **OPTIONS)
    upscale(path, folder, step, **OPTIONS)
    assert len(list(folder.iterdir())) == 25
    assert {each.name for each in target.parent.iterdir()} == {target.name, folder.name}


def test_a_name_that_fits_is_left_alone_and_others_stay_different(tmp_path):
    assert fitting_name("film", ".rlsp") == "film.rlsp"
    assert work_name("a" * 250) == "a" * 250 + ".rlsp"
    names = {work_name("a" * 250 + end) for end in ("b", "c", "bc")}
    assert len(names) == 3
    assert all(len(name) == LONGEST_NAME and work_name(name.removesuffix(".rlsp")) == name for name in names)
    for name in ("漢" * 85, "é" * 100 + "." + "é" * 26, b"\xff".decode("utf-8", "surrogateescape") * 255):
        path = temporary_path(tmp_path / name)
        path.touch()
        assert path.name.startswith(".")
    assert temporary_path(tmp_path / "film.mkv").suffix == ".mkv"


def test_what_a_container_refuses_is_left_out_before_the_first_frame(film, step, tmp_path, monkeypatch):
    """A time code at a rate that is none is what FFmpeg's muxer of MP4 fails at, after all packets."""
    path = remade(film, tmp_path / "timed.mp4", metadata={"title": "Film"}, video={"timecode": "01:02:03:04"})
    monkeypatch.setattr(join, "rate_to_declare", lambda *arguments: Fraction(90000))
    joins = []

    def rehearsed(work, segments, joined, source, *arguments, left_out, **options):
        joins.append((step.steps, dict(left_out), len(segments)))
        join.join_videos(work, segments, joined, source, *arguments, left_out=left_out, **options)
        joins.append((step.steps, dict(left_out), len(segments)))

    monkeypatch.setattr(rehearsal, "join_videos", rehearsed)
    target = tmp_path / "large.mp4"
    assert without_matrix(upscale(path, target, step, **OPTIONS)) == [
        f"{path}: its time code was not copied, since .mp4 does not take it.",
    ]
    assert joins == [(0, {}, 1), (0, {"time code": ".mp4 does not take it"}, 1)]
    assert packets(target, "audio") == packets(film, "audio")
    with av.open(str(target)) as container:
        assert container.metadata["title"] == "Film"
        assert "timecode" not in container.streams.video[0].metadata
    assert {each.name for each in tmp_path.iterdir()} == {film.name, path.name, target.name}


def test_what_is_found_to_be_damaged_in_the_end_is_left_out(film, step, tmp_path, monkeypatch):
    path = remade(film, tmp_path / "timed.mp4", video={"timecode": "01:02:03:04"})
    monkeypatch.setattr(rehearsal, "join_videos", lambda *arguments, **options: None)
    monkeypatch.setattr(join, "rate_to_declare", lambda *arguments: Fraction(90000))
    notes = without_matrix(upscale(path, tmp_path / "large.mp4", step, **OPTIONS))
    assert notes[0] == f"{path}: its time code was not copied, since it is damaged."
    assert packets(tmp_path / "large.mp4", "audio") == packets(film, "audio")


def test_an_ending_that_cannot_be_is_told_before_the_first_frame(film, step, tmp_path):
    for name, codec in (("large.webm", "libx264"), ("large.mp4", "huffyuv")):
        with pytest.raises(RLSPError, match="cannot hold video of"):
            upscale(film, tmp_path / name, step, segment=5, warm_start=0, codec=codec)
    assert step.steps == 0
    assert list(tmp_path.iterdir()) == [film]


def test_ranges_of_a_cluster_end_alike(film, step, tmp_path):
    title = b"caf\xe9".decode("utf-8", "surrogateescape")
    path = remade(film, tmp_path / "timed.mov", metadata={"title": title}, video={"timecode": "01:02:03:04"})
    recipe = Recipe(warm_start=0, segment=5, encoder=EncoderOptions(preset="ultrafast"))
    upscale(path, tmp_path / "once.mov", step, **OPTIONS)
    step.steps = 0
    work, target = tmp_path / "work", tmp_path / ("漢" * 80 + ".mov")
    work.mkdir()
    rehearse_ranges(path, work, target.name, step, recipe)
    assert (step.steps, list(work.iterdir())) == (0, [])
    with pytest.raises(RLSPError, match="cannot hold video of"):
        rehearse_ranges(path, work, "large.webm", step, replace(recipe, encoder=EncoderOptions("libx264")))
    plan = make_plan(path, step, recipe, frozenset({0, 10}), length=10)
    assert len(plan.ranges) == 2
    for index in range(2):
        render_range(path, work / target.name, step, recipe, plan, index)
    join_ranges(path, work, target, step, recipe, plan)
    with av.open(str(target), metadata_errors="surrogateescape") as container:
        assert container.streams.video[0].metadata["timecode"] == "01:02:03:04"
    assert packets(target, "audio") == packets(tmp_path / "once.mov", "audio")
    assert frame_times(target) == frame_times(tmp_path / "once.mov")


def test_a_disk_without_room_for_the_ending_is_told_on_the_way(step, tmp_path):
    source = make_video(tmp_path / "long.mkv", range(0, 60 * 3600, 3600), size=(64, 48))
    options = {"codec": "ffv1", "segment": 5, "warm_start": 0}
    upscale(source, tmp_path / "once.mkv", step, **options)
    size = (tmp_path / "once.mkv").stat().st_size
    # All segments fit, but not once more.
    with small_disk(tmp_path / "disk", 3 * size // 2048) as disk:
        step.steps = 0
        with pytest.raises(RLSPError, match=r"no space left on device; joining the finished segments"):
            upscale(source, disk / "large.mkv", step, **options)
        assert 20 < step.steps < 60
