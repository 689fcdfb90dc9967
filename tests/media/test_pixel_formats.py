"""Samples as FFmpeg has them, sample by sample; colour by the formulas of the standards."""

import itertools
from typing import get_args

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.media import assert_planes, random_planes
from helpers.videos import marked, memory
from rlsp_tf.media.pixel_formats import (
    chain,
    format_for,
    is_transparent,
    nearest_spec,
    planes_from_rgb,
    planes_of,
    spec_of,
    to_video_frame,
    turned,
)
from rlsp_tf.pixels.color import ChromaLocation, ColorSpec, rgb_to_ycbcr

SIZES = [(64, 48), (63, 47), (2, 2), (1, 1)]
SUBSAMPLINGS = {"420": (2, 2), "422": (2, 1), "444": (1, 1), "440": (1, 2), "411": (4, 1), "410": (4, 4)}


def put(frame, plane, samples):
    rows = np.ascontiguousarray(samples).view(np.uint8)
    memory(frame, plane)[:, : rows.shape[1]] = rows


PLANAR = [("420", 8), ("422", 8), ("444", 8), ("440", 8), ("411", 8), ("410", 8)]
PLANAR += [(name, depth) for name in ("420", "422", "444") for depth in (9, 10, 12, 14, 16)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("name", "depth"), PLANAR)
def test_planar_formats_are_taken_and_given_as_they_are(name, depth, size, rng):
    spec = ColorSpec("bt709", False, depth, SUBSAMPLINGS[name])
    planes = random_planes(rng, size, spec.subsampling, depth)
    pixel_format = f"yuv{name}p" + (f"{depth}le" if depth > 8 else "")
    frame = av.VideoFrame(*size, pixel_format)
    for index, plane in enumerate(planes):
        put(frame, index, plane)
    assert_planes(planes_of(frame), planes)
    made = to_video_frame(planes, format_for(spec))
    assert made.format.name == pixel_format
    assert_planes(planes_of(made), planes)
    assert spec_of(frame, 1, 1, "prores") == spec


@pytest.mark.parametrize("size", [(64, 48), (63, 47), (65, 47), (1, 1)])
@pytest.mark.parametrize(("pixel_format", "depth"), [("nv12", 8), ("p010le", 10), ("nv16", 8), ("nv24", 8)])
def test_interleaved_chroma_is_taken_apart(pixel_format, depth, size, rng):
    """Of every width: the lines of one must not reach into the next."""
    subsampling = {"nv12": (2, 2), "p010le": (2, 2), "nv16": (2, 1), "nv24": (1, 1)}[pixel_format]
    planes = random_planes(rng, size, subsampling, depth)
    frame = av.VideoFrame(*size, pixel_format)
    shift = 6 if depth == 10 else 0  # P010 has its ten bits at the top of sixteen
    put(frame, 0, planes[0] << shift)
    put(frame, 1, np.stack(planes[1:], axis=-1).reshape(len(planes[1]), -1) << shift)
    frame.color_range = 2
    for mode in ("prog", "tff"):  # of interlaced frames the fields are taken one after the other
        assert_planes(planes_of(marked(frame, mode)), planes)


def test_packed_and_big_endian_samples_are_put_in_order(rng):
    planes = random_planes(rng, (64, 48), (2, 1), 8)
    frame = av.VideoFrame(64, 48, "yuyv422")
    y, cb, cr = planes
    put(frame, 0, np.stack([y[:, ::2], cb, y[:, 1::2], cr], axis=-1).reshape(48, -1))
    assert_planes(planes_of(frame), planes)

    planes = random_planes(rng, (63, 47), (2, 2), 10)
    frame = av.VideoFrame(63, 47, "yuv420p10be")
    for index, plane in enumerate(planes):
        put(frame, index, plane.astype(">u2"))
    assert_planes(planes_of(frame), planes)


@pytest.mark.parametrize(("pixel_format", "depth"), [("gray", 8), ("gray10le", 10), ("gray16le", 16)])
def test_grey_gets_neutral_chroma(pixel_format, depth, rng):
    y, cb, _ = random_planes(rng, (63, 47), (2, 2), depth)
    frame = av.VideoFrame(63, 47, pixel_format)
    put(frame, 0, y)
    neutral = np.full_like(cb, 2 ** (depth - 1))
    assert_planes(planes_of(frame), [y, neutral, neutral])
    assert spec_of(frame, 2, 0, "ffv1") == ColorSpec("bt601", full_range=True, depth=depth)


@pytest.mark.parametrize("pixel_format", ["rgb24", "bgr24", "bgr0", "gbrp", "rgba", "argb"])
def test_rgb_in_any_order_is_rgb(pixel_format, rng):
    rgb = rng.integers(0, 256, (47, 63, 3), dtype=np.uint8)
    order = {"bgr24": "bgr", "bgr0": "bgr0", "rgba": "rgba", "argb": "argb", "gbrp": "gbr"}.get(
        pixel_format, "rgb"
    )
    channels = {**dict(zip("rgb", np.moveaxis(rgb, -1, 0), strict=True)), "a": rgb[..., 0], "0": rgb[..., 0]}
    frame = av.VideoFrame(63, 47, pixel_format)
    if pixel_format == "gbrp":
        for index, name in enumerate(order):
            put(frame, index, channels[name])
    else:
        put(frame, 0, np.stack([channels[name] for name in order], axis=-1).reshape(47, -1))
    assert_planes(planes_of(frame), [rgb])
    assert spec_of(frame, 1, 1, "ffv1") is None
    assert is_transparent(frame) == ("a" in pixel_format)


