"""What pages and ``--help`` show as examples are commands that exist."""

import re
from pathlib import Path

import pytest

from helpers.clips import write_folder
from helpers.commands import run_command
from helpers.examples import commands_in, examples_in_help, shell_blocks
from helpers.synthetic import make_clip
from helpers.videos import frame_times, make_video
from rlsp_tf.cli.main import build_parser
from rlsp_tf.converters.cli import build_parser as build_convert_parser

ROOT = Path(__file__).parents[2]
PARSERS = {"rlsp": build_parser(), "rlsp-convert": build_convert_parser()}
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "checkpoints/README.md")]
# These record the command that wrote them.
WRITTEN = ("BENCHMARKS.md", "COMPRESSED.md", "RELIABILITY.md", "RESULTS.md")
PAGES += [page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in WRITTEN]


def check(command):
    """Parses a command; argparse ends with SystemExit where it is wrong."""
    program, *arguments = command
    parsed, more = PARSERS[program].parse_known_args(arguments)
    # Paths behind options, which the command collects itself.
    assert not more or ("paths" in parsed and not any(word.startswith("--") for word in more)), more


def test_commands_are_found():
    text = (
        "A=1 rlsp upscale a b --crf 20   # why\n"
        "cat a | rlsp upscale - - > b && rlsp \\\n  clean x\n"
        "make test\n# rlsp no\nrlsp-convert tf1 a 'b c'\n"
    )
    assert commands_in(text) == [
        ["rlsp", "upscale", "a", "b", "--crf", "20"],
        ["rlsp", "upscale", "-", "-"],
        ["rlsp", "clean", "x"],
        ["rlsp-convert", "tf1", "a", "b c"],
    ]
    assert shell_blocks("a\n```sh\nx\ny\n```\n```python\nz\n```\n") == ["x\ny\n"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_a_page_exist(page):
    for block in shell_blocks(page.read_text("utf-8")):
        for command in commands_in(block):
            check(command)


@pytest.mark.parametrize("program", PARSERS)
def test_examples_of_help_exist(program):
    examples = examples_in_help(PARSERS[program])
    assert len(examples) > 5
    for command in examples:
        check(command)


def test_pages_link_to_what_exists():
    for page in [*PAGES, *(ROOT / "docs" / name for name in WRITTEN)]:
        prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", prose):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.fixture
def home(tmp_path):
    """What a newcomer has: a video of three seconds with sound, photographs, and sequences of frames."""
    make_video(tmp_path / "holiday.mp4", range(0, 30 * 9000, 9000), size=(96, 72), audio=["aac"])
    write_folder(tmp_path / "photographs", make_clip(2, 30, 40))
    write_folder(tmp_path / "frames", make_clip(3, 30, 40))
    for name in ("calendar", "city"):
        write_folder(tmp_path / "vid4" / name, make_clip(6, 64, 96))
    return tmp_path


@pytest.mark.slow
def test_the_readme_can_be_followed(home):
    """Its commands, as printed and in their order, in a folder with nothing but a video and photographs."""
    commands = [
        command
        for block in shell_blocks((ROOT / "README.md").read_text("utf-8"))
        for command in commands_in(block)
    ]
    assert len(commands) >= 6
    for program, *arguments in commands:
        assert program == "rlsp"
        done = run_command(arguments, cwd=home)
        assert done.returncode == 0, done.stderr
    assert len(frame_times(home / "holiday-4x.mp4")) == 30
    assert len(frame_times(home / "excerpt.mp4")) == 10


@pytest.mark.slow
@pytest.mark.parametrize("command", ["rlsp", "rlsp upscale", "rlsp degrade", "rlsp evaluate", "rlsp preview"])
def test_the_first_example_of_help_works(command, home):
    """In a folder that has the inputs, but neither weights nor folders for results."""
    (_, *arguments), *_ = examples_in_help(PARSERS["rlsp"], command)
    done = run_command(arguments, cwd=home)
    assert done.returncode == 0, done.stderr
