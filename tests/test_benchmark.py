import json
import re

import numpy as np
import pytest

from rlsp_tf import benchmark
from rlsp_tf.cli import main
from rlsp_tf.errors import RLSPError
from rlsp_tf.threads import parts_of, thread_settings
from synthetic import make_clip
from test_clip_index import write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    write_folder(folder / "data" / "one", make_clip(12, 160, 160))
    return folder


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(benchmark, "ROUNDS", 2)
    monkeypatch.setattr(benchmark, "STEPS", 2)
    monkeypatch.setattr(benchmark, "WARM_UP", 1)


def test_training_is_timed_beside_the_authors_own_graph(data, folder, short, capsys):
    meta = data / "rlsp-original" / "checkpoints" / "ckpt_rslp_48.meta"
    paths = ["--data", folder / "data", "--cache", folder / "cache", "--json", folder / "speed.json"]
    assert main(["benchmark", "train", "--authors", str(meta), *map(str, paths)]) == 0
    printed = capsys.readouterr().out
    result = json.loads((folder / "speed.json").read_text())
    assert result["network"] == "7-48"
    for side in ("authors", "ours"):
        rates = result[side]["rounds"]
        assert len(rates) == 2
        assert min(rates) > 0
        assert result[side]["steps_per_second"] == pytest.approx(np.mean(rates))  # the median of two
    ratios = np.divide(result["ours"]["rounds"], result["authors"]["rounds"])
    assert result["ratio"] == pytest.approx(np.mean(ratios))
    assert re.search(rf"ratio +{result['ratio']:.2f} ", printed)
    assert "tensorflow" in printed


def test_the_authors_graph_learns(data):
    """It is their training that is timed, not only their network: its weights change."""
    side = benchmark.AuthorsTraining(str(data / "rlsp-original" / "checkpoints" / "ckpt_rslp_48.meta"))
    graph = side._session.graph
    kernel = next(v for v in graph.get_collection("trainable_variables") if "layer0/kernel" in v.name)
    before = side._session.run(kernel)
    side._session.run(side._step, side._feed)
    moved = np.abs(side._session.run(kernel) - before)
    # Adam moves every weight by about the learning rate in its first step.
    assert 0.5e-4 < np.median(moved) < 1.5e-4


def test_a_file_that_is_no_graph_is_refused(folder, short):
    (folder / "some.meta").write_bytes(b"no graph")
    for name in ("some.meta", "missing.meta"):
        with pytest.raises(RLSPError, match=f"{name}: holds no training graph of the paper's authors"):
            benchmark.benchmark_train(folder / name, [folder / "data"], cache=folder / "cache")


def test_a_batch_is_divided_evenly_among_cores(monkeypatch):
    for cores, batch, parts, threads in (
        (2, 8, 2, 1),
        (2, 5, 1, 2),
        (4, 6, 3, 1),
        (16, 4, 4, 4),
        (1, 8, 1, 1),
    ):
        monkeypatch.setattr("rlsp_tf.threads._cores", lambda cores=cores: cores)
        assert parts_of(batch) == parts
        assert thread_settings(batch) == {
            "TF_NUM_INTEROP_THREADS": str(parts),
            "TF_NUM_INTRAOP_THREADS": str(threads),
        }
