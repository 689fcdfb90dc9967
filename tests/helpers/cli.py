"""Commands that are to fail."""

import pytest

from rlsp_tf.cli.main import main


def fails(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 1) -> str:
    """Runs a command that must fail with one sentence, and gives the sentence."""
    assert main([str(argument) for argument in arguments]) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 1
    return lines[0]
