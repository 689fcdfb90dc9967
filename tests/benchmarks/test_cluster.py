"""Workers are timed on a short film; that they give what one process gives is shown in test_ray.py."""

import json

import numpy as np
import pytest

from helpers.cli import fails
from helpers.networks import small_model
from helpers.videos import make_video
from rlsp_tf.benchmarks import cluster as benchmark_ray
from rlsp_tf.cli.main import main

pytest.importorskip("ray", reason="needs Ray; install it by: pip install -e '.[ray]'")
pytest.importorskip("simpy", reason="needs SimPy; install it by: pip install -e '.[benchmark]'")


@pytest.fixture
def film(tmp_path):
    return make_video(tmp_path / "film.mp4", range(0, 12 * 3600, 3600), size=(32, 24))


@pytest.fixture
def model(tmp_path):
    small_model(np.random.default_rng(0)).save(tmp_path / "small.keras")
    return tmp_path / "small.keras"


def test_workers_and_stages_are_timed(film, model, tmp_path, monkeypatch, capsys):
    """With processes in place of clusters, which would take a minute to start and stop."""
    for name, value in (("CLIPS", 2), ("FEW", 2), ("MANY", 9), ("TASKS", 3)):
        monkeypatch.setattr(benchmark_ray, name, value)
    monkeypatch.setattr(benchmark_ray, "CONTENDERS", dict.fromkeys(benchmark_ray.CONTENDERS, ()))
    out = tmp_path / "ray.json"
    command = ["benchmark", "ray", str(film), "--model", str(model), "--rounds", "1", "--json", str(out)]
    assert main(command) == 0
    result = json.loads(out.read_text())
    printed = capsys.readouterr().out
    assert (result["size"], result["scale"], result["clips"], result["many"]) == ([32, 24], 4, 2, 9)
    per_frame = {}
    for name, each in result["contenders"].items():
        (short,), (long,) = each["few"], each["many"]
        per_frame[name] = (long - short) / (2 * 7)
        assert each["per_frame"] == pytest.approx(per_frame[name])
    assert result["ratio"] == pytest.approx(per_frame["one worker"] / per_frame["two workers"])
    assert f"two workers are {result['ratio']:.2f} times as fast as one" in printed
    for key in ("alone", "beside"):
        assert all(result[key][stage] > 0 for stage in ("plan", "render", "join"))
    assert result["task"] > 0
    assert result["start"] > 0
    assert result["bytes"]["out"] > result["bytes"]["in"] > 0
    page = tmp_path / "page.md"
    assert main(["benchmark", "report", str(page), str(out)]) == 0
    assert f"{result['ratio']:.2f} times as fast as one" in page.read_text()
    assert main(["benchmark", "capacity", str(out), "--cores", "3"]) == 0
    assert f"| two workers to one | {result['ratio']:.2f} |" in capsys.readouterr().out


def test_what_goes_wrong_is_said(film, model, tmp_path, monkeypatch, capsys):
    (tmp_path / "none.mp4").write_bytes(b"no video")
    assert "none.mp4: " in fails(capsys, "benchmark", "ray", tmp_path / "none.mp4", "--model", model)
    short = fails(capsys, "benchmark", "ray", film, "--model", model)
    assert "film.mp4: has 12 frames, too few; give a longer one" in short
    monkeypatch.setattr(benchmark_ray, "installed", lambda package: False)
    assert "pip install 'rlsp_tf[ray]'" in fails(capsys, "benchmark", "ray", film, "--model", model)
