"""The offline kit: training on a machine that has JAX, but neither TensorFlow nor a network.

``make offline-kit`` packs one folder here; ``train.sh`` in it trains there, for a given time, and goes on
where the run in its folder stopped. The kit brings all packages that a machine with JAX may lack, in the
versions installed here, and clips: cut, but not encoded again, so that training there sees what it would
see here.
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

from rlsp_tf.errors import RLSPError, describe_os_error
from rlsp_tf.system.files import atomic_file, atomic_folder, check_apart, named
from rlsp_tf.training.clips.index import default_held_out, find_sources
from rlsp_tf.training.clips.photographs import HELD_OUT, by_chance, find_photographs
from rlsp_tf.training.run_folder import RunFolder

SIZE_LIMIT = 64 * 2**20
"""Bytes that a kit may have."""
FILE_LIMIT = 16 * 2**20
"""Bytes of a file that a run should leave at most."""
PACKAGES = (
    *("av", "keras", "scenedetect-headless", "tqdm"),  # and what Keras needs beside JAX:
    *("absl-py", "markdown-it-py", "mdurl", "namex", "optree", "packaging", "pygments", "rich"),
    "typing-extensions",
)
"""What is packed beside rlsp_tf."""
EXPECTED = ("jax", "numpy", "scipy", "h5py", "PIL", "cv2")
"""Modules that have to be there; JAX brings NumPy and SciPy."""
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")
LEAST_FRAMES = 24
"""Of a clip in the kit; validation looks at 20."""

TRAIN_SH = """\
#!/bin/sh
# Trains RLSP where there is Python @PYTHON@ with JAX, h5py, Pillow and OpenCV. Nothing is downloaded.
#
#   ./train.sh MINUTES RUN [options of rlsp train]
#   ./train.sh 10 run --network 7-48 --batch 16 --crop 64 --frames 10 --steps 200000
#
# MINUTES are those of everything together, unpacking and saving too. If the folder RUN holds a run, it goes
# on; it gets the log (log.csv), the best weights (best.keras) and a checkpoint (last.keras). Packages,
# clips and compiled programs stay in $RLSP_WORK, by default in $TMPDIR or /tmp, for the next call.
# PYTHON names another interpreter.
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
export KERAS_BACKEND=jax JAX_COMPILATION_CACHE_DIR="$work/compiled" TQDM_MININTERVAL=10
spent "packages ready"
"$python" -m rlsp_tf.training.offline_kit ready "$kit/clips" "$work/clips"
spent "clips ready"
# The last seconds are for saving.
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
    """Makes the kit.

    Every clip is in it from its first frame on; those that validation will hold out with their first
    frames only, the others with equal shares of what space is left, or whole. Photographs are in it as they
    are, in half of the space at most, first those that validation will hold out.

    Args:
        data: folder of clips; see :func:`rlsp_tf.training.clips.index.find_sources`.
        kit: folder to be made, or to be replaced if it is a kit.
        photographs: folder of them; see :func:`rlsp_tf.training.clips.photographs.find_photographs`.
        python: version for which packages are fetched, for Linux on x86-64.
        packages: names of installed packages that go in beside rlsp_tf.
        limit: bytes that it may have.

    Returns:
        A sentence for every clip, and one on the whole.

    Raises:
        RLSPError: if a package or clip cannot be had, not everything fits, or the folder holds something
            else than a kit as it was made.
    """
    kit = Path(kit)
    check_apart(kit, data)
    if kit.exists() and not _is_kit(kit):
        raise RLSPError(f"{kit}: exists and is no offline kit, or not as it was made; give another name.")
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
            raise RLSPError(f"{kit}: would take {size / 2**20:.1f} MiB, more than {limit / 2**20:.0f}.")
    clips = _size(kit / "clips") / 2**20
    return [*notes, f"{kit}: {size / 2**20:.1f} MiB, {clips:.1f} of them clips"]


def make_ready(clips: str | os.PathLike[str], cache: str | os.PathLike[str]) -> None:
    """Makes clips ready for training, several at once; see :func:`rlsp_tf.training.clips.index.index_clips`.

    Args:
        clips: a folder.
        cache: where they are kept; it is made.

    Raises:
        RLSPError: if a module that the kit does not bring is missing.
    """
    missing = [name for name in EXPECTED if find_spec(name) is None]
    if missing:
        raise RLSPError(f"{sys.executable}: has no {', '.join(missing)}; install it, or name another PYTHON.")
    Path(cache).mkdir(parents=True, exist_ok=True)
    sources = sorted((path for _, path in find_sources([clips])), key=_size, reverse=True)
    # Forked threads of decoders may hold locks for ever.
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(partial(_make_ready, cache=Path(cache)), sources))


def finish(run: str | os.PathLike[str]) -> str:
    """Compresses checkpoints that are large, and tells how a run stands.

    Args:
        run: folder of a run; see :mod:`rlsp_tf.training.run_folder`.

    Raises:
        RLSPError: if its log is damaged.
    """
    for path in sorted(Path(run).glob("*.keras")):
        if path.stat().st_size > FILE_LIMIT:
            _compress(path)
    rows = [row for row in RunFolder(run).read_log() if "steps_per_second" in row]
    if not rows:
        return f"{run}: no step was done"
    # The first row includes compiling.
    rates = sorted(row["steps_per_second"] for row in rows[-20:])
    return f"{run}: step {rows[-1]['step']:.0f}, {rates[len(rates) // 2]:.1f} steps/s"


