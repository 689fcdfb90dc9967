"""Divides a clip into ranges of whole shots that can be upscaled independently, with the same result.

The hidden state is reset at every cut, and a segment can end there
(:func:`rlsp_tf.upscaling.segments.frames_left`), so the frames after such a cut depend on nothing before it.
A plan finds these cuts, each range is written into its own work folder, and in the end the segments of all
ranges are joined.

A long shot can be split, too. Each part then has a run-up: frames before it that only build up the hidden
state and are not kept. The state forgets, so the result is nearly the same as that of one run.
"""

import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain, dropwhile, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rlsp_tf.errors import RLSPError
from rlsp_tf.inference.divergence import divergence_notes
from rlsp_tf.inference.resumed import ResumedStep
from rlsp_tf.inference.step import Step
from rlsp_tf.inference.upscaler import PreparedFrame, StreamingUpscaler
from rlsp_tf.media.frames import Frame, FrameSource
from rlsp_tf.media.images import is_animated, is_image
from rlsp_tf.media.open import VideoSource
from rlsp_tf.media.video_writer import VIDEO_FORMATS, VideoSink
from rlsp_tf.system.signals import Stop
from rlsp_tf.upscaling.outputs import Output, Outputs, shots_of
from rlsp_tf.upscaling.rehearsal import rehearse
from rlsp_tf.upscaling.segments import SegmentedSink, frames_left, join_segments
from rlsp_tf.upscaling.upscale import Recipe, render
from rlsp_tf.upscaling.work_folder import JOURNAL, RANGE, SUFFIX, Segment, first_divergence, read_journal

RUN_UP = 24
"""Frames of a run-up, not counting repeated ones. After so many, the difference from a run of the whole shot
is 44 dB or more, and a longer run-up does not improve it (``docs/scale.md``)."""


@dataclass(frozen=True)
class Range:
    """Consecutive frames of a clip.

    Attributes:
        start: number of the first frame.
        stop: number of the last frame plus one.
        cuts: numbers of the frames that begin a shot, among those read from ``start`` on.
        pts: time of the first frame read, for seeking; ``None`` if time stamps had to be corrected.
        check: checksum of the samples of the first frame read, to recognize it after seeking.
        run_up: number of frames that are also read before ``start``, if a shot is split there.
        run_out: number of frames that are also read from ``stop`` on, if a shot is split there, because the
            network looks ahead.
    """

    start: int
    stop: int
    cuts: tuple[int, ...]
    pts: int | None
    check: int
    run_up: int
    run_out: int

    @property
    def read(self) -> range:
        """Numbers of the frames that are read."""
        return range(self.start - self.run_up, self.stop + self.run_out)

    @property
    def kept(self) -> range:
        """Indices of the frames that are kept, counted from the first frame read."""
        return range(self.run_up, self.run_up + self.stop - self.start)


