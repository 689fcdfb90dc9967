"""Edit lists of MP4 (ISO/IEC 14496-12, 8.6.6), which FFmpeg's muxer does not write as one likes."""

import struct


def with_edits(path, target, edits):
    """Writes an MP4 again in which only some parts of each track are played.

    Args:
        path: an MP4 whose header stands at its end.
        edits: for each track the parts, ``(begin, end)`` in seconds of its own time; ``None`` for begin
            is a pause of ``end`` seconds.
    """
    content = path.read_bytes()
    boxes = list(_boxes(content))
    kind, header = boxes[-1]
    assert kind == b"moov"
    children = list(_boxes(header))
    (unit,) = (struct.unpack(">I", child[12:16])[0] for kind, child in children if kind == b"mvhd")
    parts = iter(edits)
    tracks = [
        (kind, _edited(child, unit, next(parts)) if kind == b"trak" else child) for kind, child in children
    ]
    target.write_bytes(content[: -len(header) - 8] + _box(b"moov", _joined(tracks)))
    return target


def _edited(track, unit, parts):
    children = [(kind, child) for kind, child in _boxes(track) if kind != b"edts"]
    media = dict(_boxes(dict(children)[b"mdia"]))
    (media_unit,) = struct.unpack(">I", media[b"mdhd"][12:16])
    entries = b"".join(
        struct.pack(">Ii", round(end * unit), -1) + b"\0\1\0\0"
        if begin is None
        else struct.pack(">Ii", round((end - begin) * unit), round(begin * media_unit)) + b"\0\1\0\0"
        for begin, end in parts
    )
    table = _box(b"edts", _box(b"elst", struct.pack(">II", 0, len(parts)) + entries))
    return _joined(children[:1]) + table + _joined(children[1:])


def _boxes(content):
    while content:
        size, kind = struct.unpack(">I4s", content[:8])
        yield kind, content[8:size]
        content = content[size:]


def _joined(boxes):
    return b"".join(_box(*box) for box in boxes)


def _box(kind, content):
    return struct.pack(">I4s", len(content) + 8, kind) + content
