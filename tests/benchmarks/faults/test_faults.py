"""The command that looks for what gets lost finds what is lost, and counts all that it has tried."""

import itertools
import json
import sys

import numpy as np
import pytest
from PIL import Image

from helpers import faulty_upscalers as stand_ins
from helpers.networks import SMALL, small_model
from helpers.results import train_result
from helpers.videos import frame_times, make_video
from rlsp_tf.benchmarks.excerpts import decodable, is_whole, loop, packets, reduce, shape
from rlsp_tf.benchmarks.faults import kills as kills_module
from rlsp_tf.benchmarks.faults import situations as benchmark_situations
from rlsp_tf.benchmarks.faults.damage import KINDS, damage
from rlsp_tf.benchmarks.faults.damaged_files import OUTCOMES, benchmark_damage
from rlsp_tf.benchmarks.faults.kill_points import recorded
from rlsp_tf.benchmarks.faults.kills import benchmark_kills, benchmark_points
from rlsp_tf.benchmarks.faults.long_film import benchmark_long_film, describe_memory
from rlsp_tf.benchmarks.faults.run import counts, failures, survived_damage, survived_kill, survived_long_film
from rlsp_tf.cli.main import main
from rlsp_tf.errors import RLSPError
from rlsp_tf.media.excerpts import cut

MEGABYTE = 1e6


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """So long that a segment is finished before the end; with sound."""
    folder = tmp_path_factory.mktemp("film")
    return make_video(folder / "film.mp4", range(0, 250 * 3600, 3600), size=(64, 48), audio=("aac",))


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("short") / "short.mkv", range(0, 15 * 3600, 3600))


@pytest.fixture(scope="module")
def found(film, tmp_path_factory):
    """Of the whole command, with little of everything: the folder, and the result."""
    folder = tmp_path_factory.mktemp("faults")
    small_model(np.random.default_rng(0), SMALL).save(folder / "small.keras")
    arguments = ["--video", film, "--model", folder / "small.keras", "--json", folder / "faults.json"]
    numbers = ["--damages", 12, "--kills", 1, "--minutes", 1]
    with pytest.MonkeyPatch.context() as patch:
        names = ("an empty file", "a text file")
        few = {name: benchmark_situations.SITUATIONS[name] for name in names}
        patch.setattr(benchmark_situations, "SITUATIONS", few)
        patch.setattr(kills_module, "recorded", lambda file: recorded(file)[-2:])
        assert main(["benchmark", "faults", *map(str, [*arguments, *numbers])]) == 0
    return folder, json.loads((folder / "faults.json").read_text())


@pytest.mark.slow
def test_all_that_is_tried_is_counted_and_survived(found):
    _, result = found
    assert {name: (part["tried"], part["survived"]) for name, part in counts(result).items()} == {
        "damaged files": (12, 12),
        "kills at changes": (2, 2),
        "kills": (1, 1),
        "situations": (2, 2),
        "long film": (1, 1),
    }
    assert failures(result) == []
    runs = result["damage"]["runs"]
    assert [run["seed"] for run in runs] == list(range(12))
    assert {run["file"] for run in runs} == {"film.mp4", "film.mkv", "film.ts"}
    assert len({(run["file"], run["kind"]) for run in runs}) == 12
    assert any(run["outcome"] == "written" and run["written"] == run["decodable"] > 0 for run in runs)
    kills = result["kills"]
    assert kills["frames"] == 250
    for kill in kills["kills"]:
        # What is not in a finished segment, and what the network had been given beyond.
        assert 0 <= kill["twice"] <= 250 - kill["finished"] + 20
    soak = result["soak"]
    assert soak["frames"] >= 60 * 12.5
    assert len(soak["samples"]) > 2
    assert 1e8 < max(memory for _, memory in soak["samples"]) < 1e10
    assert soak["duration"][0] == soak["duration"][1] == pytest.approx(60, abs=20)
    assert soak["sound"][0] > 0


@pytest.mark.slow
def test_the_page_has_the_numbers_of_the_result(found, tmp_path):
    folder, result = found
    page, plot, stability = tmp_path / "page.md", tmp_path / "memory.png", tmp_path / "stability.json"
    arguments = ["--model", folder / "small.keras", "--frames", 4, "--json", stability]
    main(["benchmark", "stability", *map(str, arguments)])
    results = [str(folder / "faults.json"), str(stability)]
    assert main(["benchmark", "report", str(page), *results, "--plot", str(plot)]) == 0
    text = page.read_text()
    assert text.startswith(
        "# Reliability\n\nOf 18 runs in which something went wrong or could have, 18 ended"
    )
    assert "Not as it should" not in text
    soak = result["soak"]
    for part in (
        "| damaged files | 12 | 12 | 0 |",
        "| kills at changes | 2 | 2 | 0 |",
        "| `remove once.mp4.rlsp 1` | 0 | 0 | nothing |",
        "| kills | 1 | 1 | 0 |",
        f"| memory in the last tenth, median | {soak['last'] / MEGABYTE:.1f} MB |",
        f"| memory at its highest | {max(soak['samples'], key=lambda each: each[1])[1] / MEGABYTE:.1f} MB |",
        f"| frames lost | {soak['lost']} |",
        "(memory.png)",
        result["command"],
        f"load {result['machine']['load']:.1f} before",
        "## Stability",
    ):
        assert part in text
    with Image.open(plot) as image:
        assert np.asarray(image.convert("L")).std() > 1


