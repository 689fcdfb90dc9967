"""From a file to a file: decoding, the network and encoding side by side, in segments that are kept."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import av
import keras
import numpy as np
import psutil
import tensorflow as tf
from tqdm import tqdm

from rlsp_tf._version import __version__
from rlsp_tf.errors import Interrupted
from rlsp_tf.inference.color_path import ChromaGeometry
from rlsp_tf.inference.divergence import Watch, divergence_notes
from rlsp_tf.inference.resumed import EVERYTHING, ResumedStep, Stopped
from rlsp_tf.inference.step import KerasStep, Step
from rlsp_tf.inference.strips import StripStep, within_memory
from rlsp_tf.inference.transparency import enlarge_alpha, filled_under
from rlsp_tf.inference.upscaler import DeferredFrame, PreparedFrame, StreamingUpscaler
from rlsp_tf.media.frames import Frame, FrameSink, FrameSource
from rlsp_tf.media.open import STDIN, STDOUT, ImageSink, open_sink, open_source
from rlsp_tf.media.shots import detect_shots, listed_shots
from rlsp_tf.system.pipeline import Background, Prefetch
from rlsp_tf.system.signals import Stop
from rlsp_tf.upscaling.published import published
from rlsp_tf.upscaling.segments import SEGMENT, SegmentedSink, frames_left, identity_of
from rlsp_tf.upscaling.work_folder import Journal

WARM_START = 8
"""Frames that are run backwards before a shot begins; more gain nothing."""


@dataclass(frozen=True)
class Recipe:
    """How clips are upscaled; what each says is told at :func:`upscale`."""

    chroma: ChromaGeometry = "aligned"
    codec: str | None = None
    crf: int = 18
    preset: str | None = None
    rate: float | Fraction | None = None
    warm_start: int = WARM_START
    deinterlace: bool = False
    segment: int = SEGMENT

    def sink(
        self,
        frames: FrameSource,
        scale: int,
        path: Path,
        *,
        force: bool = False,
        companions: bool = True,
    ) -> FrameSink:
        """What writes frames ``scale`` times as large; see :func:`rlsp_tf.media.open.open_sink`."""
        return open_sink(
            path,
            frames,
            width=frames.width * scale,
            height=frames.height * scale,
            codec=self.codec,
            crf=self.crf,
            preset=self.preset,
            rate=self.rate,
            force=force,
            companions=companions,
        )

    def run(self, source: Path, step: Step, scene_cuts: object) -> dict[str, Any]:
        """All that the frames of a result depend on, for a journal."""
        cuts = sorted(scene_cuts) if isinstance(scene_cuts, frozenset) else scene_cuts
        options = {f"--{name.replace('_', '-')}": value for name, value in asdict(self).items()}
        options["--rate"] = None if self.rate is None else str(self.rate)
        options["segment length"] = options.pop("--segment")
        return {
            **options,
            "input": identity_of(source),
            "model": step.fingerprint,
            "--scene-cuts": cuts,
            "version of rlsp": __version__,
            "version of TensorFlow": tf.__version__,
            "version of PyAV": av.__version__,
        }


@dataclass
class _Output:
    """What the network gives: a frame of the clip, and what makes it large."""

    frame: Frame
    unfinished: DeferredFrame | None
    number: int = 0
    """Of the frame in the clip, from 0."""

    def is_far(self) -> bool:
        """Whether it shows something else than the clip does; before :meth:`finished`."""
        assert self.unfinished is not None
        return self.unfinished.is_far()

    def finished(self) -> Frame:
        """The large frame, in its colours; once."""
        assert self.unfinished is not None
        planes = self.unfinished()
        # The network's output is large, and who called may have to wait for the encoder.
        self.unfinished = None
        return replace(self.frame, planes=planes if isinstance(planes, tuple) else (planes,))


@dataclass(frozen=True)
class _EndOfSegment:
    """What the encoding stage is told between two segments."""

    steps: int
    state: list[np.ndarray]


def upscale(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    model: keras.Model | Step,
    *,
    chroma: ChromaGeometry = "aligned",
    codec: str | None = None,
    crf: int = 18,
    preset: str | None = None,
    rate: float | Fraction | None = None,
    warm_start: int = WARM_START,
    scene_cuts: Literal["auto", "off"] | frozenset[int] = "auto",
    memory: float | None = None,
    deinterlace: bool = False,
    force: bool = False,
    resume: bool = True,
    segment: int = SEGMENT,
    stop: Stop | None = None,
    progress: bool = False,
) -> list[str]:
    """Upscales a video file or a folder of images into another one.

    Every frame keeps its time stamp; sound and other streams are copied where the container of
    ``target`` takes them. ``target`` appears when it is complete, or not at all.

    Frames are written in segments, which stay in a folder beside ``target`` when something interrupts the
    run, whatever it is. The same call goes on from the last finished one, with the state of the network as
    it was, and gives what it would have given without the interruption.

    Args:
        source: a video file, a folder of images, or an image; ``"-"`` for a video from standard input.
        target: a video file (by its suffix), a folder to be made, or an image for an image; ``"-"`` for
            Matroska to standard output. What goes through a pipe cannot be gone on with.
        model: as for :class:`rlsp_tf.StreamingUpscaler`.
        chroma: see :class:`rlsp_tf.StreamingUpscaler`.
        codec, crf, preset: of the video encoder, as FFmpeg names them; by default one that goes with the
            container, see :func:`rlsp_tf.media.containers.codec_for`.
        rate: frames per second where the source has none (a folder of images); 25 by default. Where the
            source has its own, that counts, and a note says so.
        warm_start: see :class:`rlsp_tf.inference.recurrent_stream.RecurrentStream`; at the start of every
            shot.
        scene_cuts: where shots begin, each of which starts anew: found (:mod:`rlsp_tf.media.shots`), nowhere,
            or the indices of their first frames.
        memory: bytes that may be used, beside the lookahead of an encoder; half of what is free by
            default. Frames that need more are computed in strips (:mod:`rlsp_tf.inference.strips`).
        deinterlace: make whole frames of interlaced ones first, see :class:`rlsp_tf.media.open.VideoSource`.
        force: replace a target that exists.
        resume: go on with what an interrupted run has left; else begin anew.
        segment: frames of a segment, see :func:`rlsp_tf.upscaling.segments.frames_left`.
        stop: asked before every step of the network. A run that is to stop ends its segment with the frame
            before, so that the same call goes on with the next one. A video from standard input ends there,
            and what had come is written.
        progress: show a progress bar with the frame rate and the time left, if standard error is a terminal.

    Returns:
        Sentences about what was assumed or left out.

    Raises:
        Interrupted: if it was stopped.
        RLSPError: if anything about the files keeps this from being done, or an interrupted run has left
            something made otherwise.
    """
    source = STDIN if os.fspath(source) == "-" else Path(source)
    target = STDOUT if os.fspath(target) == "-" else Path(target)
    step = KerasStep(model) if isinstance(model, keras.Model) else model
    recipe = Recipe(chroma, codec, crf, preset, rate, warm_start, deinterlace, segment)
    if resume and not force and source is not STDIN and target is not STDOUT:
        finished = published(target, lambda: recipe.run(source, step, scene_cuts))
        if finished is not None:
            return finished
    with open_source(source, deinterlace=deinterlace) as frames:
        make = partial(recipe.sink, frames, step.config.scale)
        whole = make(target, force=force)
        if isinstance(whole, ImageSink) or source is STDIN or target is STDOUT:
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
        if scene_cuts == "auto":
            shots = detect_shots(frames, frames.depth)
        else:
            shots = listed_shots(frames, frozenset() if scene_cuts == "off" else scene_cuts)
        bar = tqdm(
            total=frames.frames, unit=" frames", desc=os.fspath(target), disable=None if progress else True
        )
        with sink, bar:
            notes = render(
                frames,
                shots,
                sink,
                step,
                recipe,
                memory=memory,
                stop=Stop() if stop is None else stop,
                tick=bar.update,
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
    """Gives a sink all frames that it does not have.

    Args:
        frames: where they come from.
        shots: these frames, and whether each begins a shot.
        sink: made by ``recipe``, entered.
        step: what to compute with.
        recipe: how.
        memory, stop: see :func:`upscale`.
        tick: called for every frame that the sink has.
        keep: which of the frames the sink gets; the others are there for what the network knows of them.

    Returns:
        What there is to say about ``frames``, and whether the network diverged on them.

    Raises:
        Interrupted: if it was stopped.
        RLSPError: if a frame cannot be read or written.
    """
    segmented = isinstance(sink, SegmentedSink)
    finished = sink.finished if isinstance(sink, SegmentedSink) else Journal({}, None)
    missing = [*sink.missing] if isinstance(sink, SegmentedSink) else []
    if finished.notes is not None and not missing:
        return finished.notes
    if memory is None and finished.rows is not None:
        step = StripStep(step, finished.rows)
    elif memory is not None or not finished.segments:
        free = psutil.virtual_memory().available / 2
        # A warm start makes several frames at once.
        at_once = 1 + recipe.warm_start
        step = within_memory(step, frames.height, frames.width, memory or free, at_once=at_once)
    if isinstance(sink, SegmentedSink):
        sink.rows = step.rows if isinstance(step, StripStep) else None
    noted = finished.frames
    piped = frames.path is STDIN
    counted = ResumedStep(
        step,
        sink.stretches() if isinstance(sink, SegmentedSink) else EVERYTHING,
        bool if piped else partial(bool, stop),
    )
    first = sink.first if isinstance(sink, SegmentedSink) else 0
    # What was found in frames that are finished is noted with them.
    watch = Watch(finished.diverged)
    upscaler = StreamingUpscaler(
        counted,
        chroma=recipe.chroma,
        source=frames.color,
        target=sink.color,
        warm_start=recipe.warm_start,
    )
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
            watch.look(item.number, item.is_far())
            if isinstance(sink, SegmentedSink):
                sink.diverged = watch.since
            frame = item.finished()
            if frame.alpha is not None:
                alpha = enlarge_alpha(
                    frame.alpha,
                    step.config.scale,
                    depth=frames.depth,
                    target_depth=sink.color.depth if sink.color else 8 * frame.planes[0].itemsize,
                    geometry=recipe.chroma,
                )
                frame = replace(frame, alpha=alpha)
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
        # Frames since the end of a segment, and steps until the last of them.
        unsaved = steps = 0
        try:
            for outputs, at_cut in _outputs(upscaler, decoded):
                for output in outputs:
                    number += 1
                    if number - 1 not in keep:
                        continue
                    in_segment += 1
                    index = number - 1 - keep.start
                    if index < noted and not any(index in each for each in missing):
                        tick()
                        continue
                    assert output is not None
                    output.number = first + index
                    finisher.put(output)
                    steps = counted.count
                    unsaved += index >= noted
                # A run that goes on ends segments at the same places; one that was ended early gets a rest.
                if segmented and frames_left(in_segment, recipe.segment, at_cut=at_cut) <= 0:
                    if unsaved:
                        # After a cut no step takes a state from before.
                        finisher.put(_EndOfSegment(counted.count, [] if at_cut else counted.kept()))
                    in_segment = unsaved = 0
            if segmented and unsaved:
                finisher.put(_EndOfSegment(counted.count, []))
        except Stopped:
            message = f"rlsp: {stop.signal}: saving what is finished; once more to stop at once"
            tqdm.write(message, file=sys.stderr)
            if segmented and unsaved:
                # Beyond the last frame only the beginning of the next shot has been run backwards.
                finisher.put(_EndOfSegment(steps, counted.kept() if counted.count == steps else []))
    if stop and not (piped and counted.count):
        raise Interrupted(f"{sink.path}: stopped by {stop.signal}.")
    watch.end()
    if isinstance(sink, SegmentedSink):
        sink.diverged = watch.since
    ended = [f"{frames.path}: ended by {stop.signal}; what had come until then is kept."] if stop else []
    return [*frames.notes, *ended, *divergence_notes(frames.path, watch.since)]


def _enter(
    upscaler: StreamingUpscaler,
    shots: Iterable[tuple[Frame, bool]],
    frames: FrameSource,
    *,
    transparent: bool,
) -> Iterator[tuple[Frame, bool, PreparedFrame]]:
    """Frames without their pixels, whether each begins a shot, and the pixels as the network takes them."""
    for frame, begins in shots:
        planes, alpha = frame.planes, frame.alpha if transparent else None
        if alpha is not None:
            planes = filled_under(planes, alpha, frames.depth)
        entered = upscaler.enter(planes if frames.color else planes[0])
        yield replace(frame, planes=(), alpha=alpha), begins, entered


def _outputs(
    upscaler: StreamingUpscaler, frames: Iterable[tuple[Frame, bool, PreparedFrame]]
) -> Iterator[tuple[Iterator[_Output | None], bool]]:
    """What is ready after each frame and at each cut, all to be taken at once, and whether this is one.

    ``None`` stands for frames that were left out.
    """
    waiting: deque[Frame] = deque()

    def named(unfinished: DeferredFrame | None) -> _Output | None:
        frame = waiting.popleft()
        return None if unfinished is None else _Output(frame, unfinished)

    for frame, begins, entered in frames:
        if begins:
            yield map(named, upscaler.advance(None)), True
        waiting.append(frame)
        yield map(named, upscaler.advance(entered)), False
    yield map(named, upscaler.advance(None)), False
