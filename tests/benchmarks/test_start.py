"""What users wait for, from the start of a command to its first frame."""

import json

import numpy as np
import pytest

from helpers.networks import small_model
from helpers.videos import make_video
from rlsp_tf.benchmarks.report import describe
from rlsp_tf.benchmarks.start import PARTS, benchmark_start
from rlsp_tf.errors import RLSPError


@pytest.mark.slow
def test_the_parts_make_up_the_time_to_the_first_frame(tmp_path):
    film = make_video(tmp_path / "film.mp4", range(0, 9 * 3600, 3600), size=(32, 24))
    model = tmp_path / "small.keras"
    small_model(np.random.default_rng(0), precision="float32").save(model)
    result = benchmark_start(film, model=model, precision="float32", rounds=1)
    assert [*result["parts"]] == [*PARTS]
    assert (result["frames"], result["size"], result["model"]) == (5, [32, 24], "small")
    for key in ("cpu", "wall"):
        times = [result["parts"][name][key] for name in PARTS]
        assert all(len(each) == 1 and each[0] >= 0 for each in times)
        assert result["first"][key] == [pytest.approx(sum(each[0] for each in times))]
        assert result["command_line"][key][0] > 0
    printed = describe(json.loads(json.dumps(result)))
    assert f"| imports | {result['parts']['imports']['cpu'][0]:.2f} |" in printed


@pytest.mark.slow
def test_what_cannot_be_upscaled_is_named(tmp_path):
    film = make_video(tmp_path / "film.mp4", range(0, 2 * 3600, 3600), size=(32, 24))
    with pytest.raises(RLSPError, match=r"film.mp4: cannot be upscaled \(.*missing.keras"):
        benchmark_start(film, model=tmp_path / "missing.keras", rounds=1)
