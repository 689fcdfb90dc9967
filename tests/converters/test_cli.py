"""rlsp-convert: what it prints, what it returns, and what it leaves on disk."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rlsp_tf
from helpers.networks import SMALL, small_model
from rlsp_tf.converters.cli import main
from rlsp_tf.converters.tf1 import save_tf1
from rlsp_tf.network.weights import load_model


@pytest.fixture
def prefix(tmp_path: Path, rng: np.random.Generator) -> Path:
    """The prefix of a small checkpoint."""
    save_tf1(small_model(rng), tmp_path / "ckpt")
    return tmp_path / "ckpt"


def run(capsys: pytest.CaptureFixture, *arguments: object) -> tuple[int, str, str]:
    """The exit code, standard output and standard error of a command."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as end:  # argparse ends usage errors and --help itself
        code = end.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["tf1", "--help"], ["verify", "--help"], ["download", "--help"]]
)
def test_help_answers_with_examples_and_without_tensorflow(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom rlsp_tf.converters.cli import main\n"
        f"try: main({arguments})\nfinally: assert not {{'tensorflow', 'keras'}} & set(sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "  rlsp-convert " in shown


def test_the_version_is_that_of_rlsp_tf(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"rlsp-convert {rlsp_tf.__version__}\n"


def test_the_direction_is_decided_by_the_side_that_ends_in_keras(prefix, tmp_path, capsys) -> None:
    model = tmp_path / "model.keras"
    assert run(capsys, "tf1", prefix, model) == (0, f"{model}: written from {prefix}.\n", "")
    assert run(capsys, "tf1", model, tmp_path / "back") == (
        0,
        f"{tmp_path}/back: written from {model}.\n",
        "",
    )
    assert (tmp_path / "back.index").read_bytes() == (tmp_path / "ckpt.index").read_bytes()
    assert (tmp_path / "back.data-00000-of-00001").read_bytes() == Path(
        f"{prefix}.data-00000-of-00001"
    ).read_bytes()


@pytest.mark.parametrize("names", [("a.keras", "b.keras"), ("a", "b")])
def test_two_of_a_kind_are_a_usage_error(names, capsys) -> None:
    code, out, error = run(capsys, "tf1", *names)
    assert (code, out) == (2, "")
    sentence = "one of the two must end in .keras, the other must not."
    assert error == f"rlsp-convert: error: {names[0]} and {names[1]}: {sentence}\n"


def test_a_target_that_exists_needs_force(prefix, tmp_path, capsys) -> None:
    model = tmp_path / "model.keras"
    model.write_text("precious")
    code, _, error = run(capsys, "tf1", prefix, model)
    assert code == 1
    assert error.startswith(f"rlsp-convert: error: {model}: exists already")
    assert model.read_text() == "precious"
    assert run(capsys, "tf1", prefix, model, "--force")[0] == 0
    assert load_model(model).count_params() > 0


def test_a_failure_is_one_sentence_and_with_debug_a_traceback(prefix, tmp_path, capsys) -> None:
    Path(f"{prefix}.data-00000-of-00001").write_bytes(b"")
    code, out, error = run(capsys, "tf1", prefix, tmp_path / "model.keras")
    assert (code, out) == (1, "")
    assert error.startswith(f"rlsp-convert: error: {prefix}.data-00000-of-00001: cannot be read")
    assert error.count("\n") == 1
    with pytest.raises(Exception, match="cannot be read"):
        main(["tf1", str(prefix), str(tmp_path / "model.keras"), "--debug"])
    assert not (tmp_path / "model.keras").exists()


def test_verify_prints_what_it_compared_and_fails_on_differences(prefix, tmp_path, capsys, rng) -> None:
    model = tmp_path / "model.keras"
    run(capsys, "tf1", prefix, model)
    code, out, error = run(capsys, "verify", prefix, model)
    assert (code, error) == (0, "")
    assert out == (
        f"names and shapes: all 8 weights of a {SMALL.name} network agree.\n"
        f"weights: all {load_model(model).count_params()} numbers agree bit for bit.\n"
        f"outputs: not compared, there is no {prefix}.meta, which holds the authors' graph.\n"
    )
    small_model(rng).save(model)
    code, out, error = run(capsys, "verify", prefix, model)
    assert (code, out) == (1, "")
    assert f"{model}: weights differ from {prefix}" in error


class Terminal(io.StringIO):
    """A standard input at which somebody types."""

    def isatty(self) -> bool:
        return True


NOWHERE = ("--base-url", "http://127.0.0.1:9")


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "yesterday\n"])
def test_nothing_is_downloaded_before_the_licence_is_accepted(answer, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    code, out, error = run(capsys, "download", "7-48", tmp_path / "out", *NOWHERE)
    assert code == 1
    assert "CC BY-NC-SA 4.0" in out
    assert error == "rlsp-convert: error: the licence was not accepted; nothing was downloaded.\n"
    assert not (tmp_path / "out").exists()


def test_without_a_terminal_the_licence_needs_the_flag(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    code, out, error = run(capsys, "download", "7-48", tmp_path / "out", *NOWHERE)
    assert code == 2
    assert "CC BY-NC-SA 4.0" in out
    assert "add --accept-licence" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("typed", "flags"), [("y\n", []), ("YES\n", []), ("", ["--accept-licence"])])
def test_an_accepted_licence_starts_the_download(typed, flags, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    (tmp_path / "ckpt_rslp_48.index").write_text("in the way")
    code, _, error = run(capsys, "download", "7-48", tmp_path, *NOWHERE, *flags)
    assert code == 1
    assert "ckpt_rslp_48.index: exists already and is not the authors'" in error


def test_unknown_networks_are_a_usage_error(capsys, tmp_path) -> None:
    code, _, error = run(capsys, "download", "7-256", tmp_path)
    assert code == 2
    assert "7-48" in error
