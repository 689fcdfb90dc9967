"""The wheel and the source distribution: what is in them, and that they work where nothing else is.

Slow, because TensorFlow is installed anew: ``-m "not slow"`` leaves them out. Needs git and an index for pip.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

import rlsp_tf
from helpers.synthetic import make_clip

ROOT = Path(__file__).parents[2]
BESIDE = ("checkpoints", "converters")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="builds what git knows, and here is no git"),
]


def run(*command, cwd, path=None):
    """The output of a command that must succeed, with ``path`` as its PYTHONPATH."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(python, *arguments, cwd):
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def files():
    """All files of the project, ignored ones excepted, as paths from its root."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT).split("\0")
    return {name for name in listed if (ROOT / name).exists() or (ROOT / name).is_symlink()} - {""}


@pytest.fixture(scope="module")
def built(files, tmp_path_factory):
    """A folder with the source distribution, and the wheel that is built from that."""
    # A copy, as remains of earlier builds in the checkout would be packed, too.
    folder = tmp_path_factory.mktemp("built")
    for name in files:
        (folder / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / "copy" / name, follow_symlinks=False)
    run(sys.executable, "-m", "build", "--outdir", folder, folder / "copy", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (wheel,) = built.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def source(built):
    """The unpacked source distribution."""
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(built, filter="data")
    return built / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def fresh_python(wheel, tmp_path_factory):
    """A Python with what rlsp_tf requires, extras excepted."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=True, symlinks=os.name != "nt")
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip(python, wheel, cwd=folder)
    return python


def test_the_wheel_holds_the_package_and_nothing_beside_it(files, wheel):
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    inside = {name for name in files if name.startswith("rlsp_tf/")}
    beside = {f"rlsp_tf/{name}" for name in files if name.split("/")[0] in BESIDE}
    assert found == inside - {f"rlsp_tf/{name}" for name in BESIDE} | beside


def test_the_source_distribution_holds_all_but_what_serves_git(files, source):
    found = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    links = {f"rlsp_tf/{name}" for name in BESIDE}
    assert files - found == {".ci/run", ".gitignore", ".pre-commit-config.yaml", *links}
    made = {name for name in found - files if not name.startswith("rlsp_tf.egg-info/")}
    assert made == {"PKG-INFO", "setup.cfg"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A folder with the frames ``lr``, and what this checkout makes of them, ``ours``."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "lr").mkdir()
    for index, frame in enumerate(make_clip(3, 12, 16)):
        iio.imwrite(folder / "lr" / f"{index}.png", frame)
    run(sys.executable, "-m", "rlsp_tf", "upscale", "lr", "ours", cwd=folder, path=ROOT)
    return folder


@pytest.mark.parametrize("how", ["wheel", "editable"])
def test_an_installation_without_extras_works_in_another_folder(
    how, fresh_python, wheel, source, clip, tmp_path
):
    what = [wheel] if how == "wheel" else ["-e", source]
    pip(fresh_python, "--no-deps", "--force-reinstall", *what, cwd=tmp_path)
    look = "from importlib.util import find_spec\nprint([name for name in {} if find_spec(name)])"
    absent = [*BESIDE, "tests", "jax", "onnx", "pytest", "ray", "starlette"]
    assert run(fresh_python, "-c", look.format(absent), cwd=tmp_path) == "[]\n"

    rlsp = fresh_python.with_name("rlsp")
    run(rlsp, "upscale", clip / "lr", "large", cwd=tmp_path)
    large, ours = (
        np.stack([iio.imread(folder / f"{index}.png") for index in range(3)])
        for folder in (tmp_path / "large", clip / "ours")
    )
    # TensorFlow may be another, and round otherwise.
    np.testing.assert_allclose(large.astype(int), ours, rtol=0, atol=1)

    version = f"{rlsp_tf.__version__}\n"
    assert run(fresh_python, "-m", "rlsp_tf", "--version", cwd=tmp_path) == f"rlsp {version}"
    convert = fresh_python.with_name("rlsp-convert")
    assert run(convert, "--version", cwd=tmp_path) == f"rlsp-convert {version}"


def test_the_source_distribution_passes_its_own_tests(wheel, source, tmp_path):
    """Some of them, with the wheel that was made of it."""
    pip(sys.executable, "--no-deps", "--target", tmp_path / "site", wheel, cwd=tmp_path)
    names = ("network/test_config.py", "converters/test_cli.py", "test_package.py")
    modules = [source / "tests" / name for name in names]
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={source}", *modules]
    said = run(sys.executable, *words, cwd=tmp_path, path=tmp_path / "site")
    assert " passed" in said
