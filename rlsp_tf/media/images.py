"""Reads and writes images, and folders of images as clips."""

import contextlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from natsort import natsort_keygen, ns
from PIL import Image, ImageOps, UnidentifiedImageError

from rlsp_tf.errors import RLSPError, describe_os_error
from rlsp_tf.media.frames import IMAGE_SUFFIXES, Frame
from rlsp_tf.media.interval import Interval, clock_time
from rlsp_tf.pixels.color import ColorSpec
from rlsp_tf.system.files import Ours, atomic_file, atomic_folder, check_folder, named

DEFAULT_RATE = 25
"""Images per second where nothing else is said."""

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
"""The formats of ``IMAGE_SUFFIXES``, by Pillow's names. Some of its other formats would run programs."""
_DEMUXERS = {"PNG": "png_pipe", "TIFF": "tiff_pipe"}
"""FFmpeg's demuxers for the formats that can have more than 8 bits."""

_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
    av.FFmpegError,
)
"""Exceptions that Pillow and FFmpeg raise for damaged files and wrong suffixes."""


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads an image and rotates it as its metadata says. Grey becomes RGB, alpha is dropped.

    Args:
        path: a file in one of the formats of ``IMAGE_SUFFIXES``.

    Returns:
        RGB ``(H, W, 3)``: uint8, or uint16 0..65535 for files of 16 bits per channel.

    Raises:
        RLSPError: if the file is missing, empty, truncated or not such an image.
    """
    return read_transparent(path)[0]


def read_transparent(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads an image as :func:`read_image` does, and its alpha: ``(H, W)`` in the same type, or ``None``."""
    with _opened(Path(path)) as image:
        deep, alpha = _is_deep(image), _has_alpha(image)
        turned = ImageOps.exif_transpose(image)  # decodes the whole image, which reveals truncated files
        if not deep:
            pixels = np.asarray(turned.convert("RGBA" if alpha else "RGB"))
            return pixels[..., :3], pixels[..., 3] if alpha else None
        if turned.mode.startswith("I") and not alpha:
            return np.repeat(np.asarray(turned).astype(np.uint16)[..., None], 3, axis=-1), None
        # Pillow cannot hold colour with more than 8 bits per channel, FFmpeg can.
        demuxer = _DEMUXERS[str(image.format)]
        with Path(path).open("rb") as file, av.open(file, "r", format=demuxer) as container:
            (decoded,) = container.decode(video=0)
            pixels = decoded.reformat(format="rgb48le").to_ndarray()
            return pixels, decoded.reformat(format="rgba64le").to_ndarray()[..., 3] if alpha else None


def read_profile(path: Path) -> bytes | None:
    """Returns the ICC profile of an image; ``None`` if it has none, or one that is not for RGB."""
    with _opened(path) as image:
        profile = image.info.get("icc_profile")
    # Grey and CMYK images are read as RGB, so their own profiles no longer apply.
    return profile if profile and profile[16:20] == b"RGB " else None


