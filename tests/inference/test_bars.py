"""Black bars are interpolated, and the picture is what it is with them."""

import numpy as np
import pytest
import tensorflow as tf

from helpers.networks import SMALL, small_model
from helpers.synthetic import make_clip
from rlsp_tf.inference.bars import MARGIN, Area, PictureStep, picture_of
from rlsp_tf.inference.color_path import enlarged
from rlsp_tf.inference.recurrent_stream import RecurrentStream
from rlsp_tf.inference.step import KerasStep
from rlsp_tf.inference.strips import StripStep
from rlsp_tf.network.cell import luma
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.pixels.resample import enlarge_matrix

AREA = Area(12, 40, 0, 50)


def boxed(frames=6, height=52, width=50, area=AREA, margin=MARGIN):
    """A clip whose picture begins ``margin`` pixels within an area, and is black around it."""
    clip = np.clip(make_clip(frames, height, width, seed=4), 40, 255)
    picture = np.zeros((height, width, 1), np.uint8)
    across = slice(area.left + margin, area.right - margin) if area.width < width else slice(None)
    picture[area.top + margin : area.bottom - margin, across] = 1
    return clip * picture


def run(step, clip, warm_start=0):
    stream = RecurrentStream(step, warm_start=warm_start)
    outputs = [output for frame in clip for output in stream.push(tf.constant(frame[None], tf.float32))]
    return np.concatenate([*outputs, *stream.flush()])


def interpolated(frame, config):
    """A frame enlarged by the matrices of cubic interpolation, ``(1, 4H, 4W, C)``."""
    plane = frame.astype("float64") if config.output == "rgb" else np.asarray(luma(frame[None]), "float64")[0]
    rows, columns = (enlarge_matrix(size, config.scale) for size in plane.shape[:2])
    return np.einsum("ab,bcd,ec->aed", rows, plane, columns)


@pytest.mark.parametrize(
    ("area", "size"),
    [
        (AREA, (52, 50)),
        (Area(0, 40, 14, 36), (40, 50)),
        (Area(10, 30, 8, 40), (44, 48)),
        (Area(0, 40, 0, 30), (40, 50)),
    ],
)
def test_the_area_is_found_with_a_margin(area, size):
    clip = boxed(area=area, height=size[0], width=size[1], margin=0)
    rows, columns = np.flatnonzero(clip.any((0, 2, 3))), np.flatnonzero(clip.any((0, 1, 3)))
    found = picture_of(iter(clip))
    expected = Area(
        max(0, rows[0] - MARGIN),
        min(size[0], rows[-1] + 1 + MARGIN),
        max(0, columns[0] - MARGIN),
        min(size[1], columns[-1] + 1 + MARGIN),
    )
    assert found == expected
    assert all(edge % 2 == 0 for edge in found)


def test_what_is_shown_in_any_frame_is_picture():
    clip = boxed(margin=0)
    clip[3, 3, 20] = 60
    assert picture_of(clip).top == 0
    assert picture_of(clip[:3]).top == AREA.top - MARGIN


def test_noise_in_bars_is_black_and_no_bars_are_no_area(rng):
    clip = boxed(margin=0)
    noisy = np.where(clip == 0, rng.integers(0, 6, clip.shape, dtype=np.uint8), clip)
    assert picture_of(noisy) == picture_of(clip)
    assert picture_of(make_clip(2, 52, 50)) is None
    assert picture_of(np.zeros((3, 20, 20, 3), np.uint8)) is None


def test_no_more_frames_are_taken_than_it_takes():
    clip = iter(make_clip(3, 20, 30))
    assert picture_of(clip) is None
    assert len(list(clip)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("output", ["y", "rgb"])
@pytest.mark.parametrize(
    ("area", "size"), [(AREA, (52, 50)), (Area(0, 40, 14, 36), (40, 50)), (Area(10, 30, 8, 40), (44, 48))]
)
@pytest.mark.parametrize("in_strips", [False, True])
def test_bars_are_interpolated_around_what_the_network_makes_of_the_picture(
    area, size, output, in_strips, rng
):
    config = RLSPConfig(filters=6, layers=3, output=output)
    whole = KerasStep(small_model(rng, config, precision="float32"))
    step = PictureStep(StripStep(whole, 9) if in_strips else whole, area)
    clip = boxed(area=area, height=size[0], width=size[1])
    large = run(step, clip, warm_start=2)
    inside = clip[:, area.top : area.bottom, area.left : area.right]
    rows, columns = slice(4 * area.top, 4 * area.bottom), slice(4 * area.left, 4 * area.right)
    np.testing.assert_allclose(large[:, rows, columns], run(whole, inside, warm_start=2), atol=1e-3)
    expected = np.stack([interpolated(frame, config) for frame in clip])
    outside = np.ones(large.shape[1:3], bool)
    outside[rows, columns] = False
    np.testing.assert_allclose(large[:, outside], expected[:, outside], atol=1e-3)


def test_where_bars_show_something_the_whole_frame_is_computed_and_the_state_stays(rng):
    """Subtitles come: the state of the picture is kept, in the bars it is that of black frames."""
    whole = KerasStep(small_model(rng, SMALL, precision="float32"))
    step = PictureStep(whole, AREA)
    clip = boxed(7)
    clip[4, 46:50, 10:30] = 200
    large = run(step, clip)
    np.testing.assert_array_equal(large[:3], run(step, boxed(7))[:3])
    # The window of frame 3 is the first to show it.
    inside = clip[:, AREA.top : AREA.bottom].astype("float32")
    state = whole.initial_state(1, AREA.height, AREA.width)
    for window in ((0, 0, 1), (0, 1, 2), (1, 2, 3)):
        _, state = whole([inside[None, index] for index in window], state)
    around = ((0, 0), (12, 12), (0, 0), (0, 0))
    state = [
        np.pad(np.asarray(each), around, constant_values=value)
        for each, value in zip(state, (0, 16), strict=True)
    ]
    for frame, window in enumerate(((2, 3, 4), (3, 4, 5), (4, 5, 6), (5, 6, 6)), 3):
        expected, state = whole([clip[None, index].astype("float32") for index in window], state)
        np.testing.assert_allclose(large[frame], expected[0], atol=1e-3)


@pytest.mark.parametrize("shown", [False, True])
def test_the_frame_is_in_the_state(shown, rng):
    step = PictureStep(KerasStep(small_model(rng, SMALL, precision="float32")), AREA)
    clip = boxed(3)
    clip[:, 48, 20] = 90 * shown
    window = [tf.constant(frame[None], tf.float32) for frame in clip]
    output, state = step(window, step.initial_state(1, 52, 50))
    np.testing.assert_array_equal(step.shown(window, state), output)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_planes_are_enlarged_as_by_matrices(scale, rng):
    plane = rng.uniform(0, 255, (1, 7, 9)).astype("float32")
    rows, columns = enlarge_matrix(7, scale), enlarge_matrix(9, scale)
    expected = rows @ plane[0] @ columns.T
    np.testing.assert_allclose(enlarged(plane[..., None], scale)[0, ..., 0], expected, atol=1e-3)
