"""Files that are dropped on the page: videos, pictures, and pictures that are the frames of a video."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlsp_tf.errors import RLSPError, sentence_of
from rlsp_tf.media.frames import FrameSource
from rlsp_tf.media.images import is_animated, is_image
from rlsp_tf.media.open import open_source
from rlsp_tf.system.quantities import spoken
from rlsp_tf.ui.choices import SIZES, plain, size_of

NETWORK_SCALE = 4
MOST_TIMES = 5
"""Largest factor by which a result is larger, so that 480 lines can become 4K."""


@dataclass(frozen=True)
class Upload:
    """A clip that was dropped.

    Attributes:
        title: the name that the file has for its owner.
        files: the files; several are the frames of one video.
        source: the clip, a file or a folder with links to all files.
        width, height: size of its frames in pixels.
        frames: how many there are; ``None`` if unknown.
        rate: frames per second; ``None`` for pictures.
        sizes: width and height of the result by the name of a size, for the sizes that make sense.
    """

    title: str
    files: tuple[Path, ...]
    source: Path
    width: int
    height: int
    frames: int | None
    rate: float | None
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict, hash=False)

    @property
    def is_picture(self) -> bool:
        """Whether the upload is a single picture."""
        return self.rate is None and len(self.files) == 1

    @property
    def seconds(self) -> float:
        """Duration in seconds, with 25 pictures per second; 0 if unknown."""
        return (self.frames or 0) / (self.rate or 25)

    def describe(self) -> str:
        """Describes the clip, for example ``480x270, 30 s, 25 frames a second``."""
        words = [f"{self.width}x{self.height}"]
        if self.rate is not None:
            words += [spoken(self.seconds), f"{self.rate:.4g} frames a second"]
        elif len(self.files) > 1:
            words.append(f"{len(self.files)} pictures")
        return ", ".join(words)


def uploads_of(files: Sequence[Path], folder: Path, *, together: bool) -> tuple[list[Upload], list[str]]:
    """Examines files that were dropped.

    Args:
        files: the files.
        folder: folder in which a new one is made for pictures that belong together.
        together: whether several pictures are the frames of one video.

    Returns:
        The uploads, and a sentence about each file that cannot be read, which calls it by its name.

    Raises:
        RLSPError: if the pictures cannot be the frames of a video.
    """
    if together and len(files) > 1:
        if others := [file.name for file in files if not is_picture(file)]:
            raise RLSPError(f"{others[0]}: is not a picture; drop videos one at a time.")
        return [_look(_linked(files, folder), files)], []
    uploads, refused = [], []
    for file in files:
        try:
            uploads.append(_look(file, [file]))
        except RLSPError as error:
            refused.append(str(error))
    return uploads, refused


def is_picture(file: Path) -> bool:
    """Returns whether a file is an image without animation."""
    return is_image(file) and not is_animated(file)


def put(source: Path, target: Path) -> None:
    """Links a file under a second name, or copies it where links are not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def clear(folder: Path, seconds: float) -> None:
    """Removes files that have been in a folder for more than ``seconds``, and folders that become empty."""
    for path in sorted(folder.rglob("*"), reverse=True):
        with contextlib.suppress(OSError):
            if path.is_dir():
                path.rmdir()
            # A second name changes the time of the first one, too.
            elif max(path.lstat().st_mtime, path.lstat().st_ctime) < time.time() - seconds:
                path.unlink()


@contextlib.contextmanager
def called(path: Path, title: str) -> Iterator[None]:
    """Calls a clip by its title, and the images in a folder by their names, in errors of the block."""
    try:
        yield
    except (RLSPError, OSError) as error:
        files = {file: file.name for file in path.iterdir()} if path.is_dir() else {}
        raise RLSPError(plain(sentence_of(error), {**files, path: title})) from error


def _look(source: Path, files: Sequence[Path]) -> Upload:
    title = files[0].name
    with called(source, title), open_source(source) as clip:
        rate = None if clip.rate is None else float(clip.rate)
        even = rate is not None or len(files) > 1
        sizes = _sizes(clip, even=even)
        return Upload(title, tuple(files), source, clip.width, clip.height, clip.frames, rate, sizes)


def _sizes(clip: FrameSource, *, even: bool) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for name in SIZES:
        with contextlib.suppress(RLSPError):
            size = size_of(name, upright=clip.height > clip.width)
            width, height, _ = size.of(clip, NETWORK_SCALE, even=even)
            if clip.height < height <= MOST_TIMES * clip.height and (width, height) not in found.values():
                found[name] = width, height
    return found


def _linked(files: Sequence[Path], folder: Path) -> Path:
    together = folder / f"frames-{os.urandom(8).hex()}"
    together.mkdir()
    for file in files:
        if (together / file.name).exists():
            raise RLSPError(f"{file.name}: is the name of two pictures; rename one.")
        put(file, together / file.name)
    return together
