import importlib.resources
import importlib.util
import sys

import pytest

from rlsp_tf.system.after_import import after_import


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "awaited").mkdir()
    (tmp_path / "awaited" / "__init__.py").write_text(
        "whole = False\nfrom awaited import part\nwhole = True\n"
    )
    (tmp_path / "awaited" / "part.py").write_text("")
    (tmp_path / "awaited" / "data.txt").write_text("here")
    (tmp_path / "broken_one.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    yield
    for name in ("awaited", "awaited.part"):
        sys.modules.pop(name, None)


def test_it_is_called_once_when_the_package_is_whole(package):
    seen = []
    after_import("awaited", lambda: seen.append(sys.modules["awaited"].whole))
    assert importlib.util.find_spec("awaited")  # looking for it is not importing it
    assert not seen
    import awaited

    assert seen == [True]
    importlib.reload(awaited)
    assert seen == [True]
    after_import("awaited", lambda: seen.append("at once"))
    assert seen == [True, "at once"]
    assert importlib.resources.files("awaited").joinpath("data.txt").read_text() == "here"


def test_a_package_that_cannot_be_imported_stays_so(package):
    after_import("broken_one", lambda: pytest.fail("it was not imported"))
    with pytest.raises(ZeroDivisionError):
        import broken_one  # noqa: F401
    after_import("not_installed", lambda: pytest.fail("it was not imported"))
    with pytest.raises(ModuleNotFoundError):
        import not_installed  # noqa: F401
