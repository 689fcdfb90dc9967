"""Colours outside RGB 0..255 bypass the network and come out as they went in."""

import numpy as np
import pytest

from helpers.networks import needs_bytes, small_model
from rlsp_tf.inference.color_path import ColorPath
from rlsp_tf.inference.load import load_step
from rlsp_tf.inference.recurrent_stream import RecurrentStream
from rlsp_tf.inference.upscaler import StreamingUpscaler
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.pixels.color import ColorSpec, from_codes, rgb_to_ycbcr, to_codes, ycbcr_to_rgb
from rlsp_tf.pixels.resample import chroma_matrices, enlarge_matrix

WEIGHTS = np.array([65.738, 129.057, 25.064]) / 256
LIMITED = ColorSpec("bt601", False)
SPECS = [
    ColorSpec("bt601", False),
    ColorSpec("bt601", True, subsampling=(1, 1)),
    ColorSpec("bt709", False, depth=10),
    ColorSpec("bt2020", False, depth=12, subsampling=(2, 1), chroma_location="topleft"),
]


def residual_only(output="y", scale=4):
    """Makes a network that only repeats the luma, or the colour, of each low-resolution pixel."""
    model = small_model(np.random.default_rng(0), RLSPConfig(filters=2, layers=2, output=output, scale=scale))
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    return model


def stream(upscaler, frames):
    outputs = [output for frame in frames for output in upscaler.push(frame)]
    return outputs + upscaler.flush()


