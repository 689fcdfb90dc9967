"""HR to LR: against SciPy's two-dimensional filter, bit by bit, and against the formula by hand."""

from fractions import Fraction

import av
import imageio.v3 as iio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter

from helpers.synthetic import make_clip
from rlsp_tf import RLSPError, degrade
from rlsp_tf.evaluation.degrade_files import degrade_path
from rlsp_tf.media.degradations import degradation_named
from rlsp_tf.system import progress


def scipy_formula(frame, scale=4, sigma=1.5):
    blurred = gaussian_filter(frame.astype(np.float32), sigma=(sigma, sigma, 0))
    return np.clip(np.round(blurred[::scale, ::scale]), 0, np.iinfo(frame.dtype).max).astype(frame.dtype)


def exact_formula(frame):
    """The kept pixels before rounding, in float64, from the definition of the Gaussian and its 13 taps."""
    taps = np.exp(-(np.arange(-6, 7) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()
    padded = np.pad(frame.astype(float), ((6, 6), (6, 6), (0, 0)), mode="symmetric")
    height, width, _ = frame.shape
    lr = np.zeros((len(range(0, height, 4)), len(range(0, width, 4)), 3))
    for dy in range(13):
        for dx in range(13):
            lr += taps[dy] * taps[dx] * padded[dy : dy + height : 4, dx : dx + width : 4]
    return lr


@pytest.mark.parametrize("name", ["calendar", "city", "foliage", "walk"])
def test_vid4_is_what_scipy_gives_bit_by_bit(data, name):
    for path in sorted((data / "vid4" / name).glob("*.png"))[::16]:
        frame = iio.imread(path)
        np.testing.assert_array_equal(degrade(frame), scipy_formula(frame))


def test_vid4_is_the_rounded_gaussian(data):
    frame = iio.imread(sorted((data / "vid4" / "calendar").glob("*.png"))[0])
    # Half a level for rounding; two passes in float32 err by less than 1e-4 at 255.
    assert np.abs(degrade(frame) - exact_formula(frame)).max() <= 0.5 + 1e-4


@st.composite
def frames(draw, dtypes=(np.uint8, np.uint16)):
    height, width = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    return draw(hnp.arrays(draw(st.sampled_from(dtypes)), (height, width, 3)))


@given(frames(), st.integers(1, 5), st.floats(0.3, 4))
def test_any_size_scale_and_sigma_is_what_scipy_gives_bit_by_bit(frame, scale, sigma):
    np.testing.assert_array_equal(
        degrade(frame, scale=scale, sigma=sigma), scipy_formula(frame, scale, sigma)
    )


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 17), (5, 4), (33, 7)])
def test_borders_of_small_frames_are_mirrored(rng, size):
    frame = rng.integers(0, 256, (*size, 3), np.uint8)
    lr = degrade(frame)
    assert lr.shape == exact_formula(frame).shape
    assert np.abs(lr - exact_formula(frame)).max() <= 0.5 + 1e-4


@given(st.integers(0, 65535), st.integers(1, 20), st.integers(1, 20))
def test_a_flat_frame_keeps_its_value(value, height, width):
    lr = degrade(np.full((height, width, 3), value, np.uint16))
    np.testing.assert_array_equal(lr, np.full_like(lr, value))


def test_a_clip_is_degraded_frame_by_frame():
    clip = make_clip(4, 22, 37).reshape(2, 2, 22, 37, 3)
    lr = degrade(clip)
    assert lr.shape == (2, 2, 6, 10, 3)
    for index in np.ndindex(2, 2):
        np.testing.assert_array_equal(lr[index], degrade(clip[index]))


def test_lr_pixel_i_lies_on_hr_pixel_4i():
    frame = np.zeros((41, 41, 3), np.uint8)
    frame[20, 24] = 255
    lr = degrade(frame)[..., 0].astype(int)
    assert np.unravel_index(lr.argmax(), lr.shape) == (5, 6)
    np.testing.assert_array_equal(lr[:, 6], lr[::-1, 6])
    np.testing.assert_array_equal(lr[5, 2:], lr[5, 2:][::-1])


@pytest.mark.parametrize(("scale", "sigma"), [(2, 0.75), (3, 1.125), (4, 1.5), (8, 3.0)])
def test_the_blur_grows_with_the_scale(scale, sigma):
    frame = make_clip(1, 40, 48)[0]
    np.testing.assert_array_equal(degrade(frame, scale=scale), degrade(frame, scale=scale, sigma=sigma))


