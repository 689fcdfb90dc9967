"""Small video files, made by FFmpeg alone and looked into by FFmpeg alone."""

from fractions import Fraction

import av
import numpy as np

from rlsp_tf.media.pixel_formats import chain

TICK = Fraction(1, 90000)


def gradient(index, width, height):
    """A picture that tells its number: uint8 ``(height, width, 3)``."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = (np.arange(width) * 3 + 7 * index) % 256
    image[..., 1] = (np.arange(height)[:, None] * 5) % 256
    image[..., 2] = (13 * index) % 256
    return image


def make_video(
    path,
    pts=range(0, 25 * 3600, 3600),
    *,
    time_base=TICK,
    codec="libx264",
    pixel_format="yuv420p",
    size=(64, 48),
    audio=(),
    subtitles=None,
    attachment=False,
    chapters=False,
    container=None,
    container_options=None,
    rotation=None,
    frames=None,
    options=None,
    stream_metadata=None,
    **settings,
):
    """Writes a video of gradients, or of the ``frames`` given, with white noise for sound.

    Args:
        path: the file.
        pts: time stamps of the frames, in units of ``time_base``; sound lasts from the first to the last.
        subtitles: an SRT file to be put in.
        audio: encoders of sound streams, each 48 kHz, stereo, German.
        stream_metadata: of the video.
        settings: of the video's codec context.
    """
    pts = list(pts)
    width, height = size
    with av.open(str(path), "w", format=container, container_options=container_options or {}) as output:
        output.metadata["title"] = "Über den Wolken"
        stream = output.add_stream(codec, rate=25, options=options or {})
        context = stream.codec_context
        context.width, context.height, context.pix_fmt, context.time_base = (
            width,
            height,
            pixel_format,
            time_base,
        )
        stream.metadata.update(stream_metadata or {})
        for name, value in settings.items():
            setattr(context, name, value)
        if rotation is not None:
            stream.set_display_rotation(rotation)
        sounds = []
        for name in audio:
            sound = output.add_stream(name, rate=48000)
            sound.codec_context.layout = "stereo"
            sound.metadata["language"] = "deu"
            sounds.append(sound)
        others = []
        if subtitles:
            source = av.open(str(subtitles))
            target = output.add_stream_from_template(source.streams[0], opaque=True)
            target.metadata["language"] = "eng"
            others = [(packet, target) for packet in source.demux() if packet.size]
        if attachment:
            output.add_attachment("font.ttf", "application/x-truetype-font", b"a font")
        if chapters:
            halves = [(0, 500, "first"), (500, 1000, "second")]
            output.set_chapters(
                [
                    {
                        "id": n,
                        "start": a,
                        "end": b,
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": title},
                    }
                    for n, (a, b, title) in enumerate(halves, 1)
                ]
            )
        output.start_encoding()
        heard = [round(pts[0] * time_base * 48000)] * len(sounds)
        for index, tick in enumerate(pts):
            frame = frames[index] if frames else av.VideoFrame.from_ndarray(gradient(index, width, height))
            if frame.format.name != pixel_format:
                frame = frame.reformat(format=pixel_format)
            frame.pts, frame.time_base = tick, time_base
            output.mux(stream.encode(frame))
            while others and others[0][0].pts * others[0][0].time_base <= tick * time_base:
                packet, packet.stream = others.pop(0)[0], target
                output.mux(packet)
            for number, sound in enumerate(sounds):
                while Fraction(heard[number], 48000) < tick * time_base:
                    output.mux(sound.encode(noise(heard[number])))
                    heard[number] += 960
        for encoder in (stream, *sounds):
            output.mux(encoder.encode(None))
    return path


def marked(frame, mode):
    """The frame, marked as FFmpeg's setfield does: ``tff`` or ``bff`` for interlaced, ``prog``."""
    graph = chain(frame, ("setfield", mode))
    graph.vpush(frame)
    return graph.vpull()


def noise(start):
    """960 samples of stereo noise at 48 kHz."""
    samples = np.random.default_rng(start).normal(0, 0.1, (2, 960)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
    return frame


def memory(frame, plane):
    """The bytes of a frame's plane, lines with their padding."""
    return np.frombuffer(frame.planes[plane], np.uint8).reshape(frame.planes[plane].height, -1)


def frame_times(path):
    """Presentation times of all video frames, in seconds, by FFmpeg's decoder."""
    with av.open(str(path), metadata_errors="surrogateescape") as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def packets(path, kind):
    """The packets of each stream of a kind: a list of ``(seconds, content)`` for every stream."""
    with av.open(str(path), metadata_errors="surrogateescape") as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        found = {stream.index: [] for stream in streams}
        for packet in container.demux(streams) if streams else ():
            if packet.size:
                found[packet.stream_index].append((packet.pts * packet.time_base, bytes(packet)))
        return list(found.values())
