"""Calls a function once a package has been imported, without importing it."""

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


def after_import(package: str, function: Callable[[], None]) -> None:
    """Calls a function at once if a package has been imported, or else when that is done.

    Args:
        package: name of a top-level package. It need not be installed.
        function: is called once, after the package's own code.
    """
    if sys.modules.get(package):
        function()
    else:
        sys.meta_path.insert(0, _Finder(package, function))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one package where the other finders do, and lets a :class:`_Loader` load it."""

    def __init__(self, package: str, function: Callable[[], None]) -> None:
        self._package, self._function = package, function
        self._asks = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._package or self._asks:
            return None
        self._asks = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asks = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._done)
        return spec

    def _done(self) -> None:
        sys.meta_path.remove(self)
        self._function()


class _Loader(importlib.abc.Loader):
    """Loads a module as its own loader does, and calls a function afterwards."""

    def __init__(self, loader: importlib.abc.Loader, done: Callable[[], None]) -> None:
        self._loader, self._done = loader, done

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # What looks for the files of the package asks its own loader.
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._done()
