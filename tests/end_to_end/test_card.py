"""A test card through the whole of it, from file to file: colours and tags come back as they were."""

from dataclasses import dataclass

import av
import numpy as np
import pytest

from helpers.networks import small_model
from helpers.videos import make_video, memory
from rlsp_tf.inference.step import KerasStep
from rlsp_tf.upscaling.upscale import upscale

# Saturated and grey, R'G'B' from 0 to 1, each a patch of 16x16.
COLORS = np.array(
    [
        *((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (0, 0, 0)),
        *((0, 1, 1), (1, 0, 1), (1, 1, 0), (0.5, 0.5, 0.5), (0.9, 0.6, 0.2)),
    ]
)
WIDTH, HEIGHT, RAMP, CHROMA = 80, 80, slice(32, 48), slice(48, 80)
# H.273's number: luma weights of R and B, E'B - E'Y and E'R - E'Y at most (BT.601-7, BT.709-6, BT.2020-2).
STANDARDS = {
    6: (0.299, 0.114, 1.772, 1.402),
    1: (0.2126, 0.0722, 1.8556, 1.5748),
    9: (0.2627, 0.0593, 1.8814, 1.4746),
}


@dataclass(frozen=True)
class Code:
    """The numbers of a format (H.273, 8.3): black, the spans of luma and chroma, neutral chroma."""

    depth: int
    full: bool

    @property
    def unit(self):
        return 2 ** (self.depth - 8)

    @property
    def black(self):
        return 0 if self.full else 16 * self.unit

    @property
    def spans(self):
        most = 2**self.depth - 1
        return (most, most) if self.full else (219 * self.unit, 224 * self.unit)

    @property
    def neutral(self):
        return 128 * self.unit


def codes_of(rgb, matrix, code):
    kr, kb, blue, red = STANDARDS[matrix]
    y = rgb @ [kr, 1 - kr - kb, kb]
    luma, chroma = code.spans
    cb, cr = (rgb[..., 2] - y) / blue, (rgb[..., 0] - y) / red
    # The largest chroma of the full range is half a code above the largest code.
    planes = np.rint([code.black + luma * y, code.neutral + chroma * cb, code.neutral + chroma * cr])
    return np.minimum(planes, 2**code.depth - 1).T


def rgb_of(planes, matrix, code):
    """R'G'B' from 0 to 1 of codes ``(..., 3)``, and how far off they may be if each is off by one half."""
    kr, kb, blue, red = STANDARDS[matrix]
    luma, chroma = code.spans
    kg = 1 - kr - kb
    inverse = np.array([[1, 0, red], [1, -kb * blue / kg, -kr * red / kg], [1, blue, 0]]) / [
        luma,
        chroma,
        chroma,
    ]
    return (planes - [code.black, code.neutral, code.neutral]) @ inverse.T, np.abs(inverse).sum(axis=1) / 2


def card(matrix, code, subsampling, siting):
    """Planes of the card: patches, a ramp of luma in single codes, ramps of chroma, Cb across and Cr down."""
    across, down = subsampling
    y = np.full((HEIGHT, WIDTH), code.black + code.spans[0] // 2)
    x_of = np.arange(0, WIDTH, across)[None, :] + siting[0]
    y_of = np.arange(0, HEIGHT, down)[:, None] + siting[1]
    # Whole codes at every place where chroma may lie, as places are whole or half numbers.
    cb, cr = np.broadcast_arrays(
        chroma_ramp(x_of, 2, WIDTH, code), chroma_ramp(y_of - CHROMA.start, 4, 32, code)
    )
    cb, cr = cb.copy(), cr.copy()
    for plane in (cb, cr):
        plane[: CHROMA.start // down] = code.neutral
    y[RAMP] = code.black + code.spans[0] // 3 + np.arange(WIDTH)
    for index, codes in enumerate(codes_of(COLORS, matrix, code)):
        top, left = 16 * (index // 5), 16 * (index % 5)
        y[top : top + 16, left : left + 16] = codes[0]
        for plane, value in zip((cb, cr), codes[1:], strict=True):
            plane[top // down : (top + 16) // down, left // across : (left + 16) // across] = value
    return [plane.astype(np.uint8 if code.depth == 8 else np.uint16) for plane in (y, cb, cr)]


def chroma_ramp(position, slope, length, code):
    return code.neutral + slope * code.unit * (position - length / 2)


def put(frame, planes):
    for index, plane in enumerate(planes):
        rows = np.ascontiguousarray(plane).view(np.uint8)
        memory(frame, index)[:, : rows.shape[1]] = rows
    return frame


def decoded(path):
    """The first frame's planes or RGB, its tags (matrix, range, primaries, transfer), and its format."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        context = container.streams.video[0].codec_context
    tags = (frame.colorspace, frame.color_range, context.color_primaries, context.color_trc)
    dtype = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    rows = [memory(frame, index).view(dtype) for index in range(len(frame.planes))]
    if frame.format.name == "bgr0":
        planes = [rows[0][:, : frame.width * 4].reshape(frame.height, frame.width, 4)[..., 2::-1]]
    else:
        planes = [row[:, : plane.width] for row, plane in zip(rows, frame.planes, strict=True)]
        if frame.format.name == "gbrp16le":
            planes = [np.stack([planes[2], planes[0], planes[1]], axis=-1)]
    return [plane.copy() for plane in planes], tags, frame.format.name


def middles(plane, scale=4):
    """The middle quarter of every patch of a plane of the large card, one patch a row."""
    shape = (HEIGHT * scale // plane.shape[0], WIDTH * scale // plane.shape[1])
    rows = []
    for index in range(len(COLORS)):
        top, left = (16 * scale * (index // 5), 16 * scale * (index % 5))
        inside = slice(top + 6 * scale, top + 10 * scale), slice(left + 6 * scale, left + 10 * scale)
        rows.append(
            plane[tuple(slice(s.start // n, s.stop // n) for s, n in zip(inside, shape, strict=True))].ravel()
        )
    return np.stack(rows)


@pytest.fixture(scope="module")
def step():
    """A network of zeros, which repeats the luma of each pixel 4x4 times."""
    model = small_model(np.random.default_rng(0))
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    return KerasStep(model)


SITINGS = {"left": (0, 0.5), "center": (0.5, 0.5), "topleft": (0, 0)}
SUBSAMPLINGS = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}
SDR, PQ, HLG = {6: (6, 6), 1: (1, 1), 9: (9, 14)}, (9, 16), (9, 18)
# Matrix, full range, depth, subsampling, place of chroma, encoder of the file, encoder of the result,
# primaries and transfer if they are not the usual ones.
PLANAR = [
    (6, False, 8, "420", "left", "libx264", "libx264"),
    (6, False, 8, "420", "center", "libx264", "ffv1"),
    (6, True, 8, "420", "left", "ffv1", "libx264"),
    (6, True, 8, "422", "left", "libx264", "ffv1"),
    (6, False, 10, "422", "left", "ffv1", "libx264"),
    (6, True, 12, "444", "left", "ffv1", "libx265"),
    (6, False, 16, "420", "left", "ffv1", "ffv1"),
    (1, False, 8, "420", "left", "ffv1", "libx264"),
    (1, False, 8, "420", "topleft", "libx264", "ffv1"),
    (1, True, 8, "444", "left", "libx264", "libx264"),
    (1, False, 10, "420", "center", "libx264", "libx264"),
    (1, True, 10, "420", "left", "ffv1", "ffv1"),
    (1, False, 12, "422", "left", "ffv1", "ffv1"),
    (1, True, 16, "444", "left", "ffv1", "ffv1"),
    (9, False, 8, "444", "left", "ffv1", "libx264"),
    (9, True, 8, "420", "topleft", "libx264", "ffv1"),
    (9, False, 10, "420", "topleft", "libx264", "libx264", PQ),
    (9, False, 10, "420", "topleft", "ffv1", "ffv1", HLG),
    (9, True, 10, "422", "left", "libx264", "ffv1", HLG),
    (9, False, 12, "420", "topleft", "ffv1", "libx265", PQ),
    (9, False, 16, "422", "left", "ffv1", "ffv1", PQ),
]


@pytest.mark.parametrize("case", PLANAR, ids=lambda case: "-".join(map(str, case[:7])))
def test_the_card_comes_back_in_its_codes_and_colours(case, step, tmp_path):
    matrix, full, depth, name, location, made_by, encoder, *other = case
    code, (across, down) = Code(depth, full), SUBSAMPLINGS[name]
    siting = tuple(
        place if factor > 1 else 0 for place, factor in zip(SITINGS[location], (across, down), strict=True)
    )
    primaries, transfer = other[0] if other else SDR[matrix]
    pixel_format = f"yuv{name}p" + (f"{depth}le" if depth > 8 else "")
    planes = card(matrix, code, (across, down), siting)
    path = make_video(
        tmp_path / "card.mkv",
        [0, 3600],
        codec=made_by,
        pixel_format=pixel_format,
        size=(WIDTH, HEIGHT),
        frames=[put(av.VideoFrame(WIDTH, HEIGHT, pixel_format), planes) for _ in range(2)],
        options={"qp": "0", "chroma_sample_location": location},
        colorspace=matrix,
        color_range=2 if full else 1,
        color_primaries=primaries,
        color_trc=transfer,
    )
    assert upscale(path, tmp_path / "large.mkv", step, codec=encoder, crf=0) == []
    large, tags, stored = decoded(tmp_path / "large.mkv")
    assert stored.replace("yuvj", "yuv") == pixel_format
    assert tags == (matrix, 2 if full else 1, primaries, transfer)

    # Computed in float32, which leaves a code of 12 bits as it is, but may round one of 16 the other way.
    tolerance = 1 if depth == 16 else 0
    found = np.stack([middles(plane)[:, 0] for plane in large], axis=1).astype(int)
    for plane, values in zip(large, found.T, strict=True):
        np.testing.assert_array_equal(middles(plane), np.broadcast_to(values[:, None], middles(plane).shape))
    np.testing.assert_allclose(found, codes_of(COLORS, matrix, code), rtol=0, atol=tolerance)
    # The file's own tags say which equations turn codes into colours, each of them rounded by half a code.
    colors, half = rgb_of(found, tags[0], Code(depth, tags[1] == 2))
    assert (np.abs(colors - COLORS) <= half * (1 + 2 * tolerance) + 1e-12 + clipped(code)).all()

    ramp = np.repeat(np.repeat(planes[0][RAMP].astype(int), 4, axis=0), 4, axis=1)
    reach = slice(20, -20)  # where chroma of what is above and below has no part
    np.testing.assert_allclose(
        large[0][RAMP.start * 4 : RAMP.stop * 4][reach], ramp[reach], rtol=0, atol=tolerance
    )

    # Chroma at its place: that of the file is interpolated at that of the result, which is the usual one.
    x, y = SITINGS["topleft" if location == "topleft" else "left"]
    x_of = (np.arange(0, WIDTH * 4, across) + (x if across > 1 else 0)) / 4
    y_of = (np.arange(0, HEIGHT * 4, down) + (y if down > 1 else 0)) / 4
    rows, columns = ((y_of >= CHROMA.start + 8) & (y_of < HEIGHT - 8)), ((x_of >= 8) & (x_of < WIDTH - 8))
    for plane, expected in (
        (large[1], chroma_ramp(x_of[None, :], 2, WIDTH, code)),
        (large[2], chroma_ramp(y_of[:, None] - CHROMA.start, 4, 32, code)),
    ):
        inside = plane[rows][:, columns].astype(float)
        expected = np.broadcast_to(expected, plane.shape)[rows][:, columns]
        np.testing.assert_allclose(inside, expected, rtol=0, atol=0.51 + tolerance)


def clipped(code):
    """Pure blue and red of the full range lose half a code more, which is missing above the largest."""
    return 2 / code.spans[1] if code.full else 0


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("depth", [8, 10, 12, 16])
def test_grey_comes_back_grey(depth, full, step, tmp_path):
    """As 4:2:0 without colour, which every player takes. Without a tag FFmpeg takes grey for full range."""
    code, pixel_format = Code(depth, full), "gray" + (f"{depth}le" if depth > 8 else "")
    grey = card(6, code, (1, 1), (0, 0))[0]
    path = make_video(
        tmp_path / "grey.mkv",
        [0, 3600],
        codec="ffv1",
        pixel_format=pixel_format,
        size=(WIDTH, HEIGHT),
        frames=[put(av.VideoFrame(WIDTH, HEIGHT, pixel_format), [grey]) for _ in range(2)],
        color_range=0 if full else 1,
    )
    upscale(path, tmp_path / "large.mkv", step, codec="ffv1")
    (y, cb, cr), tags, stored = decoded(tmp_path / "large.mkv")
    assert stored == pixel_format.replace("gray", "yuv420p")
    assert tags[:2] == (6, 2 if full else 1)
    # As above: float32 is finer than 12 bits, not than 16.
    np.testing.assert_allclose(
        y, np.repeat(np.repeat(grey.astype(int), 4, 0), 4, 1), rtol=0, atol=1 if depth == 16 else 0
    )
    for plane in (cb, cr):
        np.testing.assert_array_equal(plane, np.full((HEIGHT * 2, WIDTH * 2), code.neutral))


@pytest.mark.parametrize("encoder", ["ffv1", "libx264"])
@pytest.mark.parametrize("pixel_format", ["bgr0", "gbrp10le", "gbrp12le", "gbrp16le"])
def test_rgb_comes_back_as_rgb_or_in_the_codes_of_bt709(pixel_format, encoder, step, tmp_path):
    depth = max(component.bits for component in av.VideoFormat(pixel_format, 16, 16).components)
    most = 2**depth - 1
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8 if depth == 8 else np.uint16)
    for index, color in enumerate(COLORS):
        top, left = 16 * (index // 5), 16 * (index % 5)
        rgb[top : top + 16, left : left + 16] = np.rint(color * most)
    rgb[RAMP] = (most // 3 + np.arange(WIDTH))[:, None]
    if pixel_format == "bgr0":
        planes = [np.dstack([rgb[..., ::-1], np.zeros((HEIGHT, WIDTH), np.uint8)]).reshape(HEIGHT, -1)]
    else:
        planes = [rgb[..., channel] for channel in (1, 2, 0)]
    path = make_video(
        tmp_path / "rgb.mkv",
        [0, 3600],
        codec="ffv1",
        pixel_format=pixel_format,
        size=(WIDTH, HEIGHT),
        frames=[put(av.VideoFrame(WIDTH, HEIGHT, pixel_format), planes) for _ in range(2)],
        color_primaries=1,
        color_trc=13,
    )
    notes = upscale(path, tmp_path / "large.mkv", step, codec=encoder, crf=0)
    large, tags, stored = decoded(tmp_path / "large.mkv")
    assert tags[2:] == (1, 13)
    if encoder == "libx264":
        held = min(depth, 10)
        assert (stored, tags[:2]) == ("yuv420p" if held == 8 else "yuv420p10le", (1, 1))
        assert ("10 of 16 bits" in "".join(notes)) == (depth > 8)
        code = Code(held, False)
        found = np.stack([middles(plane)[:, 0] for plane in large], axis=1)
        # RGB was rounded by half a code of its own bits, which a plane may round once more.
        exact = codes_of(np.rint(COLORS * most) / most, 1, code)
        np.testing.assert_array_equal(found, exact)
        colors, half = rgb_of(found, 1, code)
        assert (np.abs(colors - COLORS) <= half + 0.5 / most + 1e-12).all()
        return
    assert notes == []
    assert stored == ("bgr0" if depth == 8 else "gbrp16le")
    most_of_result = 255 if depth == 8 else 65535
    # Ten and twelve bits become sixteen on the way in. float32 is finer than 12 bits, not than 16.
    expected = np.rint(rgb * (most_of_result / most)).astype(int)
    expected = np.repeat(np.repeat(expected, 4, axis=0), 4, axis=1)
    for channel in range(3):
        np.testing.assert_allclose(
            middles(large[0][..., channel]),
            middles(expected[..., channel]),
            rtol=0,
            atol=0 if depth == 8 else 1,
        )
    reach = slice(RAMP.start * 4 + 20, RAMP.stop * 4 - 20)  # where chroma of what is above has no part
    np.testing.assert_allclose(large[0][reach], expected[reach], rtol=0, atol=0 if depth == 8 else 1)


@pytest.mark.parametrize("pixel_format", ["yuva420p", "yuva444p10le"])
def test_alpha_beside_the_card_is_kept(pixel_format, step, tmp_path):
    depth = 10 if pixel_format.endswith("10le") else 8
    code, subsampling = Code(depth, False), SUBSAMPLINGS[pixel_format[4:7]]
    planes = card(1, code, subsampling, (0, 0.5) if subsampling == (2, 2) else (0, 0))
    planes.append(np.full_like(planes[0], 2 ** (depth - 1)))
    path = make_video(
        tmp_path / "clear.mkv",
        [0, 3600],
        codec="ffv1",
        pixel_format=pixel_format,
        size=(WIDTH, HEIGHT),
        frames=[put(av.VideoFrame(WIDTH, HEIGHT, pixel_format), planes) for _ in range(2)],
        colorspace=1,
        color_range=1,
    )
    notes = upscale(path, tmp_path / "large.mkv", step, codec="ffv1")
    assert notes == []
    (*large, alpha), _, stored = decoded(tmp_path / "large.mkv")
    assert stored == pixel_format
    np.testing.assert_array_equal(alpha, np.full_like(large[0], 2 ** (depth - 1)))
    found = np.stack([middles(plane)[:, 0] for plane in large], axis=1)
    np.testing.assert_array_equal(found, codes_of(COLORS, 1, code))