def planes_like(y, spec, chroma=128):
    """Makes planes from a luma plane in codes of ``spec``, with the same chroma everywhere."""
    across, down = spec.subsampling
    dtype = np.uint8 if spec.depth == 8 else np.uint16
    shape = (-(-y.shape[0] // down), -(-y.shape[1] // across))
    flat = np.full(shape, chroma << (spec.depth - 8), dtype)
    return (y.astype(dtype), flat, flat)


@pytest.mark.slow
@pytest.mark.parametrize("output", ["y", "rgb"])
@pytest.mark.parametrize(("depth", "matrix"), [(8, "bt601"), (8, "bt709"), (10, "bt601"), (10, "bt2020")])
def test_every_code_of_a_flat_field_comes_out_as_it_went_in(depth, matrix, output):
    spec = ColorSpec(matrix, False, depth)
    codes = np.arange(2**depth)[:: 2 ** (depth - 8)]
    fields = [planes_like(np.full((2, 2), code), spec) for code in codes]
    frames = stream(StreamingUpscaler(residual_only(output), source=spec, target=spec), fields)
    neutral = 2 ** (depth - 1)
    for code, planes in zip(codes, frames, strict=True):
        for plane, value in zip(planes, (code, neutral, neutral), strict=True):
            np.testing.assert_array_equal(plane, np.full_like(plane, value))


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("first", [1, 234])
def test_a_gradient_beyond_black_or_white_goes_on_smoothly(depth, first):
    """Below black and above white the output is the cubic interpolation of the ramp: a ramp again."""
    spec, unit = ColorSpec("bt601", False, depth), 2 ** (depth - 8)
    ramp = np.tile(np.arange(first, first + 20) * unit, (6, 1))
    ((y, _, _),) = stream(
        StreamingUpscaler(residual_only(), source=spec, target=spec), [planes_like(ramp, spec)]
    )
    positions = first * unit + np.arange(80) * unit / 4
    black, white = 16 * unit, 235 * unit
    # Away from the ends, and from the kink at black or white, where the kernel reaches 2 pixels.
    outside = ((positions < black - 2 * unit) if first < 16 else (positions > white + 2 * unit)).copy()
    outside[:8] = outside[-12:] = False
    assert outside.sum() > 30
    expected = np.broadcast_to(positions[outside], (24, outside.sum()))
    # Rounding to codes; a quarter of a code of 8 bits lies on half a code nowhere.
    assert np.abs(y[:, outside] - expected).max() <= 0.5


def reference(planes, spec, geometry, output):
    """Luma codes of the residual alone, with what was clipped enlarged: in float64, not rounded."""
    y, cb, cr = from_codes(*(plane.astype(np.float64) for plane in planes), spec)
    full = ColorSpec(spec.matrix, spec.full_range, spec.depth, (1, 1))
    rows, columns = chroma_matrices(y.shape, spec, full)
    rgb = np.stack(ycbcr_to_rgb(y, rows @ cb @ columns.T, rows @ cr @ columns.T, spec), axis=-1)
    clipped = rgb.clip(0, 255)
    down, across = (enlarge_matrix(side, 4) for side in y.shape)

    def large(plane):
        return down @ plane @ across.T

    if output == "rgb":
        beyond = np.moveaxis(rgb - clipped, -1, 0)
        red, green, blue = np.repeat(np.repeat(np.moveaxis(clipped, -1, 0), 4, 1), 4, 2) + large(beyond)
        return rgb_to_ycbcr(red, green, blue, spec)[0]
    luma = np.repeat(np.repeat(clipped @ WEIGHTS + 16, 4, 0), 4, 1) + large((rgb - clipped) @ WEIGHTS)
    shift = -0.375 if geometry == "authors" else 0.0
    rows, columns = chroma_matrices(y.shape, spec, full, luma.shape, scale=4, shift=shift)
    cb, cr = (rows @ plane @ columns.T for plane in (cb, cr))
    if geometry == "authors":
        luma, cb, cr = (np.round(plane).clip(0, 255) for plane in (luma, cb, cr))
    # Solved for luma by hand: it adds the same grey to all channels.
    black, luma_span, _ = spec.ranges
    chroma_only = np.stack(ycbcr_to_rgb(np.full_like(cb, black), cb, cr, spec), axis=-1) @ WEIGHTS
    return (luma - 16 - chroma_only) * luma_span / 255 / WEIGHTS.sum() + black


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.matrix}-{s.full_range}-{s.depth}-{s.subsampling}")
@pytest.mark.parametrize("geometry", ["aligned", "authors"])
@pytest.mark.parametrize("output", ["y", "rgb"])
def test_what_is_clipped_is_interpolated_and_added(spec, geometry, output, rng):
    """Random codes, most of which stand for no colour that RGB has."""
    across, down = spec.subsampling
    dtype = np.uint8 if spec.depth == 8 else np.uint16
    shapes = [(7, 9)] + [(-(-7 // down), -(-9 // across))] * 2
    planes = tuple(rng.integers(0, 2**spec.depth, shape).astype(dtype) for shape in shapes)
    upscaler = StreamingUpscaler(residual_only(output), chroma=geometry, source=spec, target=spec)
    ((y, _, _),) = stream(upscaler, [planes])
    unit = (2**spec.depth - 1) / 255 if spec.full_range else 2 ** (spec.depth - 8)
    expected = (reference(planes, spec, geometry, output) * unit).clip(0, 2**spec.depth - 1)
    difference = np.abs(y - expected)
    # Rounding to codes, and float32. Where the authors' way rounds luma or chroma to 8 bits first, float32
    # may round to the other side, in few places.
    assert np.quantile(difference, 0.99) <= 0.51
    assert difference.max() <= (0.51 if geometry == "aligned" or output == "rgb" else 2.6 * unit)


@pytest.mark.parametrize("scale", [2, 3])
def test_other_scales_interpolate_too(scale, rng):
    spec = ColorSpec("bt601", False, subsampling=(1, 1))
    y = rng.integers(0, 16, (5, 6))
    ((found, _, _),) = stream(
        StreamingUpscaler(residual_only(scale=scale), source=spec, target=spec), [planes_like(y, spec)]
    )
    expected = 16 + enlarge_matrix(5, scale) @ (y - 16) @ enlarge_matrix(6, scale).T
    assert np.abs(found - expected.clip(0, 255)).max() <= 0.51


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16", pytest.param("int8", marks=needs_bytes)])
def test_the_weights_in_the_box_stay_calm_below_black_and_above_white(precision):
    """The network sees black or white, so its output is that of black or white and what was set aside."""
    step = load_step("7-48", precision=precision)

    def field(code):
        planes = planes_like(np.full((12, 16), code), LIMITED)
        frames = stream(StreamingUpscaler(step, source=LIMITED, target=LIMITED), [planes] * 30)
        return np.stack([y for y, _, _ in frames]).astype(int)

    black, white = field(16), field(235)
    # The network itself is off by up to 5 at the edges of the frame, in 8 bits by twice that where it begins.
    edge = 5
    for found, truth in ((black, 16), (white, 235)):
        assert np.abs(found[1:] - truth).max() <= edge
        assert np.abs(found[0] - truth).max() <= (11 if precision == "int8" else edge)
    for code, of_range in ((5, black), (15, black), (236, white), (250, white)):
        expected = of_range + code - (16 if of_range is black else 235)
        # Numbers of bfloat16 often lie on halves, which float32 rounds to either side after an addition.
        assert np.mean(field(code) != expected) < 2e-3
        assert np.abs(field(code) - expected).max() <= 1


@pytest.mark.parametrize("precision", ["float32", pytest.param("int8", marks=needs_bytes)])
def test_credits_on_a_black_that_is_not_quite_black_stay_credits(precision, rng):
    """Text that scrolls over black with the footroom that encoders leave in it."""
    height, width, count = 24, 40, 40
    text = np.full((height + count, width), 16)
    text[20:28, 6:9] = text[20:28, 14:17] = text[23:25, 6:17] = text[20:28, 24:27] = 235
    clip = [text[t : t + height] - rng.integers(0, 5, (height, width)) for t in range(count)]
    upscaler = StreamingUpscaler(
        load_step("7-48", precision=precision), source=LIMITED, target=LIMITED, warm_start=8
    )
    frames = stream(upscaler, [planes_like(y, LIMITED) for y in clip])
    rows, columns = enlarge_matrix(height, 4), enlarge_matrix(width, 4)
    for y, (large, _, _) in zip(clip, frames, strict=True):
        # Sharper than the interpolation at the edges of letters, and nothing else.
        away = np.abs(large - rows @ y @ columns.T)
        assert away.mean() < 8
        assert np.mean(away[(rows @ y @ columns.T) < 17] > 40) < 0.02


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.matrix}-{s.full_range}-{s.depth}-{s.subsampling}")
def test_what_is_in_range_is_not_touched(spec, rng):
    """The network gets exactly the RGB of the formulas, and luma is its own, to the last code."""
    model = small_model(rng)
    colors = rng.uniform(60, 190, (3, 3, 1, 1)) + rng.uniform(-15, 15, (3, 1, 10, 12))
    across, down = spec.subsampling
    dtype = np.uint8 if spec.depth == 8 else np.uint16
    clip = []
    for rgb in colors:
        y, cb, cr = (np.round(plane) for plane in to_codes(*rgb_to_ycbcr(*rgb, spec), spec))
        clip.append((y.astype(dtype), cb[::down, ::across].astype(dtype), cr[::down, ::across].astype(dtype)))
    path = ColorPath(10, 12, 4, source=spec, target=spec)
    recurrent, full = RecurrentStream(model), ColorSpec(spec.matrix, spec.full_range, spec.depth, (1, 1))
    lumas, chromas = [], []
    for planes in clip:
        codes = from_codes(*(plane.astype(np.float32) for plane in planes), spec)
        rows, columns = chroma_matrices((10, 12), spec, full)
        y, cb, cr = codes[0], *(rows @ plane @ columns.T for plane in codes[1:])
        rgb, aside = path.enter(planes)
        assert aside.beyond is None
        # The same formulas in NumPy, which may sum in another order.
        expected = np.stack(ycbcr_to_rgb(y, cb, cr, spec), axis=-1)
        assert expected.min() > 0
        assert expected.max() < 255
        np.testing.assert_allclose(rgb.numpy()[0], expected, atol=2e-4)
        lumas += recurrent.push(rgb)
        rows, columns = chroma_matrices((10, 12), spec, full, (40, 48), scale=4)
        chromas.append([rows @ plane @ columns.T for plane in codes[1:]])
    lumas += recurrent.flush()
    frames = stream(StreamingUpscaler(model, source=spec, target=spec), clip)
    black, luma_span, _ = spec.ranges
    for (y, _, _), luma, (cb, cr) in zip(frames, lumas, chromas, strict=True):
        chroma_only = np.stack(ycbcr_to_rgb(np.full_like(cb, black), cb, cr, spec), axis=-1) @ WEIGHTS
        luma = (luma.numpy()[0, ..., 0] - 16 - chroma_only) * luma_span / 255 / WEIGHTS.sum() + black
        expected = (luma * ((2**spec.depth - 1) / 255 if spec.full_range else 2 ** (spec.depth - 8))).clip(
            0, 2**spec.depth - 1
        )
        # Away from halves, where float32 may round either way, every code is the same.
        clear = np.abs(expected % 1 - 0.5) > 0.01
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(y[clear], np.round(expected)[clear])


def test_rgb_has_nothing_beyond(rng):
    for dtype in (np.uint8, np.uint16):
        path = ColorPath(4, 5, 4, bits=8 * dtype().itemsize)
        extremes = rng.choice([0, np.iinfo(dtype).max], (4, 5, 3)).astype(dtype)
        rgb, aside = path.enter((extremes,))
        assert aside.beyond is None
        np.testing.assert_array_equal(rgb.numpy()[0], np.where(extremes, 255, 0))
