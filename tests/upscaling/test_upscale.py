"""Streaming equals the whole clip; colour survives; files keep their frames, times and sound."""

import imageio.v3 as iio
import keras
import numpy as np
import pytest

import rlsp_tf
from helpers import reference_numpy
from helpers.networks import small_model
from helpers.streams import stream
from helpers.synthetic import make_clip
from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.recurrent_stream import RecurrentStream
from rlsp_tf.inference.upscaler import StreamingUpscaler
from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.network.weights import load_model
from rlsp_tf.pixels.color import ColorSpec, rgb_to_ycbcr, ycbcr_to_rgb
from rlsp_tf.pixels.resample import cubic_matrix

BT601 = ColorSpec(matrix="bt601", full_range=False, subsampling=(1, 1))


def upscaled_rgb(clip: np.ndarray, luma: np.ndarray, origin: float = 0.0) -> np.ndarray:
    """The upscaler's colour once more: (T, H, W, 3) and luma (T, 4H, 4W) -> RGB before rounding."""
    frames = []
    for frame, y in zip(clip.astype("float64"), luma, strict=True):
        height, width = frame.shape[:2]
        rows = cubic_matrix(height, 4 * height, step=0.25, origin=origin)
        columns = cubic_matrix(width, 4 * width, step=0.25, origin=origin)
        _, cb, cr = rgb_to_ycbcr(*np.moveaxis(frame, -1, 0), BT601)
        cb, cr = (rows @ plane @ columns.T for plane in (cb, cr))
        if origin:
            y, cb, cr = np.round(y), np.round(cb), np.round(cr)
        frames.append(np.stack(ycbcr_to_rgb(y, cb, cr, BT601), axis=-1))
    return np.stack(frames)


@pytest.mark.parametrize("length", [1, 2, 3, 7])
@pytest.mark.parametrize("window", [(1, 1), (0, 0), (2, 0), (0, 2)])
def test_the_stream_equals_predict_on_the_whole_clip(
    length: int, window: tuple[int, int], rng: np.random.Generator
) -> None:
    model = small_model(rng, RLSPConfig(filters=4, layers=2, frames_before=window[0], frames_after=window[1]))
    clip = rng.uniform(0, 255, (2, length, 5, 7, 3)).astype("float32")
    recurrent = RecurrentStream(model)
    outputs = []
    for t in range(length):
        outputs += recurrent.push(keras.ops.convert_to_tensor(clip[:, t]))
        assert len(outputs) == max(0, t + 1 - window[1])
    outputs += recurrent.flush()
    # The same float32 operations, in graphs that may sum in another order.
    np.testing.assert_allclose(np.stack(outputs, axis=1), model.predict(clip, verbose=0), atol=1e-3)