def write_png(path: str | os.PathLike[str], image: np.ndarray, profile: bytes | None = None) -> None:
    """Writes an image as PNG with FFmpeg, which unlike Pillow supports 16 bits per channel.

    Args:
        path: the file to write. The file is written directly; see :class:`ImageSink` for an atomic way.
        image: uint8 or uint16, RGB ``(H, W, 3)``, with alpha ``(H, W, 4)``, or grey ``(H, W)``.
        profile: the ICC profile to store.

    Raises:
        RLSPError: if ``image`` has another shape or type.
        OSError: if the file cannot be written.
    """
    formats = {
        (np.uint8, (3,)): ("rgb24", "rgb24"),
        (np.uint8, (4,)): ("rgba", "rgba"),
        (np.uint8, ()): ("gray", "gray"),
        (np.uint16, (3,)): ("rgb48le", "rgb48be"),
        (np.uint16, (4,)): ("rgba64le", "rgba64be"),
        (np.uint16, ()): ("gray16le", "gray16be"),
    }
    layout = formats.get((image.dtype.type, image.shape[2:]))
    if layout is None or 0 in image.shape:
        raise RLSPError(f"an image must be uint8 or uint16, RGB or grey, not {image.dtype} {image.shape}.")
    held, stored = layout
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=held)
    if stored != held:
        frame = frame.reformat(format=stored)
    encoder = av.CodecContext.create("png", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, stored
    encoder.time_base = Fraction(1)
    content = b"".join(map(bytes, [*encoder.encode(frame), *encoder.encode(None)]))
    if profile:
        content = content[:_HEADER] + _profile_chunk(profile) + content[_HEADER:]
    Path(path).write_bytes(content)


_HEADER = 33
"""Bytes of a PNG file up to the end of its first chunk."""


class FolderSource:
    """Reads the images of a folder as a clip, in natural order: ``frame2`` before ``frame10``.

    This is a :class:`rlsp_tf.media.frames.FrameSource` whose frames are RGB and have the ``pts`` 0, 1, 2 and
    so on. All headers are read in the beginning, so that a frame of another size is found before work begins.

    Args:
        path: a folder, or a single image.
        interval: the part that is read.
        rate: images per second, by which the times of the interval are counted; 25 by default.

    Attributes:
        interval: the part that is read.
        names: the names of all images in the folder, also of those that are not read.

    Raises:
        RLSPError: if there is no image, an image cannot be read, sizes or depths differ, two files have the
            same name but for their suffixes, or no image belongs to the interval.
    """

    rate: Fraction | None = None
    color: ColorSpec | None = None

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        interval: Interval = Interval(),
        rate: float | Fraction | None = None,
    ) -> None:
        self.path, self.interval = Path(path), interval
        self.time_base = Fraction(1, 25)
        self.notes: list[str] = []
        files = self._list_folder() if self.path.is_dir() else [self.path]
        self.names = [file.stem for file in files]
        self._files = self._of_interval(files, Fraction(rate or DEFAULT_RATE))
        headers = [_read_header(file) for file in self._files]
        first = headers[0]
        names: dict[str, Path] = {}
        for file, header in zip(self._files, headers, strict=True):
            if header.size != first.size:
                raise RLSPError(
                    f"{file}: is {header.size[0]}x{header.size[1]}, but {self._files[0].name} is "
                    f"{first.size[0]}x{first.size[1]}; all frames of a clip must have one size."
                )
            if header.deep != first.deep:
                raise RLSPError(
                    f"{file}: has {16 if header.deep else 8} bits per channel, but {self._files[0].name} has "
                    f"{16 if first.deep else 8}; all frames of a clip must have the same."
                )
            if file.stem in names:
                raise RLSPError(
                    f"{file}: {names[file.stem].name} has the same name; remove or rename one of them."
                )
            names[file.stem] = file
        self.transparent = any(header.alpha for header in headers)
        self.width, self.height = first.size
        self.depth = 16 if first.deep else 8
        self.frames: int | None = len(self._files)

    @property
    def files(self) -> list[Path]:
        """The files of all frames."""
        return self._files

    def __iter__(self) -> Iterator[Frame]:
        for index, file in enumerate(self._files):
            rgb, alpha = read_transparent(file)
            profile = read_profile(file)
            yield Frame((rgb,), pts=index, duration=1, name=file.stem, profile=profile, alpha=alpha)

    def __enter__(self) -> "FolderSource":
        return self

    def __exit__(self, *exception: Any) -> None:
        pass

    def _of_interval(self, files: list[Path], rate: Fraction) -> list[Path]:
        chosen = files[self.interval.indices(rate)]
        if chosen:
            return chosen
        if self.interval.indices(rate).start < len(files):
            raise RLSPError(
                f"{self.path}: has no image between --start and the end of --duration; give a longer "
                "--duration."
            )
        raise RLSPError(
            f"{self.path}: its last image is at {clock_time((len(files) - 1) / rate)}, at {float(rate):g} "
            "images per second; --start must not be later."
        )

    def _list_folder(self) -> list[Path]:
        files = [file for file in self.path.iterdir() if file.is_file() and not file.name.startswith(".")]
        natural = natsort_keygen(alg=ns.IGNORECASE)
        # The whole name decides between names that are equal in natural order, such as 1 and 01.
        images = sorted(filter(is_image, files), key=lambda file: (natural(file.stem), file.name))
        if not images:
            raise RLSPError(f"{self.path}: has no images in it ({', '.join(IMAGE_SUFFIXES)}).")
        others = sorted(file.name for file in files if not is_image(file))
        if others:
            named = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
            self.notes.append(f"{self.path}: ignored files that are not images: {named}.")
        return images


class FolderSink:
    """Writes frames as PNG files into a folder, named after the frames or ``frame_000000.png`` and so on.

    This is a :class:`rlsp_tf.media.frames.FrameSink` for RGB frames ``(H, W, 3)`` and grey frames ``(H, W)``
    of uint8 or uint16, which PNG stores without change.

    Args:
        path: the folder to create. Its parent must exist.
        force: whether to replace an existing folder, if all its files are ``ours``.
        names: the names of the frames, if they have names.

    Attributes:
        ours: says which files this sink writes.

    Raises:
        RLSPError: if the folder cannot be created.
    """

    color: ColorSpec | None = None
    transparent = True

    def __init__(
        self, path: str | os.PathLike[str], *, force: bool = False, names: Iterable[str] = ()
    ) -> None:
        self.path = Path(path)
        self.notes: list[str] = []
        files = frozenset(f"{name}.png" for name in names)
        self.ours: Ours = (lambda path: path.as_posix() in files) if files else named(r"frame_\d{6,}\.png")
        self._force = force
        self._written: set[str] = set()
        check_folder(self.path, force=force, ours=self.ours)

    def __enter__(self) -> "FolderSink":
        self._target = contextlib.ExitStack()
        self._folder = self._target.enter_context(atomic_folder(self.path, force=self._force, ours=self.ours))
        return self

    def __exit__(self, *exception: Any) -> None:
        self._target.__exit__(*exception)

    def write(self, frame: Frame) -> None:
        """Writes the next frame.

        Raises:
            RLSPError: if an earlier frame has the same name, the frame is not RGB or grey, or the disk is
                full.
        """
        name = frame.name or f"frame_{len(self._written):06d}"
        if name in self._written:
            raise RLSPError(f"{self.path}: two frames are called {name}; rename one of them.")
        self._written.add(name)
        with _errors_naming(self.path):
            write_png(self._folder / f"{name}.png", _pixels(frame), frame.profile)


