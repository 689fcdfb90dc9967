"""Colour arithmetic against the codes that the standards print."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rlsp_tf.pixels.color import ColorSpec, luma_from_bt601, rgb_to_ycbcr, ycbcr_to_rgb

SPECS = [ColorSpec(matrix, full) for matrix in ("bt601", "bt709", "bt2020") for full in (False, True)]
COLORS = arrays(np.float64, (3, 5), elements=st.floats(0, 255))

# Colour bars, RGB 0 or 1 -> (Y, Cb, Cr) at full and at 75 % amplitude: ITU-R BT.1729 and SMPTE RP 219.
BARS = {
    ("bt601", (1, 1, 1)): [(235, 128, 128), (180, 128, 128)],
    ("bt601", (1, 1, 0)): [(210, 16, 146), (162, 44, 142)],
    ("bt601", (0, 1, 1)): [(170, 166, 16), (131, 156, 44)],
    ("bt601", (0, 1, 0)): [(145, 54, 34), (112, 72, 58)],
    ("bt601", (1, 0, 1)): [(106, 202, 222), (84, 184, 198)],
    ("bt601", (1, 0, 0)): [(81, 90, 240), (65, 100, 212)],
    ("bt601", (0, 0, 1)): [(41, 240, 110), (35, 212, 114)],
    ("bt601", (0, 0, 0)): [(16, 128, 128), (16, 128, 128)],
    ("bt709", (1, 1, 1)): [(235, 128, 128), (180, 128, 128)],
    ("bt709", (1, 1, 0)): [(219, 16, 138), (168, 44, 136)],
    ("bt709", (0, 1, 1)): [(188, 154, 16), (145, 147, 44)],
    ("bt709", (0, 1, 0)): [(173, 42, 26), (133, 63, 52)],
    ("bt709", (1, 0, 1)): [(78, 214, 230), (63, 193, 204)],
    ("bt709", (1, 0, 0)): [(63, 102, 240), (51, 109, 212)],
    ("bt709", (0, 0, 1)): [(32, 240, 118), (28, 212, 120)],
    ("bt709", (0, 0, 0)): [(16, 128, 128), (16, 128, 128)],
}


@pytest.mark.parametrize(("matrix", "rgb"), BARS)
def test_color_bars_have_the_codes_of_the_standards(matrix, rgb):
    for amplitude, codes in zip((255, 255 * 0.75), BARS[matrix, rgb], strict=True):
        planes = rgb_to_ycbcr(*(amplitude * np.array(rgb)), ColorSpec(matrix, full_range=False))
        assert tuple(np.rint(planes).astype(int)) == codes


# E'Cb = (E'B - E'Y) / d and E'Cr = (E'R - E'Y) / d: d of BT.601-7 2.5.2, BT.709-6 3.3, BT.2020-2 table 4.
DIVISORS = {"bt601": (1.772, 1.402), "bt709": (1.8556, 1.5748), "bt2020": (1.8814, 1.4746)}
WEIGHTS = {
    "bt601": (0.299, 0.587, 0.114),
    "bt709": (0.2126, 0.7152, 0.0722),
    "bt2020": (0.2627, 0.678, 0.0593),
}


@pytest.mark.parametrize("spec", SPECS, ids=str)
@given(rgb=COLORS)
def test_luma_and_chroma_follow_the_printed_equations(spec, rgb):
    r, g, b = rgb / 255
    kr, kg, kb = WEIGHTS[spec.matrix]
    y = kr * r + kg * g + kb * b
    cb, cr = (b - y) / DIVISORS[spec.matrix][0], (r - y) / DIVISORS[spec.matrix][1]
    if spec.full_range:
        expected = 255 * y, 255 * cb + 128, 255 * cr + 128
    else:
        expected = 219 * y + 16, 224 * cb + 128, 224 * cr + 128
    np.testing.assert_allclose(rgb_to_ycbcr(*rgb, spec), expected, rtol=0, atol=1e-9)


def test_full_range_bt601_is_jfif(rng):
    """RGB from YCbCr as printed in ECMA TR/98 (JFIF), clause 7, with its six decimals."""
    y, cb, cr = rng.uniform(0, 255, (3, 100))
    r, g, b = ycbcr_to_rgb(y, cb, cr, ColorSpec("bt601", full_range=True))
    np.testing.assert_allclose(r, y + 1.402 * (cr - 128), atol=1e-9)
    np.testing.assert_allclose(g, y - 0.3441363 * (cb - 128) - 0.71413636 * (cr - 128), atol=1e-4)
    np.testing.assert_allclose(b, y + 1.772 * (cb - 128), atol=1e-9)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@given(rgb=COLORS)
def test_there_and_back(spec, rgb):
    np.testing.assert_allclose(ycbcr_to_rgb(*rgb_to_ycbcr(*rgb, spec), spec), rgb, rtol=0, atol=1e-9)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@given(rgb=COLORS)
def test_the_networks_luma_becomes_that_of_the_video(spec, rgb):
    r, g, b = rgb
    network = (65.738 * r + 129.057 * g + 25.064 * b) / 256 + 16
    y, cb, cr = rgb_to_ycbcr(r, g, b, spec)
    np.testing.assert_allclose(luma_from_bt601(network, cb, cr, spec), y, rtol=0, atol=1e-9)


@given(luma=st.floats(16, 235), cb=st.floats(16, 240), cr=st.floats(16, 240))
def test_in_bt601_the_networks_luma_stays_as_it_is(luma, cb, cr):
    # What is left are the five digits of the paper's weights.
    assert abs(luma_from_bt601(luma, cb, cr, ColorSpec("bt601", full_range=False)) - luma) < 1.5e-3


@pytest.mark.parametrize(
    ("location", "subsampling", "siting"),
    [
        ("left", (2, 2), (0, 0.5)),
        ("center", (2, 2), (0.5, 0.5)),
        ("topleft", (2, 2), (0, 0)),
        ("top", (2, 2), (0.5, 0)),
        ("bottomleft", (2, 2), (0, 1)),
        ("bottom", (2, 2), (0.5, 1)),
        ("left", (2, 1), (0, 0)),
        ("center", (2, 1), (0.5, 0)),
        ("center", (4, 1), (1.5, 0)),
        ("left", (1, 2), (0, 0.5)),
        *((location, (1, 1), (0, 0)) for location in ("left", "center", "topleft", "bottom")),
    ],
)
def test_chroma_lies_where_its_name_says(location, subsampling, siting):
    assert ColorSpec("bt709", False, subsampling=subsampling, chroma_location=location).siting == siting


@pytest.mark.parametrize(
    "wrong",
    [
        {"matrix": "bt.709"},
        {"depth": 7},
        {"depth": 17},
        {"subsampling": (3, 1)},
        {"chroma_location": "right"},
    ],
)
def test_refuses_what_no_standard_knows(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must be"):
        ColorSpec(**{"matrix": "bt709", "full_range": False, **wrong})
