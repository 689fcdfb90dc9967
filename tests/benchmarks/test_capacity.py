"""Workers that do not exist: a simulation beside what can be counted by hand, and runs that were timed."""

import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.cli import fails
from rlsp_tf.benchmarks.capacity import Costs, check, simulate
from rlsp_tf.cli.main import main
from rlsp_tf.errors import RLSPError

pytest.importorskip("simpy", reason="needs SimPy; install it by: pip install -e '.[benchmark]'")

COSTS = Costs(plan=1, render=10, join=2, read=100, written=1000, start=7, task=0.5, memory=1e9, length=4)


def test_one_worker_does_one_thing_after_the_other():
    """A film of 9 frames is two ranges: four tasks, of which the first is waited for."""
    found = simulate([9], 1, COSTS)
    # The program hands out the second range while the first is computed, and waits before the join.
    assert found.seconds == pytest.approx(7 + 0.5 + 9 * 1 + 0.5 + 9 * 10 + 0.5 + 9 * 2)
    assert found.frames == 9
    assert found.busy["cores"] == pytest.approx(9 * 13 / found.seconds)
    assert found.busy["driver"] == pytest.approx(4 * 0.5 / found.seconds)
    assert found.busy["storage"] == 0
    assert found.limit == "cores"


def test_two_workers_share_the_ranges():
    found = simulate([8], 2, COSTS)
    # The second worker starts with the second range, which is handed out half a second after the first.
    assert found.seconds == pytest.approx(0.5 + 7 + 8 + 0.5 + 0.5 + 7 + 4 * 10 + 0.5 + 8 * 2)


def test_a_slow_storage_is_what_limits():
    films, bandwidth = [8] * 6, 50.0
    found = simulate(films, 100, COSTS, bandwidth=bandwidth)
    moved = sum(films) * (2 * COSTS.read + 3 * COSTS.written)
    assert found.limit == "storage"
    assert found.busy["storage"] * found.seconds == pytest.approx(moved / bandwidth)
    assert found.seconds >= moved / bandwidth


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=5),
    st.integers(1, 6),
    st.floats(100, 1e6) | st.just(math.inf),
)
def test_no_more_is_done_than_there_is_time_for(films, cores, bandwidth):
    found = simulate(films, cores, COSTS, bandwidth=bandwidth)
    work = sum(films) * COSTS.seconds
    assert found.busy["cores"] * cores * found.seconds == pytest.approx(work)
    assert all(0 <= share <= 1 + 1e-9 for share in found.busy.values())
    # Never slower than a single worker that also waits for every transfer.
    moved = sum(films) * (2 * COSTS.read + 3 * COSTS.written)
    tasks = sum(2 + max(1, frames // COSTS.length) for frames in films)
    alone = COSTS.start * cores + work + moved / bandwidth + tasks * COSTS.task
    assert work / cores <= found.seconds <= alone + 1e-6


def result():
    stages = {"plan": 0.001, "render": 0.1, "join": 0.001}
    beside = {name: 1.25 * value for name, value in stages.items()}
    contenders = {
        "one worker": {"few": [5.0], "many": [30.0], "per_frame": 0.11},
        "two workers": {"few": [5.0], "many": [20.0], "per_frame": 0.07},
    }
    return {
        **{"benchmark": "ray", "clips": 4, "few": 8, "many": 72, "contenders": contenders, "ratio": 1.6},
        **{"alone": stages, "beside": beside, "start": 3.0, "task": 0.0005, "memory": 1e9},
        "bytes": {"in": 2000.0, "out": 20000.0},
    }


def test_the_runs_that_were_timed_are_simulated():
    """Four clips and two workers: nothing is left over, so only what is beside costs."""
    found = check(result())
    assert found["one worker"] == {"measured": pytest.approx(110), "simulated": pytest.approx(102, abs=0.1)}
    assert found["two workers"]["simulated"] == pytest.approx(102 * 1.25 / 2, rel=0.01)
    assert found["ratio"] == {"measured": 1.6, "simulated": pytest.approx(1.6, rel=0.01)}


def test_the_command(tmp_path, capsys):
    file = tmp_path / "ray.json"
    file.write_text(json.dumps(result()))
    assert main(["benchmark", "capacity", str(file), "--cores", "1", "8", "--bandwidth", "2"]) == 0
    text = capsys.readouterr().out
    assert "| two workers to one | 1.60 | 1.60 |" in text
    # 86400 frames of 0.1275 s, of 64 kB.
    assert "| core hours | 3.06 | 3.06e+06 |" in text
    assert "| read and written [GB] | 5.53 | 5.53e+06 |" in text
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith(("| 1 |", "| 8 |"))]
    speeds = [float(row[1]) for row in rows]
    assert speeds[0] == pytest.approx(1 / 3.06, rel=0.02)
    assert 7 < speeds[1] / speeds[0] <= 8


def test_it_loads_no_tensorflow(tmp_path):
    file = tmp_path / "ray.json"
    file.write_text(json.dumps(result()))
    code = (
        "import sys\n"
        "from rlsp_tf.cli.main import main\n"
        "assert main(['benchmark', 'capacity', sys.argv[1]]) == 0\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, file], check=True)


def test_what_is_no_result_is_said(tmp_path, monkeypatch, capsys):
    file = tmp_path / "ray.json"
    file.write_text(json.dumps(result() | {"benchmark": "serve"}))
    assert "holds a result of 'serve'; give a result of ray" in fails(capsys, "benchmark", "capacity", file)
    file.write_text(json.dumps(result() | {"bytes": {}}))
    assert "ray.json: not a result of rlsp benchmark, or damaged" in fails(
        capsys, "benchmark", "capacity", file
    )
    monkeypatch.setitem(sys.modules, "simpy", None)
    with pytest.raises(RLSPError, match=r"rlsp_tf\[benchmark\]"):
        simulate([1], 1, COSTS)
