"""Renders a scene with text, lines and motion, for the demo and other uses that need a clip at once."""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SUPERSAMPLING = 2
TEXT = (
    "Recurrent latent space propagation carries",
    "what it learned about a scene from frame to",
    "frame: each new picture starts from all the",
    "pictures before it, and fine detail gathers.",
    "0123456789  ABCDEFGHIJKLM  nopqrstuvwxyz",
)


def render_scene(frames: int = 48, height: int = 480, width: int = 640) -> Iterator[np.ndarray]:
    """Renders the demo scene: a printed page and a turning wheel in front of a textured brick wall.

    Everything moves by fractions of a pixel, as if filmed with a hand-held camera. Recurrent super-resolution
    gains detail from such motion.

    Args:
        frames: number of frames.
        height: height of the frames, in pixels.
        width: width of the frames, in pixels.

    Yields:
        RGB frames, uint8 ``(height, width, 3)``.
    """
    large = (height * SUPERSAMPLING, width * SUPERSAMPLING)
    margin = 24 * SUPERSAMPLING
    wall = _wall(large[0] + 2 * margin, large[1] + 2 * margin)
    page = _page(large[1] * 5 // 8)
    for t in range(frames):
        # The periods of these slow sines have no common divisor, so no two frames have the same phase.
        dx, dy = margin * 0.8 * np.sin(t / 17.3), margin * 0.8 * np.sin(t / 23.9 + 1)
        canvas = wall.transform(
            large[::-1],
            Image.Transform.AFFINE,
            (1, 0, margin + dx, 0, 1, margin + dy),
            Image.Resampling.BICUBIC,
        )
        turned = page.rotate(2.0 * np.sin(t / 19.1), Image.Resampling.BICUBIC, expand=True)
        place = (
            int(large[1] * 0.05 + SUPERSAMPLING * 9 * np.sin(t / 11.7)),
            int(large[0] * 0.09 + SUPERSAMPLING * 7 * np.cos(t / 13.1)),
        )
        canvas.paste(turned, place, turned)
        _wheel(canvas, centre=(large[1] * 0.79, large[0] * 0.66), radius=large[0] * 0.25, turn=t * 0.021)
        yield np.asarray(canvas.resize((width, height), Image.Resampling.BOX))


def _wall(height: int, width: int) -> Image.Image:
    """Renders rows of bricks over noise whose amplitude falls with frequency, which looks like a surface."""
    rng = np.random.default_rng(1)
    texture = np.zeros((height, width, 3))
    for octave in range(3, 10):
        cells = (max(2, height >> (10 - octave)), max(2, width >> (10 - octave)))
        noise = rng.normal(size=(*cells, 3)) * [0.6, 0.4, 0.4] + rng.normal(size=(*cells, 1)) * 2
        planes = [
            np.asarray(
                Image.fromarray(noise[..., c].astype(np.float32)).resize(
                    (width, height), Image.Resampling.BICUBIC
                )
            )
            for c in range(3)
        ]
        texture += np.stack(planes, axis=-1) * 26 * 0.72 ** (octave - 3)
    base = np.array([168, 132, 112]) + texture * 0.3
    rows, columns = np.mgrid[:height, :width]
    brick_height, brick_width = 44, 112
    shifted = columns + (rows // brick_height % 2) * (brick_width // 2)
    mortar = (rows % brick_height < 5) | (shifted % brick_width < 5)
    base[mortar] = base[mortar] * 0.35 + 125
    return Image.fromarray(np.clip(base, 0, 255).astype(np.uint8))


def _page(width: int) -> Image.Image:
    """Renders a printed page with a resolution wedge below the text."""
    height = width * 5 // 8
    page = Image.new("RGBA", (width, height), (244, 240, 228, 255))
    draw = ImageDraw.Draw(page)
    margin = width // 18
    size = width / 24.5
    draw.text((margin, margin), "RLSP", fill=(150, 30, 24), font=ImageFont.load_default(size * 2.2))
    for line, text in enumerate(TEXT):
        position = (margin, margin + size * (2.9 + 1.35 * line))
        draw.text(position, text, fill=(28, 30, 44), font=ImageFont.load_default(size))
    top = margin + size * 10.2
    x = float(margin)
    period = 22.0
    while x < width - margin:
        draw.rectangle((x, top, x + period / 2, height - margin), fill=(28, 60, 90))
        x += period
        period = max(5.0, period * 0.975)
    return page


def _wheel(canvas: Image.Image, *, centre: tuple[float, float], radius: float, turn: float) -> None:
    """Draws a wheel with spokes, rotated by ``turn`` radians."""
    draw = ImageDraw.Draw(canvas)
    x, y = centre
    for share, colour in ((1.0, (36, 42, 48)), (0.9, (206, 176, 64)), (0.82, (34, 74, 70))):
        r = radius * share
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    spokes = 28
    for spoke in range(spokes):
        angle = turn + 2 * np.pi * spoke / spokes
        for inner, outer, lighter in ((0.2, 0.8, 0), (0.5, 0.8, 0.5)):
            a = angle + lighter * 2 * np.pi / spokes
            ends = [(x + radius * r * np.cos(a), y + radius * r * np.sin(a)) for r in (inner, outer)]
            draw.line([*ends[0], *ends[1]], fill=(226, 220, 200), width=3 + int(2 * (1 - lighter)))
    r = radius * 0.2
    draw.ellipse((x - r, y - r, x + r, y + r), fill=(176, 40, 32), outline=(20, 20, 20), width=4)
