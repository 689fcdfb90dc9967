import shutil

import imageio.v3 as iio
import numpy as np
import pytest

from helpers.synthetic import make_clip
from rlsp_tf.errors import RLSPError
from rlsp_tf.media.images import write_png
from rlsp_tf.training.clips.photographs import (
    HELD_OUT,
    LARGEST,
    by_chance,
    find_photographs,
    index_photographs,
    split_photographs,
)


@pytest.fixture
def folder(tmp_path):
    """Photographs of several sizes and formats, in folders within each other."""
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    for name, size in (("a.png", (120, 200)), ("b.jpg", (130, 110)), ("deeper/c.webp", (100, 150))):
        iio.imwrite(folder / name, make_clip(1, *size)[0])
    (folder / "notes.txt").write_text("no picture")
    return folder


def index(*roots, cache):
    photographs, notes = index_photographs(roots, cache=cache)
    return photographs, "\n".join(notes)


def test_photographs_of_all_sizes_and_formats_are_found_and_decoded(folder, tmp_path):
    photographs, notes = index(folder, cache=tmp_path / "cache")
    assert [each.name for each in photographs] == ["a.png", "b.jpg", "deeper/c.webp"]
    for each in photographs:
        np.testing.assert_array_equal(each.pixels, iio.imread(folder / each.name))
    assert notes == ""


def test_deep_photographs_are_rounded_and_large_ones_reduced(folder, tmp_path):
    deep = make_clip(1, 100, 100)[0].astype(np.uint16) * 257
    write_png(folder / "deep.png", deep)
    large = np.zeros((1500, 3000, 3), np.uint8)
    large[:, 1500:] = 200
    iio.imwrite(folder / "large.png", large)
    photographs = {each.name: each for each in index(folder, cache=tmp_path / "cache")[0]}
    np.testing.assert_array_equal(photographs["deep.png"].pixels, deep // 257)
    height, width = photographs["large.png"].shape
    assert (height, width) == (1024, 2048)
    assert height * width <= LARGEST
    np.testing.assert_array_equal(photographs["large.png"].pixels[:, 1024:], 200)


def test_photographs_are_decoded_once_and_anew_where_damaged_or_changed(folder, tmp_path):
    first, _ = index(folder, cache=tmp_path / "cache")
    made = (first[0].folder / "pixels.raw").stat().st_mtime_ns
    again, _ = index(folder, cache=tmp_path / "cache")
    assert again == first
    assert (first[0].folder / "pixels.raw").stat().st_mtime_ns == made
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    copied, _ = index(tmp_path / "copy", cache=tmp_path / "cache")
    assert [each.folder for each in copied] == [each.folder for each in first]
    assert copied[0].source == str(tmp_path / "copy" / "a.png")
    (first[0].folder / "pixels.raw").write_bytes(b"short")
    (first[1].folder / "photograph.json").write_text("{}")
    whole, _ = index(folder, cache=tmp_path / "cache")
    assert whole == first
    np.testing.assert_array_equal(whole[0].pixels, iio.imread(folder / "a.png"))
    iio.imwrite(folder / "a.png", make_clip(1, 120, 200, seed=9)[0])
    changed, _ = index(folder, cache=tmp_path / "cache")
    assert changed[0].folder != first[0].folder
    assert changed[0].sha256 != first[0].sha256


def test_a_photograph_with_the_longest_name_is_used(folder, tmp_path):
    name = 62 * "\N{GRINNING FACE}" + ".png"
    shutil.copyfile(folder / "a.png", folder / name)
    photographs, _ = index(folder, cache=tmp_path / "cache")
    assert name in {photograph.name for photograph in photographs}


def test_what_cannot_be_used_is_named(folder, tmp_path):
    (folder / "broken.jpg").write_bytes(b"no picture")
    iio.imwrite(folder / "small.png", make_clip(1, 40, 300)[0])
    _, notes = index(folder, cache=tmp_path / "cache")
    assert f"skipped {folder}/broken.jpg: " in notes
    assert (
        f"skipped {folder}/small.png: is 300x40; a photograph must be at least 96 pixels high and wide."
        in notes
    )
    with pytest.raises(RLSPError, match="missing: no such file or folder"):
        index(tmp_path / "missing", cache=tmp_path / "cache")
    with pytest.raises(RLSPError, match=r"(?s)a\.png: at least two photographs are needed.*1 can be used"):
        index(folder / "a.png", cache=tmp_path / "cache")


def test_files_of_the_same_name_have_names_of_their_own(folder, tmp_path):
    (tmp_path / "more").mkdir()
    iio.imwrite(tmp_path / "more" / "a.png", make_clip(1, 100, 100)[0])
    names = dict(find_photographs([folder, tmp_path / "more"]))
    other = (tmp_path / "more" / "a.png").as_posix()
    assert names.keys() == {"a.png", "b.jpg", "deeper/c.webp", other}


def test_the_same_photographs_are_held_out_of_a_collection_and_of_a_part_that_has_them(folder, tmp_path):
    photographs, _ = index(folder, cache=tmp_path / "cache")
    training, validation = split_photographs(photographs)
    assert len(validation) == 1
    assert {each.name for each in training + validation} == {each.name for each in photographs}
    names = [f"{number}.jpg" for number in range(100)]
    first = by_chance(names)[:HELD_OUT]
    assert by_chance([name for name in names if name in first or int(name[:-4]) % 3 == 0])[:HELD_OUT] == first
