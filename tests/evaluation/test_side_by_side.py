"""Side by side: what lands where in the picture, and what does not go together."""

import os
import shutil
import subprocess
import sys
from fractions import Fraction

import av
import imageio.v3 as iio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.synthetic import make_clip
from helpers.videos import make_video
from rlsp_tf.cli.main import main
from rlsp_tf.errors import RLSPError, UsageError
from rlsp_tf.evaluation.side_by_side import LOOK_AHEAD, Region, find_regions, put_side_by_side
from rlsp_tf.pixels.degradation import degrade
from rlsp_tf.pixels.resample import enlarge_matrix

HEIGHT, WIDTH = 80, 128
BAR, GAP = 20, 4  # 1.7 lines of 12 pixels, the smallest letters; the least gap
PLACES = ((BAR, 0), (BAR, WIDTH + GAP), (BAR + HEIGHT + GAP, 0), (BAR + HEIGHT + GAP, WIDTH + GAP))


def write_folder(folder, clip):
    folder.mkdir(parents=True)
    for index, frame in enumerate(clip):
        iio.imwrite(folder / f"{index:03d}.png", frame)
    return folder


def write_video(path, clip, rate=30):
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264rgb", rate=rate, options={"crf": "0", "preset": "ultrafast"})
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = "rgb24"
        for frame in clip:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode(None))
    return path


