"""Writes a clip in segments, so that an interruption costs at most one of them."""

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rlsp_tf.errors import Interrupted, RLSPError, describe_os_error
from rlsp_tf.inference.divergence import divergence_notes
from rlsp_tf.inference.resumed import Stretch
from rlsp_tf.media.frames import Frame, FrameSink, FrameSource
from rlsp_tf.media.images import FolderSink, ImageSink
from rlsp_tf.media.video_writer import VideoSink
from rlsp_tf.pixels.color import ColorSpec
from rlsp_tf.system.files import atomic_file, atomic_folder, sha256_of
from rlsp_tf.upscaling.concatenate import join_folders, join_videos
from rlsp_tf.upscaling.published import note_published
from rlsp_tf.upscaling.rehearsal import check_room, rehearse
from rlsp_tf.upscaling.work_folder import PLAN, Journal, Segment, WorkFolder, size_of

SEGMENT = 100
"""Least number of frames in a segment. Each segment begins with a key frame. Broadcasters, too, send one
every few seconds."""


class OtherRun(RLSPError):
    """What an interrupted run has left was made with other settings, weights or versions."""


class DamagedSegment(RLSPError):
    """A finished segment has changed on the disk.

    Attributes:
        segment: name of the segment.
    """

    segment = ""


class SegmentedSink:
    """Writes a clip in segments, and joins them in the end.

    This is a :class:`rlsp_tf.media.frames.FrameSink`. The finished segments, the hidden state at the end of
    the last one, and a journal are kept in a work folder beside the target
    (:mod:`rlsp_tf.upscaling.work_folder`) until the block ends without an exception. After an exception they
    stay. A new sink for the same target then lists them in ``finished``, and only the remaining frames, and
    those of damaged segments, must be given to :meth:`write`.

    Args:
        whole: a sink for the whole result. It is never entered.
        make: makes the sink of a segment from its path.
        source: the clip that is upscaled.
        run: returns everything that the result depends on, as strings, numbers and lists by name. Segments of
            a run for which this differs are refused.
        resume: whether to continue from finished segments. Otherwise they are removed.
        force: whether to replace an existing target.
        progress: whether to show a progress bar while segments are joined.
        join: whether to join the segments in the end. Otherwise they stay in the work folder.
        first: number of the first frame, for names and notes.

    Attributes:
        first: number of the first frame.
        diverged: number of the frame from which on the network has diverged; ``None`` if it has not. Set by
            the caller.
        finished: journal of the finished segments, available once the block is entered.
        missing: ranges of frames in ``finished`` whose segments are damaged and must be given to
            :meth:`write` again, counted from the first frame of the sink.
        rows: rows of the strips in which frames are computed, see
            :class:`rlsp_tf.upscaling.work_folder.Journal`. Set by the caller.

    Raises:
        RLSPError: when the block is entered, if another run is using the work folder, or it belongs to a
            different run.
    """

    def __init__(
        self,
        whole: FrameSink,
        make: Callable[[Path], FrameSink],
        source: FrameSource,
        *,
        run: Callable[[], dict[str, Any]],
        resume: bool = True,
        force: bool = False,
        progress: bool = False,
        join: bool = True,
        first: int = 0,
    ) -> None:
        self.path = whole.path
        self.color: ColorSpec | None = whole.color
        self.transparent = whole.transparent
        self.notes = whole.notes
        self.rows: int | None = None
        self._whole, self._make, self._source = whole, make, source
        self._run, self._resume, self._force, self._progress = run, resume, force, progress
        self._join, self.first = join, first
        self.diverged: int | None = None
        self._work = WorkFolder(self.path)
        self._open: FrameSink | None = None
        self._segment = self._work.path
        self._frames = 0
        self._damaged: list[int] = []
        self.missing: list[range] = []

    def __enter__(self) -> "SegmentedSink":
        self._work.__enter__()
        try:
            self.finished = self._read()
            if self._join and self.finished.notes is None and isinstance(self._whole, VideoSink):
                check_room(self.path, self._work.path, self.finished.segments)
                rehearse(self._work.path, self._whole, self._make, self._source)
        except BaseException as error:
            self._work.__exit__(type(error), error, error.__traceback__)
            raise
        self.rows = self.finished.rows
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            if error is None:
                self._finish()
            elif self._open is not None:
                self._open.__exit__(kind, error, trace)
        except (RLSPError, OSError, KeyboardInterrupt) as late:
            error = late
            raise self._with_progress(late) from late
        finally:
            self._work.__exit__(kind, error, trace)
        if isinstance(error, (RLSPError, OSError, KeyboardInterrupt)):
            raise self._with_progress(error) from error

    def write(self, frame: Frame) -> None:
        """Writes the next frame that is not finished."""
        index = self._damaged[0] if self._damaged else len(self.finished.segments)
        if self._open is None:
            self._segment = self._work.path / self._segment_name(index)
            self._open = self._make(self._segment)
            self._open.__enter__()
            self._frames = 0
        number = self.first + self._frames_before(index) + self._frames
        self._open.write(frame if frame.name else replace(frame, name=f"frame_{number:06d}"))
        self._frames += 1
        if self._damaged and self._frames == self.finished.segments[index].frames:
            again = self._close(self.finished.segments[index])
            self._work.replace(self.finished, index, again)
            del self._damaged[0]

    def end_segment(self, steps: int, state: Sequence[np.ndarray] | None) -> None:
        """Finishes the current segment after the last frame written.

        Args:
            steps: number of steps of the network since the beginning of the clip.
            state: the hidden state that the next step takes; empty or ``None`` if the next step starts from a
                reset state.
        """
        name = self._segment.name
        done = self._close(Segment(name, self._frames, 0, steps))
        if not self.finished.segments:
            self.finished.run, self.finished.rows = self._run(), self.rows
        if state:
            path = self._state_path(len(self.finished.segments) + 1)
            with atomic_file(path, force=True) as part, part.open("wb") as file:
                _write_arrays(file, state)
            done = replace(done, state=sha256_of(path))
        done = replace(done, diverged=self.diverged)
        self._work.append(self.finished, done)
        self._state_path(len(self.finished.segments) - 1).unlink(missing_ok=True)
        if self._join and isinstance(self._whole, VideoSink):
            check_room(self.path, self._work.path, self.finished.segments)

    def stretches(self) -> list[Stretch]:
        """Returns the steps of the network to compute, for :class:`rlsp_tf.inference.resumed.ResumedStep`.

        These are the steps of unfinished frames and of damaged segments, and the steps before them that build
        up the hidden state. Only the last state is stored, but at the beginning of a shot none is needed.
        """
        segments = self.finished.segments
        ends: list[tuple[int, int | None]] = [(index, segments[index].steps) for index in self._damaged]
        if self.finished.notes is None:
            ends.append((len(segments), None))
        found: list[Stretch] = []
        for index, until in ends:
            start = self._start(index)
            if found and found[-1].until is not None and start.after <= found[-1].until:
                start = found.pop()
            found.append(start._replace(until=until))
        return found

    def state(self) -> list[np.ndarray]:
        """Reads the hidden state at the end of the last finished segment, in float32."""
        path = self._state_path(len(self.finished.segments))
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return [arrays[name] for name in arrays.files]

    def _start(self, index: int) -> Stretch:
        """Finds the last place at or before the beginning of a segment where the network can start."""
        segments = self.finished.segments
        path = self._state_path(index)
        if index == len(segments) and index and path.exists() and sha256_of(path) == segments[-1].state:
            return Stretch(segments[-1].steps, None, self.state)
        while index and segments[index - 1].state:
            index -= 1
        return Stretch(segments[index - 1].steps if index else 0, None, list)

    def _close(self, segment: Segment) -> Segment:
        """Closes the open segment; returns ``segment`` with its size, times and checksum."""
        assert self._open is not None
        sink, self._open = self._open, None
        sink.__exit__(None, None, None)
        return replace(
            segment,
            size=size_of(self._segment),
            times=sink.times if isinstance(sink, VideoSink) else [],
            sha256=identity_of(self._segment),
        )

    def _frames_before(self, index: int) -> int:
        return sum(segment.frames for segment in self.finished.segments[:index])

    def _read(self) -> Journal:
        if self._resume and (self._work.path / PLAN).exists():
            raise RLSPError(
                f"{self.path}: was begun with --engine ray; use that again, or add --no-resume to start over."
            )
        journal = self._work.read() if self._resume else None
        if journal is not None:
            compare_runs(self.path, journal.run, self._run())
            if not all(segment.sha256 for segment in journal.segments):
                raise RLSPError(
                    f"{self.path}: was begun by an earlier version of rlsp, which stored no checksums; "
                    "finish it with that version, or add --no-resume to start over."
                )
        if journal is None:
            self._work.clear()
            return Journal({}, None)
        self.finished = journal
        names = {segment.name for segment in journal.segments}
        for index, segment in enumerate(journal.segments):
            if not is_intact(self._work.path, segment):
                names.remove(segment.name)
                self._damaged.append(index)
                first = self._frames_before(index)
                self.missing.append(range(first, first + segment.frames))
        self._work.keep_only(names | {self._state_path(len(journal.segments)).name})
        if self.missing:
            frames = " and ".join(
                f"{self.first + each.start} to {self.first + each.stop - 1}" for each in self.missing
            )
            self.notes.append(
                f"{self.path}: frames {frames} had been finished, but were damaged on the disk; they were "
                "computed again."
            )
        return journal

    def _finish(self) -> None:
        if not self.finished.segments:
            raise RLSPError(f"{self.path}: no frame was given to be written.")
        if self.finished.notes is None:
            notes = divergence_notes(self._source.path, self.finished.diverged)
            self._work.end(self.finished, [*self._source.notes, *notes])
        if self._join:
            join_segments(
                self._work.path,
                self.finished.segments,
                self._whole,
                self._source,
                run=self.finished.run,
                notes=self.finished.notes or (),
                force=self._force,
                progress=self._progress,
            )
            self._work.finish()

    def _with_progress(self, error: BaseException) -> RLSPError:
        """Returns the error with its message extended by how many frames are finished."""
        kept = ""
        if frames := self.finished.frames - sum(
            self.finished.segments[index].frames for index in self._damaged
        ):
            kept = f"; {frames} frames are finished, and the same command goes on from there"
        if isinstance(error, KeyboardInterrupt):
            return Interrupted(f"{self.path}: interrupted{kept}.")
        sentence = str(error)
        if isinstance(error, OSError):
            name = error.filename or os.fspath(self.path)
            sentence = describe_os_error(OSError(error.errno, error.strerror, name))
        for name in (self._segment, self._work.path):
            sentence = sentence.replace(os.fspath(name), os.fspath(self.path))
        kind = type(error) if isinstance(error, RLSPError) else RLSPError
        return kind(f"{sentence.rstrip('.')}{kept}.")

    def _segment_name(self, index: int) -> str:
        return f"{index:06d}{self.path.suffix if isinstance(self._whole, VideoSink) else ''}"

    def _state_path(self, segments: int) -> Path:
        return self._work.path / f"state-{segments:06d}.npz"