def test_a_clip_is_not_changed_by_degrading_it():
    clip = make_clip(2, 16, 16)
    before = clip.copy()
    degrade(clip)
    np.testing.assert_array_equal(clip, before)


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        (np.zeros((8, 8, 3), np.float32), r"uint8 or uint16 .* not float32 \(8, 8, 3\)\.$"),
        (np.zeros((8, 8, 4), np.uint8), r"not uint8 \(8, 8, 4\)\.$"),
        (np.zeros((8, 3), np.uint8), r"not uint8 \(8, 3\)\.$"),
        (np.zeros((2, 0, 8, 3), np.uint8), r"8x0 have no pixels\.$"),
    ],
)
def test_what_is_no_frame_is_refused(frames, sentence):
    with pytest.raises(RLSPError, match=sentence):
        degrade(frames)


@pytest.mark.parametrize("options", [{"scale": 0}, {"sigma": 0}, {"sigma": -1.5}])
def test_options_without_meaning_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        degrade(np.zeros((8, 8, 3), np.uint8), **options)


def write_video(path, frames, codec, times=None, **options):
    """Encodes frames, whose time stamps are ``times`` in hundredths of a second."""
    with av.open(path, "w") as container:
        first = frames[0]
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = first.width, first.height, first.format.name
        stream.codec_context.time_base = stream.time_base = Fraction(1, 100)
        for pts, frame in zip(times or range(0, 4 * len(frames), 4), frames, strict=True):
            frame.pts, frame.time_base = pts, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def video_frame(planes, pixel_format):
    frame = av.VideoFrame(*planes[0].shape[::-1], pixel_format)
    for plane, samples in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(plane, samples.dtype).reshape(plane.height, -1)
        rows[:, : samples.shape[1]] = samples
    return frame


def decode(path):
    with av.open(path) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def bt601(y, cb, cr):
    """RGB 0..255 of 8-bit codes in limited range (ITU-R BT.601-7, 2.5)."""
    y, cb, cr = 255 / 219 * (np.float64(y) - 16), np.float64(cb) - 128, np.float64(cr) - 128
    kb, kr = 255 / 112 * (1 - 0.114), 255 / 112 * (1 - 0.299)
    return np.stack([y + kr * cr, y - (0.114 * kb * cb + 0.299 * kr * cr) / 0.587, y + kb * cb], axis=-1)


def read_folder(folder):
    return np.stack([iio.imread(path) for path in sorted(folder.iterdir())])


