"""Shows two results side by side, with the region magnified in which they differ most."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rlsp_tf.errors import RLSPError, UsageError
from rlsp_tf.media.frames import Frame, FrameSink, FrameSource
from rlsp_tf.media.images import ImageSink, is_image
from rlsp_tf.media.open import open_sink, open_source
from rlsp_tf.media.sequences import rgb_frames
from rlsp_tf.pixels.resample import enlarge
from rlsp_tf.system.files import check_apart
from rlsp_tf.system.progress import ProgressBar

PathLike = str | os.PathLike[str]
Pair = tuple[Frame, Frame]

LOOK_AHEAD = 24
"""Number of frames in which the region to magnify in a video is searched."""
ZOOM = 4

_BACKGROUND = (22, 24, 28)
_INK = (236, 238, 240)


@dataclass(frozen=True)
class Region:
    """A rectangle in a frame, in pixels; ``x`` and ``y`` are its upper left corner."""

    x: int
    y: int
    width: int
    height: int

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Returns the part of ``image``, ``(H, W, ...)``, inside the rectangle."""
        return image[self.y : self.y + self.height, self.x : self.x + self.width]


def find_regions(difference: np.ndarray, width: int, height: int, count: int) -> list[Region]:
    """Finds the rectangles of one size in which the sum of ``difference`` is largest.

    The distance between two rectangles is at least their size, so that they show different things.

    Args:
        difference: array ``(H, W)``, not negative.
        width: width of a rectangle, at most W.
        height: height of a rectangle, at most H.
        count: largest number of rectangles; fewer are found if ``difference`` is zero or no room is left.

    Returns:
        The rectangles, largest sum first; if ``difference`` is zero everywhere, the one in the middle.
    """
    rows, columns = difference.shape
    if not difference.any():
        return [Region((columns - width) // 2, (rows - height) // 2, width, height)]
    total = np.zeros((rows + 1, columns + 1))
    total[1:, 1:] = difference.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    sums = (
        total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    )
    regions: list[Region] = []
    # Differences of cumulative sums are not exactly zero where the sum is.
    least = 1e-9 * total[-1, -1]
    while len(regions) < count and sums.max() > least:
        y, x = (int(position) for position in np.unravel_index(sums.argmax(), sums.shape))
        regions.append(Region(x, y, width, height))
        sums[max(0, y - 2 * height + 1) : y + 2 * height, max(0, x - 2 * width + 1) : x + 2 * width] = 0
    return regions


def put_side_by_side(
    a: PathLike,
    b: PathLike,
    target: PathLike,
    *,
    labels: Sequence[str] | None = None,
    crop: Sequence[int] | None = None,
    zoom: int | None = None,
    frame: int | None = None,
    force: bool = False,
    progress: bool = False,
    tick: Callable[[], object] = lambda: None,
) -> list[str]:
    """Shows two clips side by side, each with a label above and a magnified region below.

    Frames are paired in their order. Time stamps and sound are those of the first clip that has any. If one
    clip is smaller by a whole factor, it is enlarged by bicubic interpolation at the phase of the paper's
    degradation (:func:`rlsp_tf.pixels.resample.enlarge_matrix`), so that low resolution can be compared with
    its upscaled version.

    Args:
        a, b: video files, folders of images, or images.
        target: a PNG for a still; otherwise a video file, or a folder of frames.
        labels: two texts; by default the names of the files.
        crop: the region to magnify as x, y, width, height in pixels of the larger clip. By default it is
            where the clips differ most: in the frame of a still, or over the first ``LOOK_AHEAD`` frames
            of a video. Its magnified size is then the width and half the height of a frame.
        zoom: factor of the magnification, without interpolation; by default ``ZOOM``, or for a given
            ``crop`` the largest that fits under a frame.
        frame: number of the frame that a still shows, from 0; the first by default.
        force: replace a target that exists.
        progress: show on standard error how far it is.
        tick: called for every frame.

    Returns:
        Sentences about what was assumed or left out.

    Raises:
        RLSPError: if a clip cannot be read, their sizes or their numbers of frames do not match, or the
            target cannot be written.
    """
    target = Path(target)
    still = is_image(target) and not target.is_dir()
    if frame is not None and not still:
        raise UsageError(f"{target}: a single frame goes into an image; let the name end in .png.")
    if frame is not None and frame < 0:
        raise UsageError(f"frames are counted from 0, so none has number {frame}.")
    if zoom is not None and zoom < 1:
        raise UsageError(f"a zoom must be at least 1, not {zoom}.")
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(open_source(path)) for path in (a, b)]
        check_apart(target, *(source.path for source in sources))
        size = _common_size(sources)
        pairs: Iterable[Pair] = _pairs(sources, size)
        seen: Iterable[Pair] = _look_ahead(sources, size)
        if still:
            pairs = seen = [*islice(pairs, frame or 0, (frame or 0) + 1)]
            if not pairs:
                raise RLSPError(f"{sources[0].path}: has no frame {frame}; frames are counted from 0.")
        if crop is None:
            zoom = zoom or ZOOM
            region = region_of_difference(map(_pictures, seen), size, zoom)
        else:
            region = _given_region(crop, size)
            zoom = zoom or max(1, size[1] // region.width)
        canvas = Canvas(size, region, zoom, labels or _names(a, b))
        timed = next((source for source in sources if source.rate), sources[0])
        sink: FrameSink
        if still:
            sink = ImageSink(target, force=force)
        else:
            sink = open_sink(target, timed, width=canvas.width, height=canvas.height, force=force)
        total = 1 if still else timed.frames
        stack.enter_context(sink)
        bar = ProgressBar(pairs, total=total, unit="frames", desc=os.fspath(target), show=progress)
        for pair in stack.enter_context(bar):
            tick()
            picture = canvas.draw(_pictures(pair))
            sink.write(replace(pair[sources.index(timed)], planes=(picture,)))
    notes = [
        f"{source.path}: enlarged {size[0] // source.height} times by bicubic interpolation."
        for source in sources
        if source.height < size[0]
    ]
    return [*notes, *(note for source in sources for note in source.notes), *sink.notes]


class Canvas:
    """The layout of the output: background and labels, and where the frames and crops go.

    Args:
        size: height and width of a frame.
        region: the region to magnify.
        zoom: factor of the magnification.
        labels: two texts.
    """

    def __init__(self, size: tuple[int, int], region: Region, zoom: int, labels: Sequence[str]) -> None:
        height, width = size
        self._region, self._zoom = region, zoom
        zoomed = (region.height * zoom, region.width * zoom)
        column = max(width, zoomed[1])
        letters = max(12, round(height / 26))
        bar, gap = round(1.7 * letters), max(4, round(height / 80))
        # Most encoders need even sizes.
        self.width = _even(2 * column + gap)
        self.height = _even(bar + height + gap + zoomed[0])
        self._frames, self._crops = [], []
        image = Image.new("RGB", (self.width, self.height), _BACKGROUND)
        draw = ImageDraw.Draw(image)
        font = ImageFont.load_default(letters)
        for left, label in zip((0, column + gap), labels, strict=True):
            text = _fitting(label, font, column - letters)
            draw.text((left + column / 2, bar / 2), text, fill=_INK, font=font, anchor="mm")
            self._frames.append(_place(bar, left + (column - width) // 2, size))
            self._crops.append(_place(bar + height + gap, left + (column - zoomed[1]) // 2, zoomed))
        self._empty = np.asarray(image)

    def draw(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the canvas with two frames, uint8 RGB ``(H, W, 3)``, drawn into it."""
        canvas = self._empty.copy()
        for frame, place, crop in zip(frames, self._frames, self._crops, strict=True):
            canvas[place] = frame
            _outline(canvas[place], self._region)
            canvas[crop] = self._region.cut(frame).repeat(self._zoom, axis=0).repeat(self._zoom, axis=1)
        return canvas


class _Recalling:
    """Remembers the last frame that was read: RGB made from it has no time stamp."""

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self.last = Frame(())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._source:
            self.last = replace(frame, planes=(), alpha=None)
            yield frame


def _pairs(sources: Sequence[FrameSource], size: tuple[int, int]) -> Iterator[Pair]:
    """Yields pairs of frames as RGB of 8 bits and of one size; fails if one clip ends before the other."""
    first, second = (_enlarged(source, size) for source in sources)
    count = 0
    for frame in first:
        other = next(second, None)
        if other is None:
            raise _too_short(sources[1], sources[0], count)
        yield frame, other
        count += 1
    if next(second, None) is not None:
        raise _too_short(sources[0], sources[1], count)


def _too_short(short: FrameSource, long: FrameSource, count: int) -> RLSPError:
    return RLSPError(
        f"{short.path}: ends after {count} frames, but {long.path} goes on; both must have the same number "
        "of frames."
    )


def _enlarged(source: FrameSource, size: tuple[int, int]) -> Iterator[Frame]:
    recalling: Any = _Recalling(source)
    scale = size[0] // source.height
    for rgb in rgb_frames(recalling):
        yield replace(recalling.last, planes=(enlarge(rgb, scale),))


def _common_size(sources: Sequence[FrameSource]) -> tuple[int, int]:
    """Height and width of the larger clip, which must be a whole multiple of the smaller one."""
    small, large = sorted(sources, key=lambda source: source.height * source.width)
    scale = large.height // small.height
    if (scale * small.height, scale * small.width) != (large.height, large.width):
        raise RLSPError(
            f"{small.path}: frames are {small.width}x{small.height}, those of {large.path} are "
            f"{large.width}x{large.height}; sizes must be equal, or differ by a whole factor."
        )
    return large.height, large.width


def _look_ahead(sources: Sequence[FrameSource], size: tuple[int, int]) -> Iterator[Pair]:
    """Yields the first frames of both clips, opened a second time: some can be read only once."""
    with contextlib.ExitStack() as stack:
        second = [stack.enter_context(open_source(source.path)) for source in sources]
        yield from islice(_pairs(second, size), LOOK_AHEAD)


def region_of_difference(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], size: tuple[int, int], zoom: int
) -> Region:
    """Returns the region to magnify: that in which pictures differ most.

    Args:
        pairs: pairs of RGB ``(H, W, 3)``.
        size: height and width of the pictures.
        zoom: factor of the magnification. Magnified, the region is as wide and half as high as a picture.
    """
    difference = np.zeros(size)
    for one, other in pairs:
        difference += np.square(one.astype(np.float32) - other).sum(axis=-1)
    height, width = size
    return find_regions(difference, max(1, width // zoom), max(1, height // (2 * zoom)), 1)[0]


def _pictures(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    return pair[0].planes[0], pair[1].planes[0]


def _given_region(crop: Sequence[int], size: tuple[int, int]) -> Region:
    x, y, width, height = crop
    if min(x, y) < 0 or min(width, height) < 1 or x + width > size[1] or y + height > size[0]:
        raise UsageError(
            f"the crop {x},{y},{width},{height} (x, y, width, height) does not lie in frames of "
            f"{size[1]}x{size[0]}."
        )
    return Region(x, y, width, height)


def _names(a: PathLike, b: PathLike) -> tuple[str, str]:
    """The names of the clips, with their folders if the names are equal."""
    paths = [Path(path).resolve() for path in (a, b)]
    names = [path.name if path.is_dir() else path.stem for path in paths]
    if names[0] == names[1]:
        names = [f"{path.parent.name}/{name}" for path, name in zip(paths, names, strict=True)]
    return names[0], names[1]


def _place(top: int, left: int, size: tuple[int, int]) -> tuple[slice, slice]:
    return slice(top, top + size[0]), slice(left, left + size[1])


def _even(length: int) -> int:
    return length + length % 2


def _fitting(text: str, font: Any, width: int) -> str:
    """Shortens ``text`` at its end if it is wider than ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def _outline(image: np.ndarray, region: Region) -> None:
    """Draws a white and a black line around a region, without covering any of it."""
    kept = region.cut(image).copy()
    line = max(1, round(len(image) / 400))
    for grow, color in ((2 * line, 0), (line, 255)):
        top, left = max(0, region.y - grow), max(0, region.x - grow)
        image[top : region.y + region.height + grow, left : region.x + region.width + grow] = color
    region.cut(image)[:] = kept
