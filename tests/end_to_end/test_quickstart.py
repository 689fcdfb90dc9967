"""The notebook does what it shows."""

import json
import os
from pathlib import Path

import av
import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "quickstart.ipynb"


def test_the_notebook_comes_without_outputs():
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Jupyter's packages about each other
def test_the_notebook_runs(tmp_path, monkeypatch):
    nbformat = pytest.importorskip(
        "nbformat", reason="needs nbclient and ipykernel: pip install -e '.[test]'"
    )
    nbclient = pytest.importorskip(
        "nbclient", reason="needs nbclient and ipykernel: pip install -e '.[test]'"
    )
    pytest.importorskip("ipykernel", reason="needs nbclient and ipykernel: pip install -e '.[test]'")
    monkeypatch.setenv("KERAS_BACKEND", os.environ["KERAS_BACKEND"])
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "PSNR [dB] / SSIM of luma." in printed
    with av.open(tmp_path / "quickstart" / "large.mp4") as video:
        assert [(frame.width, frame.height) for frame in video.decode(video=0)] == [(320, 240)] * 12
    numbers = json.loads((tmp_path / "quickstart" / "numbers.json").read_text("utf-8"))
    bicubic, ours = numbers["models"]
    assert ours["mean"]["psnr_y"] > bicubic["mean"]["psnr_y"]
