"""Which crops a training step sees, as a function of seed and step alone.

Nothing here reads the clock, keeps a state or needs TensorFlow, so a run that was interrupted goes on
with the crops it would have seen, on any backend.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rlsp_tf.errors import RLSPError
from rlsp_tf.training.clips.clip import CELL, Clip

PANS = 0.6
"""Share of windows that pan: the crop moves smoothly over the frames, half of the time over a single
frame. Whole high-resolution pixels are quarters of low-resolution pixels, so this is exact motion by
fractions of a pixel, of which fusing frames is learned."""
PAN_SPEEDS = (1.0, 2.5, 5.0)
"""Standard deviations of a pan's velocity, in high-resolution pixels per frame."""
PAN_JITTER = 0.6
"""Standard deviation of what is added to the offset in every frame, as by an unsteady hand."""
STRIDE_TWO = 0.2
"""Share of windows that take every other frame."""
CANDIDATES = 3
"""Places tried for a window; that with the most detail is taken."""
LEAST_DETAIL = 2.0
"""Mean detail of a crop, in grey levels per pixel, below which it is flat; see ``Clip.detail``."""
LEAST_MOTION = 0.3
"""Mean change between frames, in grey levels, below which a crop is frozen, unless it pans."""
ATTEMPTS = 20
FIRST_VELOCITY = (1, 2)
"""Of the curriculum's first pans, in high-resolution pixels per frame, downwards and to the right."""
FASTEST = 5
"""Velocity in either direction up to which the curriculum's pans grow."""
SPREADING = (0.1, 0.7)
"""Share of the curriculum at which velocities begin to spread, and at which they have and other samples begin
to take over."""


class Window(NamedTuple):
    """What one sample is cut from.

    Attributes:
        clip: position in the sampler's clips.
        frames: ``(before + T + after,)`` indices of frames: of the sample, and of its neighbours, which
            are needed at low resolution only.
        offsets: ``(before + T + after, 2)`` pixel (y, x) of the frame on which the first low-resolution
            pixel lies.
        flip: ``(vertical, horizontal)``.
        transpose: whether rows and columns are exchanged, after flipping.
    """

    clip: int
    frames: np.ndarray
    offsets: np.ndarray
    flip: tuple[bool, bool]
    transpose: bool


