"""What the package promises as a whole: what it needs, what it exports, what starts fast."""

import ast
import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rlsp_tf

ROOT = Path(__file__).parents[1]
SOURCES = [path for folder in ("rlsp_tf", "converters") for path in sorted((ROOT / folder).glob("**/*.py"))]


def imports(path):
    """The full names of all modules, and of names in them, that a file imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_requirements_are_what_is_imported():
    ours = {"rlsp_tf", *sys.stdlib_module_names}
    imported = {name.split(".")[0] for path in SOURCES for name in imports(path)} - ours
    distributions = importlib.metadata.packages_distributions()
    used = {distribution.lower() for name in imported for distribution in distributions.get(name, [name])}
    required, optional = set(), set()
    for line in importlib.metadata.requires("rlsp_tf"):
        (optional if "extra ==" in line else required).add(re.match(r"[\w.-]+", line)[0].lower())
    assert required <= used
    assert used <= required | optional


def test_the_version_is_the_same_everywhere():
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)[1]
    assert rlsp_tf.__version__ == importlib.metadata.version("rlsp_tf") == cited


@pytest.mark.parametrize(
    "code",
    [
        "import rlsp_tf; dir(rlsp_tf)",
        "import rlsp_tf; rlsp_tf.RLSPConfig, rlsp_tf.PRESETS, rlsp_tf.RLSPError, rlsp_tf.degrade",
        "import rlsp_tf.cli.main as cli; cli.build_parser().format_help()",
        "import rlsp_tf.converters.cli as cli; cli.build_parser().format_help()",
    ],
)
def test_what_needs_no_network_loads_neither_tensorflow_nor_keras(code):
    code += "\nimport sys\nprint(*sys.modules.keys() & {'tensorflow', 'keras', 'jax', 'torch'})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    ["import rlsp_tf, keras", "import keras, rlsp_tf", "import rlsp_tf; rlsp_tf.RLSPCell; import keras"],
)
def test_keras_itself_loads_our_files_once_we_are_imported(imports):
    pytest.importorskip("jax", reason="JAX is not installed, with which Keras starts faster")
    file = ROOT / "checkpoints" / "rlsp-7-48.keras"
    code = f"{imports}; print(keras.models.load_model({str(file)!r}).layers[1].config.name)"
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["7-48"]


def test_public_names_come_from_their_modules():
    for name in rlsp_tf.__all__:
        assert name in dir(rlsp_tf)
        assert getattr(rlsp_tf, name) is not None
    assert rlsp_tf.RLSPConfig.__module__ == "rlsp_tf.network.config"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'rlsp_tf' has no attribute 'upscal'"):
        rlsp_tf.upscal  # noqa: B018


def test_weights_and_manifest_agree():
    from rlsp_tf.network.weights import find_weights, read_manifest

    manifest = read_manifest()
    for name, entry in manifest.items():
        assert set(entry) == {"file", "sha256", "config", "origin", "licence", "psnr"}
        assert find_weights(name).name == entry["file"]  # and its SHA-256 is the manifest's
    files = {path.name for path in (ROOT / "checkpoints").glob("*.keras")}
    assert files == {entry["file"] for entry in manifest.values()}


def test_links_between_pages_lead_to_files():
    pages = [path for pattern in ("*.md", "docs/*.md", "checkpoints/*.md") for path in ROOT.glob(pattern)]
    assert len(pages) > 5
    for page in pages:
        prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", prose):
            assert "://" in link or (page.parent / link).is_file(), f"{page}: {link}"