def join_segments(
    work: Path,
    segments: Sequence[Segment],
    whole: FrameSink,
    source: FrameSource,
    *,
    run: dict[str, Any],
    notes: Sequence[str],
    force: bool = False,
    progress: bool = False,
) -> None:
    """Joins finished segments under the final name.

    Args:
        work: the folder with the segments.
        segments: the segments, in order.
        whole, source, force, progress: see :class:`SegmentedSink`.
        run: everything that the result depends on, see :class:`rlsp_tf.upscaling.work_folder.Journal`.
        notes: sentences for the user about the source.

    Raises:
        DamagedSegment: if a segment has changed on the disk.
        RLSPError: if the segments cannot be joined, see :mod:`rlsp_tf.upscaling.concatenate`.
    """
    for segment in segments:
        if not is_intact(work, segment):
            error = DamagedSegment(
                f"{whole.path}: its segment {segment.name} was damaged on the disk; run the command again, "
                "and only that segment is computed again."
            )
            error.segment = segment.name
            raise error
    if isinstance(whole, VideoSink):
        with atomic_file(whole.path, force=force, inside=work) as part:
            join_videos(
                work,
                segments,
                part,
                source,
                whole.path,
                time_base=whole.time_base,
                notes=whole.notes,
                left_out=whole.left_out,
                progress=progress,
            )
            note_published(work, part, run, [*notes, *whole.notes])
    elif isinstance(whole, ImageSink):
        ((image,),) = ((work / segment.name).iterdir() for segment in segments)
        with atomic_file(whole.path, force=force, inside=work) as part:
            shutil.copyfile(image, part)
            note_published(work, part, run, [*notes, *whole.notes])
    else:
        assert isinstance(whole, FolderSink)
        with atomic_folder(whole.path, force=force, inside=work, ours=whole.ours) as part:
            join_folders(work, segments, part, whole.path)
            note_published(work, part, run, [*notes, *whole.notes])