def shares(sizes: Sequence[int], room: int) -> int:
    """The largest share such that everybody's size, but at most the share, fits into the room together."""
    share = 0
    for index, size in enumerate(sorted(sizes)):
        share = room // (len(sizes) - index)
        if size > share:
            return share
        room -= size
    return max(sizes, default=share)


def excerpt(source: Path, target: Path, size: int) -> tuple[int, int]:
    """The beginning of a clip, not encoded again.

    Args:
        source: a video file or a folder of images.
        target: likewise, to be made.
        size: bytes that it should have at most, unless that were less than ``LEAST_FRAMES`` frames.

    Returns:
        Frames of the excerpt and of the source.

    Raises:
        RLSPError: if the source cannot be read.
    """
    if source.is_dir():
        return _excerpt_folder(source, target, size)
    import av

    from rlsp_tf.media.video_reader import VideoSource, open_input

    with VideoSource(source) as video:
        index = video.stream_index
    try:
        with open_input(source) as reader:
            stream = reader.streams[index]
            packets = [packet for packet in reader.demux(stream) if packet.size]
            count = _frames_that_fit([packet.size for packet in packets], size)
            # Packets come in the order of decoding: whatever is shown before the last one has to be there.
            times = [packet.pts or 0 for packet in packets]
            while count < len(packets) and max(times[:count]) > min(times[count:]):
                count += 1
            target.parent.mkdir(parents=True, exist_ok=True)
            with av.open(str(target), "w", options={"fflags": "+bitexact"}) as writer:
                copy = writer.add_stream_from_template(stream)
                for packet in packets[:count]:
                    packet.stream = copy
                    writer.mux(packet)
    except av.FFmpegError as error:
        raise RLSPError(f"{source}: no video that can be read ({error}).") from error
    return count, len(packets)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m rlsp_tf.training.offline_kit pack|ready|finish ...``; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rlsp_tf.training.offline_kit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="make a kit")
    packing.add_argument("data", help="folder of clips to train on")
    packing.add_argument("kit", help="folder to be made")
    packing.add_argument("--photos", help="folder of photographs to train on")
    packing.add_argument("--python", default="3.12", help="version there (default: %(default)s)")
    ready = commands.add_parser("ready", help="make clips ready for training")
    ready.add_argument("clips")
    ready.add_argument("cache")
    commands.add_parser("finish", help="compress a run's files and sum it up").add_argument("run")
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
        sentence = describe_os_error(error) if isinstance(error, OSError) else str(error)
        print(f"{parser.prog}: error: {sentence}", file=sys.stderr)
        return 1
    return 0


def _pack_packages(archive: Path, python: str, packages: Sequence[str]) -> None:
    """Writes rlsp_tf and other packages, installed for another machine, into an archive."""
    ours = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        if packages:
            _install(site, python, packages)
        shutil.copytree(ours, site / ours.name, ignore=shutil.ignore_patterns("__pycache__"))
        # The same content gives the same archive, whoever makes it and when.
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
        reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise RLSPError(f"packages for Python {python} cannot be had: {reason}")


def _pack_clips(sources: Sequence[tuple[str, Path]], data: Path, folder: Path, room: int) -> list[str]:
    # A single clip gives its own last part.
    held_out = default_held_out([name for name, _ in sources]) if len(sources) > 1 else []

    def put(name: str, source: Path, size: int) -> str:
        # Not by the name, which is an absolute path where two clips differ in nothing but the suffix.
        target = folder / (source.relative_to(data) if source != data else source.name)
        frames, of = excerpt(source, target, size)
        return f"{name}: {frames} of {of} frames" + (", to validate on" if name in held_out else "")

    notes = [put(name, source, 0) for name, source in sources if name in held_out]
    others = [(name, source) for name, source in sources if name not in held_out]
    # Containers take a little, too.
    share = shares([_size(source) for _, source in others], (room - _size(folder)) * 99 // 100)
    return notes + [put(name, source, share) for name, source in others]


def _pack_photographs(root: Path, folder: Path, room: int) -> str:
    """Copies as many photographs as fit, in an order in which the same ones will be held out."""
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
    count = sum(total <= size for total in accumulate(sizes))
    return min(max(count, LEAST_FRAMES), len(sizes))


def _make_ready(source: Path, cache: Path) -> None:
    from rlsp_tf.training.clips.prepare import prepare_clip

    # Training names the clips that cannot be used.
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
    """Whether a folder holds a kit and nothing else, by the digest in its script."""
    script = folder / "train.sh"
    if not script.is_file():
        return False
    noted = re.search(rb"rlsp-offline-kit-([0-9a-f]{12})", script.read_bytes())
    return noted is not None and noted[1].decode() == _identity(folder)


def _identity(folder: Path) -> str:
    """A digest of the content of a kit but for its script."""
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
