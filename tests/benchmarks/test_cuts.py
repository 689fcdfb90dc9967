"""What cuts cost is measured on clips whose cuts are known."""

import json

import numpy as np
import pytest

from helpers.cli import fails
from helpers.networks import SMALL, small_model
from helpers.synthetic import make_clip
from rlsp_tf.benchmarks.cuts import AFTER, WAYS
from rlsp_tf.cli.main import main
from rlsp_tf.media.images import write_png


@pytest.fixture(scope="module")
def hr(tmp_path_factory):
    """Two sequences of 17 frames, of different sizes."""
    folder = tmp_path_factory.mktemp("hr")
    for name, (height, width), seed in (("a", (64, 97), 0), ("b", (66, 96), 1)):
        (folder / name).mkdir()
        for index, frame in enumerate(make_clip(17, height, width, seed=seed)):
            write_png(folder / name / f"{index:02d}.png", frame)
    return folder


@pytest.mark.slow
def test_a_new_start_at_a_cut_is_the_beginning_of_a_clip(hr, tmp_path, capsys):
    model, out = tmp_path / "net.keras", tmp_path / "cuts.json"
    small_model(np.random.default_rng(0), SMALL).save(model)
    assert main(["benchmark", "cuts", "--hr", str(hr), "--model", str(model), "--json", str(out)]) == 0
    assert "| sequences one after the other | 34 | 1 | 1 | 0 |" in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert result["size"] == [96, 64]
    assert list(result["after"]) == list(result["none"]) == list(WAYS)
    for rows in (result["after"], result["none"]):
        for row in rows.values():
            assert [int(frame) for frame in row] == list(AFTER)
    # What the cut has spoilt is in the first frame, and long after it the past is the same.
    carried, new, _ = result["after"].values()
    assert carried["0"] != new["0"]
    assert abs(carried["8"] - new["8"]) < 0.1 * abs(carried["0"] - new["0"])
    joined, alone, _, pans = result["materials"]
    assert (joined["cuts"], joined["found"], joined["wrong"]) == (1, 1, 0)
    assert (alone["cuts"], alone["wrong"], pans["wrong"]) == (0, 0, 0)
    # With every cut found, sequences one after the other are as each alone, to the last bit of float32.
    assert joined["psnr"]["auto"] == pytest.approx(alone["psnr"]["off"], abs=1e-4)
    assert joined["psnr"]["off"] != pytest.approx(alone["psnr"]["off"], abs=1e-4)
    page, plot = tmp_path / "page.md", tmp_path / "plot.png"
    assert main(["benchmark", "report", str(page), str(out), "--plot", str(plot)]) == 0
    text = page.read_text()
    row = f"| sequences one after the other | 34 | 1 | 1 | 0 | {joined['psnr']['off']:.3f} "
    assert row in text
    assert f"| warm start | {result['after']['warm start']['0']:.3f} |" in text
    assert not plot.exists()


def test_too_little_to_measure_is_refused(hr, tmp_path, capsys):
    assert "a single sequence" in fails(capsys, "benchmark", "cuts", "--hr", hr / "a")
    for name in ("a", "b"):
        (tmp_path / "short" / name).mkdir(parents=True)
        for index, frame in enumerate(make_clip(3, 64, 96)):
            write_png(tmp_path / "short" / name / f"{index}.png", frame)
    error = fails(capsys, "benchmark", "cuts", "--hr", tmp_path / "short")
    assert "a sequence has 3 frames; give 17 or more" in error