class TestDegradePath:
    def test_a_folder_becomes_a_folder_of_png_of_the_same_names(self, data, tmp_path):
        frames = sorted((data / "vid4" / "walk").glob("*.png"))[:3]
        (tmp_path / "hr").mkdir()
        for path in frames:
            (tmp_path / "hr" / path.name).symlink_to(path.resolve())
        assert degrade_path(tmp_path / "hr", tmp_path / "lr") == []
        assert sorted(path.name for path in (tmp_path / "lr").iterdir()) == [path.name for path in frames]
        for path in frames:
            np.testing.assert_array_equal(
                iio.imread(tmp_path / "lr" / path.name), scipy_formula(iio.imread(path))
            )

    @pytest.mark.parametrize("scale", [2, 4])
    @pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
    def test_a_video_becomes_a_lossless_video_with_its_time_stamps(self, tmp_path, suffix, scale):
        clip = make_clip(4, 48, 64)
        times = [0, 4, 12, 14]
        frames = [av.VideoFrame.from_ndarray(frame) for frame in clip]
        write_video(tmp_path / "hr.mkv", frames, "libx264rgb", times, crf="0")
        degrade_path(tmp_path / "hr.mkv", tmp_path / f"lr{suffix}", scale=scale)
        lr = decode(tmp_path / f"lr{suffix}")
        assert [time for time, _ in lr] == [time / 100 for time in times]
        np.testing.assert_array_equal(np.stack([frame for _, frame in lr]), degrade(clip, scale))

    def test_planes_become_rgb_by_the_standard(self, rng, tmp_path):
        planes = rng.integers(60, 190, (3, 21, 30)).astype(np.uint8)
        write_video(tmp_path / "hr.mkv", [video_frame(planes, "yuv444p")], "ffv1")
        degrade_path(tmp_path / "hr.mkv", tmp_path / "lr")
        hr = np.clip(np.rint(bt601(*planes)), 0, 255).astype(np.uint8)
        np.testing.assert_array_equal(read_folder(tmp_path / "lr"), degrade(hr[None]))

    def test_planes_of_ten_bits_become_rgb_of_sixteen(self, rng, tmp_path):
        planes = rng.integers(240, 760, (3, 21, 30)).astype("<u2")
        write_video(tmp_path / "hr.mkv", [video_frame(planes, "yuv444p10le")], "ffv1")
        degrade_path(tmp_path / "hr.mkv", tmp_path / "lr")
        hr = np.clip(np.rint(bt601(*planes / 4) * 257), 0, 65535).astype(np.uint16)
        with av.open(tmp_path / "lr" / "frame_000000.png") as png:
            lr = next(png.decode(video=0)).to_ndarray(format="rgb48le")
        # The conversion's float32 has 24 bits, so a few of these 16 are rounded the other way.
        assert np.abs(lr.astype(int) - degrade(hr)).max() <= 1

    def test_chroma_is_taken_where_it_lies(self, tmp_path):
        """In 4:2:0, chroma sample (i, j) lies on luma column 2j and between luma rows 2i and 2i + 1."""
        height, width = 48, 64
        i, j = np.mgrid[: height // 2, : width // 2]
        planes = [np.full((height, width), 128), 80 + 3 * j, 176 - 4 * i]
        frame = video_frame([plane.astype(np.uint8) for plane in planes], "yuv420p")
        write_video(tmp_path / "hr.mkv", [frame], "ffv1")
        degrade_path(tmp_path / "hr.mkv", tmp_path / "lr")
        y, x = np.mgrid[:height:4, :width:4]
        # Cubic interpolation and a symmetric blur keep straight lines, away from the border.
        expected = bt601(np.full(y.shape, 128), 80 + 3 * x / 2, 176 - 4 * (y - 0.5) / 2)
        error = iio.imread(tmp_path / "lr" / "frame_000000.png") - expected
        # Two roundings; half a luma sample would make 1.5 levels of blue or 1.6 of red.
        assert np.abs(error[3:-3, 3:-3]).max() <= 1

    @pytest.mark.slow
    def test_a_real_video_keeps_its_times_and_its_sound(self, data, tmp_path):
        source = data / "video" / "realshort_320x240.mp4"
        degrade_path(source, tmp_path / "lr.mp4")
        hr, lr = decode(source), decode(tmp_path / "lr.mp4")
        assert [time for time, _ in lr] == [time for time, _ in hr]
        assert {frame.shape for _, frame in lr} == {(60, 80, 3)}
        with av.open(source) as before, av.open(tmp_path / "lr.mp4") as after:
            sound = [[bytes(packet) for packet in file.demux(audio=0)] for file in (before, after)]
        assert sound[0] == sound[1] != []

    def test_what_exists_is_replaced_only_by_force(self, tmp_path):
        (tmp_path / "hr").mkdir()
        iio.imwrite(tmp_path / "hr" / "0.png", make_clip(1, 16, 16)[0])
        degrade_path(tmp_path / "hr", tmp_path / "lr")
        iio.imwrite(tmp_path / "hr" / "0.png", make_clip(1, 16, 16, seed=1)[0])
        before = read_folder(tmp_path / "lr")
        with pytest.raises(RLSPError, match="lr: exists and is not empty"):
            degrade_path(tmp_path / "hr", tmp_path / "lr")
        np.testing.assert_array_equal(read_folder(tmp_path / "lr"), before)
        degrade_path(tmp_path / "hr", tmp_path / "lr", force=True)
        np.testing.assert_array_equal(read_folder(tmp_path / "lr"), degrade(make_clip(1, 16, 16, seed=1)))

    def test_a_damaged_frame_leaves_nothing_behind(self, tmp_path):
        (tmp_path / "hr").mkdir()
        for index, frame in enumerate(make_clip(3, 32, 32)):
            iio.imwrite(tmp_path / "hr" / f"{index}.png", frame)
        damaged = tmp_path / "hr" / "2.png"
        damaged.write_bytes(damaged.read_bytes()[:-400])
        with pytest.raises(RLSPError, match=r"2\.png: not an image"):
            degrade_path(tmp_path / "hr", tmp_path / "lr")
        assert [path.name for path in tmp_path.iterdir()] == ["hr"]

    def test_a_missing_source_is_named(self, tmp_path):
        with pytest.raises(RLSPError, match=r"absent\.mp4: no such file"):
            degrade_path(tmp_path / "absent.mp4", tmp_path / "lr")

    def test_progress_goes_to_standard_error(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(progress, "FIRST", 0)
        (tmp_path / "hr").mkdir()
        iio.imwrite(tmp_path / "hr" / "0.png", make_clip(1, 16, 16)[0])
        degrade_path(tmp_path / "hr", tmp_path / "quiet")
        assert capsys.readouterr() == ("", "")
        degrade_path(tmp_path / "hr", tmp_path / "told", progress=True)
        out, err = capsys.readouterr()
        assert out == ""
        assert "0 of 1 frames" in err


def test_a_codec_s_frames_keep_their_names_and_order(tmp_path):
    clip = make_clip(5, 64, 80)
    (tmp_path / "hr").mkdir()
    for index, frame in enumerate(clip):
        iio.imwrite(tmp_path / "hr" / f"{7 * index:03d}.png", frame)
    degradation = degradation_named("crf30")
    degrade_path(tmp_path / "hr", tmp_path / "lr", degradation=degradation)
    names = [f"{7 * index:03d}.png" for index in range(5)]
    assert sorted(path.name for path in (tmp_path / "lr").iterdir()) == names
    expected = degradation.draw(np.random.default_rng(0)).apply(clip, 4)
    np.testing.assert_array_equal([iio.imread(tmp_path / "lr" / name) for name in names], expected)
