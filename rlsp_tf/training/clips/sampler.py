"""Draws the crops of a training step, which depend on nothing but seed and step.

A run that was interrupted therefore continues with the crops that it would have seen, on any backend.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rlsp_tf.errors import RLSPError
from rlsp_tf.training.clips.clip import CELL, Clip

PANS = 0.6
"""Share of windows that pan: the crop moves smoothly over the frames, in half of the cases over a single
frame. A high-resolution pixel is a quarter of a low-resolution pixel, so the network sees exact motion by
fractions of a pixel and learns to fuse frames from it."""
PAN_SPEEDS = (1.0, 2.5, 5.0)
"""Standard deviations of the velocity of a pan in high-resolution pixels per frame, one of which is drawn."""
PAN_JITTER = 0.6
"""Standard deviation of the shake from frame to frame, in high-resolution pixels."""
STRIDE_TWO = 0.2
"""Share of windows that take every other frame."""
CANDIDATES = 3
"""Number of places that are tried for a window; the one with the most detail is used."""
LEAST_DETAIL = 2.0
"""Mean detail in grey levels below which a crop counts as flat; see
:attr:`rlsp_tf.training.clips.clip.Clip.detail`."""
LEAST_MOTION = 0.3
"""Mean change between frames in grey levels below which a crop counts as frozen, unless it pans."""
ATTEMPTS = 20
"""Number of windows that are drawn to find one that is neither flat nor frozen."""
FIRST_VELOCITY = (1, 2)
"""Velocity ``(y, x)`` of the first pans of a curriculum, in high-resolution pixels per frame."""
FASTEST = 5
"""Largest velocity of the pans of a curriculum in either direction, in high-resolution pixels per frame."""
SPREADING = (0.1, 0.7)
"""Shares of the curriculum after which velocities begin to spread, and after which they have spread and
ordinary samples begin to replace pans."""


class Window(NamedTuple):
    """The place that a sample is cut from.

    Attributes:
        clip: index of the clip in the sampler's clips.
        frames: int ``(before + T + after,)``, numbers of the frames: those of the sample and its neighbours,
            which are needed at low resolution only.
        offsets: int ``(before + T + after, 2)``, the high-resolution pixel (y, x) of each frame at which the
            first low-resolution pixel lies.
        flip: whether the sample is flipped ``(vertically, horizontally)``.
        transpose: whether rows and columns are exchanged after flipping.
    """

    clip: int
    frames: np.ndarray
    offsets: np.ndarray
    flip: tuple[bool, bool]
    transpose: bool


class ClipSampler:
    """Cuts random training samples from clips.

    A sample is a piece of a sequence of ``pieces * frames`` frames; the next step has the next piece. At low
    resolution a sample also has the neighbours of its first and last frame. At the ends of a sequence, these
    repeat the edge frames, as the network does at the ends of a clip.

    With a curriculum, the first samples are stills that pan at one velocity. From these, the network learns
    to fuse frames in minutes; from clips with all kinds of motion it takes days. Then velocities spread to
    all directions, and finally ordinary samples replace the pans.

    Args:
        clips: the clips; see :func:`rlsp_tf.training.clips.index.index_clips`.
        batch: samples per step.
        frames: frames of a sample.
        crop: height and width of a sample in low-resolution pixels.
        seed: seed of all random numbers.
        pieces: number of samples in a sequence.
        curriculum: number of steps of the curriculum; 0 for none.
        neighbours: numbers of frames ``(before, after)`` the current one that the network sees.

    Attributes:
        batch: samples per step that this sampler makes.
        clips: the clips that are large and long enough.
        notes: sentences about the other clips.
        length: frames of a sequence.
        part: positions of this sampler's samples in the whole batch; see :meth:`share`.

    Raises:
        RLSPError: if no clip is large and long enough.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        *,
        batch: int,
        frames: int,
        crop: int,
        seed: int,
        pieces: int = 1,
        curriculum: int = 0,
        neighbours: tuple[int, int] = (1, 1),
    ) -> None:
        self.batch, self.frames, self.crop, self.seed = batch, frames, crop, seed
        self.pieces, self.curriculum, self.neighbours = pieces, curriculum, neighbours
        self.length = pieces * frames
        self.part = slice(batch)
        self.clips: list[Clip] = []
        self.notes: list[str] = []
        for clip in clips:
            reason = self._reason_against(clip)
            if reason is None:
                self.clips.append(clip)
            else:
                self.notes.append(f"skipped {clip.source}: {reason}.")
        if not self.clips:
            reasons = "".join(f"\n  {note}" for note in self.notes)
            raise RLSPError(f"no clip is large and long enough to train on.{reasons}")
        self.scale = self.clips[0].scale
        self._shots = [[s for s in clip.shots if s[1] - s[0] >= self.length] for clip in self.clips]

    def share(self, worker: int, workers: int) -> "ClipSampler":
        """Returns a sampler that makes one worker's part of every batch.

        The parts of all workers make up the batch. Each worker draws the windows of the whole batch, since
        they share one random generator, but this takes only a twentieth of the time of cutting the samples.

        Args:
            worker: number of the worker, counted from 0.
            workers: number of workers; must divide the batch.
        """
        part = copy.copy(self)
        part.batch = self.batch // workers
        first = self.part.start or 0
        part.part = slice(first + worker * part.batch, first + (worker + 1) * part.batch)
        return part

    def windows(self, step: int) -> list[Window]:
        """Returns the windows of the samples of a step.

        Args:
            step: number of the step, counted from 0.
        """
        piece = self.piece(step)
        return [
            each._replace(frames=each.frames[piece], offsets=each.offsets[piece])
            for each in self.sequences(step)
        ]

    def sequences(self, step: int) -> list[Window]:
        """Returns the windows of the whole sequences of which a step has a piece, without neighbours.

        Args:
            step: number of the step, counted from 0.
        """
        sequence = step // self.pieces
        rng = np.random.Generator(np.random.Philox(key=[self.seed, sequence]))
        learned = min(1.0, sequence * self.pieces / self.curriculum) if self.curriculum else 1.0
        return [self._window(rng, learned) for _ in range(self.part.stop)][self.part]

    def piece(self, step: int) -> np.ndarray:
        """Returns the positions of a step's low-resolution frames in its sequence, int ``(N,)``."""
        before, after = self.neighbours
        piece = np.arange(-before, self.frames + after) + step % self.pieces * self.frames
        return piece.clip(0, self.length - 1)

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of a sample at low and at high resolution, without the batch axis; see :meth:`samples`."""
        side = self.scale * self.crop
        frames = sum(self.neighbours) + self.frames
        return (frames, self.crop, self.crop, 3), (self.frames, side, side, 3)

    def samples(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Makes the batch of a step.

        Args:
            step: number of the step, counted from 0.

        Returns:
            ``(lr, hr)``: uint8 RGB ``(B, before + T + after, crop, crop, 3)`` and
            ``(B, T, scale*crop, scale*crop, 3)``.
        """
        lr, hr = (np.empty((self.batch, *shape), np.uint8) for shape in self.shapes)
        for index, window in enumerate(self.windows(step)):
            self.cut(window, lr[index], hr[index])
        return lr, hr

    def captions(self, step: int) -> list[str]:
        """Describes each sample of a step in a few words."""
        return [f"clip {self.clips[window.clip].name}" for window in self.sequences(step)]

    def cut(self, window: Window, lr: np.ndarray, hr: np.ndarray) -> None:
        """Copies the sample of a window to arrays of the :attr:`shapes`."""
        clip, side = self.clips[window.clip], self.scale * self.crop
        # Low-resolution pixel i is at pixel scale * i. After a flip this holds if, before the flip, the last
        # low-resolution pixel is at the last pixel of the crop.
        shift = [(self.scale - 1) * flip for flip in window.flip]
        low, high = _pixels(lr), _pixels(hr)
        blurred, frames = _pixels(clip.blurred), _pixels(clip.hr)
        for t, (frame, (y, x)) in enumerate(zip(window.frames, window.offsets, strict=True)):
            low[t] = blurred[frame, y : y + side : self.scale, x : x + side : self.scale]
            inner = t - self.neighbours[0]
            if 0 <= inner < self.frames:
                top, left = y - shift[0], x - shift[1]
                high[inner] = frames[frame, top : top + side, left : left + side]
        for part in (lr, hr):
            _turn(part, window)

    def cut_wide(self, window: Window, margins: np.ndarray) -> np.ndarray:
        """Cuts the high-resolution frames of a window with margins, flipped and transposed.

        Args:
            window: a window of :meth:`sequences`.
            margins: int ``(2, 2)``, high-resolution pixels above and left of the sample, and below and right
                of it, after flipping. Beyond the edges of the frame, edge pixels are repeated.

        Returns:
            uint8 RGB ``(T, height, width, 3)``.
        """
        clip, side = self.clips[window.clip], self.scale * self.crop
        margins = margins[:, ::-1] if window.transpose else margins
        cut = []
        for frame, offsets in zip(window.frames, window.offsets, strict=True):
            places = []
            for axis, (offset, flip) in enumerate(zip(offsets, window.flip, strict=True)):
                place = np.arange(-margins[0, axis], side + margins[1, axis])
                # cut() explains where a flipped sample begins.
                place = offset - (self.scale - 1) + side - 1 - place if flip else offset + place
                places.append(place.clip(0, clip.shape[1 + axis] - 1))
            cut.append(clip.hr[frame][np.ix_(*places)])
        frames = np.stack(cut)
        return frames.swapaxes(1, 2) if window.transpose else frames

    def _reason_against(self, clip: Clip) -> str | None:
        """Returns why a clip cannot be used; ``None`` if it can."""
        longest = max(stop - start for start, stop in clip.shots)
        if longest < self.length:
            return f"its longest shot has {longest} frames, a sample {self.length}"
        _, height, width = clip.shape
        if min(height, width) < self.crop * clip.scale:
            halved = " after halving" if clip.halved else ""
            side = self.crop * clip.scale
            return f"its frames are {width}x{height}{halved}, a crop {side}x{side}"
        if clip.detail[clip.start : clip.stop].max() < LEAST_DETAIL:
            return "all its frames are flat"
        return None

    def _window(self, rng: np.random.Generator, learned: float) -> Window:
        """Draws windows until one is neither flat nor frozen; after ``ATTEMPTS``, returns the last one."""
        for _ in range(ATTEMPTS):
            index = int(rng.integers(len(self.clips)))
            clip, shots = self.clips[index], self._shots[index]
            flip, transpose = self._draw_symmetry(rng, clip)
            kind = rng.random()
            lesson = learned < 1 and rng.random() >= (learned - SPREADING[1]) / (1 - SPREADING[1])
            pans, still = lesson or kind < PANS, lesson or kind < PANS / 2
            frames = self._draw_frames(rng, shots, still)
            if lesson:
                spread = float(np.interp(learned, SPREADING, (0, 1)))
                path = self._lesson(rng, spread, flip, transpose)
            elif pans:
                path = self._draw_path(rng)
            else:
                path = np.zeros((self.length, 2), int)
            offsets, detail = self._draw_place(rng, clip, frames, path, flip)
            moves = np.ptp(offsets, axis=0).any() or self._motion(clip, frames, offsets) >= LEAST_MOTION
            if moves and detail >= LEAST_DETAIL:
                break
        if not lesson and rng.random() < 0.5:
            frames, offsets = frames[::-1], offsets[::-1]
        return Window(index, frames, offsets, flip, transpose)

    def _draw_symmetry(self, rng: np.random.Generator, clip: Clip) -> tuple[tuple[bool, bool], bool]:
        """Draws ``(flip, transpose)``; see :class:`Window`."""
        vertical, horizontal, transpose = rng.random(3) < 0.5
        # A flipped crop needs some more pixels; see cut().
        room = np.subtract(clip.shape[1:], self.scale * self.crop) >= self.scale - 1
        return (bool(vertical and room[0]), bool(horizontal and room[1])), bool(transpose)

    def _draw_frames(self, rng: np.random.Generator, shots: list[tuple[int, int]], still: bool) -> np.ndarray:
        """Draws the numbers of the frames ``(T,)``: a single one if ``still``, otherwise from one shot."""
        lengths = np.array([stop - start for start, stop in shots])
        start, stop = shots[rng.choice(len(shots), p=lengths / lengths.sum())]
        stride = 2 if rng.random() < STRIDE_TWO and stop - start >= 2 * self.length else 1
        if still:
            return np.full(self.length, rng.integers(start, stop))
        return rng.integers(start, stop - stride * (self.length - 1)) + stride * np.arange(self.length)

    def _draw_path(self, rng: np.random.Generator) -> np.ndarray:
        """Draws the offsets ``(T, 2)`` of a crop that pans as if hand-held."""
        velocity = rng.normal(0, 1, 2) * rng.choice(PAN_SPEEDS)
        jitter = np.cumsum(rng.normal(0, PAN_JITTER, (self.length, 2)), axis=0)
        return np.rint(np.arange(self.length)[:, None] * velocity + jitter).astype(int)

    def _lesson(
        self, rng: np.random.Generator, spread: float, flip: tuple[bool, bool], transpose: bool
    ) -> np.ndarray:
        """Draws the offsets ``(T, 2)`` of a steady pan of the curriculum, before flipping and transposing.

        The velocity is uniform in a square, which grows from a single velocity to all up to ``FASTEST``.
        """
        center = (1 - spread) * np.array(FIRST_VELOCITY)
        velocity = rng.uniform(center - spread * FASTEST, center + spread * FASTEST)
        if transpose:
            velocity = velocity[::-1]
        velocity = np.where(flip, -velocity, velocity)
        return np.rint(np.arange(self.length)[:, None] * velocity).astype(int)

    def _draw_place(
        self,
        rng: np.random.Generator,
        clip: Clip,
        frames: np.ndarray,
        path: np.ndarray,
        flip: tuple[bool, bool],
    ) -> tuple[np.ndarray, float]:
        """Draws a place for a path with much detail; returns the offsets ``(T, 2)`` and the detail."""
        first = (self.scale - 1) * np.array(flip)
        last = np.subtract(clip.shape[1:], self.scale * self.crop)
        path = np.minimum(path - path.min(axis=0), last - first)
        best, most = path, -1.0
        for place in rng.integers(first, last - path.max(axis=0) + 1, (CANDIDATES, 2)):
            offsets = path + place
            middle = len(frames) // 2
            detail = self._mean(clip.detail[frames[middle]], offsets[middle])
            if detail > most:
                best, most = offsets, detail
        return best, most

    def _motion(self, clip: Clip, frames: np.ndarray, offsets: np.ndarray) -> float:
        """Returns the mean change between the frames of a crop, in grey levels."""
        changes = clip.motion[frames[0] + 1 : frames[-1] + 1]
        return self._mean(changes, offsets[0]) if len(changes) else 0.0

    def _mean(self, cells: np.ndarray, offset: np.ndarray) -> float:
        """Returns the mean of a map over the cells within a crop."""
        cell = self.scale * CELL
        first, stop = -(-offset // cell), (offset + self.scale * self.crop) // cell
        return float(cells[..., first[0] : stop[0], first[1] : stop[1]].mean())


def _turn(crops: np.ndarray, window: Window) -> None:
    """Flips and transposes the square frames of a sample, ``(T, side, side, 3)``, in place."""
    if not (any(window.flip) or window.transpose):
        return
    down, across = (-1 if flip else 1 for flip in window.flip)
    turned = crops.copy()[:, ::down, ::across]
    if window.transpose:
        turned = turned.swapaxes(1, 2)
    # NumPy copies the channels faster one by one.
    for channel in range(3):
        crops[..., channel] = turned[..., channel]


def _pixels(array: np.ndarray) -> np.ndarray:
    """Views the last axis of three bytes as one element, which NumPy copies several times faster."""
    return np.asarray(array).view("V3")[..., 0]
