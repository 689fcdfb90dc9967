"""The demo: a clip that is rendered in code, degraded, and upscaled again."""

import os
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rlsp_tf.pixels.degradation import degrade
from rlsp_tf.pixels.metrics import PROTOCOLS, luma, psnr
from rlsp_tf.pixels.resample import enlarge_matrix
from rlsp_tf.pixels.scene import render_scene
from rlsp_tf.system.files import atomic_folder, named

OURS = named(r"lr/frame_\d{4}\.png", "upscaled.mp4", "before_after.png")
"""Recognizes the files that the demo writes into its folder."""


def run_demo(
    folder: str | os.PathLike[str], model: Any, *, force: bool = False, progress: bool = True
) -> dict[str, float]:
    """Renders the scene, degrades it as the paper does, and upscales it again.

    Writes ``lr/`` (the low-resolution frames), ``upscaled.mp4`` and ``before_after.png`` (the same crops
    of bicubic interpolation, the network's output, and the ground truth) into ``folder``.

    Args:
        folder: the folder to write.
        model: a model from :func:`rlsp_tf.load_model`, with luma output.
        force: replace the folder if it exists and holds only files of an earlier demo.
        progress: whether to show on standard error how far it is.

    Returns:
        ``{"bicubic", "rlsp"}``: PSNR of luma in dB under the ``rlsp`` protocol.

    Raises:
        RLSPError: if the folder cannot be written.
    """
    from rlsp_tf.inference.upscaler import StreamingUpscaler
    from rlsp_tf.network.model import rlsp_layer
    from rlsp_tf.upscaling.upscale import upscale

    scale = rlsp_layer(model).config.scale
    clip = np.stack(list(render_scene()))
    low = degrade(clip, scale)
    with atomic_folder(folder, force=force, ours=OURS) as part:
        (part / "lr").mkdir()
        for index, frame in enumerate(low):
            iio.imwrite(part / "lr" / f"frame_{index:04d}.png", frame)
        upscale(part / "lr", part / "upscaled.mp4", model, rate=24, progress=progress)

        upscaler = StreamingUpscaler(model)
        frames = [output for frame in low for output in upscaler.push(frame)] + upscaler.flush()
        rows, columns = (enlarge_matrix(size, scale) for size in low.shape[1:3])
        bicubic = [np.einsum("ij,jkc,lk->ilc", rows, frame, columns, optimize=True) for frame in low]
        show = len(clip) * 2 // 3
        before_after(
            {
                "bicubic": np.clip(np.round(bicubic[show]), 0, 255).astype(np.uint8),
                "RLSP": frames[show],
                "truth": clip[show],
            },
            part / "before_after.png",
        )
    protocol = PROTOCOLS["rlsp"]
    inside = slice(protocol.crop, -protocol.crop)
    counted = slice(protocol.drop, -protocol.drop)
    truth = luma(clip[counted])[:, inside, inside]
    return {
        name: psnr(np.round(luma(np.clip(np.stack(images[counted]), 0, 255)))[:, inside, inside], truth)
        for name, images in (("bicubic", bicubic), ("rlsp", frames))
    }


def before_after(images: dict[str, np.ndarray], path: Path) -> None:
    """Draws the same crops of several images side by side, twice as large, with their names above.

    Args:
        images: uint8 RGB arrays ``(H, W, 3)`` of one size, by name.
        path: the image file to write.
    """
    crops = ((84, 118, 232, 150), (404, 250, 232, 150))
    zoom, bar = 2, 34
    _, _, width, height = crops[0]
    sheet = Image.new("RGB", (len(images) * width * zoom, bar + len(crops) * height * zoom), (24, 24, 28))
    draw = ImageDraw.Draw(sheet)
    for column, (name, image) in enumerate(images.items()):
        x = column * width * zoom
        draw.text((x + 10, 6), name, fill=(240, 240, 240), font=ImageFont.load_default(20))
        for row, (left, top, w, h) in enumerate(crops):
            crop = Image.fromarray(image).crop((left, top, left + w, top + h))
            sheet.paste(
                crop.resize((w * zoom, h * zoom), Image.Resampling.NEAREST), (x, bar + row * h * zoom)
            )
    sheet.save(path)
