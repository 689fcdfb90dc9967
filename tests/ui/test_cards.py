"""The HTML of jobs."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from rlsp_tf.serving.jobs import Job
from rlsp_tf.ui import cards
from rlsp_tf.ui.choices import Order
from rlsp_tf.ui.orders import Placed
from rlsp_tf.upscaling.estimate import Estimate

TITLE = "holiday <b>'1' & \"2\".mp4"


class Parsed(HTMLParser):
    """The tags of a page, with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self._open = [], "", []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag != "img":
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def placed(tmp_path):
    folder = tmp_path / "job ä'"
    folder.mkdir()
    order = Order(TITLE, ("clip.mp4",), "7-48", "auto", "mp4")
    return Placed(order, Job("name", "", "rlsp", "mp4"), folder)


def test_a_title_is_text(placed):
    page = Parsed(cards.card(placed))
    assert TITLE in page.text
    assert not page.all("b")


@pytest.mark.parametrize(
    ("values", "share", "words"),
    [
        ({}, None, "Waiting for its turn"),
        ({"state": "running"}, None, "Getting ready"),
        ({"state": "running", "frames": 7}, None, "7 frames are done"),
        ({"state": "running", "frames": 7, "total": 28}, "0.2500", "25%, frame 7 of 28"),
        (
            {"state": "running", "frames": 7, "total": 28, "rate": 0.3},
            "0.2500",
            "25%, frame 7 of 28, 0.3 frames a second, about 1 min 10 s left",
        ),
        ({"state": "running", "frames": 30, "total": 28, "rate": 2.0}, "1.0000", "Putting the file together"),
    ],
)
def test_progress_is_told(placed, values, share, words):
    page = Parsed(cards.card(replace(placed, job=replace(placed.job, **values))))
    assert page.text == TITLE + words
    assert [each.get("value") for each in page.all("progress")] == [share]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"start": 0.667}, "From 0.667 s on"),
        ({"duration": 2}, "From 0 s on, 2 s long"),
        ({"start": 3600.125, "duration": 0.4}, "From 3600.125 s on, 0.4 s long"),
    ],
)
def test_a_part_is_told(placed, values, words):
    page = Parsed(cards.card(replace(placed, order=replace(placed.order, **values))))
    assert page.text == f"{TITLE}{words}Waiting for its turn"


def test_a_failure_is_told(placed):
    page = Parsed(cards.card(replace(placed, job=replace(placed.job, state="failed", error="<i> is bad."))))
    assert page.text == f"{TITLE}<i> is bad."


def done(placed, **values):
    job = replace(placed.job, state="done", notes=["a <note>"])
    placed = replace(placed, job=job, **values)
    placed.result.write_bytes(bytes(1_260_000))
    return Parsed(cards.card(placed))


def test_a_result_plays_beside_the_original_and_is_downloaded(placed):
    placed.source.write_bytes(b"video")
    page = done(placed)
    before, after = page.all("video")
    (link,) = page.all("a")
    folder = f"gradio_api/file={placed.folder.parent}/job%20%C3%A4%27"
    assert before["src"] == f"{folder}/clip.mp4"
    assert after["src"] == f"{folder}/result.mp4"
    # Browsers take the name of a download from the address.
    assert Path(unquote(link["href"])).name == link["download"]
    assert (placed.folder / link["download"]).samefile(placed.result)
    assert link["download"] == TITLE.replace(".mp4", "-4x.mp4")
    assert ("muted" in before, "controls" in before) == (True, False)
    assert ("muted" in after, "controls" in after) == (False, True)
    assert "1.26 MB" in page.text
    assert page.text.endswith("a <note>")


def test_a_copy_that_plays_takes_the_place_of_the_original(placed):
    placed.source.write_bytes(b"video")
    (placed.folder / "before.mp4").write_bytes(b"video")
    before, _ = done(placed).all("video")
    assert before["src"].endswith("/before.mp4")


def test_pictures_are_shown_unless_they_are_huge(placed, monkeypatch):
    order = Order("a.jpg", ("clip.jpg",), "7-48", "auto", "png")
    page = done(placed, order=order)
    assert [each["alt"] for each in page.all("img")] == ["Before", "After"]
    for name in ("before.jpg", "after.jpg"):
        (placed.folder / name).write_bytes(bytes(200_000))
    page = done(placed, order=order)
    assert [Path(each["src"]).name for each in page.all("img")] == ["before.jpg", "after.jpg"]
    # The copies are for the page only.
    assert page.all("a")[0]["download"] == "a-4x.png"
    monkeypatch.setattr(cards, "MOST_SHOWN", 100_000)
    page = done(placed, order=order)
    assert not page.all("img")
    assert len(page.all("a")) == 1


def estimated(placed, **values):
    return Estimate(placed.result, 1920, 1080, 25.0, 100, 0, "libx264", (), "CPU", "bfloat16", **values)


def test_an_estimate_says_time_size_and_room(placed):
    long = estimated(placed, seconds=4000, size=3.04e9)
    assert Parsed(cards.estimate([long], 10**12)).text == (
        "About 1 h 7 min on this computer, and 3.0 GB on its disk"
    )
    assert "2 h 13 min" in cards.estimate([long, long], 10**12)
    assert Parsed(cards.estimate([long], 5 * 10**9)).text == (
        "The result takes about 6.1 GB while it is made, but there is room for 5.0 GB."
    )
    # What is short is not measured.
    assert cards.estimate([estimated(placed)], 10**12) == ""
