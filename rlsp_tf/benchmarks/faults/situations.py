"""Tries the command line in bad situations: signals, full disks, wrong inputs."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from rlsp_tf.benchmarks.excerpts import packets
from rlsp_tf.benchmarks.faults.endings import ENDINGS
from rlsp_tf.benchmarks.faults.sandbox import FILM, LARGE, PROGRAM, Sandbox, Situation, UndisturbedRun
from rlsp_tf.errors import RLSPError
from rlsp_tf.media.images import write_png
from rlsp_tf.system.progress import ProgressBar
from rlsp_tf.upscaling.work_folder import SUFFIX


def benchmark_situations(
    film: Path,
    folder: Path,
    *,
    model: str,
    program: Sequence[str] = PROGRAM,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Tries the command line in all SITUATIONS.

    Args:
        film: an .mp4 video of several hundred frames.
        folder: an empty folder to work in.
        model: as for :func:`rlsp_tf.inference.load.load_step`.
        program: the command line to which ``upscale INPUT OUTPUT`` and options are added.
        progress: show on standard error how far it is.

    Returns:
        For each situation ``{"name", "code", "said": on standard error, "left": names in the folder, "then":
        what the same call did afterwards, "right": whether everything is as it should be}``, or ``{"name",
        "missing": why it could not be tried}``.

    Raises:
        RLSPError: if the film cannot be upscaled when nothing goes wrong.
    """
    options = ("--model", model, "--preset", "ultrafast", "--crf", "4")
    scenes = iter(range(sys.maxsize))

    def scene() -> Sandbox:
        own = folder / f"scene{next(scenes)}"
        own.mkdir()
        return Sandbox(own, film, program, options)

    alone = scene()
    alone.add_film()
    large = alone.folder / LARGE
    if alone.run(FILM, LARGE) != 0 or not large.exists():
        raise RLSPError(f"{film}: cannot be upscaled ({'; '.join(alone.said)}); give another video.")
    undisturbed = UndisturbedRun(packets(large), large.stat().st_size, alone.peak)
    found = []
    with _default_handler(signal.SIGINT):
        for name, situation in ProgressBar(
            SITUATIONS.items(), desc="situations", unit="situations", show=progress, leave=False
        ):
            try:
                found.append({"name": name, **situation(scene(), undisturbed)})
            except _CannotBeTried as error:
                found.append({"name": name, "missing": str(error)})
    return found


@contextlib.contextmanager
def _default_handler(number: signal.Signals) -> Iterator[None]:
    """Makes started programs receive a signal, which shells make programs in the background ignore."""
    usual = signal.getsignal(number)
    if usual is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        if usual is signal.SIG_IGN:
            signal.signal(number, usual)


class _CannotBeTried(Exception):
    """A situation cannot be tried on this machine or by this user."""


@contextlib.contextmanager
def small_disk(folder: Path, kib: int, *options: str) -> Iterator[None]:
    """Mounts a small file system on a folder, which only the superuser may do.

    Args:
        folder: an existing empty folder.
        kib: size of the file system in KiB.
        options: further options of ``mount -o``.

    Raises:
        OSError: if there is no command ``mount``.
        subprocess.CalledProcessError: if mounting is not permitted.
    """
    mount = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={kib}k", *options]), "tmpfs", str(folder)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _interrupted(*names: str) -> Situation:
    def situation(scene: Sandbox, undisturbed: UndisturbedRun) -> dict[str, Any]:
        scene.add_film()
        process = scene.start(FILM, LARGE)
        scene.wait_for(process, scene.is_at_work)
        for number, name in enumerate(names):
            if number:
                scene.wait_for(process, scene.has_heard_a_signal)
            process.send_signal(getattr(signal, name))
        return _continue(scene, scene.end(process), 130, undisturbed, in_parts=True)

    return situation


