"""The offline kit, for training on a machine with JAX that has no TensorFlow and no network.

``make offline-kit`` packs a folder. Its script ``train.sh`` trains for a given time on the other machine, and
continues the run in its folder if there is one. The kit contains all packages that a machine with JAX may
lack, in the versions installed here, and clips, which are cut but not encoded again.
"""

import argparse
import contextlib
import hashlib
import importlib.metadata
import io
import lzma
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path

from rlsp_tf.errors import RLSPError, last_line, sentence_of
from rlsp_tf.system.files import atomic_file, atomic_folder, check_apart, named
from rlsp_tf.training.clips.index import default_held_out, find_sources
from rlsp_tf.training.clips.photographs import HELD_OUT, by_chance, find_photographs
from rlsp_tf.training.run_folder import RunFolder

SIZE_LIMIT = 58 * 2**20
"""Largest size of a kit in bytes. With the source beside it, it is less than 64 MiB."""
FILE_LIMIT = 16 * 2**20
"""Size in bytes above which checkpoints are compressed."""
PACKAGES = (
    *("av", "filelock", "keras", "natsort", "psutil", "scenedetect-headless", "tqdm"),
    # What Keras needs in addition to JAX.
    *("absl-py", "markdown-it-py", "mdurl", "namex", "optree", "packaging", "pygments", "rich"),
    "typing-extensions",
)
"""Packages that are packed with rlsp_tf."""
EXPECTED = ("jax", "numpy", "scipy", "h5py", "PIL", "cv2")
"""Modules that the other machine has to have; NumPy and SciPy come with JAX."""
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")
LEAST_FRAMES = 24
"""Smallest number of frames of a clip in the kit. Validation needs 20."""

TRAIN_SH = """\
#!/bin/sh
# Trains RLSP on a machine with Python @PYTHON@, JAX, h5py, Pillow and OpenCV. Nothing is downloaded.
#
#   ./train.sh MINUTES RUN [options of rlsp train]
#   ./train.sh 10 run --network 7-48 --batch 32 --crop 48 --frames 12 --reuse 10 --steps 34000
#
# Everything together, including unpacking and saving, takes MINUTES. The folder RUN gets the log (log.csv),
# the best weights (best.keras) and a checkpoint (last.keras). If it holds a run, the run is continued.
# Unpacked packages, prepared clips and compiled programs are kept for the next call in the folder
# $RLSP_WORK, by default in $TMPDIR or /tmp. The variable PYTHON names another interpreter than python3.
set -eu
began=$(date +%s)
[ $# -ge 2 ] || { sed -n '2,/^set/s/^# \\{0,1\\}//p' "$0" >&2; exit 2; }
minutes=$1 run=$2
shift 2
kit=$(cd "$(dirname "$0")" && pwd)
work=${RLSP_WORK:-${TMPDIR:-/tmp}/rlsp-offline-kit-@ID@}
python=${PYTHON:-python3}
spent() { echo "offline kit: $1 after $(($(date +%s) - began)) s" >&2; }

mkdir -p "$work"
if [ ! -d "$work/packages" ]; then
    rm -rf "$work/packages.part"
    "$python" -c 'import shutil, sys; shutil.unpack_archive(*sys.argv[1:])' \\
        "$kit/packages.tar.xz" "$work/packages.part"
    mv "$work/packages.part" "$work/packages"
fi
export PYTHONPATH="$work/packages${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONSAFEPATH=1 KERAS_BACKEND=jax JAX_COMPILATION_CACHE_DIR="$work/compiled" TQDM_MININTERVAL=10
spent "packages ready"
"$python" -m rlsp_tf.training.offline_kit ready "$kit/clips" "$work/clips"
spent "clips ready"
# 15 seconds are left for saving.
left=$("$python" -c "print(max(0, $minutes - ($(date +%s) - $began + 15) / 60))")
[ ! -d "$kit/photographs" ] || set -- --photos "$kit/photographs" "$@"
"$python" -m rlsp_tf train --data "$kit/clips" --cache "$work/clips" --out "$run" --resume \\
    --minutes "$left" "$@"
"$python" -m rlsp_tf.training.offline_kit finish "$run"
spent "done"
"""


