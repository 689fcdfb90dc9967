"""Frames in another size: every sample where half-pixel centres put it, by a Lanczos written out in NumPy."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from rlsp_tf.media.frames import Frame
from rlsp_tf.media.resize import Resizer
from rlsp_tf.pixels.color import ColorSpec

SITINGS = {"left": (0, 0.5), "center": (0.5, 0.5), "topleft": (0, 0), "bottom": (0.5, 1)}
"""Of the first chroma sample in 4:2:0, in luma samples (ITU-T H.273, figure 1)."""


def lanczos(size_in, size_out, positions):
    """Windowed sinc of three lobes, widened where samples get fewer; edges are repeated."""
    wide = max(1.0, size_in / size_out)
    reach = int(np.ceil(3 * wide)) + 1
    taps = np.floor(positions)[:, None] + np.arange(-reach, reach + 1)
    away = (taps - positions[:, None]) / wide
    weights = np.where(np.abs(away) < 3, np.sinc(away) * np.sinc(away / 3), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((size_out, size_in))
    rows = np.broadcast_to(np.arange(size_out)[:, None], taps.shape)
    np.add.at(matrix, (rows, taps.clip(0, size_in - 1).astype(int)), weights)
    return matrix


def resized(plane, luma, new_luma, held=(1, 1), siting=(0, 0), shift=0.0):
    """A plane whose samples lie at ``siting + held * n`` of the luma, which is resized edge to edge.

    Sizes are ``(height, width)``, ``held`` and ``siting`` horizontal first; ``shift`` in new luma samples.
    """
    result = plane.astype(float)
    for axis in (0, 1):
        apart, offset = held[1 - axis], siting[1 - axis]
        count = -(-new_luma[axis] // apart)
        factor = luma[axis] / new_luma[axis]
        seen = (offset + apart * np.arange(count) + 0.5 + shift) * factor - 0.5
        result = np.moveaxis(
            np.tensordot(lanczos(plane.shape[axis], count, (seen - offset) / apart), result, (1, axis)),
            0,
            axis,
        )
    return result


def texture(rng, shape, most):
    smooth = gaussian_filter(rng.normal(size=shape), 1.5)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return np.rint((0.05 + 0.9 * smooth) * most).astype(np.uint8 if most == 255 else np.uint16)


@pytest.mark.parametrize("new", [(54, 80), (80, 120), (160, 300), (62, 92)], ids=str)
@pytest.mark.parametrize(
    ("subsampling", "location", "depth", "full"),
    [
        ((2, 2), "left", 8, False),
        ((2, 2), "center", 8, True),
        ((2, 2), "topleft", 10, False),
        ((2, 2), "bottom", 8, False),
        ((2, 1), "left", 10, True),
        ((1, 1), "left", 8, False),
        ((1, 1), "left", 12, True),
        ((4, 1), "left", 8, False),
    ],
)
@pytest.mark.parametrize("clear", [False, True], ids=["opaque", "transparent"])
def test_planes_stay_where_they_are(subsampling, location, depth, full, clear, new, rng):
    if clear and (subsampling == (4, 1) or depth == 12):
        pytest.skip("FFmpeg has no such format with alpha")
    spec = ColorSpec("bt709", full, depth, subsampling, location)
    siting = SITINGS[location] if subsampling == (2, 2) else (0, 0)
    luma, most = (108, 160), 2**depth - 1
    chroma = (-(-luma[0] // subsampling[1]), -(-luma[1] // subsampling[0]))
    planes = tuple(texture(rng, shape, most) for shape in (luma, chroma, chroma))
    alpha = texture(rng, luma, most) if clear else None
    resize = Resizer(new[1], new[0], spec)
    resize(Frame(tuple(plane[::-1].copy() for plane in planes), alpha=alpha))
    frame = resize(Frame(planes, pts=7, duration=2, name="seven", alpha=alpha))
    assert (frame.pts, frame.duration, frame.name) == (7, 2, "seven")
    held = [(1, 1), subsampling, subsampling, (1, 1)]
    at = [(0, 0), siting, siting, (0, 0)]
    given, made = [[*each.planes, each.alpha][: 3 + clear] for each in (Frame(planes, alpha=alpha), frame)]
    for plane, found, apart, offset in zip(given, made, held, at, strict=False):
        want = resized(plane, luma, new, apart, offset).clip(0, most)
        assert found.dtype == plane.dtype
        assert found.shape == want.shape
        moved = resized(plane, luma, new, apart, offset, shift=0.25).clip(0, most)
        rms, rms_moved = (np.sqrt(np.mean((found - each) ** 2)) for each in (want, moved))
        # Rounding to whole numbers has an RMS of 0.289; the filter's weights have 12 to 14 bits.
        bound = 0.35 + most / 2**13
        assert rms < bound
        # A shift by a quarter of a pixel would be seen.
        assert rms_moved > 3 * bound


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("clear", [False, True], ids=["opaque", "transparent"])
def test_rgb_is_resized_as_it_is(dtype, clear, rng):
    most = np.iinfo(dtype).max
    rgb = np.stack([texture(rng, (37, 53), most) for _ in range(3)], axis=-1)
    alpha = texture(rng, (37, 53), most) if clear else None
    frame = Resizer(29, 21, None)(Frame((rgb,), alpha=alpha))
    (made,) = frame.planes
    assert made.shape == (21, 29, 3)
    assert made.dtype == dtype
    want = np.stack([resized(rgb[..., index], (37, 53), (21, 29)) for index in range(3)], axis=-1)
    # With 16 bits, the weights' 12 to 14 bits show: here by at most half a code of 8 bits.
    bound = 1 if most == 255 else 128
    np.testing.assert_allclose(made, want.clip(0, most), rtol=0, atol=bound)
    if clear:
        np.testing.assert_allclose(
            frame.alpha, resized(alpha, (37, 53), (21, 29)).clip(0, most), rtol=0, atol=bound
        )


def test_black_white_and_what_is_beyond_are_kept():
    """Codes outside the range of video stay, since nothing is stretched."""
    spec = ColorSpec("bt601", False, 8, (2, 2))
    for level in (0, 1, 16, 128, 235, 254, 255):
        planes = tuple(np.full(shape, level, np.uint8) for shape in ((32, 48), (16, 24), (16, 24)))
        for plane in Resizer(36, 24, spec)(Frame(planes)).planes:
            assert (plane == level).all()
