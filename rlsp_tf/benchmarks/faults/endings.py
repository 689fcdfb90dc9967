"""Films whose result is hard to finish, because of their metadata, clocks, sound or names."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import av

from rlsp_tf.benchmarks.excerpts import is_whole
from rlsp_tf.benchmarks.faults.sandbox import FILM, Sandbox, Situation, UndisturbedRun
from rlsp_tf.media.inputs import open_input

LATIN_TITLE = b"caf\xe9".decode("utf-8", "surrogateescape")
"""A title in Latin-1, which is not UTF-8."""
LONG_NAME = "\u6f22" * 82
"""A name that with a suffix of four bytes takes 250 of the 255 bytes that file systems allow."""


def _copy(
    source: Path,
    target: Path,
    *,
    tags: Mapping[str, str] | None = None,
    video_tags: Mapping[str, str] | None = None,
) -> None:
    """Copies all packets of a film into another container and adds metadata to the file and its video."""
    with (
        open_input(source) as given,
        av.open(os.fspath(target), "w", metadata_errors="surrogateescape") as made,
    ):
        copies = {stream.index: made.add_stream_from_template(stream) for stream in given.streams}
        video = given.streams.video[0]
        # A time code counts frames, so that it needs their rate.
        copies[video.index].codec_context.framerate = video.average_rate
        copies[video.index].metadata.update(video_tags or {})
        made.metadata.update(tags or {})
        for packet in given.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                made.mux(packet)


def _time_code(scene: Sandbox) -> tuple[str, str]:
    _copy(scene.film, scene.folder / FILM, video_tags={"timecode": "01:02:03:04"})
    return FILM, "large.mov"


def _latin_title(scene: Sandbox) -> tuple[str, str]:
    _copy(scene.film, scene.folder / "film.mkv", tags={"title": LATIN_TITLE})
    return "film.mkv", "large.mkv"


def _long_name(scene: Sandbox) -> tuple[str, str]:
    scene.add_film()
    return FILM, f"{LONG_NAME}.mp4"


def _glued(scene: Sandbox) -> tuple[str, str]:
    """Two files behind each other; the clock starts again in the middle."""
    part, glued = scene.folder / "part.ts", scene.folder / "film.ts"
    _copy(scene.film, part)
    with glued.open("wb") as file:
        for _ in range(2):
            with part.open("rb") as each:
                shutil.copyfileobj(each, file)
    part.unlink()
    return "film.ts", "large.mkv"


def _other_sound(scene: Sandbox) -> tuple[str, str]:
    """The sound of the film in a container that cannot hold it."""
    scene.add_film()
    return FILM, "large.webm"


def _delivered(prepare: Callable[[Sandbox], tuple[str, str]], *, copies: int = 1) -> Situation:
    """A film that must be delivered with all frames and sound by one call.

    Args:
        prepare: makes the film and returns the names of input and output.
        copies: how many times the film contains all frames of the undisturbed run.
    """

    def situation(scene: Sandbox, undisturbed: UndisturbedRun) -> dict[str, Any]:
        source, target = prepare(scene)
        # Only the model, since other options are for the codec of .mp4.
        scene = replace(scene, options=scene.options[:2])
        code = scene.run(source, target)
        frames = copies * len(undisturbed.packets["0 video"])
        whole = code == 0 and is_whole(scene.folder / target) == frames
        sounds = sum(name.endswith("audio") for name in undisturbed.packets)
        whole = whole and _count_sounds(scene.folder / target) == sounds
        then = f"the result has all {frames} frames and the sound" if whole else "the result is not complete"
        right = whole and scene.left == sorted([source, target])
        said = " ".join(scene.said)
        return {"code": code, "said": said, "left": scene.left, "then": then, "right": right}

    return situation


def _count_sounds(path: Path) -> int:
    """Counts the streams of sound that have packets."""
    with open_input(path) as container:
        return len({packet.stream_index for packet in container.demux(audio=0) if packet.size})


ENDINGS: dict[str, Situation] = {
    "a time code in QuickTime": _delivered(_time_code),
    "a title that is not UTF-8": _delivered(_latin_title),
    "a name of 250 bytes": _delivered(_long_name),
    "two files in one, whose clock starts again": _delivered(_glued, copies=2),
    "sound that the container cannot hold": _delivered(_other_sound),
}
"""All endings by name."""
