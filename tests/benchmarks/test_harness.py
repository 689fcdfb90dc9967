"""The machinery of benchmarks, and training, timed beside the authors' graph."""

import json
import os
import shlex

import numpy as np
import pytest

from helpers.clips import write_folder
from helpers.synthetic import make_clip
from rlsp_tf.benchmarks import harness as benchmark
from rlsp_tf.benchmarks import train as benchmark_train
from rlsp_tf.cli.main import main
from rlsp_tf.errors import RLSPError
from rlsp_tf.training.cpu import parts_of, prepare_training, training_settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    write_folder(folder / "data" / "one", make_clip(12, 160, 160))
    return folder


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(benchmark, "REST", 0)
    monkeypatch.setattr(benchmark_train, "ROUNDS", 2)
    monkeypatch.setattr(benchmark_train, "STEPS", 2)


class Counter:
    """Counts its turns, in a list that all processes write to."""

    def __init__(self, path, name):
        self.about = {"pid": os.getpid()}
        self._path, self._name = path, name

    def run(self, steps):
        with self._path.open("a") as file:
            file.write(f"{self._name}{steps} ")
        return self._name * steps

    def fail(self, kind):
        if kind == "ours":
            raise RLSPError("a sentence.")
        if kind == "end":
            os._exit(1)
        raise KeyError("weights")


def test_workers_take_turns_in_processes_of_their_own(tmp_path, short):
    workers = [benchmark.Worker(name, Counter, tmp_path / "turns", name) for name in "ab"]
    try:
        assert len({os.getpid(), *(worker.about["pid"] for worker in workers)}) == 3
        assert benchmark.take_turns(workers, 3, 2) == [["aa"] * 3, ["bb"] * 3]
    finally:
        for worker in workers:
            worker.close()
    assert (tmp_path / "turns").read_text() == "a2 b2 " * 3


def test_what_fails_in_a_worker_is_told(tmp_path):
    with pytest.raises(RLSPError, match=r"^broken: TypeError: .*required positional argument"):
        benchmark.Worker("broken", Counter)
    for kind, message in (
        ("ours", "a sentence."),
        ("other", "busy: KeyError: 'weights'"),
        ("end", "busy: its process ended; there may be too little memory."),
    ):
        worker = benchmark.Worker("busy", Counter, tmp_path, "a")
        with pytest.raises(RLSPError) as failure:
            worker.call("fail", kind)
        assert str(failure.value) == message
        with pytest.raises(RLSPError, match=r"^busy: its process ended"):
            worker.call("run", 1)
        worker.close()


def test_the_ratio_is_the_median_of_ratios():
    # In a slow round both are slow: the ratio of medians would be 4.
    assert benchmark.ratio([2, 40, 8], [1, 20, 2]) == 2


def test_the_heading_says_how_a_result_came_about():
    heading = benchmark.heading("step", "rlsp benchmark step", ["tqdm"])
    assert heading["benchmark"] == "step"
    assert heading["command"] == "rlsp benchmark step"
    assert {"python", "rlsp_tf", "tensorflow", "keras", "numpy", "tqdm"} == set(heading["versions"])
    assert 1 <= heading["machine"]["usable"] <= heading["machine"]["cpus"]
    json.dumps(heading, allow_nan=False)
    first, second = benchmark.describe_machine(heading)
    assert heading["machine"]["processor"] in first
    assert f"rlsp_tf {heading['versions']['rlsp_tf']}" in second
    heading["machine"] |= {"instructions": [], "load": None}
    assert benchmark.describe_machine(heading)[0].endswith(
        "with none of amx_bf16, amx_int8, avx512_bf16, avx512_vnni"
    )


@pytest.mark.slow
def test_training_is_timed_beside_the_authors_own_graph(data, folder, short, monkeypatch, capsys):
    meta = data / "rlsp-original" / "checkpoints" / "ckpt_rslp_48.meta"
    paths = ["--data", folder / "data", "--cache", folder / "cache", "--json", folder / "speed.json"]
    words = ["benchmark", "train", "--authors", str(meta), *map(str, paths)]
    monkeypatch.setattr("sys.argv", ["/usr/bin/rlsp", *words])
    assert main(words) == 0
    printed = capsys.readouterr().out
    result = json.loads((folder / "speed.json").read_text())
    assert result["benchmark"] == "train"
    assert result["command"] == shlex.join(["rlsp", *words])
    assert result["network"] == "7-48"
    for side in ("authors", "ours"):
        rates = result[side]["rounds"]
        assert len(rates) == 2
        assert min(rates) > 0
        assert result[side]["steps_per_second"] == pytest.approx(np.mean(rates))  # the median of two
    ratios = np.divide(result["ours"]["rounds"], result["authors"]["rounds"])
    assert result["ratio"] == pytest.approx(np.mean(ratios))
    assert f"Ours is {result['ratio']:.2f} times as fast" in printed
    assert "tensorflow" in printed


@pytest.mark.slow
def test_the_authors_graph_learns(data):
    """It is their training that is timed, not only their network: its weights change."""
    side = benchmark_train.AuthorsTraining(str(data / "rlsp-original" / "checkpoints" / "ckpt_rslp_48.meta"))
    graph = side._session.graph
    kernel = next(v for v in graph.get_collection("trainable_variables") if "layer0/kernel" in v.name)
    before = side._session.run(kernel)
    side._session.run(side._step, side._feed)
    moved = np.abs(side._session.run(kernel) - before)
    # Adam moves every weight by about the learning rate in its first step.
    assert 0.5e-4 < np.median(moved) < 1.5e-4


@pytest.mark.slow
def test_a_file_that_is_no_graph_is_refused(folder, short, forked_workers):
    (folder / "some.meta").write_bytes(b"no graph")
    for name in ("some.meta", "missing.meta"):
        with pytest.raises(RLSPError, match=f"{name}: holds no training graph of the paper's authors"):
            benchmark_train.benchmark_train(folder / name, [folder / "data"], cache=folder / "cache")


def test_a_batch_is_divided_evenly_among_cores(monkeypatch):
    for cores, batch, parts, threads in (
        (2, 8, 2, 1),
        (2, 5, 1, 2),
        (4, 6, 3, 1),
        (16, 4, 4, 4),
        (1, 8, 1, 1),
    ):
        monkeypatch.setattr("rlsp_tf.training.cpu.cores", lambda cores=cores: cores)
        assert parts_of(batch) == parts
        assert training_settings(batch) == {
            "TF_NUM_INTEROP_THREADS": str(parts),
            "TF_NUM_INTRAOP_THREADS": str(threads),
            "TF_ENABLE_ONEDNN_OPTS": "1",
            "TF_MKL_OPTIMIZE_PRIMITIVE_MEMUSE": "false",
        }


def test_variables_that_are_set_stay(monkeypatch):
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))  # leaves this process its memory
    monkeypatch.setattr("os.environ", {"TF_NUM_INTEROP_THREADS": "7"})
    prepare_training(4)
    assert os.environ == {**training_settings(4), "TF_NUM_INTEROP_THREADS": "7"}
