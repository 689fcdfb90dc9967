"""Alpha around the network: where its samples lie, and that what nobody sees does not count."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from rlsp_tf.inference.color_path import ColorPath
from rlsp_tf.inference.transparency import enlarge_alpha, filled_under
from rlsp_tf.pixels.color import ColorSpec


@pytest.mark.parametrize("geometry", ["aligned", "authors"])
@pytest.mark.parametrize("depth", [8, 10])
def test_alpha_is_enlarged_as_chroma_is(depth, geometry, rng):
    """The same samples as chroma of 4:4:4 give the same result."""
    spec = ColorSpec("bt601", full_range=False, depth=depth, subsampling=(1, 1))
    dtype = np.uint8 if depth == 8 else np.uint16
    planes = tuple(rng.integers(0, 2**depth, (9, 14)).astype(dtype) for _ in range(3))
    path = ColorPath(9, 14, 4, source=spec, target=spec, geometry=geometry)
    _, aside = path.enter(planes)
    _, large, _ = path.leave(np.full((1, 36, 56, 1), 100, np.float32), aside)
    alpha = enlarge_alpha(planes[1], 4, depth=depth, target_depth=depth, geometry=geometry)
    assert alpha.dtype == dtype
    # Float32 in another order; the authors' geometry rounds chroma to 8 bits on the way.
    tolerance = 2 ** (depth - 8) if geometry == "authors" else 1
    assert np.abs(alpha.astype(int) - large.astype(int)).max() <= tolerance
    if geometry == "aligned":
        np.testing.assert_array_equal(alpha[::4, ::4], planes[1])


@pytest.mark.parametrize(("depth", "target"), [(8, 10), (8, 16), (16, 8), (10, 8), (12, 10)])
def test_opaque_stays_opaque_and_clear_stays_clear(depth, target):
    dtype = np.uint8 if depth == 8 else np.uint16
    for code, expected in ((0, 0), (2**depth - 1, 2**target - 1)):
        alpha = enlarge_alpha(np.full((3, 5), code, dtype), 4, depth=depth, target_depth=target)
        np.testing.assert_array_equal(alpha, np.full((12, 20), expected))
        assert alpha.dtype == (np.uint8 if target == 8 else np.uint16)


def test_an_edge_does_not_ring():
    """What is clear is not seen through an overshoot, and what is opaque is not seen through either."""
    alpha = np.zeros((8, 16), np.uint8)
    alpha[:, 8:] = 255
    large = enlarge_alpha(alpha, 4, depth=8, target_depth=8)
    assert not large[:, :29].any()
    assert (large[:, 32:] == 255).all()
    assert (np.diff(large.astype(int), axis=1) >= 0).all()


@pytest.mark.parametrize("subsampling", [None, (1, 1), (2, 1), (2, 2), (4, 1)])
@pytest.mark.parametrize("size", [(23, 37), (16, 32), (1, 5)])
def test_visible_samples_stay_and_the_others_do_not_count(size, subsampling, rng):
    alpha = rng.integers(0, 2, size, dtype=np.uint8) * 255
    alpha[:, size[1] // 2 :] = 0
    alpha[0, 0] = 255
    across, down = subsampling or (1, 1)
    small = -(-size[0] // down), -(-size[1] // across)
    shapes = [size, small, small] if subsampling else [(*size, 3)]
    visible = alpha > 0
    blocks = np.zeros((small[0] * down, small[1] * across), bool)
    blocks[: size[0], : size[1]] = visible
    visible_chroma = blocks.reshape(small[0], down, small[1], across).any(axis=(1, 3))
    masks = [visible, visible_chroma, visible_chroma] if subsampling else [visible]
    planes = tuple(rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes)
    others = tuple(
        np.where(mask.reshape(mask.shape + (1,) * (plane.ndim - 2)), plane, 255 - plane)
        for plane, mask in zip(planes, masks, strict=True)
    )
    filled = filled_under(planes, alpha, 8)
    for plane, result, again, mask in zip(planes, filled, filled_under(others, alpha, 8), masks, strict=True):
        assert result.dtype == plane.dtype
        np.testing.assert_array_equal(result[mask], plane[mask])
        np.testing.assert_array_equal(result, again)


def test_next_to_what_is_seen_its_colour_goes_on(rng):
    """A disc of one colour on black: its colour is all that is left."""
    rows, columns = np.mgrid[:40, :60]
    alpha = (((rows - 20) ** 2 + (columns - 25) ** 2 < 150) * 65535).astype(np.uint16)
    rgb = np.zeros((40, 60, 3), np.uint16)
    rgb[alpha > 0] = (60000, 40000, 300)
    (filled,) = filled_under((rgb,), alpha, 16)
    np.testing.assert_array_equal(filled, np.broadcast_to(np.uint16([60000, 40000, 300]), filled.shape))


def test_the_nearest_colour_is_what_goes_on():
    """Two halves, apart by a gap: beside each, within the gap, is its own colour."""
    alpha = np.full((16, 64), 255, np.uint8)
    alpha[:, 16:48] = 0
    rgb = np.zeros((16, 64, 3), np.uint8)
    rgb[:, :16], rgb[:, 48:] = (200, 10, 20), (30, 40, 220)
    (filled,) = filled_under((rgb,), alpha, 8)
    near = distance_transform_edt(alpha == 0) <= 8
    for columns, color in ((slice(16, 32), (200, 10, 20)), (slice(32, 48), (30, 40, 220))):
        found = filled[:, columns][near[:, columns] & (alpha[:, columns] == 0)]
        np.testing.assert_array_equal(found, np.broadcast_to(np.uint8(color), found.shape))


def test_where_nothing_is_seen_a_frame_is_flat(rng):
    planes = rng.integers(0, 256, (6, 8), dtype=np.uint8), rng.integers(0, 256, (3, 4), dtype=np.uint8)
    for plane, filled in zip(planes, filled_under(planes, np.full((6, 8), 2, np.uint8), 8), strict=True):
        np.testing.assert_array_equal(filled, np.full_like(plane, np.rint(plane.mean())))


def test_a_frame_in_which_all_is_seen_is_the_same(rng):
    planes = (rng.integers(0, 256, (6, 8, 3), dtype=np.uint8),)
    assert filled_under(planes, np.full((6, 8), 5, np.uint8), 8) is planes