def _full_disk(scene: Sandbox, undisturbed: UndisturbedRun) -> dict[str, Any]:
    try:
        with small_disk(scene.folder, undisturbed.peak * 6 // 10 // 1024):
            scene.add_film()
            code = scene.run(FILM, LARGE)
            room = f"remount,size={4 * undisturbed.peak // 1024}k"
            subprocess.run(["mount", "-o", room, str(scene.folder)], check=True)
            return {"how": "a file system of its own"} | _continue(scene, code, 1, undisturbed)
    except (OSError, subprocess.CalledProcessError):
        if not hasattr(psutil, "RLIMIT_FSIZE"):
            raise _CannotBeTried("this user cannot mount a file system or limit the size of files") from None
    scene.add_film()
    code = scene.run(FILM, LARGE, limit_bytes=undisturbed.size // 2)
    return {"how": "a limit of the size of files"} | _continue(scene, code, 1, undisturbed)


def _continue(
    scene: Sandbox, code: int | None, expected: int, undisturbed: UndisturbedRun, *, in_parts: bool = False
) -> dict[str, Any]:
    """Checks what an interrupted run has left, and repeats the call."""
    said, left = " ".join(scene.said), scene.left
    right = code == expected and len(scene.said) == 1
    right = right and {FILM} <= set(left) <= {FILM, LARGE + SUFFIX}
    again = scene.run(FILM, LARGE)
    same = again == 0 and undisturbed.is_in(scene.folder, in_parts=in_parts)
    then = "the same call ended with the whole film" if same else f"the same call ended with {again}"
    return {"code": code, "said": said, "left": left, "then": then, "right": right and same}


def _two_at_once(scene: Sandbox, undisturbed: UndisturbedRun) -> dict[str, Any]:
    scene.add_film()
    other = replace(scene, log=".other.log")
    first = scene.start(FILM, LARGE)
    scene.wait_for(first, scene.is_at_work)
    code = other.run(FILM, LARGE)
    said, left = other.said, other.left
    same = scene.end(first) == 0 and undisturbed.is_in(scene.folder)
    return {
        "code": code,
        "said": " ".join(said),
        "left": left,
        "then": "the first run ended with the whole film" if same else "the first run did not end well",
        "right": code == 1 and len(said) == 1 and same,
    }


def _refused(prepare: Callable[[Sandbox], tuple[str, ...]], expected: int = 1) -> Situation:
    """A situation that must be refused with one sentence, without changing any file."""

    def situation(scene: Sandbox, undisturbed: UndisturbedRun) -> dict[str, Any]:
        arguments = prepare(scene)
        before = _contents(scene.folder)
        code = scene.run(*arguments)
        right = code == expected and len(scene.said) == 1 and _contents(scene.folder) == before
        return {"code": code, "said": " ".join(scene.said), "left": scene.left, "then": "", "right": right}

    return situation


def _contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def _unwritable(scene: Sandbox, undisturbed: UndisturbedRun) -> dict[str, Any]:
    locked = scene.folder / "locked"
    locked.mkdir(mode=0o555)

    def prepare(scene: Sandbox) -> tuple[str, ...]:
        scene.add_film()
        return FILM, f"locked/{LARGE}"

    if not os.access(locked, os.W_OK):
        return {"how": "its permissions"} | _refused(prepare)(scene, undisturbed)
    # The superuser may write everywhere except on a read-only file system.
    try:
        with small_disk(locked, 64, "ro"):
            return {"how": "a read-only file system"} | _refused(prepare)(scene, undisturbed)
    except (OSError, subprocess.CalledProcessError):
        raise _CannotBeTried("this user may write everywhere, and cannot mount a file system") from None


def _exists(scene: Sandbox) -> tuple[str, ...]:
    scene.add_film()
    (scene.folder / LARGE).write_text("mine")
    return FILM, LARGE


def _onto_itself(*options: str) -> Callable[[Sandbox], tuple[str, ...]]:
    def prepare(scene: Sandbox) -> tuple[str, ...]:
        scene.add_film()
        return FILM, FILM, *options

    return prepare


def _holding(name: str, content: bytes) -> Callable[[Sandbox], tuple[str, ...]]:
    def prepare(scene: Sandbox) -> tuple[str, ...]:
        (scene.folder / name).write_bytes(content)
        return name, LARGE

    return prepare


def _without_images(scene: Sandbox) -> tuple[str, ...]:
    (scene.folder / "frames").mkdir()
    (scene.folder / "frames" / "readme.txt").write_text("The images are elsewhere.")
    return "frames", "frames-4x"


def _image_named_mp4(scene: Sandbox) -> tuple[str, ...]:
    import numpy as np

    write_png(scene.folder / "image.png", np.zeros((48, 64, 3), np.uint8))
    (scene.folder / "image.png").rename(scene.folder / FILM)
    return FILM, LARGE


def _enormous(scene: Sandbox) -> tuple[str, ...]:
    """A YUV4MPEG2 file, whose header can claim any size."""
    (scene.folder / "film.y4m").write_bytes(b"YUV4MPEG2 W100000 H100000 F25:1 C420\nFRAME\n" + bytes(1000))
    return "film.y4m", LARGE


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/passwd\n#EXT-X-ENDLIST\n"

SITUATIONS: dict[str, Situation] = {
    "SIGINT": _interrupted("SIGINT"),
    "SIGTERM": _interrupted("SIGTERM"),
    "SIGINT twice": _interrupted("SIGINT", "SIGINT"),
    "SIGTERM twice": _interrupted("SIGTERM", "SIGTERM"),
    "a disk that is full": _full_disk,
    "two runs on one target": _two_at_once,
    "a folder that cannot be written": _unwritable,
    "a target that exists": _refused(_exists),
    "the input as output": _refused(_onto_itself()),
    "the input as output, --force": _refused(_onto_itself("--force")),
    "an empty file": _refused(_holding(FILM, b"")),
    "a text file": _refused(_holding(FILM, b"It was a dark and stormy night.\n")),
    "a folder without images": _refused(_without_images),
    "an image named .mp4": _refused(_image_named_mp4),
    "a header that claims 100000x100000": _refused(_enormous),
    "a playlist": _refused(_holding("film.m3u8", PLAYLIST)),
    "a playlist named .mp4": _refused(_holding(FILM, PLAYLIST)),
    **ENDINGS,
}
"""All situations by name."""