@pytest.mark.slow
def test_the_page_says_what_was_not_survived(found, tmp_path):
    _, result = found
    result = json.loads(json.dumps(result))
    result["damage"]["runs"][0] |= {"outcome": "written", "decodable": 12, "written": 11, "lost": 1}
    result["kills"]["kills"][0] |= {"different": 7}
    result["points"][1] |= {"code": 1, "said": "rlsp: error: once.mp4: exists already."}
    result["situations"][0]["right"] = False
    result["situations"][1] = {"name": "a flood", "missing": "there is no water"}
    result["soak"] |= {"lost": 3}
    (tmp_path / "faults.json").write_text(json.dumps(result))
    report = ["benchmark", "report", "page.md", "faults.json", "--plot", "memory.png"]
    assert (
        main(
            [*report[:2], *(str(tmp_path / name) for name in report[2:4]), "--plot", str(tmp_path / "m.png")]
        )
        == 0
    )
    text = (tmp_path / "page.md").read_text()
    assert "Of 17 runs in which something went wrong or could have, 12 ended" in text
    assert "Together they lost 4 frames." in text
    for line in (
        "- film.mp4, cut off (seed 0): written, 11 of 12 frames written.",
        "7 packets different, left nothing.",
        "- killed before: remove once.mp4.rlsp 1: ended with 1, 0 frames lost, 0 packets different, left "
        "nothing. rlsp: error: once.mp4: exists already.",
        "- an empty file: exit code 1, left film.mp4. rlsp: error: film.mp4: is empty;",
        f"- long film: ended with 0, 3 of {result['soak']['frames']} frames lost",
        "| a flood |  | not tried: there is no water |  |  |",
    ):
        assert line in text


@pytest.mark.slow
def test_results_of_faults_share_no_page(found, tmp_path):
    file, other = found[0] / "faults.json", tmp_path / "train.json"
    other.write_text(json.dumps(train_result()))
    for second in (file, other):
        assert main(["benchmark", "report", *map(str, (tmp_path / "page.md", file, second))]) == 1
    assert not (tmp_path / "page.md").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stand_in", "outcome"),
    [
        (stand_ins.leaves_half_a_file, "half-written"),
        (stand_ins.writes_half_a_file, "half-written"),
        (stand_ins.raises, "traceback"),
        (stand_ins.says_nothing_of_the_file, "traceback"),
        (stand_ins.dies, "traceback"),
        (stand_ins.hangs, "hung"),
    ],
)
def test_a_fault_of_ours_is_found(stand_in, outcome, short, tmp_path):
    result = benchmark_damage([short], tmp_path, model="", runs=2, make=stand_in, limit=1)
    assert outcome in OUTCOMES
    # A file of which nothing decodes may be refused by any of them.
    assert [run["outcome"] for run in result["runs"] if run["decodable"]] == [outcome] * 2
    assert not any(map(survived_damage, result["runs"]))


def test_a_frame_that_is_lost_is_found(short, tmp_path):
    result = benchmark_damage([short], tmp_path, model="", runs=6, make=stand_ins.loses_a_frame)
    runs = [run for run in result["runs"] if run["outcome"] == "written"]
    assert len(runs) > 2
    assert [run["lost"] for run in runs] == [1] * len(runs)
    assert not any(map(survived_damage, runs))


@pytest.mark.slow
def test_what_a_kill_costs_is_found(short, tmp_path):
    result = benchmark_kills(short, tmp_path, model="", kills=2, make=stand_ins.goes_on_with_a_frame_less)
    assert result["frames"] == result["steps"] == 15
    for kill in result["kills"]:
        assert kill["code"] == 0
        assert kill["lost"] == 1
        assert kill["different"] > 0
        assert 0 < kill["twice"] <= 15
        assert kill["left"] == ["once.began"]
        assert not survived_kill(kill)


@pytest.mark.slow
def test_what_a_kill_at_a_change_costs_is_found(short, tmp_path):
    make = stand_ins.goes_on_with_a_frame_less
    points = benchmark_points(short, tmp_path.resolve(), model="", make=make)
    assert [point["name"] for point in points] == ["open once.began 1", "remove once.began 1"]
    before, after = points
    # Nothing had begun at the first.
    assert (before["lost"], before["different"], before["left"]) == (0, 0, [])
    assert (after["lost"], after["left"]) == (1, ["once.began"])
    assert list(map(survived_kill, points)) == [True, False]