def pack(
    data: str | os.PathLike[str],
    kit: str | os.PathLike[str],
    *,
    photographs: str | os.PathLike[str] | None = None,
    python: str = "3.12",
    packages: Sequence[str] = PACKAGES,
    limit: int = SIZE_LIMIT,
) -> list[str]:
    """Packs a kit.

    The kit contains the beginning of every clip: as few frames as possible of the clips that will be held
    out for validation, and of the others as much as fits, at most an equal share of the space for each.
    Photographs are copied unchanged and take at most half of the space; those that will be held out come
    first.

    Args:
        data: folder of clips; see :func:`rlsp_tf.training.clips.index.find_sources`.
        kit: folder to write. A kit in its place is replaced if it is unchanged.
        photographs: folder of photographs; see
            :func:`rlsp_tf.training.clips.photographs.find_photographs`.
        python: version of Python on the other machine, which runs Linux on x86-64.
        packages: names of the packages to pack, which have to be installed here.
        limit: largest size of the kit in bytes.

    Returns:
        A sentence about each clip, one about the photographs, and one about the whole kit.

    Raises:
        RLSPError: if a package cannot be downloaded, a clip cannot be read, the kit would be too large, or
            ``kit`` exists and is not an unchanged kit.
    """
    kit = Path(kit)
    check_apart(kit, data)
    if kit.exists() and not _is_kit(kit):
        raise RLSPError(f"{kit}: exists and is not an unchanged offline kit; give another name.")
    sources = find_sources([data])
    kit.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(
        kit, force=True, ours=named(r"train\.sh", r"packages\.tar\.xz", "(clips|photographs)/.+")
    ) as part:
        archive = part / "packages.tar.xz"
        _pack_packages(archive, python, packages)
        room = limit - archive.stat().st_size - len(TRAIN_SH)
        notes = []
        if photographs is not None:
            notes.append(_pack_photographs(Path(photographs), part / "photographs", room // 2))
            room -= _size(part / "photographs")
        notes = _pack_clips(sources, Path(data), part / "clips", room) + notes
        script = TRAIN_SH.replace("@PYTHON@", python).replace("@ID@", _identity(part))
        (part / "train.sh").write_text(script, "utf-8")
        (part / "train.sh").chmod(0o755)
        size = _size(part)
        if size > limit:
            raise RLSPError(
                f"{kit}: would take {size / 2**20:.1f} MiB, more than {limit / 2**20:.0f}; give fewer clips."
            )
    clips = _size(kit / "clips") / 2**20
    return [*notes, f"{kit}: {size / 2**20:.1f} MiB, including {clips:.1f} MiB of clips"]


def make_ready(clips: str | os.PathLike[str], cache: str | os.PathLike[str]) -> None:
    """Prepares clips for training, several at the same time.

    Args:
        clips: folder of the clips; see :func:`rlsp_tf.training.clips.index.index_clips`.
        cache: folder for prepared clips, which is made if it is missing.

    Raises:
        RLSPError: if this machine lacks a module that the kit does not contain.
    """
    missing = [name for name in EXPECTED if find_spec(name) is None]
    if missing:
        raise RLSPError(
            f"{sys.executable}: has no module {', '.join(missing)}; install it, or set PYTHON to another "
            "interpreter."
        )
    Path(cache).mkdir(parents=True, exist_ok=True)
    sources = sorted((path for _, path in find_sources([clips])), key=_size, reverse=True)
    # In forked processes, decoders may wait forever for locks of threads that do not exist there.
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(partial(_make_ready, cache=Path(cache)), sources))


def finish(run: str | os.PathLike[str]) -> str:
    """Compresses large checkpoints of a run, and returns a sentence about its step and speed.

    Args:
        run: folder of the run; see :mod:`rlsp_tf.training.run_folder`.

    Raises:
        RLSPError: if the log of the run is damaged.
    """
    for path in sorted(Path(run).glob("*.keras")):
        if path.stat().st_size > FILE_LIMIT:
            _compress(path)
    rows = [row for row in RunFolder(run).read_log() if "steps_per_second" in row]
    if not rows:
        return f"{run}: no step was completed"
    # The median, since the first row includes compiling.
    rates = sorted(row["steps_per_second"] for row in rows[-20:])
    return f"{run}: step {rows[-1]['step']:.0f}, {rates[len(rates) // 2]:.1f} steps/s"


def shares(sizes: Sequence[int], room: int) -> int:
    """Returns the largest share so that the sizes, each limited to this share, fit into the room together."""
    share = 0
    for index, size in enumerate(sorted(sizes)):
        share = room // (len(sizes) - index)
        if size > share:
            return share
        room -= size
    return max(sizes, default=share)


def excerpt(source: Path, target: Path, size: int) -> tuple[int, int]:
    """Copies the beginning of a clip, without encoding it again.

    Args:
        source: a video file or a folder of images.
        target: the file or folder to write.
        size: size of the excerpt in bytes, which is exceeded if ``LEAST_FRAMES`` frames take more.

    Returns:
        ``(frames, of)``: numbers of frames of the excerpt and of the source.

    Raises:
        RLSPError: if the source cannot be read.
    """
    if source.is_dir():
        return _excerpt_folder(source, target, size)
    from rlsp_tf.media.excerpts import cut, reading
    from rlsp_tf.media.video_reader import VideoSource

    with VideoSource(source) as video:
        stream = video.stream_index
    with reading(source) as container:
        packets = [packet for packet in container.demux(container.streams[stream]) if packet.size]
        sizes, times = [packet.size for packet in packets], [packet.pts or 0 for packet in packets]
    count = _frames_that_fit(sizes, size)
    # Packets are in the order of decoding. All frames that are shown before one of the excerpt belong to it.
    while count < len(times) and max(times[:count]) > min(times[count:]):
        count += 1
    target.parent.mkdir(parents=True, exist_ok=True)
    cut(source, target, count, stream=stream)
    return count, len(times)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``python -m rlsp_tf.training.offline_kit`` and returns its exit code: 0, or 1 for a failure."""
    parser = argparse.ArgumentParser(prog="python -m rlsp_tf.training.offline_kit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="pack a kit")
    packing.add_argument("data", help="folder of clips to train on")
    packing.add_argument("kit", help="folder to write")
    packing.add_argument("--photos", help="folder of photographs to train on")
    packing.add_argument(
        "--python", default="3.12", help="version of Python on the other machine (default: %(default)s)"
    )
    ready = commands.add_parser("ready", help="prepare clips for training")
    ready.add_argument("clips", help="folder of clips")
    ready.add_argument("cache", help="folder for prepared clips")
    finishing = commands.add_parser("finish", help="compress the checkpoints of a run and print its speed")
    finishing.add_argument("run", help="folder of the run")
    arguments = parser.parse_args(argv)
    try:
        if arguments.command == "pack":
            notes = pack(arguments.data, arguments.kit, photographs=arguments.photos, python=arguments.python)
            print(*notes, sep="\n")
        elif arguments.command == "ready":
            make_ready(arguments.clips, arguments.cache)
        else:
            print(finish(arguments.run))
    except (RLSPError, OSError) as error:
        print(f"{parser.prog}: error: {sentence_of(error)}", file=sys.stderr)
        return 1
    return 0


def _pack_packages(archive: Path, python: str, packages: Sequence[str]) -> None:
    """Writes rlsp_tf and other packages, as the other machine needs them, to an archive."""
    ours = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        if packages:
            _install(site, python, packages)
        shutil.copytree(ours, site / ours.name, ignore=shutil.ignore_patterns("__pycache__"))
        # The archive contains no times or owners, so it depends on nothing but the files.
        with lzma.open(archive, "wb", preset=9) as file, tarfile.open(fileobj=file, mode="w") as tar:
            for path in sorted(site.rglob("*")):
                if path.is_file() and path.suffix != ".pyc":
                    content = path.read_bytes()
                    info = tarfile.TarInfo(path.relative_to(site).as_posix())
                    info.size, info.mode = len(content), 0o755 if os.access(path, os.X_OK) else 0o644
                    tar.addfile(info, io.BytesIO(content))


def _install(site: Path, python: str, packages: Sequence[str]) -> None:
    pinned = [f"{name}=={importlib.metadata.version(name)}" for name in packages]
    options = ["--no-deps", "--no-compile", "--only-binary=:all:", "--implementation=cp"]
    options += [f"--python-version={python}", f"--target={site}"]
    options += [f"--platform={platform}_x86_64" for platform in PLATFORMS]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, *options, *pinned], capture_output=True, text=True)
    if done.returncode:
        reason = last_line(done.stderr) or "pip failed"
        raise RLSPError(f"packages for Python {python} cannot be downloaded: {reason}")


def _pack_clips(sources: Sequence[tuple[str, Path]], data: Path, folder: Path, room: int) -> list[str]:
    """Copies the beginnings of clips; returns a sentence about each."""
    # Of a single clip, the last part is held out instead.
    held_out = default_held_out([name for name, _ in sources]) if len(sources) > 1 else []

    def put(name: str, source: Path, size: int) -> str:
        # The name would be an absolute path if two clips differed only in their suffixes.
        target = folder / (source.relative_to(data) if source != data else source.name)
        frames, of = excerpt(source, target, size)
        return f"{name}: {frames} of {of} frames" + (", to validate on" if name in held_out else "")

    notes = {name: put(name, source, 0) for name, source in sources if name in held_out}
    others = [(name, source) for name, source in sources if name not in held_out]
    # Folders of images first: the least number of their frames may take more than a share.
    others.sort(key=lambda other: not other[1].is_dir())
    for index, (name, source) in enumerate(others):
        # Containers take some space, and excerpts end where no frame lacks one that comes later.
        left = (room - _size(folder)) * 49 // 50
        notes[name] = put(name, source, shares([_size(each) for _, each in others[index:]], left))
    return [notes[name] for name, _ in sources]


def _pack_photographs(root: Path, folder: Path, room: int) -> str:
    """Copies as many photographs as fit, in the order in which photographs are held out."""
    files = dict(find_photographs([root]))
    packed = 0
    for name in by_chance(list(files)):
        room -= files[name].stat().st_size
        if room < 0 and packed >= HELD_OUT:
            break
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files[name], target)
        packed += 1
    return f"{packed} of {len(files)} photographs"


def _excerpt_folder(source: Path, target: Path, size: int) -> tuple[int, int]:
    files = sorted(path for path in source.iterdir() if path.is_file())
    count = _frames_that_fit([file.stat().st_size for file in files], size)
    target.mkdir(parents=True)
    for file in files[:count]:
        shutil.copyfile(file, target / file.name)
    return count, len(files)


def _frames_that_fit(sizes: Sequence[int], size: int) -> int:
    """Returns how many frames take at most ``size`` bytes, but at least ``LEAST_FRAMES``."""
    count = sum(total <= size for total in accumulate(sizes))
    return min(max(count, LEAST_FRAMES), len(sizes))


def _make_ready(source: Path, cache: Path) -> None:
    from rlsp_tf.training.clips.prepare import prepare_clip

    # Training reports the clips that cannot be used.
    with contextlib.suppress(RLSPError):
        prepare_clip(source, cache, scale=4, halve="auto", notes=[])


def _compress(path: Path) -> None:
    with (
        atomic_file(path, force=True) as part,
        zipfile.ZipFile(path) as old,
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))


def _is_kit(folder: Path) -> bool:
    """Whether a folder is an unchanged kit, according to the digest in its script."""
    script = folder / "train.sh"
    if not script.is_file():
        return False
    noted = re.search(rb"rlsp-offline-kit-([0-9a-f]{12})", script.read_bytes())
    return noted is not None and noted[1].decode() == _identity(folder)


def _identity(folder: Path) -> str:
    """Returns a digest of the files of a kit, without its script."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / "train.sh":
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    sys.exit(main())
