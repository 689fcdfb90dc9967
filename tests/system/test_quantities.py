"""Durations and sizes in the words of people."""

import pytest

from rlsp_tf.system.quantities import megabytes, spoken


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.02, "0 s"),
        (0.44, "0.4 s"),
        (0.96, "1 s"),
        (59.4, "59 s"),
        (59.9, "1 min"),
        (89.4, "1 min 29 s"),
        (119.8, "2 min"),
        (599.7, "10 min"),
        (3541, "59 min"),
        (3590, "1 h"),
        (7290, "2 h 2 min"),
        (35_999, "10 h"),
        (86400, "24 h"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds, words):
    assert spoken(seconds) == words


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (80, "0.08 kB"),
        (98_304, "98.3 kB"),
        (999_499, "999 kB"),
        (999_600, "1 MB"),
        (9_940_000, "9.94 MB"),
        (99_500_001, "99.5 MB"),
        (999_600_000, "1.0 GB"),
        (2**40, "1099.5 GB"),
    ],
)
def test_sizes_are_said_as_people_say_them(size, words):
    assert megabytes(size) == words
