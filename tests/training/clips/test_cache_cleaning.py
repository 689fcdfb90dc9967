import os
import time

import pytest

from helpers.clips import write_folder
from helpers.synthetic import make_clip
from rlsp_tf.training.clips.cache_cleaning import DAYS, clean_cache
from rlsp_tf.training.clips.index import index_clips
from rlsp_tf.training.clips.photographs import index_photographs


@pytest.fixture
def cache(tmp_path):
    """A cache with two clips and two photographs."""
    write_folder(tmp_path / "data" / "one", make_clip(2, 32, 32))
    write_folder(tmp_path / "data" / "two", make_clip(2, 32, 32, seed=1))
    write_folder(tmp_path / "photos", make_clip(2, 100, 100))
    use(tmp_path)
    return tmp_path / "cache"


def use(folder):
    index_clips([folder / "data"], cache=folder / "cache")
    index_photographs([folder / "photos"], cache=folder / "cache")


def grow_old(folder, days):
    for card in [*folder.glob("*.json")]:
        os.utime(card, (time.time() - 86400 * days,) * 2)


def test_what_nobody_used_for_a_month_is_removed(cache):
    folders = sorted(cache.iterdir())
    assert len(folders) == 4
    assert clean_cache(cache) == []
    grow_old(folders[0], DAYS + 1)
    grow_old(folders[3], DAYS + 1)
    grow_old(folders[1], DAYS - 1)
    (note,) = clean_cache(cache)
    assert note.startswith("removed 2 unused clips and photographs (0.00 GB) from ")
    assert sorted(cache.iterdir()) == folders[1:3]


def test_using_it_makes_it_young_again(cache, tmp_path):
    for folder in cache.iterdir():
        grow_old(folder, DAYS + 1)
    use(tmp_path)
    assert clean_cache(cache) == []
    assert len(list(cache.iterdir())) == 4


def test_where_all_take_too_much_those_used_longest_ago_go_but_none_of_today(cache, monkeypatch):
    folders = sorted(cache.iterdir())
    monkeypatch.setattr("rlsp_tf.training.clips.cache_cleaning.LARGEST", 0)
    grow_old(folders[2], 3)
    clean_cache(cache)
    assert sorted(cache.iterdir()) == [folders[0], folders[1], folders[3]]
    sizes = [sum(file.stat().st_size for file in folder.iterdir()) for folder in folders[:2]]
    grow_old(folders[0], 5)
    grow_old(folders[1], 4)
    rest = sum(file.stat().st_size for file in folders[3].iterdir())
    monkeypatch.setattr("rlsp_tf.training.clips.cache_cleaning.LARGEST", sizes[1] + rest)
    clean_cache(cache)
    assert sorted(cache.iterdir()) == [folders[1], folders[3]]


def test_what_is_not_ours_stays(cache):
    """A folder of ours with something more in it, one of another name, a link, and a file."""
    folder, other, *_ = sorted(cache.iterdir())
    (folder / "thesis.txt").write_text("mine")
    named = other.rename(cache / "mine")
    link = cache / "link-0123456789abcdef"
    link.symlink_to(folder, target_is_directory=True)
    (cache / "file-0123456789abcdef").write_text("mine")
    before = sorted(cache.iterdir())
    for each in (folder, named):
        grow_old(each, 400)
    assert clean_cache(cache) == []
    assert sorted(cache.iterdir()) == before
