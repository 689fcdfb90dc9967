"""Completion: the scripts are run by a real shell."""

import shutil
import subprocess
import sys

import pytest

from helpers.cli import fails
from rlsp_tf.cli.main import main
from rlsp_tf.converters.cli import main as convert

bash = shutil.which("bash")


@pytest.fixture
def completed(tmp_path, capsys):
    """Gives what bash offers for the last of some words, in a folder with a file ``film.mp4``."""
    pytest.importorskip("shtab", reason="shtab is not installed")
    if bash is None:
        pytest.skip("there is no bash")
    (tmp_path / "film.mp4").touch()

    def completed(*words, command=main, name="rlsp"):
        assert command(["completion", "bash"]) == 0
        (tmp_path / "script").write_text(capsys.readouterr().out)
        code = (
            f"source ./script; COMP_WORDS=({name} {' '.join(words)}); COMP_CWORD={len(words)}; "
            f"COMP_LINE='{name} {' '.join(words)}'; COMP_POINT=${{#COMP_LINE}}; "
            f"_shtab_{name.replace('-', '_')} {name} '{words[-1]}' ''; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
        run = subprocess.run([bash, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        return run.stdout.split()

    return completed


def test_bash_completes_commands_options_choices_and_files(completed):
    assert completed("ups") == ["upscale"]
    assert completed("upscale", "--prec") == ["--precision"]
    assert completed("upscale", "--precision", "bfl") == ["bfloat16"]
    assert completed("upscale", "fi") == ["film.mp4"]
    assert completed("preview", "--out", "fi") == ["film.mp4"]
    assert completed("benchmark", "qual") == ["quality"]
    assert completed("downl", command=convert, name="rlsp-convert") == ["download"]


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_have_scripts(shell, capsys):
    pytest.importorskip("shtab", reason="shtab is not installed")
    assert main(["completion", shell]) == 0
    said = capsys.readouterr().out
    assert "upscale" in said
    assert "precision" in said


def test_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert "pip install 'rlsp_tf[completion]'" in fails(capsys, "completion", "bash")
