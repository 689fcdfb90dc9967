"""Who may reach the page, and what is refused before it is shown."""

import importlib.util
import socket

import pytest

from helpers.cli import fails
from rlsp_tf.errors import RLSPError, UsageError
from rlsp_tf.ui import launch as launching
from rlsp_tf.ui.launch import launch, read_accounts


def test_accounts_are_read_from_a_file(tmp_path):
    path = tmp_path / "accounts"
    path.write_text("# who may use it\n\nanna:long enough\n  ben:with:colons:\n", "utf-8")
    assert read_accounts(path) == {"anna": "long enough", "ben": "with:colons:"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "has no account in it"),
        (b"# none\n", "has no account in it"),
        (b"anna:long enough\nben\n", "line 2: an account is USER:PASSWORD"),
        (b"anna:short\n", "at least 8 characters"),
        (b":long enough\n", "line 1: an account is USER:PASSWORD"),
        (b"anna:\xff\xfe\xff\xfe\xff\xfe\xff\xfe\n", "is not a text file"),
    ],
)
def test_a_file_without_accounts_is_refused(tmp_path, content, sentence):
    path = tmp_path / "accounts"
    path.write_bytes(content)
    with pytest.raises(RLSPError, match=f"^{path}: .*{sentence}"):
        read_accounts(path)


def test_a_file_that_is_missing_is_refused(tmp_path):
    with pytest.raises(RLSPError, match="check the path"):
        read_accounts(tmp_path / "accounts")


def test_both_ways_to_give_accounts_exclude_each_other(capsys):
    assert "exclude each other" in fails(capsys, "ui", "--auth", "a:b", "--auth-file", "c", code=2)


def test_a_time_to_keep_is_above_0(capsys):
    assert "--keep must be above 0" in fails(capsys, "ui", "--keep", "0", code=2)


def test_without_gradio_the_sentence_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RLSPError, match=r"pip install 'rlsp_tf\[ui\]'"):
        launch()


@pytest.fixture
def installed(monkeypatch):
    """What is refused is refused before Gradio is needed."""
    monkeypatch.setattr(launching, "_check_installed", lambda: None)


@pytest.mark.parametrize("options", [{"host": "0.0.0.0"}, {"share": True}])
def test_nobody_else_reaches_the_page_without_an_account(installed, options, tmp_path):
    with pytest.raises(UsageError, match="--auth-file"):
        launch(port=0, folder=tmp_path, **options)
    with pytest.raises(UsageError, match="at least 8 characters"):
        launch(port=0, folder=tmp_path, accounts={"anna": "short"}, **options)


def test_a_port_in_use_is_reported(installed, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(RLSPError, match=f"rlsp ui: cannot listen on 127.0.0.1:{port} .*--port"):
            launch(port=port, folder=tmp_path)


def test_a_folder_in_use_is_reported(tmp_path):
    pytest.importorskip("gradio", reason="needs rlsp_tf[ui]")
    from rlsp_tf.serving.folder import jobs_folder

    with (
        jobs_folder(tmp_path / "kept"),
        pytest.raises(RLSPError, match="another folder by --folder"),
    ):
        launch(port=0, folder=tmp_path / "kept")
