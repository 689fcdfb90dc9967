"""Endless synthetic clips of any size on which recurrent networks may diverge."""

from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rlsp_tf.pixels.degradation import degrade
from rlsp_tf.pixels.scene import render_scene

Clip = Callable[[int], np.ndarray]
"""Returns frame t as uint8 RGB ``(H, W, 3)``, for any t from 0."""

PERIOD = 50
"""Number of frames after which everything but noise repeats, so that periods can be compared."""
LEVELS = (0, 1, 16, 64, 128, 192, 235, 254, 255)
"""Grey levels of flat fields."""
COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
    "yellow": (255, 255, 0),
}
GRAIN = 12.0
"""Standard deviation of film grain, in grey levels."""
BETWEEN_CUTS = 10
"""Number of frames of a shot, and from one flash to the next."""


def stability_clips(height: int, width: int) -> dict[str, Clip]:
    """Makes the clips.

    Args:
        height: height of low-resolution frames in pixels.
        width: width of low-resolution frames in pixels.

    Returns:
        The clips by the name of what they show. A frame depends only on its number.
    """
    scene = _scene(height, width)
    black, white = (np.full((height, width, 3), level, np.uint8) for level in (0, 255))
    rows, columns = np.mgrid[:height, :width]
    extremes = np.where(np.random.default_rng(0).integers(0, 2, (height, width)), 255, 0).astype(np.uint8)

    clips: dict[str, Clip] = {}
    for level in LEVELS:
        clips[f"grey {level}"] = partial(_still, np.full_like(black, level))
    for name, colour in COLOURS.items():
        clips[name] = partial(_still, black + np.array(colour, np.uint8))
    clips["still scene"] = partial(_still, scene(0))
    clips["text scrolling over black"] = _scrolling_text(height, width)
    clips["fades to black and white"] = partial(_fade, scene)
    clips["letterbox bars"] = partial(_letterbox, scene)
    clips["flashes"] = lambda t: white if t % BETWEEN_CUTS == 5 else scene(t)
    clips["black and white in turn"] = lambda t: white if t % 2 else black
    for size in (1, 2):
        board = np.where((rows // size + columns // size) % 2, 255, 0).astype(np.uint8)[..., None]
        board = np.repeat(board, 3, axis=-1)
        clips[f"checkerboard of {size}"] = partial(_still, board)
        clips[f"flickering checkerboard of {size}"] = partial(_flicker, board)
    clips["film grain"] = partial(_grain, scene)
    clips["white noise"] = lambda t: _rng(t).integers(0, 256, black.shape, dtype=np.uint8)
    clips["cuts"] = partial(_cuts, scene)
    clips["extremes in all channels"] = lambda t: 255 * _rng(t).integers(0, 2, black.shape, dtype=np.uint8)
    for channel, name in enumerate(("red", "green", "blue")):
        pixels = black.copy()
        pixels[..., channel] = extremes
        clips[f"extremes in {name}"] = partial(_still, pixels)
        pixels = scene(0).copy()
        pixels[..., channel] = extremes
        clips[f"flickering extremes in {name}"] = partial(_flicker_channel, pixels, channel)
    return clips


def _scene(height: int, width: int) -> Clip:
    """The scene of the demo, played forwards and backwards."""
    half = PERIOD // 2
    hr = np.stack(list(render_scene(half, 4 * height, 4 * width)))
    lr = degrade(hr, 4)
    return lambda t: lr[half - 1 - abs(t % PERIOD - half) if t % PERIOD >= half else t % PERIOD]


def _still(frame: np.ndarray, t: int) -> np.ndarray:
    return frame


def _flicker(frame: np.ndarray, t: int) -> np.ndarray:
    return 255 - frame if t % 2 else frame


def _flicker_channel(frame: np.ndarray, channel: int, t: int) -> np.ndarray:
    turned = frame.copy()
    if t % 2:
        turned[..., channel] = 255 - turned[..., channel]
    return turned


def _scrolling_text(height: int, width: int) -> Clip:
    image = Image.new("RGB", (width, max(PERIOD, height)))
    draw = ImageDraw.Draw(image)
    for line, text in enumerate(("THE END", "directed by", "N. Body", "music: A. Choir")):
        draw.text((2, 12 * line), text, fill="white", font=ImageFont.load_default(11))
    strip = np.asarray(image)
    return lambda t: np.roll(strip, -(t % PERIOD), axis=0)[:height]


def _fade(scene: Clip, t: int) -> np.ndarray:
    """Fades to black and back in the first half of the period, to white and back in the second."""
    quarter = PERIOD / 4
    share = abs(1 - t % (PERIOD / 2) / quarter)
    to = 0.0 if t % PERIOD < PERIOD / 2 else 255.0
    return np.rint(share * scene(t) + (1 - share) * to).astype(np.uint8)


def _letterbox(scene: Clip, t: int) -> np.ndarray:
    frame = scene(t).copy()
    bar = len(frame) // 5
    frame[:bar] = frame[-bar:] = 0
    return frame


def _cuts(scene: Clip, t: int) -> np.ndarray:
    """Shots of different parts of the scene, every other one upside down."""
    frame = scene(t)
    shot = t % PERIOD // BETWEEN_CUTS
    return np.roll(frame, shot * (frame.shape[1] // 5), axis=1)[:: -1 if shot % 2 else 1]


def _grain(scene: Clip, t: int) -> np.ndarray:
    noise = _rng(t).normal(0, GRAIN, scene(t).shape[:2])[..., None]
    return np.rint(scene(t) + noise).clip(0, 255).astype(np.uint8)


def _rng(t: int) -> np.random.Generator:
    return np.random.default_rng(t)
