"""Progress: bars on terminals, lines in files."""

import io
import re
import sys

import pytest

from rlsp_tf.system import progress
from rlsp_tf.system.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(progress, "FIRST", 0)
    monkeypatch.setattr(progress, "EVERY", 0)


def test_a_file_gets_lines_with_all_that_a_bar_shows(at_once, capsys):
    with ProgressBar(total=1000, desc="film.mp4", unit="frames", show=True, mininterval=0) as bar:
        for _ in range(3):
            bar.update(10)
    said = capsys.readouterr().err
    first, *lines = said.splitlines()
    assert first == "film.mp4: 0 of 1000 frames"
    assert len(lines) == 3
    for count, line in zip((10, 20, 30), lines, strict=True):
        pattern = rf"film\.mp4: {count} of 1000 frames, [\d.e+]+ frames/s, about \d+ s left"
        assert re.fullmatch(pattern, line), line
    assert "\r" not in said


def test_what_is_written_between_lines_stays_a_line(at_once, capsys):
    with ProgressBar(range(2), desc="clips", unit="clips", show=True, leave=False) as bar:
        ProgressBar.write("a note", file=sys.stderr)
        bar.set_postfix_str("the first")
    said = capsys.readouterr().err
    assert "\r" not in said
    assert "a note" in said.splitlines()
    assert said.splitlines()[-1].endswith("the first")


def test_short_work_says_nothing(capsys):
    for _ in ProgressBar(range(5), unit="frames", show=True):
        pass
    said = capsys.readouterr().err
    assert said == ""


def test_an_unknown_total_and_bytes(at_once, capsys):
    with ProgressBar(unit="frames", show=True, mininterval=0) as bar:
        bar.update(3)
    with ProgressBar(unit="B", unit_scale=True, total=3_000_000, initial=1_500_000, show=True):
        pass
    said = capsys.readouterr().err
    lines = said.splitlines()
    assert lines[0] == "0 frames"
    assert lines[1].startswith("3 frames, ")
    assert lines[2] == "1.50M of 3.00M B"


def test_work_that_begins_anew_counts_from_there(at_once, capsys):
    with ProgressBar(total=9, unit="frames", show=True, mininterval=0, miniters=1) as bar:
        bar.update(9)
        bar.reset()
        bar.update(1)
    said = capsys.readouterr().err
    assert "-" not in said
    assert said.splitlines()[-1] == "1 of 9 frames"


def test_nothing_is_shown_where_nothing_is_wanted(at_once, capsys):
    for _ in ProgressBar(range(5), unit="frames", show=False):
        pass
    said = capsys.readouterr().err
    assert said == ""


def test_a_terminal_has_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for _ in ProgressBar(range(5), desc="film", unit="frames", show=True):
        pass
    assert "\r" in terminal.getvalue()
    assert "film: 100%" in terminal.getvalue()