class ImageSink:
    """Writes a single frame as a PNG file.

    Args:
        path: the file to write.
        force: whether to replace an existing file.

    Raises:
        RLSPError: if the name does not end in ``.png``.
    """

    color: ColorSpec | None = None
    transparent = True

    def __init__(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        self.path = Path(path)
        self.notes: list[str] = []
        self._force = force
        self._written = 0
        if self.path.suffix.lower() != ".png":
            raise RLSPError(f"{self.path}: images are written as PNG; give a name that ends in .png.")

    def __enter__(self) -> "ImageSink":
        self._target = contextlib.ExitStack()
        self._file = self._target.enter_context(atomic_file(self.path, force=self._force))
        return self

    def __exit__(self, *exception: Any) -> None:
        self._target.__exit__(*exception)

    def write(self, frame: Frame) -> None:
        """Writes the frame.

        Raises:
            RLSPError: if this is the second frame, it is not RGB or grey, or the disk is full.
        """
        self._written += 1
        if self._written > 1:
            raise RLSPError(f"{self.path}: an image holds one frame; name a folder or a video file.")
        with _errors_naming(self.path):
            write_png(self._file, _pixels(frame), frame.profile)


def is_image(path: Path) -> bool:
    """Whether a file is read as an image, judged by its suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_grey(path: Path) -> bool:
    """Whether an image has no colour.

    Raises:
        RLSPError: see :func:`read_image`.
    """
    with _opened(path) as image:
        return image.getbands()[0] in ("L", "I", "1")


def _pixels(frame: Frame) -> np.ndarray:
    return frame.planes[0] if frame.alpha is None else np.dstack([frame.planes[0], frame.alpha])


def _profile_chunk(profile: bytes) -> bytes:
    """Returns the ``iCCP`` chunk of a PNG file (PNG specification, 11.3.2.3)."""
    content = b"iCCP" + b"ICC profile\0\0" + zlib.compress(profile)
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))


def is_animated(path: Path) -> bool:
    """Whether a file is an animated PNG, which is read as a video."""
    if path.suffix.lower() != ".png":
        return False
    with contextlib.suppress(*_BROKEN), Image.open(path, formats=_FORMATS) as image:
        return image.format == "PNG" and bool(getattr(image, "is_animated", False))
    return False


class _Header(NamedTuple):
    size: tuple[int, int]
    deep: bool
    alpha: bool


def _read_header(path: Path) -> _Header:
    with _opened(path) as image:
        if image.format == "PNG":
            # Pillow's getexif would decode the whole image to look for metadata that follows it.
            exif = Image.Exif()
            exif.load(image.info.get("exif", b""))
        else:
            exif = image.getexif()
        # Orientations 5 to 8 swap rows and columns.
        width, height = image.size[::-1] if exif.get(0x0112, 1) >= 5 else image.size
        return _Header((width, height), _is_deep(image), _has_alpha(image))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Opens an image, and raises every failure within the block as an ``RLSPError``."""
    try:
        if not path.is_file():
            raise RLSPError(f"{path}: no such file; check the path.")
        if not path.stat().st_size:
            raise RLSPError(f"{path}: is empty; remove it or make it again.")
        with Image.open(path, formats=_FORMATS) as image:
            if image.mode == "F" or (image.mode == "I" and not _is_deep(image)):
                raise RLSPError(f"{path}: has 32 bits per channel; convert it to a PNG of 8 or 16 bits.")
            yield image
    except PermissionError as error:
        raise RLSPError(f"{path}: may not be read; check its permissions.") from error
    except _BROKEN as error:
        raise RLSPError(
            f"{path}: not an image that can be read ({_reason_for(error)}); remove it or make it again."
        ) from error


@contextlib.contextmanager
def _errors_naming(target: Path) -> Iterator[None]:
    """Raises an ``OSError`` in the block as an ``RLSPError`` that names ``target``, not a temporary file."""
    try:
        yield
    except OSError as error:
        raise RLSPError(describe_os_error(OSError(error.errno, error.strerror, os.fspath(target)))) from error


def _reason_for(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "its content is of no known format"
    return str(error).rstrip(".")


def _has_alpha(image: Image.Image) -> bool:
    return "A" in image.getbands() or "transparency" in image.info


def _is_deep(image: Image.Image) -> bool:
    """Whether the file has 16 bits per channel. Of Pillow's attributes, only ``tile`` tells."""
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
