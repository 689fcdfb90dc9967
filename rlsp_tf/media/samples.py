"""Frames from all over a clip, to learn something about it before it is read."""

from collections.abc import Iterator

import numpy as np

from rlsp_tf.media.frames import FrameSource
from rlsp_tf.media.images import FolderSource, read_image
from rlsp_tf.media.open import STDIN, VideoSource
from rlsp_tf.media.pixel_formats import eight_bit_rgb

COUNT = 16
"""Number of frames in a sample."""


def sample_frames(source: FrameSource, count: int = COUNT) -> Iterator[np.ndarray]:
    """Reads frames from all over a clip.

    Of a video these are key frames, which can be reached without decoding what lies between. If it cannot be
    searched, or is damaged, there are fewer; of standard input there is none.

    Args:
        source: the clip. What is read of it stays the same: a video is opened once more.
        count: number of frames.

    Yields:
        uint8 RGB ``(H, W, 3)``.
    """
    if isinstance(source, FolderSource):
        for file in source.files[:: -(-len(source.files) // count)]:
            yield eight_bit_rgb((read_image(file),), source.color)
    elif source.path is not STDIN:
        with VideoSource(source.path) as video:
            first = next(iter(video))
            yield eight_bit_rgb(first.planes, video.color)
            length = (video.frames or 0) / ((video.rate or 1) * video.time_base)
            for index in range(1, count if length else 1):
                video.seek((first.pts or 0) + round(length * index / count))
                frame = next(iter(video), None)
                if frame is None:
                    return
                yield eight_bit_rgb(frame.planes, video.color)
