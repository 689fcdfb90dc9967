"""Upscales a clip to a file: decodes, computes and encodes at the same time, in segments that are kept."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import keras
import numpy as np
import psutil

from rlsp_tf._version import __version__
from rlsp_tf.errors import Interrupted
from rlsp_tf.inference.backend import backend_version
from rlsp_tf.inference.bars import Bars, PictureStep, picture_of
from rlsp_tf.inference.color_path import ChromaGeometry
from rlsp_tf.inference.divergence import Watch, divergence_notes
from rlsp_tf.inference.load import load_step
from rlsp_tf.inference.resumed import EVERYTHING, ResumedStep, Stopped
from rlsp_tf.inference.step import KerasStep, Step
from rlsp_tf.inference.strips import PER_PIXEL, StripStep, within_memory
from rlsp_tf.inference.transparency import enlarge_alpha, filled_under
from rlsp_tf.inference.upscaler import PreparedFrame, StreamingUpscaler
from rlsp_tf.media.encoders import EncoderOptions
from rlsp_tf.media.frames import Frame, FrameSink, FrameSource
from rlsp_tf.media.interval import Interval
from rlsp_tf.media.open import STDIN, STDOUT, ImageSink, becomes_video, is_pipe, open_sink, open_source
from rlsp_tf.media.resize import Resizer
from rlsp_tf.media.samples import sample_frames
from rlsp_tf.system.pipeline import Background, Prefetch
from rlsp_tf.system.progress import ProgressBar
from rlsp_tf.system.signals import Stop
from rlsp_tf.upscaling.outputs import Output, Outputs, Picture, Repeats, shots_of
from rlsp_tf.upscaling.published import published
from rlsp_tf.upscaling.segments import SEGMENT, SegmentedSink, frames_left, identity_of
from rlsp_tf.upscaling.size import Geometry, Size
from rlsp_tf.upscaling.work_folder import Journal

WARM_START = 8
"""Frames that are processed backwards before a shot begins; more do not improve quality."""


@dataclass(frozen=True)
class Recipe:
    """How clips are upscaled. For the attributes, see :func:`upscale`, which takes all of them one by one."""

    chroma: ChromaGeometry = "aligned"
    encoder: EncoderOptions = EncoderOptions()
    warm_start: int = WARM_START
    deinterlace: bool = False
    segment: int = SEGMENT
    repeats: Repeats = "copy"
    bars: Bars = "interpolate"
    size: Size = Size()
    interval: Interval = Interval()

    def open(self, path: Path) -> FrameSource:
        """Opens a clip to read what is upscaled of it, see :func:`rlsp_tf.media.open.open_source`."""
        return open_source(path, deinterlace=self.deinterlace, interval=self.interval, rate=self.encoder.rate)

    def geometry(self, frames: FrameSource, scale: int, path: Path) -> Geometry:
        """Returns the form of the frames of a result, see :meth:`sink`."""
        return self.size.of(frames, scale, even=becomes_video(path))

    def sink(
        self,
        frames: FrameSource,
        scale: int,
        path: Path,
        *,
        force: bool = False,
        companions: bool = True,
    ) -> FrameSink:
        """Makes the sink for upscaled frames, see :func:`rlsp_tf.media.open.open_sink`.

        Args:
            frames: the clip that is upscaled.
            scale: how many times larger the network makes them.
            path: the file or folder to write.
            force: whether to replace an existing file or folder.
            companions: whether to copy sound and everything else that accompanies the video.
        """
        geometry = self.geometry(frames, scale, path)
        sink = open_sink(
            path,
            frames,
            **geometry._asdict(),
            encoder=self.encoder,
            force=force,
            companions=companions,
        )
        if geometry.height > scale * frames.height:
            sink.notes.append(
                f"{frames.path}: the network makes it {scale} times larger; the rest up to "
                f"{geometry.width}x{geometry.height} is interpolated."
            )
        return sink

    def settings(self) -> dict[str, Any]:
        """Returns all settings by the names of the options of ``rlsp upscale``."""
        values = {name: value for name, value in asdict(self).items() if name not in ("size", "interval")}
        values |= values.pop("encoder")
        options = {f"--{name.replace('_', '-')}": value for name, value in values.items()}
        options["--rate"] = None if self.encoder.rate is None else str(self.encoder.rate)
        options["segment length"] = options.pop("--segment")
        return options | self.size.options() | self.interval.options()

    def run(self, source: Path, step: Step, scene_cuts: object) -> dict[str, Any]:
        """Returns everything that the frames of a result depend on, for a journal."""
        cuts = sorted(scene_cuts) if isinstance(scene_cuts, frozenset) else scene_cuts
        backend, version = backend_version()
        return {
            **self.settings(),
            "input": identity_of(source),
            "model": step.fingerprint,
            "--scene-cuts": cuts,
            "version of rlsp": __version__,
            f"version of {backend}": version,
            "version of PyAV": av.__version__,
        }


class _Output(NamedTuple):
    """A frame of the clip, without pixels, what it shows, and its number in the clip, from 0."""

    frame: Frame
    picture: Picture
    number: int


@dataclass(frozen=True)
class _EndOfSegment:
    """Tells the encoding stage to finish a segment; see :meth:`SegmentedSink.end_segment`."""

    steps: int
    state: list[np.ndarray]


def upscale(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    model: keras.Model | Step | str | os.PathLike[str],
    *,
    precision: str = "auto",
    chroma: ChromaGeometry = "aligned",
    codec: str | None = None,
    crf: int = 18,
    preset: str | None = None,
    rate: float | Fraction | None = None,
    warm_start: int = WARM_START,
    scene_cuts: Literal["auto", "off"] | frozenset[int] = "auto",
    memory: float | None = None,
    deinterlace: bool = False,
    repeats: Repeats = "copy",
    bars: Bars = "interpolate",
    size: tuple[int, int] | None = None,
    height: int | None = None,
    scale: float | Fraction | None = None,
    start: float | Fraction = 0,
    duration: float | Fraction | None = None,
    force: bool = False,
    resume: bool = True,
    segment: int = SEGMENT,
    stop: Stop | None = None,
    progress: bool = False,
    tick: Callable[[], object] = lambda: None,
) -> list[str]:
    """Upscales a video, a folder of images or an image into a new file or folder.

    Every frame keeps its time stamp. Sound and other streams are copied if the container of ``target``
    supports them. ``target`` gets its name only when it is complete.

    Frames are written in segments, which stay in a folder beside ``target`` if the run is interrupted in any
    way. Repeating the call continues after the last finished segment, with the hidden state of that moment.
    The result is the same as without the interruption.

    Args:
        source: a video, a folder of images, or an image; ``"-"`` for a video from standard input.
        target: a video (judged by its suffix), a new folder, or, for an image, an image; ``"-"`` for Matroska
            on standard output; a named pipe. A run that reads or writes a pipe cannot be resumed.
        model: the network, see :class:`rlsp_tf.StreamingUpscaler`; or what :func:`rlsp_tf.load_model` or the
            command takes: a ``.keras`` file, an export, or the name of weights.
        precision: number format of the convolutions of a network that is given by its file or name, see
            :func:`rlsp_tf.inference.load.load_step`; a model has its own.
        chroma: how chroma is upscaled, see :class:`rlsp_tf.StreamingUpscaler`.
        codec: FFmpeg's name of the video encoder. The default depends on the container, see
            :func:`rlsp_tf.media.containers.codec_for`.
        crf: constant rate factor of the encoder: smaller values give better quality and larger files.
        preset: the encoder's name for a trade-off between speed and size.
        rate: frames per second, if the source has no frame rate, as a folder of images. The default is 25. If
            the source has a frame rate, this is ignored, and a note says so.
        warm_start: frames that are processed backwards before each shot begins, see
            :class:`rlsp_tf.inference.recurrent_stream.RecurrentStream`.
        scene_cuts: where the hidden state is reset: ``"auto"`` at cuts that are detected
            (:mod:`rlsp_tf.media.shots`), ``"off"`` nowhere, or the numbers of the frames that begin a shot.
        memory: bytes that may be used, not counting the encoder's lookahead. By default half of the free
            memory. Frames that need more are computed in strips (:mod:`rlsp_tf.inference.strips`).
        deinterlace: whether to deinterlace frames first, see :class:`rlsp_tf.media.open.VideoSource`.
        repeats: what frames get that are equal to the one before: ``"copy"`` its result, or ``"compute"`` a
            result of their own, which takes longer and is not better (``docs/performance.md``).
        bars: how black bars around the picture are enlarged: by interpolation (``"interpolate"``) as long as
            nothing is shown in them, or by the network (``"compute"``).
        size: width and height in pixels. What the network makes is brought to the largest size that fits
            inside them, by Lanczos interpolation. The picture keeps the aspect ratio in which it is shown,
            and its pixels become square. Videos get even sizes. By default the result is what the network
            makes, usually four times as large as the source.
        height: height in pixels, instead of ``size``; the width follows from it.
        scale: how many times larger than the source the result is, from 1 to 16, instead of ``size``.
        start: seconds from the first frame of the source. The first frame of the result is the first one at
            or after this time; sound, subtitles and chapters are cut accordingly.
        duration: seconds from ``start`` to the end of the result; by default all that is left.
        force: whether to replace an existing target.
        resume: whether to continue an interrupted run. Otherwise what it left is removed.
        segment: length of a segment in frames, see :func:`rlsp_tf.upscaling.segments.frames_left`.
        stop: evaluated before every step of the network. When it becomes true, the current segment ends
            there, and repeating the call continues after it. A video from standard input ends there, and
            what was read is written.
        progress: whether to show on standard error how far it is.
        tick: called for every frame of the result.

    Returns:
        Sentences for the user about what was assumed or left out.

    Raises:
        Interrupted: if ``stop`` became true.
        RLSPError: if a file cannot be read or written, or an interrupted run with other settings has left
            its work folder.
    """
    recipe = Recipe(
        chroma,
        EncoderOptions(codec, crf, preset, rate),
        warm_start,
        deinterlace,
        segment,
        repeats,
        bars,
        Size(size, height, None if scale is None else _exact(scale)),
        Interval(_exact(start), None if duration is None else _exact(duration)),
    )
    return upscale_clip(
        source,
        target,
        load_step(model, precision=precision) if isinstance(model, str | os.PathLike) else model,
        recipe,
        scene_cuts=scene_cuts,
        memory=memory,
        force=force,
        resume=resume,
        stop=stop,
        progress=progress,
        tick=tick,
    )


def upscale_clip(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    model: keras.Model | Step,
    recipe: Recipe,
    *,
    scene_cuts: Literal["auto", "off"] | frozenset[int] = "auto",
    memory: float | None = None,
    force: bool = False,
    resume: bool = True,
    stop: Stop | None = None,
    progress: bool = False,
    tick: Callable[[], object] = lambda: None,
) -> list[str]:
    """Does what :func:`upscale` says, where all that decides on the result is in one recipe."""
    source = STDIN if os.fspath(source) == "-" else Path(source)
    target = STDOUT if os.fspath(target) == "-" else Path(target)
    step = KerasStep(model) if isinstance(model, keras.Model) else model
    if resume and not force and source is not STDIN and not is_pipe(target):
        finished = published(target, lambda: recipe.run(source, step, scene_cuts))
        if finished is not None:
            return finished
    with recipe.open(source) as frames:
        make = partial(recipe.sink, frames, step.config.scale)
        whole = make(target, force=force)
        if isinstance(whole, ImageSink) or source is STDIN or is_pipe(target):
            sink: FrameSink = whole
        else:
            sink = SegmentedSink(
                whole,
                partial(make, companions=False),
                frames,
                run=lambda: recipe.run(source, step, scene_cuts),
                resume=resume,
                force=force,
                progress=progress,
            )
        shots = shots_of(frames, frames.depth, scene_cuts, recipe.repeats)
        bar = ProgressBar(total=frames.frames, unit="frames", desc=os.fspath(target), show=progress)

        def count() -> None:
            bar.update()
            tick()

        with sink, bar:
            notes = render(
                frames,
                shots,
                sink,
                step,
                recipe,
                memory=memory,
                stop=Stop() if stop is None else stop,
                tick=count,
            )
        return [*notes, *sink.notes]


def render(
    frames: FrameSource,
    shots: Iterable[tuple[Frame, bool]],
    sink: FrameSink,
    step: Step,
    recipe: Recipe,
    *,
    memory: float | None,
    stop: Stop,
    tick: Callable[[], object],
    keep: range = range(sys.maxsize),
) -> list[str]:
    """Upscales the frames that a sink does not have yet, and writes them.

    Args:
        frames: the clip.
        shots: the frames of the clip, and whether each begins a shot.
        sink: the sink, made by ``recipe`` and entered.
        step: the network.
        recipe: how the clip is upscaled.
        memory, stop: see :func:`upscale`.
        tick: called for every frame that the sink has.
        keep: indices of the frames written to the sink. Other frames only build up the hidden state.

    Returns:
        Sentences for the user about ``frames``, and about whether the network diverged.

    Raises:
        Interrupted: if ``stop`` became true.
        RLSPError: if a frame cannot be read or written.
    """
    segmented = isinstance(sink, SegmentedSink)
    finished = sink.finished if isinstance(sink, SegmentedSink) else Journal({}, None)
    missing = [*sink.missing] if isinstance(sink, SegmentedSink) else []
    if finished.notes is not None and not missing:
        return finished.notes
    made = recipe.geometry(frames, step.config.scale, sink.path)
    if memory is None and finished.rows is not None:
        step = StripStep(step, finished.rows)
    elif memory is not None or not finished.segments:
        free = psutil.virtual_memory().available / 2
        # A warm start outputs several frames at once.
        at_once = 1 + recipe.warm_start
        # Beyond what the network makes, frames take as much as they do up to there.
        more = made.width * made.height - step.config.scale**2 * frames.width * frames.height
        left = (memory or free) - max(0, more) * PER_PIXEL / 16
        step = within_memory(step, frames.height, frames.width, left, at_once=at_once)
    if isinstance(sink, SegmentedSink):
        sink.rows = step.rows if isinstance(step, StripStep) else None
    # What is transparent may be black without being a bar, and some exports take frames of one size only.
    left_alone = (frames.transparent and sink.transparent) or getattr(step, "size", None)
    if recipe.bars == "interpolate" and not left_alone:
        area = picture_of(sample_frames(frames))
        step = PictureStep(step, area) if area else step
    noted = finished.frames
    piped = frames.path is STDIN
    counted = ResumedStep(
        step,
        sink.stretches() if isinstance(sink, SegmentedSink) else EVERYTHING,
        bool if piped else partial(bool, stop),
    )
    first = sink.first if isinstance(sink, SegmentedSink) else 0
    # Divergence within finished frames is stored in their journal.
    watch = Watch(finished.diverged)
    upscaler = StreamingUpscaler(
        counted,
        chroma=recipe.chroma,
        source=frames.color,
        target=sink.color,
        warm_start=recipe.warm_start,
    )
    resize = None
    if (made.width, made.height) != (step.config.scale * frames.width, step.config.scale * frames.height):
        resize = Resizer(made.width, made.height, sink.color)
    if piped:
        shots = takewhile(lambda _: not stop, shots)

    def encode(item: Frame | _EndOfSegment) -> None:
        if isinstance(item, Frame):
            sink.write(item)
            tick()
        else:
            assert isinstance(sink, SegmentedSink)
            sink.end_segment(item.steps, item.state)

    def finish(item: _Output | _EndOfSegment) -> None:
        if isinstance(item, _Output):
            frame, is_final = item.picture.finished(item.frame)
            watch.look(item.number, item.picture.is_far)
            if isinstance(sink, SegmentedSink):
                sink.diverged = watch.since
            if frame.alpha is not None and not is_final:
                alpha = enlarge_alpha(
                    frame.alpha,
                    step.config.scale,
                    depth=frames.depth,
                    target_depth=sink.color.depth if sink.color else 8 * frame.planes[0].itemsize,
                    geometry=recipe.chroma,
                )
                frame = replace(frame, alpha=alpha)
            if not is_final:
                frame = frame if resize is None else resize(frame)
                item.picture.keep(frame)
            encoder.put(frame)
        else:
            encoder.put(item)

    with (
        stop.asked_often(),
        Background("encoding", encode, ahead=1) as encoder,
        Background("colour", finish, ahead=1) as finisher,
        Prefetch("decoding", _enter(upscaler, shots, frames, transparent=sink.transparent)) as decoded,
    ):
        number = in_segment = 0
        # Frames since the last finished segment, and the number of steps up to the latest of these frames.
        unsaved = steps = 0
        try:
            for outputs, at_cut in _ready(Outputs(upscaler), decoded, counted.ask):
                for frame, picture in ((frame, ready.picture) for ready in outputs for frame in ready.frames):
                    number += 1
                    if number - 1 not in keep:
                        continue
                    in_segment += 1
                    index = number - 1 - keep.start
                    if index < noted and not any(index in each for each in missing):
                        tick()
                        continue
                    assert picture is not None
                    finisher.put(_Output(frame, picture, first + index))
                    steps = counted.count
                    unsaved += index >= noted
                # A resumed run ends segments at the same frames. Where a stop ended a segment early, the next
                # segment gets the frames up to the usual end.
                if segmented and frames_left(in_segment, recipe.segment, at_cut=at_cut) <= 0:
                    if unsaved:
                        # At a cut the state is reset, so none needs to be stored.
                        finisher.put(_EndOfSegment(counted.count, [] if at_cut else counted.kept()))
                    in_segment = unsaved = 0
            if segmented and unsaved:
                finisher.put(_EndOfSegment(counted.count, []))
        except Stopped:
            message = f"rlsp: {stop.signal}: saving what is finished; repeat the signal to stop at once"
            ProgressBar.write(message, file=sys.stderr)
            if segmented and unsaved:
                # Any further steps belong to the warm start of the next shot, which needs no state.
                finisher.put(_EndOfSegment(steps, counted.kept() if counted.count == steps else []))
    if stop and not (piped and counted.count):
        raise Interrupted(f"{sink.path}: stopped by {stop.signal}.")
    watch.end()
    if isinstance(sink, SegmentedSink):
        sink.diverged = watch.since
    ended = [f"{frames.path}: ended by {stop.signal}; the frames before that were written."] if stop else []
    return [*frames.notes, *ended, *divergence_notes(frames.path, watch.since)]


def _enter(
    upscaler: StreamingUpscaler,
    shots: Iterable[tuple[Frame, bool]],
    frames: FrameSource,
    *,
    transparent: bool,
) -> Iterator[tuple[Frame, bool, PreparedFrame | None]]:
    """Yields each frame without its pixels, whether it begins a shot, and its pixels as the network input.

    There are no pixels for frames that repeat the one before.
    """
    for frame, begins in shots:
        if not frame.planes:
            yield frame, begins, None
            continue
        planes, alpha = frame.planes, frame.alpha if transparent else None
        if alpha is not None:
            planes = filled_under(planes, alpha, frames.depth)
        entered = upscaler.enter(planes if frames.color else planes[0])
        yield replace(frame, planes=(), alpha=alpha), begins, entered


def _ready(
    outputs: Outputs, frames: Iterable[tuple[Frame, bool, PreparedFrame | None]], ask: Callable[[], object]
) -> Iterator[tuple[Iterator[Output], bool]]:
    """Runs the network.

    Args:
        outputs: the network.
        frames: the items of :func:`_enter`.
        ask: called for repeated frames, for which no step of the network asks whether to stop.

    Yields:
        After each frame, and at each cut and the end, the outputs that are ready, and whether this is a cut.
        The outputs must be consumed before the next item is taken.
    """
    for frame, begins, entered in frames:
        if begins:
            yield outputs.end_shot(), True
        if entered is None:
            ask()
        yield outputs.add(frame, entered), False
    yield outputs.end_shot(), False


def _exact(number: float | Fraction) -> Fraction:
    """Returns a number as it was written: 0.1 is not the same as the nearest binary fraction."""
    return Fraction(str(number)) if isinstance(number, float) else Fraction(number)
