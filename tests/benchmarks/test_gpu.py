"""The benchmark of a GPU, on whatever device the machine of the tests has. No test asserts a time."""

import json

import pytest

from rlsp_tf.benchmarks import gpu, harness
from rlsp_tf.benchmarks.contenders import Contender
from rlsp_tf.benchmarks.gpu import BATCHES, CONTENDERS, SIZES, OursOnGPU, benchmark_gpu
from rlsp_tf.benchmarks.report import describe
from rlsp_tf.cli.main import build_parser, main

HERE = [each.name for each in CONTENDERS if all(map(harness.installed, each.packages))]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(harness, "REST", 0)


@pytest.mark.slow
def test_both_are_timed_at_every_size_and_batch(tmp_path, capsys):
    file = tmp_path / "gpu.json"
    options = ["--network", "2-7", "--sizes", "12x7", "9x8", "--batches", "1", "2", "--rounds", "2"]
    assert main(["benchmark", "gpu", *options, "--steps", "2", "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    (sheet,) = result["networks"]
    assert [each["name"] for each in sheet["contenders"]] == HERE
    assert all(each["difference"] > 0 for each in sheet["contenders"])  # in bfloat16 indeed
    cells = [(cell["width"], cell["height"], cell["batch"]) for cell in sheet["cells"]]
    assert cells == [(12, 7, 1), (12, 7, 2), (9, 8, 1), (9, 8, 2)]
    for cell in sheet["cells"]:
        assert list(cell["times"]) == HERE
        assert all(len(times["rounds"]) == 2 and min(times["rounds"]) > 0 for times in cell["times"].values())
        assert (cell["ratio"] is None) == (len(HERE) == 1)
    printed = capsys.readouterr().out
    assert printed.strip() == describe(result).strip()
    assert f"On {result['device']}" in printed
    assert "| 12x7 | 2 |" in printed


class Greedy(OursOnGPU):
    """Has memory for one clip at a time."""

    def begin(self, height, width, batch=1):
        if batch > 1:
            raise MemoryError("out of memory")
        super().begin(height, width, batch)


@pytest.mark.slow
def test_who_fails_at_a_size_is_left_out_from_there_on(monkeypatch, forked_workers):
    small, rival = CONTENDERS[0], Contender("A rival", Greedy, "float32")
    monkeypatch.setattr(gpu, "CONTENDERS", (small, rival))
    result = benchmark_gpu(["2-7"], sizes=[(6, 4)], batches=[1, 2], rounds=1, steps=1)
    (sheet,) = result["networks"]
    assert [list(cell["times"]) for cell in sheet["cells"]] == [[small.name, "A rival"], [small.name]]
    assert [cell["ratio"] is None for cell in sheet["cells"]] == [False, True]
    reason = "from 2 x 6x4 on: A rival: MemoryError: out of memory"
    assert sheet["left_out"] == [{"name": "A rival", "reason": reason}]
    assert f"Left out: A rival ({reason})." in describe(result)


def test_the_command_line_leaves_the_defaults_to_the_function():
    arguments = build_parser().parse_args(["benchmark", "gpu"])
    assert (arguments.networks, arguments.sizes, arguments.batches) == (None, None, None)
    assert (SIZES, BATCHES) == (((480, 270), (960, 540), (1920, 1080)), (1, 8))
    assert (arguments.rounds, arguments.steps) == (gpu.ROUNDS, gpu.STEPS)