@dataclass(frozen=True)
class Plan:
    """How a clip is divided into ranges.

    Attributes:
        run: everything that the result depends on, see :class:`rlsp_tf.upscaling.segments.SegmentedSink`.
        ranges: the ranges, in order. Together they cover the clip.
        notes: sentences for the user about the source.
    """

    run: dict[str, Any]
    ranges: tuple[Range, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Converts the plan to types that JSON has."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Any) -> "Plan":
        """Makes a plan from the result of :meth:`to_dict`.

        Raises:
            ValueError: if ``value`` is not a valid plan.
        """
        try:
            ranges = tuple(Range(**{**each, "cuts": tuple(each["cuts"])}) for each in value["ranges"])
            follows = [each.start for each in ranges] == [0, *(each.stop for each in ranges[:-1])]
            whole = all(
                type(number) is int and number >= 0
                for each in ranges
                for number in (
                    each.start,
                    each.stop,
                    each.check,
                    each.run_up,
                    each.run_out,
                    each.read.start,
                    *each.cuts,
                )
            )
            timed = all(each.pts is None or type(each.pts) is int for each in ranges)
            if not (ranges and follows and whole and timed and isinstance(value["run"], dict)):
                raise ValueError("not a plan")
            return cls(value["run"], ranges, tuple(map(str, value["notes"])))
        except (KeyError, TypeError) as error:
            raise ValueError("not a plan") from error


def make_plan(
    source: Path,
    step: Step,
    recipe: Recipe,
    scene_cuts: Literal["auto", "off"] | frozenset[int] = "auto",
    *,
    length: int = RANGE,
    split: bool = False,
) -> Plan:
    """Reads a clip and divides it into ranges.

    Args:
        source: the clip.
        step: the network.
        recipe: how the clip is upscaled.
        scene_cuts: where shots begin, see :func:`rlsp_tf.upscaling.upscale.upscale`.
        length: least number of frames in a range.
        split: whether to split a shot when a range reaches twice ``length``.

    Raises:
        RLSPError: if the clip cannot be read.
    """
    with recipe.open(source) as frames:
        # Steps that are all skipped say which frames come out, and when.
        outputs = Outputs(StreamingUpscaler(ResumedStep(step, ()), warm_start=recipe.warm_start))
        found: list[tuple[int, int | None, int, int]] = []
        recent: deque[tuple[int, int | None, int]] = deque(maxlen=RUN_UP + 1)
        cuts: list[int] = []
        count = in_segment = in_shot = 0
        for frame, begins in shots_of(frames, frames.depth, scene_cuts, recipe.repeats):
            if split and frame.planes:
                recent.append((count, frame.pts, _checksum(frame)))
            if begins:
                in_segment += _frames_in(outputs.end_shot())
                in_shot = 0
                cuts.append(count)
                if frames_left(in_segment, recipe.segment, at_cut=True) <= 0 or count == 0:
                    in_segment = 0
                    if not found or count - found[-1][0] >= length:
                        found.append((count, frame.pts, _checksum(frame), 0))
            elif split and frame.planes and count - found[-1][0] >= 2 * length:
                run_up, pts, check = recent[-1 - min(RUN_UP, in_shot)]
                found.append((count, pts, check, count - run_up))
                in_segment = 0
            in_shot += bool(frame.planes)
            count += 1
            entered = _ANYTHING if frame.planes else None
            in_segment += _frames_in(outputs.add(replace(frame, planes=(), alpha=None), entered))
            if frames_left(in_segment, recipe.segment, at_cut=False) <= 0:
                in_segment = 0
        seekable = isinstance(frames, VideoSource) and not frames.decoder.restamped
        ends = [(start, step.config.frames_after if run_up else 0) for start, _, _, run_up in found[1:]]
        ranges = tuple(
            Range(
                start,
                stop,
                tuple(cut for cut in cuts if start <= cut < stop + run_out),
                pts if seekable else None,
                check,
                run_up,
                run_out,
            )
            for (start, pts, check, run_up), (stop, run_out) in zip(found, [*ends, (count, 0)], strict=True)
        )
        return Plan(run_of(source, step, recipe, scene_cuts, split), ranges, tuple(frames.notes))


def rehearse_ranges(source: Path, folder: Path, target: str, step: Step, recipe: Recipe) -> None:
    """Checks before the first frame is computed that the result can be written, see :func:`rehearse`.

    Args:
        source: the clip.
        folder: a folder for temporary files.
        target: the name of the resulting file or folder.
        step: the network.
        recipe: how the clip is upscaled.

    Raises:
        RLSPError: if the result could not be written.
    """
    with recipe.open(source) as frames:
        make = partial(recipe.sink, frames, step.config.scale)
        whole = make(folder / target)
        if isinstance(whole, VideoSink):
            rehearse(folder, whole, partial(make, companions=False), frames)


def run_of(
    source: Path,
    step: Step,
    recipe: Recipe,
    scene_cuts: Literal["auto", "off"] | frozenset[int],
    split: bool,
) -> dict[str, Any]:
    """Returns everything that the frames of a result depend on, for a plan; see :func:`make_plan`."""
    return {**recipe.run(source, step, scene_cuts), "--split-shots": split}


def render_range(
    source: Path,
    target: Path,
    step: Step,
    recipe: Recipe,
    plan: Plan,
    index: int,
    *,
    memory: float | None = None,
) -> Path:
    """Upscales a range, or continues it where it was interrupted.

    Args:
        source: the clip.
        target: path of the whole result. Only its suffix and its folder are used; the folder must exist.
        step: the network.
        recipe: how the clip is upscaled.
        plan: the plan of the clip.
        index: index of the range in the plan.
        memory: bytes that may be used, see :func:`rlsp_tf.upscaling.upscale.upscale`.

    Returns:
        The work folder of the range, beside ``target``.

    Raises:
        RLSPError: if the clip cannot be read or the range cannot be written.
    """
    part = plan.ranges[index]
    with recipe.open(source) as frames:

        def make(path: Path) -> Any:
            return recipe.sink(frames, step.config.scale, path, companions=False)

        path = target.with_name(f"{index:06d}{target.suffix}")
        run = {**plan.run, "range": [part.start, part.stop]}
        sink = SegmentedSink(make(path), make, frames, run=lambda: run, join=False, first=part.start)
        read = _frames_of(part, frames, source, recipe)
        shots = shots_of(read, frames.depth, _cuts_within(part), recipe.repeats)
        with sink:
            render(
                frames,
                shots,
                sink,
                step,
                recipe,
                memory=memory,
                stop=Stop(),
                tick=lambda: None,
                keep=part.kept,
            )
    return path.with_name(path.name + SUFFIX)


def join_ranges(
    source: Path, work: Path, target: Path, step: Step, recipe: Recipe, plan: Plan, *, force: bool = False
) -> list[str]:
    """Joins the segments of all ranges under the final name.

    Args:
        source: the clip.
        work: the folder with the work folders of the ranges.
        target: the file or folder to write.
        step: the network.
        recipe: how the clip is upscaled.
        plan: the plan of the clip.
        force: whether to replace an existing file or folder.

    Returns:
        Sentences for the user about what was assumed or left out.

    Raises:
        RLSPError: if a range is missing or damaged, or the result cannot be written.
    """
    segments: list[Segment] = []
    for index in range(len(plan.ranges)):
        folder = work / f"{index:06d}{target.suffix}{SUFFIX}"
        journal = read_journal(folder / JOURNAL)
        if journal is None or journal.frames != plan.ranges[index].stop - plan.ranges[index].start:
            raise RLSPError(
                f"{target}: the range that begins with frame {plan.ranges[index].start} is missing; run the "
                "command again."
            )
        segments += [replace(each, name=f"{folder.name}/{each.name}") for each in journal.segments]
    with recipe.open(source) as frames:
        whole = recipe.sink(frames, step.config.scale, target, force=force)
        join_segments(work, segments, whole, frames, run=plan.run, notes=plan.notes, force=force)
        return [*plan.notes, *divergence_notes(source, first_divergence(segments)), *whole.notes]


def targets_of(sources: Sequence[str], folder: str) -> list[str]:
    """Returns the addresses of the results of clips: the name of each clip in a folder.

    Images get the suffix ``.png``. Videos get ``.mkv`` if their own suffix cannot be written; animated images
    count as videos.

    Args:
        sources: addresses of the clips.
        folder: address of the folder.

    Raises:
        RLSPError: if two results would have the same name.
    """
    targets: dict[str, str] = {}
    for source in sources:
        name = source.rstrip("/").replace("\\", "/").rpartition("/")[2]
        path, suffix = Path(source), Path(name).suffix.lower()
        if is_image(path) and not path.is_dir() and not is_animated(path):
            name = f"{Path(name).stem}.png"
        elif suffix not in VIDEO_FORMATS and (suffix or path.is_file()) and not path.is_dir():
            name = f"{Path(name).stem}.mkv"
        target = f"{folder.rstrip('/')}/{name}"
        if target in targets:
            raise RLSPError(
                f"{source}: its result would get the same name as that of {targets[target]}; rename one."
            )
        targets[target] = source
    return list(targets)


_ANYTHING: Any = PreparedFrame(np.zeros((1, 1, 1, 3)), None, None)  # type: ignore[arg-type]
"""A frame for a network whose steps are all skipped."""


def _frames_in(outputs: Iterable[Output]) -> int:
    return sum(len(output.frames) for output in outputs)


def _cuts_within(part: Range) -> frozenset[int]:
    return frozenset(cut - part.read.start for cut in part.cuts)


def _frames_of(part: Range, frames: FrameSource, source: Path, recipe: Recipe) -> Iterator[Frame]:
    """Yields the frames of a range. Seeks to the first one if possible, otherwise decodes all before it."""
    if part.start == 0:
        return islice(frames, part.read.stop)
    if part.pts is not None and isinstance(frames, VideoSource):
        pts = part.pts
        frames.seek(pts)
        later: Iterable[Frame] = dropwhile(lambda frame: frame.pts is None or frame.pts < pts, frames)
        later = iter(later)
        first = next(later, None)
        if first is not None and first.pts == pts and _checksum(first) == part.check:
            return islice(chain([first], later), len(part.read))
    return _from_the_beginning(part, source, recipe)


def _from_the_beginning(part: Range, source: Path, recipe: Recipe) -> Iterator[Frame]:
    with recipe.open(source) as again:
        yield from islice(again, part.read.start, part.read.stop)


def _checksum(frame: Frame) -> int:
    check = 0
    for plane in frame.planes:
        check = zlib.crc32(plane.tobytes(), check)
    return check
