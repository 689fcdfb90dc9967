"""Which wing of the package may import which, and that no files import each other in a circle."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"rlsp_tf": ROOT / "rlsp_tf", "rlsp_tf.converters": ROOT / "converters"}
BASE = "network media pixels system errors"
MAY_IMPORT = {
    "errors": "",
    "system": "errors",
    "pixels": "errors",
    "network": "pixels system errors",
    "media": "pixels system errors",
    "inference": "network pixels system errors",
    "upscaling": f"inference {BASE}",
    "exporting": "inference network pixels system errors",
    "training": BASE,
    "evaluation": f"upscaling inference {BASE}",
    "serving": f"upscaling inference {BASE}",
    "ui": f"serving upscaling inference {BASE}",
    "benchmarks": f"serving evaluation training exporting upscaling inference {BASE}",
    "cli": f"benchmarks ui serving evaluation training exporting upscaling inference {BASE}",
    "converters": "cli inference network system errors",
}
"""Every wing, and the wings that its files may import; all may import ``_version``."""
ROOT_FILES = {"__init__", "__main__", "_version"}
"""Files of the package that belong to no wing; the first two import what they hand on."""


def modules() -> dict[str, Path]:
    """All modules by their full names."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


MODULES = modules()


def wing_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imported_by(module: str) -> set[str]:
    """The modules of ours that a module imports anywhere, within functions and for type checkers too."""
    names = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports by a relative name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
            names.add(node.module)
    return {name for name in names if name in MODULES} - {module}


def test_every_module_belongs_to_a_wing():
    assert {wing_of(module) for module in MODULES} - ROOT_FILES == set(MAY_IMPORT)


@pytest.mark.parametrize("wing", MAY_IMPORT)
def test_a_wing_imports_only_what_it_may(wing):
    allowed = {wing, "_version", "__init__", *MAY_IMPORT[wing].split()}
    for module in MODULES:
        if wing_of(module) == wing:
            wrong = {name for name in imported_by(module) if wing_of(name) not in allowed}
            assert not wrong, f"{module} imports {wrong}"


def test_no_wing_imports_one_that_imports_it():
    for wing, others in MAY_IMPORT.items():
        for other in others.split():
            assert wing not in MAY_IMPORT[other].split()


def test_no_files_import_each_other_in_a_circle():
    graph = {module: imported_by(module) for module in MODULES if wing_of(module) not in ROOT_FILES}
    graph = {module: {name for name in names if name in graph} for module, names in graph.items()}
    done: set[str] = set()

    def visit(module, path):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for name in sorted(graph[module]):
                visit(name, [*path, module])
            done.add(module)

    for module in graph:
        visit(module, [])


def test_the_cell_is_read_with_the_configuration_and_the_colours_of_the_paper_alone():
    assert imported_by("rlsp_tf.network.cell") == {"rlsp_tf.network.config", "rlsp_tf.pixels.color"}


def test_a_wing_says_what_it_is_for_and_exports_nothing():
    for module, path in MODULES.items():
        if path.name == "__init__.py" and module != "rlsp_tf":
            (docstring,) = ast.parse(path.read_text("utf-8")).body
            assert len(ast.get_docstring(ast.Module([docstring], []))) > 40, module


def test_no_test_module_imports_another():
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                assert not node.module.split(".")[-1].startswith("test_"), path