def test_deep_rgb_becomes_16_bits(rng):
    ten = rng.integers(0, 1024, (47, 63, 3), dtype=np.uint16)
    frame = av.VideoFrame(63, 47, "gbrp10le")
    for index, channel in enumerate((1, 2, 0)):
        put(frame, index, ten[..., channel])
    # Ten bits are repeated to fill sixteen, so that the largest stays the largest.
    assert_planes(planes_of(frame), [(ten << 6) | (ten >> 4)])


def test_a_palette_becomes_rgb(rng):
    palette = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    indices = rng.integers(0, 256, (48, 64), dtype=np.uint8)
    argb = np.concatenate([np.full((256, 1), 255, np.uint8), palette], axis=1)
    frame = av.VideoFrame.from_ndarray((indices, argb), format="pal8")
    assert_planes(planes_of(frame), [palette[indices]])


def test_alpha_beside_planes_is_dropped_and_seen(rng):
    planes = random_planes(rng, (64, 48), (2, 2), 8)
    frame = av.VideoFrame(64, 48, "yuva420p")
    for index, plane in enumerate([*planes, np.full((48, 64), 255, np.uint8)]):
        put(frame, index, plane)
    assert_planes(planes_of(frame), planes)
    assert not is_transparent(frame)
    memory(frame, 3)[5, 6] = 100
    assert is_transparent(frame)


@pytest.mark.parametrize(
    ("matrix", "tag_range", "height", "pixel_format", "codec", "expected"),
    [
        (2, 0, 719, "yuv420p", "vp9", ColorSpec("bt601", False)),
        (2, 0, 720, "yuv420p", "vp9", ColorSpec("bt709", False)),
        (1, 1, 480, "yuv420p", "vp9", ColorSpec("bt709", False)),
        (5, 2, 480, "yuv420p", "vp9", ColorSpec("bt601", True)),
        (6, 1, 1080, "yuv420p", "vp9", ColorSpec("bt601", False)),
        (9, 1, 2160, "yuv420p10le", "vp9", ColorSpec("bt2020", False, 10, chroma_location="topleft")),
        (2, 0, 480, "yuvj420p", "mjpeg", ColorSpec("bt601", True, chroma_location="center")),
        (2, 0, 480, "yuvj444p", "vp9", ColorSpec("bt601", True, 8, (1, 1))),
    ],
)
def test_tags_decide_and_their_absence_follows_the_usual_rule(
    matrix, tag_range, height, pixel_format, codec, expected
):
    assert spec_of(av.VideoFrame(64, height, pixel_format), matrix, tag_range, codec) == expected


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv420p10le"])
@pytest.mark.parametrize("location", get_args(ChromaLocation))
def test_the_place_of_chroma_is_what_the_decoder_says(location, pixel_format, rng):
    frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (47, 63, 3), dtype=np.uint8))
    graph = chain(frame.reformat(format=pixel_format), ("setparams", f"chroma_location={location}"))
    graph.vpush(frame.reformat(format=pixel_format))
    told = marked(graph.vpull(), "tff")
    assert spec_of(told, 1, 1, "h264").chroma_location == location
    # Of other decoders it may mean that they know nothing.
    assert spec_of(told, 1, 1, "vp9").chroma_location == ("left" if location == "center" else location)
    bt2020 = "topleft" if location == "left" else location
    assert spec_of(told, 9, 1, "hevc").chroma_location == bt2020


SPECS = [
    ColorSpec(matrix, full, depth, subsampling, location)
    for (matrix, full, depth), subsampling, location in itertools.product(
        [("bt601", False, 8), ("bt709", True, 8), ("bt2020", False, 10), ("bt709", True, 12)],
        [(2, 2), (2, 1), (1, 1), (4, 1)],
        ["left", "center", "topleft", "bottom"],
    )
]