@pytest.mark.parametrize("chroma", ["aligned", "authors"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (4, 9, 6)])
def test_rgb_frames_get_the_networks_luma(
    chroma: str, shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    model = small_model(rng)
    clip = rng.integers(60, 180, (*shape, 3), dtype=np.uint8)
    frames = stream(StreamingUpscaler(model, chroma=chroma), list(clip))
    luma = model.predict(clip[None], verbose=0)[0, ..., 0]
    expected = upscaled_rgb(clip, luma, origin=-0.375 if chroma == "authors" else 0.0)
    assert all(frame.dtype == np.uint8 for frame in frames)
    difference = np.abs(np.stack(frames) - np.clip(expected, 0, 255))
    # Half a level is the rounding to 8 bits; the authors' way may round chroma the
    # other way in float32, whose weight in blue is 2.0.
    assert difference.max() <= (0.51 if chroma == "aligned" else 2.6)
    assert difference.mean() < 0.3


def test_two_clips_do_not_meet_after_flush_or_reset(rng: np.random.Generator) -> None:
    model = small_model(rng)
    first, second = rng.integers(0, 256, (2, 4, 6, 5, 3), dtype=np.uint8)
    upscaler = StreamingUpscaler(model)
    alone = stream(upscaler, list(second))
    stream(upscaler, list(first))
    np.testing.assert_array_equal(stream(upscaler, list(second)), alone)
    for frame in first:
        upscaler.push(frame)
    upscaler.reset()
    np.testing.assert_array_equal(stream(upscaler, list(second)), alone)


def test_after_flush_another_size_is_welcome_but_not_before(rng: np.random.Generator) -> None:
    upscaler = StreamingUpscaler(small_model(rng))
    upscaler.push(np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(RLSPError, match="from 6x4 to 8x5"):
        upscaler.push(np.zeros((5, 8, 3), np.uint8))
    upscaler.flush()
    upscaler.push(np.zeros((5, 8, 3), np.uint8))
    assert upscaler.flush()[0].shape == (20, 32, 3)


def test_flush_of_nothing_gives_nothing(rng: np.random.Generator) -> None:
    assert StreamingUpscaler(small_model(rng)).flush() == []


def test_sixteen_bits_stay_sixteen_bits(rng: np.random.Generator) -> None:
    model = small_model(rng)
    clip = rng.integers(60, 180, (3, 5, 4, 3), dtype=np.uint8)
    narrow = stream(StreamingUpscaler(model), list(clip))
    wide = stream(StreamingUpscaler(model), list(clip.astype(np.uint16) * 257))
    assert wide[0].dtype == np.uint16
    # Both are roundings of the same number.
    np.testing.assert_allclose(np.stack(wide) / 257, np.stack(narrow), atol=0.51)


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_refuses_what_is_no_frame(bad: np.ndarray, rng: np.random.Generator) -> None:
    with pytest.raises(RLSPError, match="a frame must be"):
        StreamingUpscaler(small_model(rng)).push(bad)


def test_a_model_for_rgb_makes_colour_itself(rng: np.random.Generator) -> None:
    model = small_model(rng, RLSPConfig(filters=4, layers=2, output="rgb"))
    clip = rng.integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
    expected, _ = reference_numpy.rlsp(clip[None], model.get_weights())
    frames = stream(StreamingUpscaler(model), list(clip))
    assert np.abs(np.stack(frames) - np.clip(expected[0], 0, 255)).max() <= 0.51


SPECS = [
    ColorSpec(matrix=matrix, full_range=full, depth=depth, subsampling=subsampling, chroma_location=location)
    for matrix, full, depth, subsampling, location in [
        ("bt601", False, 8, (2, 2), "left"),
        ("bt601", True, 8, (2, 2), "center"),
        ("bt709", False, 8, (2, 2), "left"),
        ("bt709", True, 8, (1, 1), "left"),
        ("bt2020", False, 10, (2, 2), "topleft"),
        ("bt709", False, 8, (2, 1), "left"),
    ]
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.matrix}-{s.full_range}-{s.depth}-{s.subsampling}")
def test_planes_keep_matrix_range_and_place_of_colour(spec: ColorSpec, rng: np.random.Generator) -> None:
    """A linear ramp of colour is reproduced by cubic interpolation, so every sample has a known value.

    The network is the residual alone (zero weights): luma is each low-resolution sample repeated 4x4.
    """
    model = small_model(rng)
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    unit = (2**spec.depth - 1) / 255 if spec.full_range else 2.0 ** (spec.depth - 8)
    across, down = spec.subsampling
    offset_x, offset_y = spec.siting

    def ramp(height: int, width: int, step: float, shift_y: float, shift_x: float) -> np.ndarray:
        rows = (np.arange(height)[:, None] * step * down + shift_y) * 0.5
        columns = (np.arange(width)[None] * step * across + shift_x) * 0.25
        return 100 + rows + columns

    height, width = 24, 32
    y = rng.integers(100, 150, (height, width)).astype("float64")
    chroma = ramp(height // down, width // across, 1, offset_y, offset_x)
    planes = tuple(
        np.round(p * unit).astype("uint8" if spec.depth == 8 else "uint16") for p in (y, chroma, chroma)
    )
    ((out_y, out_cb, out_cr),) = stream(StreamingUpscaler(model, source=spec, target=spec), [planes])

    np.testing.assert_array_equal(out_cb, out_cr)
    assert out_cb.shape == (height * 4 // down, width * 4 // across)
    # Positions in low-resolution luma samples: a quarter of those at high resolution.
    expected = ramp(*out_cb.shape, 0.25, offset_y / 4, offset_x / 4) * unit
    inside = (slice(16 // down, -24 // down), slice(16 // across, -24 // across))
    # Both planes are rounded, and interpolation may double an error of half a code value.
    np.testing.assert_allclose(out_cb[inside], expected[inside], atol=1.6)
    luma = np.repeat(np.repeat(y, 4, axis=0), 4, axis=1) * unit
    middle = (slice(16, -24), slice(16, -24))
    # Outside BT.601, luma moves with the slope of the chroma inside each repeated sample.
    np.testing.assert_allclose(
        out_y[middle], luma[middle], atol=(1.6 if spec.matrix == "bt601" else 2.6) * unit
    )


def test_a_matrix_is_never_changed_on_the_way(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="matrix and the range"):
        StreamingUpscaler(small_model(rng), source=SPECS[0], target=SPECS[2])
    with pytest.raises(ValueError, match="aligned"):
        StreamingUpscaler(small_model(rng), chroma="left")  # type: ignore[arg-type]


def test_a_network_is_given_by_its_name_or_file_as_on_the_command_line(rng, tmp_path) -> None:
    small_model(rng).save(tmp_path / "small.keras")
    iio.imwrite(tmp_path / "in.png", make_clip(1, 6, 7)[0])
    rlsp_tf.upscale(
        tmp_path / "in.png", tmp_path / "by_file.png", tmp_path / "small.keras", precision="float32"
    )
    rlsp_tf.upscale(tmp_path / "in.png", tmp_path / "by_model.png", load_model(tmp_path / "small.keras"))
    np.testing.assert_array_equal(iio.imread(tmp_path / "by_file.png"), iio.imread(tmp_path / "by_model.png"))
    rlsp_tf.upscale(tmp_path / "in.png", tmp_path / "by_name.png", "7-48")
    assert iio.imread(tmp_path / "by_name.png").shape == (24, 28, 3)
    with pytest.raises(
        RLSPError, match=r"7-49: no such file or weight set; give a \.keras file, or one of 7-48"
    ):
        rlsp_tf.upscale(tmp_path / "in.png", tmp_path / "none.png", "7-49")