PROGRAM = """
import os, shutil, sys, time
source, target = sys.argv[2:4]
if os.path.isdir(source):
    sys.exit("rlsp: error: has no images.")
if open(source, "rb").read() == b"":
    raise ValueError(source)
if os.path.exists(target) and "--force" not in sys.argv and source != target:
    shutil.copyfile(source, target)
    sys.exit("rlsp: error: exists already.")
if b"ftyp" not in open(source, "rb").read(100):
    open(target, "w").write("half")
    sys.exit("rlsp: error: is no video.")
if source == target:
    sys.exit("rlsp: error: is the input." if "--force" not in sys.argv else 0)
os.makedirs(target + ".rlsp", exist_ok=True)
time.sleep(0.5)
shutil.copyfile(source, target)
os.rmdir(target + ".rlsp")
"""


@pytest.mark.slow
def test_a_command_line_with_faults_is_seen_through(film, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "work").mkdir()
    program = (sys.executable, str(tmp_path / "program.py"))
    found = benchmark_situations.benchmark_situations(film, tmp_path / "work", model="", program=program)
    assert [each["name"] for each in found] == list(benchmark_situations.SITUATIONS)
    right = {each["name"] for each in found if each.get("right")}
    # It copies .mp4 files under whatever name.
    copied = {"a time code in QuickTime", "a name of 250 bytes", "sound that the container cannot hold"}
    assert right == {"a folder without images", "the input as output", *copied}
    by_name = {each["name"]: each for each in found}
    assert by_name["an empty file"]["said"].startswith("Traceback")
    assert by_name["a text file"]["left"] == ["film.mp4", "large.mp4"]
    assert by_name["the input as output, --force"]["code"] == 0


def test_a_long_film_that_is_not_all_there_is_found(film, tmp_path):
    """A program that forgets the sound and the last frames, and moves the first one."""
    (tmp_path / "program.py").write_text(
        "import sys, time\n"
        "from pathlib import Path\n"
        "from rlsp_tf.benchmarks.excerpts import reduce\n"
        "time.sleep(0.5)\n"
        "source, target = map(Path, sys.argv[2:4])\n"
        "reduce(source, target, width=32, frames=200, every=2)\n"
    )
    reduce(film, tmp_path / "small.mp4", width=32, frames=250)
    program = (sys.executable, str(tmp_path / "program.py"))
    soak = benchmark_long_film(
        tmp_path / "small.mp4", tmp_path, model="", minutes=0.1, program=program, period=0.1
    )
    assert soak["frames"] == 250
    assert soak["lost"] == 150
    assert soak["moved"] == 99  # all but the first
    assert not survived_long_film(soak)


def test_memory_that_grows_has_its_slope():
    # It rises at the start and while segments are joined.
    flat = [[second, 5e8 - 3e8 * (second < 20) + 1e8 * (second > 960)] for second in range(1000)]
    described = describe_memory(flat)
    assert described["slope"] == pytest.approx(0, abs=1)
    assert described["first"] == described["last"] == 5e8
    leak = [[second, memory + 1e4 * second] for second, memory in flat]
    assert describe_memory(leak)["slope"] == pytest.approx(3.6e7)


def test_excerpts_are_what_they_are_cut_of(film, tmp_path):
    cut(film, tmp_path / "part.mkv", 30, sound=True)
    part, whole = packets(tmp_path / "part.mkv"), packets(film)
    assert [content for _, content in part["0 video"]] == [content for _, content in whole["0 video"][:30]]
    assert 0 < len(part["1 audio"]) < len(whole["1 audio"])
    reduce(film, tmp_path / "small.mp4", width=32, frames=100, every=2)
    assert shape(tmp_path / "small.mp4")[:2] == (32, 24)
    assert frame_times(tmp_path / "small.mp4") == frame_times(film)[:100:2]
    loop(tmp_path / "small.mp4", tmp_path / "long.mp4", 120)
    times = frame_times(tmp_path / "long.mp4")
    assert is_whole(tmp_path / "long.mp4") == len(times) == 150
    assert {late - early for early, late in itertools.pairwise(times)} == {times[1] - times[0]}
    (tmp_path / "part.txt").write_text("no video")
    with pytest.raises(RLSPError, match=r"part\.txt"):
        packets(tmp_path / "part.txt")


def test_what_decodes_is_counted_beyond_the_damage(film, tmp_path):
    content = film.read_bytes()
    damaged = tmp_path / "damaged.mp4"
    for kind in KINDS:
        damaged.write_bytes(damage(content, kind, np.random.default_rng(0)))
        assert 0 <= decodable(damaged) <= 250
    assert decodable(film) == is_whole(film) == 250
    with pytest.raises(ValueError, match="no kind of damage: 'rust'"):
        damage(content, "rust", np.random.default_rng(0))
