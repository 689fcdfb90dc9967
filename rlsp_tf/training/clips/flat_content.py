"""Clips of flat content, which photographs lack: plain colours, gradients, letterbox bars, scrolling text.

The sampler of clips avoids flat crops, because they teach nothing about detail. But a network that has never
seen flat content may add patterns to it, for example to black frames.
"""

import string
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rlsp_tf.training.clips.camera import View, draw_clip

KINDS = ("plain", "gradient", "bars", "text")
SIZES = (14, 40)
"""Smallest and largest font size, in frame pixels."""
FASTEST = 4.0
"""Largest speed of text, in frame pixels per frame."""


def draw_flat_clip(
    rng: np.random.Generator, photos: Sequence[np.ndarray], frames: int, height: int, width: int
) -> tuple[str, np.ndarray]:
    """Draws a random clip of flat content.

    Args:
        rng: source of all random numbers.
        photos: photographs to show between the bars and behind some of the text; may be empty.
        frames: number of frames.
        height, width: size of the frames in pixels.

    Returns:
        ``(kind, clip)``: one of ``KINDS``, and uint8 RGB ``(frames, height, width, 3)``.
    """
    kind = str(rng.choice(KINDS))
    shape = (frames, height, width, 3)
    if kind == "gradient":
        return kind, _gradient(rng, shape)
    clip = np.empty(shape, np.uint8)
    clip[:] = _color(rng)
    if kind == "plain":
        return kind, clip
    if photos and (kind == "bars" or rng.random() < 0.5):
        clip = draw_clip(rng, photos, frames, height, width)
    if kind == "bars":
        edge = round(rng.uniform(0.15, 0.85) * height)
        side = clip if rng.random() < 0.7 else clip.swapaxes(1, 2)
        side[:, :edge] = 0 if rng.random() < 0.9 else _color(rng)
        return kind, clip[:, :: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    alpha = _text(rng, frames, height, width)
    bright = clip.mean() < 128
    color = np.uint8(rng.integers(200, 256, 3) if bright else rng.integers(0, 56, 3))
    return kind, np.rint(clip + alpha * (color.astype(np.float32) - clip)).astype(np.uint8)


def _color(rng: np.random.Generator) -> np.ndarray:
    """Draws a colour: black or white in about half of the cases, otherwise grey or any other colour."""
    kind = rng.random()
    if kind < 0.4:
        return np.zeros(3, np.uint8)
    if kind < 0.55:
        return np.full(3, 255, np.uint8)
    if kind < 0.7:
        return np.full(3, rng.integers(256), np.uint8)
    return rng.integers(0, 256, 3).astype(np.uint8)


def _gradient(rng: np.random.Generator, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Draws a gradient like that of a sky: some grey levels that move slowly, with rounding steps."""
    frames, height, width, _ = shape
    y, x = np.mgrid[:height, :width] / max(height, width)
    angle = rng.uniform(0, 2 * np.pi)
    place = np.cos(angle) * x + np.sin(angle) * y + rng.normal(0, 0.01) * np.arange(frames)[:, None, None]
    values = rng.uniform(0, 255, 3) + place[..., None] * rng.normal(0, 25, 3)
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def _text(rng: np.random.Generator, frames: int, height: int, width: int) -> np.ndarray:
    """Draws scrolling text: the coverage of each pixel, float32 ``(frames, height, width, 1)`` in 0..1."""
    size = int(rng.integers(SIZES[0], SIZES[1] + 1))
    speed = rng.uniform(-FASTEST, FASTEST, 2) * rng.choice([(0, 1), (1, 0)])
    # The page is drawn at twice the size, and is large enough for the whole way.
    room = np.ceil(2 * ((width, height) + frames * np.abs(speed))).astype(int)
    letters = rng.choice(list(string.ascii_letters + string.digits + "    .,:-"), (60, 80))
    page = Image.new("RGB", tuple(room))
    text = "\n".join("".join(line) for line in letters[: room[1] // (2 * size) + 1, : room[0] // size + 1])
    ImageDraw.Draw(page).multiline_text((0, 0), text, "white", ImageFont.load_default(2 * size), spacing=size)
    path = np.tile(np.diag([2.0, 2.0, 1.0]), (frames, 1, 1))
    path[:, :2, 2] = room / 2 + 2 * speed * (np.arange(frames) - (frames - 1) / 2)[:, None]
    covered = View(np.asarray(page), path).render(height, width)
    return covered[..., :1].astype(np.float32) / 255
