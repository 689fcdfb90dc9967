"""Planes, packets and images compared."""

import numpy as np

from rlsp_tf.media.video_reader import VideoSource
from rlsp_tf.media.video_writer import VideoSink


def copy(source_path, target_path, **options):
    """Writes a video anew at its own size; the notes of the sink and the frames that were written."""
    with VideoSource(source_path) as source:
        sink = VideoSink(target_path, source, width=source.width, height=source.height, **options)
        with sink:
            frames = []
            for frame in source:
                sink.write(frame)
                frames.append(frame)
    return sink, frames


def random_planes(rng, size, subsampling, depth):
    width, height = size
    across, down = subsampling
    shapes = [(height, width)] + [(-(-height // down), -(-width // across))] * 2
    return [
        rng.integers(0, 2**depth, shape).astype(np.uint8 if depth == 8 else np.uint16) for shape in shapes
    ]


def assert_planes(actual, expected):
    assert len(actual) == len(expected)
    for have, want in zip(actual, expected, strict=True):
        assert have.dtype == want.dtype
        np.testing.assert_array_equal(have, want)


def contents(folder):
    return sorted(path.name for path in folder.iterdir())
