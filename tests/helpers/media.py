"""Planes, packets and images compared."""

import io

import av
import numpy as np
from PIL import Image

from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.media.video_reader import VideoSource
from rlsp_tf.media.video_writer import VideoSink


def copy(source_path, target_path, *, force=False, **encoder):
    """Writes a video anew at its own size; gives the sink and the frames that were written."""
    with VideoSource(source_path) as source:
        size = {"width": source.width, "height": source.height}
        sink = VideoSink(target_path, source, **size, encoder=EncoderOptions(**encoder), force=force)
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


def with_cover(path, cover, target):
    """Adds a cover and a second video to an MP4."""
    with av.open(str(path)) as video, av.open(str(cover)) as image, av.open(str(target), "w") as output:
        pairs = [(stream, output.add_stream_from_template(stream, opaque=True)) for stream in video.streams]
        poster = output.add_stream_from_template(image.streams[0], opaque=True)
        poster.disposition = av.stream.Disposition.attached_pic.value
        pairs.append((image.streams[0], poster))
        for stream, copied in pairs:
            for packet in stream.container.demux(stream):
                if packet.size:
                    packet.stream = copied
                    output.mux(packet)
            stream.container.seek(0)
    return target


def cover_of(path):
    with av.open(str(path)) as container:
        covers = [s for s in container.streams.video if s.disposition & av.stream.Disposition.attached_pic]
        (cover,) = covers
        return bytes(next(container.demux(cover)))


def cropped(path, target, **edges):
    """A copy of a Matroska file with pixels to be cropped in its header, in place of two other elements."""
    content = path.read_bytes()
    names = {"top": b"\x54\xbb", "bottom": b"\x54\xaa", "left": b"\x54\xcc", "right": b"\x54\xdd"}
    crop = b"".join(names[edge] + bytes([0x81, pixels]) for edge, pixels in edges.items())
    # DisplayUnit, the last of the 10 bytes of the element Video, and MaxBlockAdditionID, which follows it.
    sizes = b"\xb0\x81\x40\xba\x81\x30"
    old = b"\xe0\x8a" + sizes + b"\x54\xb2\x81\x04\x55\xee\x81\x00"
    assert content.count(old) == 1
    target.write_bytes(content.replace(old, b"\xe0\x8e" + sizes + crop))
    return target


def png(image):
    """The bytes of a PNG file of an image."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