def codes(y, cb, cr, spec):
    """8-bit codes in the spec's depth: ITU-T H.273, equations 23 to 36."""
    if spec.full_range:
        most, half = 2**spec.depth - 1, 2 ** (spec.depth - 1)
        return y / 255 * most, (cb - 128) / 255 * most + half, (cr - 128) / 255 * most + half
    return tuple(plane * 2 ** (spec.depth - 8) for plane in (y, cb, cr))


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("deep", [False, True])
def test_rgb_becomes_planes_with_chroma_at_its_place(spec, deep, rng):
    """On a linear ramp of colour, whatever filter reduces chroma, its value is that of its position."""
    width, height = 64, 48
    slope_x, slope_y, start = rng.uniform(0.5, 1.5, (3, 3)) * [[1], [1], [40]]
    x, y = np.arange(width)[None, :, None], np.arange(height)[:, None, None]

    def color_at(x, y):
        return start + slope_x * x + slope_y * y

    rgb = color_at(x, y)
    scale = 257 if deep else 1
    rounded = np.rint(rgb * scale).astype(np.uint16 if deep else np.uint8)
    planes = planes_from_rgb(rounded, spec)
    assert all(plane.dtype == (np.uint8 if spec.depth == 8 else np.uint16) for plane in planes)

    luma, _, _ = codes(*rgb_to_ycbcr(*np.moveaxis(rounded / scale, -1, 0), spec), spec)
    # Half a code for rounding; float32 may decide a tie the other way.
    np.testing.assert_allclose(planes[0], luma, atol=0.51)

    (across, down), (offset_x, offset_y) = spec.subsampling, spec.siting
    chroma_x = np.arange(-(-width // across))[None, :, None] * across + offset_x
    chroma_y = np.arange(-(-height // down))[:, None, None] * down + offset_y
    _, cb, cr = codes(*rgb_to_ycbcr(*np.moveaxis(color_at(chroma_x, chroma_y), -1, 0), spec), spec)
    inside = (slice(4, -4), slice(4, -4))  # the filter is 8 samples wide and the ramp has an end
    step = 2.0 ** (spec.depth - 8)
    # Half a code for rounding planes, half a step of RGB's own bits for rounding RGB.
    tolerance = 0.51 + 0.6 * step / scale
    np.testing.assert_allclose(planes[1][inside], cb[inside], atol=tolerance)
    np.testing.assert_allclose(planes[2][inside], cr[inside], atol=tolerance)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_flat_rgb_has_its_codes_up_to_the_edges(spec):
    rgb = np.broadcast_to(np.array([200, 30, 90], np.uint8), (5, 7, 3))
    expected = codes(*rgb_to_ycbcr(200.0, 30.0, 90.0, spec), spec)
    for plane, code in zip(planes_from_rgb(rgb, spec), expected, strict=True):
        np.testing.assert_allclose(plane, code, atol=0.51)


def test_black_and_white_do_not_leave_the_codes():
    rgb = np.zeros((4, 8, 3), np.uint8)
    rgb[:, 4:] = [0, 0, 255]
    for spec in SPECS:
        for plane in planes_from_rgb(rgb, spec):
            assert plane.max() < 2**spec.depth


@given(
    wanted=st.tuples(st.sampled_from(sorted(SUBSAMPLINGS.values())), st.sampled_from([8, 9, 10, 12, 16])),
    choices=st.lists(
        st.tuples(st.sampled_from(sorted(SUBSAMPLINGS)), st.sampled_from([8, 10, 12])),
        min_size=1,
        unique=True,
    ),
)
def test_the_nearest_format_loses_nothing_if_one_does(wanted, choices):
    subsampling, depth = wanted
    spec = ColorSpec("bt2020", True, depth, subsampling, "topleft")
    formats = ["gbrp", "nv12", *(f"yuv{name}p" + (f"{d}le" if d > 8 else "") for name, d in choices)]
    nearest = nearest_spec(spec, formats)
    assert format_for(nearest) in formats
    assert (nearest.matrix, nearest.full_range, nearest.chroma_location) == ("bt2020", True, "topleft")
    if format_for(spec) in formats:
        assert nearest == spec

    def keeps_all(subsampling, depth):
        (across, down), (wanted_across, wanted_down) = subsampling, spec.subsampling
        return across <= wanted_across and down <= wanted_down and depth >= spec.depth

    if any(keeps_all(SUBSAMPLINGS[name], d) for name, d in choices):
        assert keeps_all(nearest.subsampling, nearest.depth)


def test_without_planar_formats_there_is_no_nearest():
    assert nearest_spec(ColorSpec("bt709", False), ["rgb24", "nv12", "gray"]) is None


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("location", ["left", "center", "topleft", "top", "bottomleft", "bottom"])
@pytest.mark.parametrize("subsampling", [(2, 2), (2, 1), (1, 2), (1, 1)])
def test_turned_planes_have_their_chroma_where_it_went(subsampling, location, turns):
    """The positions themselves, turned as images are, tell where the first chroma sample is."""
    spec = ColorSpec("bt601", False, 8, subsampling, location)
    (across, down), (x, y) = subsampling, spec.siting
    rows, columns = np.mgrid[:8, :12]
    luma = columns + 1j * rows
    chroma = (columns[: 8 // down, : 12 // across] * across + x) + 1j * (
        rows[: 8 // down, : 12 // across] * down + y
    )
    luma, chroma = np.rot90(luma, turns), np.rot90(chroma, turns)
    right, below = luma[0, 1] - luma[0, 0], luma[1, 0] - luma[0, 0]
    offset = chroma[0, 0] - luma[0, 0]
    place = np.array([(offset * right.conjugate()).real, (offset * below.conjugate()).real])
    result = turned(spec, turns)
    assert result.subsampling == (subsampling if turns % 2 == 0 else subsampling[::-1])
    # No standard has chroma at the right-hand side; the middle is the nearest then.
    nameable = [min(place[0], 0.5), place[1]]
    np.testing.assert_array_equal(result.siting, nameable)
