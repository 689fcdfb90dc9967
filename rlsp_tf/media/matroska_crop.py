"""The crop in the header of a Matroska file, which FFmpeg reads but whose Python interface does not give."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

_SEGMENT, _CLUSTER, _TRACKS = 0x18538067, 0x1F43B675, 0x1654AE6B
_TRACK_TYPE, _VIDEO = 0x83, 0xE0
_MOST = 2**20
"""Bytes of a header that are read."""


class Crop(NamedTuple):
    """Pixels at the edges of a frame that are not to be shown."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0


_CROPS = {0x54BB: "top", 0x54AA: "bottom", 0x54CC: "left", 0x54DD: "right"}


def crops_of(path: Path) -> list[Crop]:
    """The crop of each video track of a file, in their order (RFC 9559, PixelCropTop and so on).

    Args:
        path: a file in Matroska or WebM. In others, and where the header is damaged, nothing is found.
    """
    end = path.stat().st_size
    with path.open("rb") as file:
        for name, size in _elements(file):
            if name == _TRACKS:
                tracks = io.BytesIO(file.read(min(size, _MOST)))
                found = [_children(tracks.read(length)) for _, length in _elements(tracks)]
                return [_crop_of(track) for track in found if track.get(_TRACK_TYPE) == b"\1"]
            if name == _CLUSTER:
                break
            if name != _SEGMENT:
                file.seek(min(size, end), io.SEEK_CUR)  # a damaged size may be beyond all that can be sought
    return []


def _crop_of(track: dict[int, bytes]) -> Crop:
    video = _children(track.get(_VIDEO, b""))
    return Crop(**{side: int.from_bytes(video.get(name, b"")[:8], "big") for name, side in _CROPS.items()})


def _children(content: bytes) -> dict[int, bytes]:
    file = io.BytesIO(content)
    return {name: file.read(size) for name, size in _elements(file)}


def _elements(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Name and size of each element, from where the file is; who takes them reads or skips the content."""
    while first := file.read(1):
        length = 9 - first[0].bit_length()
        name = int.from_bytes(first + file.read(length - 1), "big")
        lead = (file.read(1) or b"\0")[0]
        length = 9 - lead.bit_length()
        if length > 8:
            return
        rest = file.read(length - 1)
        yield name, int.from_bytes(bytes([lead ^ (1 << (8 - length))]) + rest, "big")
