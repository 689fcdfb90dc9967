"""The whole way from the authors' checkpoint to the authors' own frames."""

from pathlib import Path

import imageio.v3 as iio
import keras
import numpy as np
import pytest

from rlsp_tf.converters.tf1 import load_tf1
from rlsp_tf.inference.upscaler import StreamingUpscaler
from rlsp_tf.pixels.degradation import degrade


def frames(folder: Path) -> np.ndarray:
    return np.stack([iio.imread(path) for path in sorted(folder.glob("*.png"))])


@pytest.fixture(scope="module")
def authors_7_64(data: Path) -> keras.Model:
    return load_tf1(data / "rlsp-original" / "checkpoints" / "ckpt_rlsp_64")


@pytest.mark.slow
@pytest.mark.parametrize("sequence", ["calendar", "walk"])
def test_7_64_gives_the_authors_luma(sequence: str, authors_7_64: keras.Model, data: Path) -> None:
    low = degrade(frames(data / "vid4" / sequence))
    expected = frames(data / "rlsp-original" / "frames" / "7-64" / f"{sequence}_y").astype(int)
    output = authors_7_64.predict(low[None], verbose=0)[0, ..., 0]
    difference = np.abs(np.clip(np.round(output), 0, 255) - expected)
    assert output.shape == expected.shape
    # float32 sums in another order than the authors' GPU: a pixel in ten thousand rounds the other way.
    assert (difference == 0).mean() >= 0.999
    assert difference.max() <= 2


def test_authors_chroma_gives_the_authors_rgb(authors_7_64: keras.Model, data: Path) -> None:
    expected = frames(data / "rlsp-original" / "frames" / "7-64" / "calendar_rgb").astype(int)
    upscaler = StreamingUpscaler(authors_7_64, chroma="authors")
    output: list[np.ndarray] = []
    for frame in degrade(frames(data / "vid4" / "calendar")[: len(expected) + 1]):
        output += upscaler.push(frame)
    # They resized chroma with other edges; inside, rounding alone is left.
    assert np.abs(np.stack(output) - expected).mean() < 0.05
