"""A picture of the first samples of a training, which shows what the network is trained on."""

from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rlsp_tf.system.files import atomic_file

SAMPLES = 24
SIDE = 128
"""Largest height of a frame on the sheet, in pixels."""
COLUMNS = 2
LINE = 16
"""Height of a caption in pixels."""


class Sampler(Protocol):
    """Makes samples and describes them."""

    batch: int

    def samples(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns a batch; see :meth:`rlsp_tf.training.clips.sampler.ClipSampler.samples`."""

    def captions(self, step: int) -> list[str]:
        """Describes each sample of a step in a few words."""


def write_contact_sheet(path: Path, sampler: Sampler) -> None:
    """Draws the first samples of a training into an image file.

    Each sample is shown with a caption, its middle frame at low resolution, enlarged without interpolation,
    and its first, middle and last frame at high resolution.

    Args:
        path: the file to write; its suffix selects the format.
        sampler: makes the samples.
    """
    cells: list[tuple[str, np.ndarray]] = []
    for step in range(-(-SAMPLES // sampler.batch)):
        for lr, hr, caption in zip(*sampler.samples(step), sampler.captions(step), strict=True):
            small = lr[len(lr) // 2]
            scale = hr.shape[1] // small.shape[0]
            shown = [small.repeat(scale, 0).repeat(scale, 1), hr[0], hr[len(hr) // 2], hr[-1]]
            cells.append((caption, np.concatenate(shown, axis=1)))
    cells = cells[:SAMPLES]
    height, width = cells[0][1].shape[:2]
    reduction = min(1.0, SIDE / height)
    height, width = round(height * reduction), round(width * reduction)
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width + LINE, rows * (height + LINE)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(LINE - 5)
    for index, (caption, frames) in enumerate(cells):
        row, column = divmod(index, COLUMNS)
        x, y = column * (width + LINE), row * (height + LINE)
        draw.text((x + 2, y + 1), caption, "black", font)
        sheet.paste(Image.fromarray(frames).resize((width, height), Image.Resampling.BOX), (x, y + LINE))
    with atomic_file(path, force=True) as part:
        sheet.save(part)
