"""Clips made of formulas: natural enough to upscale, small enough to make in every test."""

import numpy as np


def make_clip(frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """A clip with smooth texture, sharp edges, a moving camera and an object that moves by itself.

    The scene is defined at every real position and point-sampled with edges one pixel soft, so that
    motion is exact to fractions of a pixel.

    Args:
        frames, height, width: size of the clip.
        seed: of the scene and its motion; the same seed gives the same clip.

    Returns:
        uint8 ``(frames, height, width, 3)``.
    """
    rng = np.random.default_rng(seed)
    ground = _texture(rng)
    figure = _texture(rng)
    pan = rng.uniform(-1.5, 1.5, 2)
    spin = rng.uniform(-0.01, 0.01)
    zoom = rng.uniform(-0.005, 0.005)
    stripe_angle, stripe_period = rng.uniform(0, np.pi), rng.uniform(9, 17)
    start = rng.uniform(0.3, 0.7, 2) * (width, height)
    velocity = rng.uniform(-2, 2, 2)
    radius = 0.25 * min(height, width)
    v, u = np.mgrid[:height, :width].astype(float)
    clip = np.empty((frames, height, width, 3))
    for t in range(frames):
        angle, size = spin * t, np.exp(zoom * t)
        x = size * (np.cos(angle) * u - np.sin(angle) * v) + pan[0] * t
        y = size * (np.sin(angle) * u + np.cos(angle) * v) + pan[1] * t
        scene = ground(x, y)
        across = np.cos(stripe_angle) * x + np.sin(stripe_angle) * y
        distance_to_edge = np.abs((across / stripe_period) % 1 - 0.5) - 0.25
        scene += 40 * _soft_step(distance_to_edge * stripe_period)[..., None]
        cx, cy = start + velocity * t
        inside = _soft_step(radius - np.hypot(u - cx, v - cy))[..., None]
        clip[t] = inside * figure(u - cx, v - cy) + (1 - inside) * scene
    return np.clip(np.rint(clip), 0, 255).astype(np.uint8)


def _soft_step(distance: np.ndarray) -> np.ndarray:
    """0 below -0.5, 1 above 0.5: the coverage of a pixel by a straight edge at this distance."""
    return np.clip(distance + 0.5, 0, 1)


def _texture(rng: np.random.Generator, waves: int = 24):
    """A function of position with the spectrum of photographs: amplitudes fall with frequency."""
    frequencies = np.exp(rng.uniform(np.log(1 / 100), np.log(1 / 4), waves))
    angles = rng.uniform(0, 2 * np.pi, waves)
    phases = rng.uniform(0, 2 * np.pi, waves)
    # Mostly grey, as photographs are; a quarter of every wave is coloured.
    colors = 0.75 + 0.25 * rng.normal(size=(waves, 3))
    amplitudes = frequencies**-0.8
    amplitudes *= 32 / np.sqrt(np.sum(amplitudes**2) / 2)
    mean = rng.uniform(90, 160, 3)

    def texture(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        value = np.broadcast_to(mean, (*x.shape, 3)).copy()
        for f, angle, phase, color, amplitude in zip(
            frequencies, angles, phases, colors, amplitudes, strict=True
        ):
            wave = np.sin(2 * np.pi * f * (np.cos(angle) * x + np.sin(angle) * y) + phase)
            value += amplitude * wave[..., None] * color
        return value

    return texture