def panels(picture):
    """The two frames and the two magnified regions, which are as wide as a frame and half as high."""
    sizes = ((HEIGHT, WIDTH), (HEIGHT, WIDTH), (HEIGHT // 2, WIDTH), (HEIGHT // 2, WIDTH))
    return [picture[y : y + h, x : x + w] for (y, x), (h, w) in zip(PLACES, sizes, strict=True)]


def without_outline(frame, original, region, line=1):
    """``frame`` with the outline taken away; checks that it lies around the region and nowhere else."""
    outside = np.ones(frame.shape[:2], bool)
    grow = 2 * line
    outside[
        max(0, region.y - grow) : region.y + region.height + grow,
        max(0, region.x - grow) : region.x + region.width + grow,
    ] = False
    assert np.array_equal(frame[outside], original[outside])
    assert np.array_equal(region.cut(frame), region.cut(original))
    ring = ~outside
    ring[region.y : region.y + region.height, region.x : region.x + region.width] = False
    assert set(np.unique(frame[ring])) == {0, 255}


@pytest.fixture
def clips():
    """Two clips that differ, most of all in a block of frame 2 and, less, in one of frame 0."""
    a = make_clip(4, HEIGHT, WIDTH, seed=5)
    b = a.copy()
    b[0, 10:14, 20:24] ^= 64
    b[2, 60:68, 90:98] ^= 128
    return a, b


@pytest.fixture
def folders(clips, tmp_path):
    return [write_folder(tmp_path / name, clip) for name, clip in zip("ab", clips, strict=True)]


@given(
    difference=st.integers(0, 2**32 - 1).map(
        lambda seed: np.random.default_rng(seed).integers(0, 4, (9, 12)) ** 2
    ),
    width=st.integers(1, 12),
    height=st.integers(1, 9),
)
def test_the_first_region_has_the_largest_sum_of_all(difference, width, height):
    best = max(
        difference[y : y + height, x : x + width].sum()
        for y in range(9 - height + 1)
        for x in range(12 - width + 1)
    )
    regions = find_regions(difference, width, height, 3)
    sums = [region.cut(difference).sum() for region in regions]
    assert sums[0] == best
    assert sums == sorted(sums, reverse=True)
    assert all(region.cut(difference).shape == (height, width) for region in regions)
    for one in range(len(regions)):
        for other in regions[:one]:
            region = regions[one]
            assert abs(region.x - other.x) >= 2 * width or abs(region.y - other.y) >= 2 * height


def test_regions_without_a_difference():
    assert find_regions(np.zeros((9, 12)), 4, 3, 5) == [Region(4, 3, 4, 3)]
    spot = np.zeros((100, 100))
    spot[50, 50] = 1
    assert len(find_regions(spot, 10, 10, 5)) == 1


def test_a_still_shows_both_frames_and_magnifies_where_they_differ_most(clips, folders, tmp_path):
    assert put_side_by_side(*folders, tmp_path / "x.png", frame=2) == []
    picture = iio.imread(tmp_path / "x.png")
    region = find_regions(
        np.sum((clips[0][2].astype(float) - clips[1][2]) ** 2, axis=-1), WIDTH // 4, HEIGHT // 8, 1
    )[0]
    assert region.x <= 90
    assert region.x + region.width >= 98
    for panel, zoomed, clip in zip(panels(picture)[:2], panels(picture)[2:], clips, strict=True):
        without_outline(panel, clip[2], region)
        assert np.array_equal(zoomed, np.kron(region.cut(clip[2]), np.ones((4, 4, 1), np.uint8)))


def test_a_still_is_of_the_first_frame_if_nothing_else_is_said(clips, folders, tmp_path):
    put_side_by_side(*folders, tmp_path / "x.png")
    region = find_regions(
        np.sum((clips[0][0].astype(float) - clips[1][0]) ** 2, axis=-1), WIDTH // 4, HEIGHT // 8, 1
    )[0]
    for panel, clip in zip(panels(iio.imread(tmp_path / "x.png")), clips, strict=False):
        without_outline(panel, clip[0], region)


def test_a_given_crop_is_magnified_as_much_as_fits(clips, folders, tmp_path):
    put_side_by_side(*folders, tmp_path / "x.png", crop=(100, 3, 20, 10))
    picture = iio.imread(tmp_path / "x.png")
    zoom = 6  # 128 / 20
    top, left = BAR + HEIGHT + GAP, (WIDTH - 20 * zoom) // 2
    expected = np.kron(clips[0][0, 3:13, 100:120], np.ones((zoom, zoom, 1), np.uint8))
    assert np.array_equal(picture[top : top + 10 * zoom, left : left + 20 * zoom], expected)


def test_a_larger_zoom_makes_the_columns_wider(clips, folders, tmp_path):
    put_side_by_side(*folders, tmp_path / "x.png", crop=(0, 0, 20, 10), zoom=10)
    picture = iio.imread(tmp_path / "x.png")
    assert picture.shape == (BAR + HEIGHT + GAP + 100, 2 * 200 + GAP, 3)
    expected = np.kron(clips[1][0, :10, :20], np.ones((10, 10, 1), np.uint8))
    assert np.array_equal(picture[BAR + HEIGHT + GAP :, 200 + GAP :], expected)


def test_labels_stand_above_and_change_nothing_else(folders, tmp_path):
    pictures = []
    for number, labels in enumerate((("bicubic", "RLSP"), ("bicubic", "truth"), ("bicubic", "truth " * 20))):
        put_side_by_side(*folders, tmp_path / f"{number}.png", labels=labels)
        pictures.append(iio.imread(tmp_path / f"{number}.png"))
    for picture in pictures:
        assert np.array_equal(picture[BAR:], pictures[0][BAR:])
        # Text that is too long ends before the column does.
        assert len(np.unique(picture[:BAR, -4:].reshape(-1, 3), axis=0)) == 1
    left, right = slice(0, WIDTH), slice(WIDTH + GAP, None)
    assert np.array_equal(pictures[0][:BAR, left], pictures[1][:BAR, left])
    assert (pictures[0][:BAR, left] > 200).any()
    assert not np.array_equal(pictures[0][:BAR, right], pictures[1][:BAR, right])


def test_clips_of_the_same_name_are_told_apart_by_their_folders(clips, tmp_path):
    one, other = (
        write_folder(tmp_path / name / "walk", clip) for name, clip in zip("ab", clips, strict=True)
    )
    put_side_by_side(one, other, tmp_path / "x.png")
    put_side_by_side(one, other, tmp_path / "y.png", labels=("a/walk", "b/walk"))
    assert (tmp_path / "x.png").read_bytes() == (tmp_path / "y.png").read_bytes()


@pytest.mark.parametrize("order", [1, -1])
def test_a_low_resolution_is_enlarged_at_the_phase_of_the_degradation(clips, tmp_path, order):
    clip = clips[0][:1]
    low = degrade(clip)
    paths = [write_folder(tmp_path / "low", low), write_folder(tmp_path / "high", clip)][::order]
    notes = put_side_by_side(*paths, tmp_path / "x.png", crop=(0, 0, 8, 8), zoom=1)
    assert notes == [f"{tmp_path / 'low'}: enlarged 4 times by bicubic interpolation."]
    rows, columns = enlarge_matrix(HEIGHT // 4, 4), enlarge_matrix(WIDTH // 4, 4)
    enlarged = np.einsum("ij,jkc,lk->ilc", rows, low[0].astype(float), columns)
    enlarged = np.clip(np.rint(enlarged), 0, 255).astype(np.uint8)
    picture = iio.imread(tmp_path / "x.png")
    for panel, original in zip(panels(picture)[:2], [enlarged, clip[0]][::order], strict=True):
        without_outline(panel, original, Region(0, 0, 8, 8))


def test_a_video_has_all_frames_at_the_times_of_the_input(clips, tmp_path):
    paths = [
        write_video(tmp_path / f"{name}.mkv", clip, rate=12) for name, clip in zip("ab", clips, strict=True)
    ]
    put_side_by_side(*paths, tmp_path / "x.mp4")
    with av.open(str(tmp_path / "x.mp4")) as video:
        frames = list(video.decode(video=0))
    times = [Fraction(frame.pts * frame.time_base) for frame in frames]
    # Matroska counts milliseconds.
    assert times == pytest.approx([Fraction(index, 12) for index in range(4)], abs=0.0005)
    difference = np.sum((clips[0].astype(float) - clips[1]) ** 2, axis=(0, -1))
    region = find_regions(difference, WIDTH // 4, HEIGHT // 8, 1)[0]
    for index, frame in enumerate(frames):
        picture = frame.to_ndarray(format="rgb24").astype(float)
        for zoomed, clip in zip(panels(picture)[2:], clips, strict=True):
            # The encoder loses something; which frame it was is still beyond doubt.
            distances = [
                np.mean(np.abs(zoomed - np.kron(region.cut(candidate), np.ones((4, 4, 1)))))
                for candidate in clip
            ]
            assert distances.pop(index) < min(distances) / 2
    assert len(frames) == 4


def test_the_region_of_a_video_does_not_hang_on_what_comes_late(tmp_path):
    a = np.zeros((LOOK_AHEAD + 2, HEIGHT, WIDTH, 3), np.uint8)
    b = a.copy()
    b[3, 8:12, 8:12] = 50
    b[LOOK_AHEAD:, 60:, 100:] = 255
    folders = [write_folder(tmp_path / name, clip) for name, clip in zip("ab", (a, b), strict=True)]
    put_side_by_side(*folders, tmp_path / "frames")
    pictures = [iio.imread(path) for path in sorted((tmp_path / "frames").iterdir())]
    assert len(pictures) == LOOK_AHEAD + 2
    assert (panels(pictures[3])[3] == 50).sum() == 4 * 4 * 3 * 4**2
    assert not panels(pictures[-1])[3].any()


@pytest.mark.slow
def test_the_sound_of_a_real_clip_comes_along(data, tmp_path):
    clip = data / "video" / "realshort_320x240.mp4"
    put_side_by_side(clip, clip, tmp_path / "x.mkv", labels=("one", "the same"))
    with av.open(str(clip)) as source, av.open(str(tmp_path / "x.mkv")) as result:
        packets = [
            [bytes(packet) for packet in container.demux(audio=0) if packet.size]
            for container in (source, result)
        ]
        assert packets[0] == packets[1]
        assert len(packets[0]) > 10
        assert sum(1 for _ in av.open(str(tmp_path / "x.mkv")).decode(video=0)) == 36


@pytest.mark.parametrize("short", [0, 1])
def test_a_clip_that_ends_early_is_named_and_nothing_is_written(clips, tmp_path, short):
    clips = [clip[:3] if index == short else clip for index, clip in enumerate(clips)]
    folders = [write_folder(tmp_path / name, clip) for name, clip in zip("ab", clips, strict=True)]
    with pytest.raises(RLSPError, match=rf"{'ab'[short]}: ends after 3 frames, but .*{'ba'[short]} goes on"):
        put_side_by_side(*folders, tmp_path / "x.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_frame_that_is_not_there(folders, tmp_path):
    with pytest.raises(RLSPError, match="a: has no frame 4; frames are counted from 0"):
        put_side_by_side(*folders, tmp_path / "x.png", frame=4)
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH // 2), (HEIGHT - 1, WIDTH), (50, 80)])
def test_sizes_that_do_not_go_together(clips, tmp_path, size):
    a = write_folder(tmp_path / "a", clips[0])
    b = write_folder(tmp_path / "b", make_clip(4, *size))
    with pytest.raises(RLSPError, match=rf"b: frames are {size[1]}x{size[0]}, those of .*a are 128x80"):
        put_side_by_side(a, b, tmp_path / "x.png")


def test_an_input_is_never_overwritten(folders, tmp_path):
    image = folders[1] / "000.png"
    before = image.read_bytes()
    with pytest.raises(RLSPError, match="is the input"):
        put_side_by_side(folders[0] / "000.png", image, image, force=True)
    with pytest.raises(RLSPError, match="is the input"):
        put_side_by_side(*folders, folders[1], force=True)
    assert image.read_bytes() == before


def test_an_output_that_is_there_is_replaced_with_force_only(folders, tmp_path):
    target = tmp_path / "x.png"
    target.write_text("mine")
    with pytest.raises(RLSPError, match="exists already"):
        put_side_by_side(*folders, target)
    assert target.read_text() == "mine"
    put_side_by_side(*folders, target, force=True)
    assert iio.imread(target).ndim == 3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"crop": (120, 0, 20, 10)}, "does not lie in frames of 128x80"),
        ({"crop": (0, 0, 0, 10)}, "does not lie in frames"),
        ({"crop": (-1, 0, 5, 5)}, "does not lie in frames"),
        ({"zoom": 0}, "a zoom must be at least 1, not 0"),
        ({"frame": -1}, "none has number -1"),
    ],
)
def test_options_that_cannot_be_meant(folders, tmp_path, options, sentence):
    with pytest.raises(UsageError, match=sentence):
        put_side_by_side(*folders, tmp_path / "x.png", **options)


def test_one_pixel_is_enough(tmp_path):
    image = tmp_path / "a.png"
    iio.imwrite(image, np.full((1, 1, 3), 77, np.uint8))
    shutil.copy(image, tmp_path / "b.png")
    put_side_by_side(image, tmp_path / "b.png", tmp_path / "x.png")
    assert (iio.imread(tmp_path / "x.png") == 77).all(axis=-1).sum() == 2 * (1 + 4 * 4)


def test_the_command(folders, tmp_path, capsys):
    target = tmp_path / "x.png"
    options = ["--crop", "100,3,20,10", "--zoom", "2", "--frame", "1", "--labels", "one", "two"]
    assert main(["compare", *map(os.fspath, folders), "--out", os.fspath(target), *options]) == 0
    put_side_by_side(
        *folders, tmp_path / "y.png", crop=(100, 3, 20, 10), zoom=2, frame=1, labels=("one", "two")
    )
    assert target.read_bytes() == (tmp_path / "y.png").read_bytes()
    assert "error" not in capsys.readouterr().err


def test_the_command_loads_no_tensorflow(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        make_video(tmp_path / name, range(0, 3 * 3600, 3600))
    code = (
        "import sys\n"
        "from rlsp_tf.cli.main import main\n"
        "assert main(['compare', 'a.mp4', 'b.mp4', '--out', 'c.mp4']) == 0\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "c.mp4").exists()


def test_the_command_fails_with_a_sentence(folders, tmp_path, capsys):
    command = ["compare", *map(os.fspath, folders), "--out", os.fspath(tmp_path / "x.mp4")]
    assert main([*command, "--frame", "1"]) == 2
    assert "x.mp4: a single frame goes into an image" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main([*command, "--crop", "1,2,x,4"])
    assert stop.value.code == 2
    assert "expected X,Y,W,H, four whole numbers, not '1,2,x,4'" in capsys.readouterr().err
    assert main(["compare", "missing", *command[2:]]) == 1
    assert "missing: no such file" in capsys.readouterr().err