class ClipSampler:
    """Random training samples out of clips.

    A sample is a piece of a sequence of ``pieces * frames`` frames, and the next step has the next piece.
    At low resolution it has the neighbours of its first and last frame too; at the ends of the sequence
    these are the edge frames again, as the network has it at the ends of a clip.

    With a curriculum, samples are stills at first that pan at one velocity, because from these it is
    learned in minutes that frames can be fused, which from clips of all kinds of motion takes days.
    Velocities then spread to all directions, and then other samples take over.

    Args:
        clips: as :func:`rlsp_tf.training.clips.index.index_clips` gives them.
        batch: samples per step.
        frames: of a sample.
        crop: side of a sample, in low-resolution pixels.
        seed: of everything random.
        pieces: samples that a sequence has.
        curriculum: steps that it takes; 0 is none.
        neighbours: frames ``(before, after)`` that the network sees beside the present one.

    Attributes:
        clips: those that can be used.
        notes: sentences about those that cannot.
        length: frames of a sequence.
        part: which samples of a batch this sampler gives; see :meth:`share`.

    Raises:
        RLSPError: if none can be used.
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
        """What gives one of several workers its part of every batch.

        The parts have no sample in common, and one after the other they are the batch. Every worker
        draws all windows, because each of them depends on those before: that takes a twentieth of the
        time in which a sample is cut.

        Args:
            worker: which one, from 0.
            workers: how many; they must divide the batch.
        """
        part = copy.copy(self)
        part.batch = self.batch // workers
        first = self.part.start or 0
        part.part = slice(first + worker * part.batch, first + (worker + 1) * part.batch)
        return part

    def windows(self, step: int) -> list[Window]:
        """What the batch of a step is cut from; no pixel is touched.

        Args:
            step: counted from 0.
        """
        piece = self.piece(step)
        return [
            each._replace(frames=each.frames[piece], offsets=each.offsets[piece])
            for each in self.sequences(step)
        ]

    def sequences(self, step: int) -> list[Window]:
        """As :meth:`windows`, the whole sequences of which a step has a piece, without neighbours.

        Args:
            step: counted from 0.
        """
        sequence = step // self.pieces
        rng = np.random.Generator(np.random.Philox(key=[self.seed, sequence]))
        learned = min(1.0, sequence * self.pieces / self.curriculum) if self.curriculum else 1.0
        return [self._window(rng, learned) for _ in range(self.part.stop)][self.part]

    def piece(self, step: int) -> np.ndarray:
        """Which frames of a sequence a step has at low resolution, ``(before + T + after,)``."""
        before, after = self.neighbours
        piece = np.arange(-before, self.frames + after) + step % self.pieces * self.frames
        return piece.clip(0, self.length - 1)

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of a sample, at low and at high resolution; see :meth:`samples`."""
        side = self.scale * self.crop
        frames = sum(self.neighbours) + self.frames
        return (frames, self.crop, self.crop, 3), (self.frames, side, side, 3)

    def samples(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of a step.

        Args:
            step: counted from 0.

        Returns:
            ``(lr, hr)``: uint8 RGB ``(B, before + T + after, crop, crop, 3)`` and
            ``(B, T, scale*crop, scale*crop, 3)``.
        """
        lr, hr = (np.empty((self.batch, *shape), np.uint8) for shape in self.shapes)
        for index, window in enumerate(self.windows(step)):
            self.cut(window, lr[index], hr[index])
        return lr, hr

    def captions(self, step: int) -> list[str]:
        """What each sample of a step is, in a few words."""
        return [f"clip {self.clips[window.clip].name}" for window in self.sequences(step)]

    def cut(self, window: Window, lr: np.ndarray, hr: np.ndarray) -> None:
        """Cuts the sample of a window into arrays as :meth:`samples` has them, without the batch axis."""
        clip, side = self.clips[window.clip], self.scale * self.crop
        # Low-resolution pixel i lies on pixel scale * i. A flipped crop keeps that if its last
        # low-resolution pixel lies on its last pixel before the flip.
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
        """High resolution of a window with what is around it, flipped and transposed as the window says.

        Args:
            window: of :meth:`sequences`.
            margins: ``(2, 2)`` pixels above and left, below and right of the sample as it is to be seen.
                Beyond the frame, the edge pixels are repeated.

        Returns:
            uint8 ``(T, height, width, 3)``.
        """
        clip, side = self.clips[window.clip], self.scale * self.crop
        margins = margins[:, ::-1] if window.transpose else margins
        cut = []
        for frame, offsets in zip(window.frames, window.offsets, strict=True):
            places = []
            for axis, (offset, flip) in enumerate(zip(offsets, window.flip, strict=True)):
                place = np.arange(-margins[0, axis], side + margins[1, axis])
                # See :meth:`cut` for where a flipped sample begins.
                place = offset - (self.scale - 1) + side - 1 - place if flip else offset + place
                places.append(place.clip(0, clip.shape[1 + axis] - 1))
            cut.append(clip.hr[frame][np.ix_(*places)])
        frames = np.stack(cut)
        return frames.swapaxes(1, 2) if window.transpose else frames

    def _reason_against(self, clip: Clip) -> str | None:
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
        """Draws until a window is neither flat nor frozen; gives the last one if none is."""
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
        """Flips and transposition."""
        vertical, horizontal, transpose = rng.random(3) < 0.5
        # A flipped crop begins some pixels further in; see :meth:`cut`.
        room = np.subtract(clip.shape[1:], self.scale * self.crop) >= self.scale - 1
        return (bool(vertical and room[0]), bool(horizontal and room[1])), bool(transpose)

    def _draw_frames(self, rng: np.random.Generator, shots: list[tuple[int, int]], still: bool) -> np.ndarray:
        lengths = np.array([stop - start for start, stop in shots])
        start, stop = shots[rng.choice(len(shots), p=lengths / lengths.sum())]
        stride = 2 if rng.random() < STRIDE_TWO and stop - start >= 2 * self.length else 1
        if still:
            return np.full(self.length, rng.integers(start, stop))
        return rng.integers(start, stop - stride * (self.length - 1)) + stride * np.arange(self.length)

    def _draw_path(self, rng: np.random.Generator) -> np.ndarray:
        """``(T, 2)`` offsets of a crop that pans as an unsteady hand does."""
        velocity = rng.normal(0, 1, 2) * rng.choice(PAN_SPEEDS)
        jitter = np.cumsum(rng.normal(0, PAN_JITTER, (self.length, 2)), axis=0)
        return np.rint(np.arange(self.length)[:, None] * velocity + jitter).astype(int)

    def _lesson(
        self, rng: np.random.Generator, spread: float, flip: tuple[bool, bool], transpose: bool
    ) -> np.ndarray:
        """``(T, 2)`` offsets of a crop that pans steadily, flipped and transposed or not.

        Velocities are uniform in a square, which grows from the first one to the fastest.
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
        changes = clip.motion[frames[0] + 1 : frames[-1] + 1]
        return self._mean(changes, offsets[0]) if len(changes) else 0.0

    def _mean(self, cells: np.ndarray, offset: np.ndarray) -> float:
        """The mean of a map over the cells that lie within a crop."""
        cell = self.scale * CELL
        first, stop = -(-offset // cell), (offset + self.scale * self.crop) // cell
        return float(cells[..., first[0] : stop[0], first[1] : stop[1]].mean())


def _turn(crops: np.ndarray, window: Window) -> None:
    """Flips and transposes square crops ``(T, side, side, 3)`` in place, as a window says."""
    if not (any(window.flip) or window.transpose):
        return
    down, across = (-1 if flip else 1 for flip in window.flip)
    turned = crops.copy()[:, ::down, ::across]
    if window.transpose:
        turned = turned.swapaxes(1, 2)
    # One after the other, because NumPy moves single bytes faster than three at a time.
    for channel in range(3):
        crops[..., channel] = turned[..., channel]


def _pixels(array: np.ndarray) -> np.ndarray:
    """Elements of three bytes instead of an axis of three, which NumPy copies several times faster."""
    return np.asarray(array).view("V3")[..., 0]