def is_intact(work: Path, segment: Segment) -> bool:
    """Whether a finished segment in a work folder has the size and the checksum noted for it."""
    path = work / segment.name
    try:
        return size_of(path) == segment.size and identity_of(path) == segment.sha256
    except OSError:
        return False


def frames_left(frames: int, segment: int, *, at_cut: bool) -> int:
    """Returns how many more frames a segment should get, 0 or less if it should end now.

    A segment of the full length ends at the next cut, because the frames after a cut depend on nothing before
    it; at twice that length it ends in any case.

    Args:
        frames: number of frames that the segment has.
        segment: the full length of a segment, in frames.
        at_cut: whether a new shot begins now.
    """
    return (segment if at_cut else 2 * segment) - frames


def _write_arrays(file: BinaryIO, arrays: Sequence[np.ndarray]) -> None:
    """Writes arrays like ``np.savez``, but as float32 and without copies, since states can be large.

    float32 holds all values of narrower types exactly, and NumPy's files do not support bfloat16.
    """
    with zipfile.ZipFile(file, "w") as archive:
        for index, each in enumerate(arrays):
            header = {
                "descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)),
                "fortran_order": False,
                "shape": each.shape,
            }
            with archive.open(f"arr_{index}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array_header_1_0(entry, header)
                flat = each.reshape(-1)
                for first in range(0, each.size, _PIECE):
                    entry.write(flat[first : first + _PIECE].astype(np.float32).data)


_PIECE = 2**20
"""Numbers that are converted to float32 at a time."""


def compare_runs(target: Path, noted: dict[str, Any], run: dict[str, Any]) -> None:
    """Raises an :class:`OtherRun` if an interrupted run differs from the present one.

    Args:
        target: the file or folder to write.
        noted: everything that the interrupted run's result depends on, by name.
        run: the same of the present run.
    """
    for name in sorted(noted.keys() | run.keys()):
        if noted.get(name) != run.get(name):
            short = all(len(str(each.get(name))) <= 24 for each in (noted, run))
            values = f" ({noted.get(name)} then, {run.get(name)} now)" if short else ""
            raise OtherRun(
                f"{target}: a run with another {name}{values} was interrupted; repeat that command to "
                "continue it, or add --no-resume to start over."
            )


def identity_of(path: Path) -> str:
    """Returns the SHA-256 of a clip: of its file, or of the names and contents of the files in its folder."""
    if not path.is_dir():
        return sha256_of(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.iterdir() if file.is_file()):
        digest.update(f"{file.name}\0{sha256_of(file)}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
