"""Measures networks and existing frames against high-resolution ground truth."""

import contextlib
import platform
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib import metadata
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rlsp_tf.errors import Interrupted, RLSPError, UsageError
from rlsp_tf.media.degradations import PAPER, Degradation, DegradingStream
from rlsp_tf.media.frames import FrameSource
from rlsp_tf.media.open import open_source
from rlsp_tf.media.sequences import find_sequences, holds_luma, rgb_frames
from rlsp_tf.pixels.color import ColorSpec, eight_bits, luma_from_bt601, rgb_to_ycbcr, ycbcr_to_rgb
from rlsp_tf.pixels.metrics import METRICS, PROTOCOLS, EvaluationProtocol, Meter, luma
from rlsp_tf.pixels.resample import enlarge_matrix
from rlsp_tf.system.backends import chosen_backend
from rlsp_tf.system.progress import ProgressBar

Results = dict[str, Any]
"""The results under one protocol; :func:`evaluate` describes the keys."""

SCALE = 4
"""Scale of the paper, used if no network is measured."""

_BICUBIC = {"name": "bicubic", "config": None, "sha256": None, "precision": "float64"}
_YCBCR = ColorSpec(matrix="bt601", full_range=False, subsampling=(1, 1))
_PACKAGES = ("rlsp_tf", "keras", "numpy", "scipy", "scikit-image")


class FrameObserver(Protocol):
    """Receives every frame of an evaluation, for example to make pictures."""

    def frame(self, sequence: str, index: int, hr: np.ndarray, outputs: dict[str, np.ndarray]) -> None:
        """Receives one frame.

        Args:
            sequence: name of the sequence.
            index: number of the frame in the sequence, from 0.
            hr: the ground truth, uint8 RGB ``(H, W, 3)``, cropped to a multiple of the scale.
            outputs: the frame as each model gives it, by the model's name, in the order of the results.
        """


def evaluate(
    hr: str | PathLike[str],
    *,
    lr: str | PathLike[str] | None = None,
    models: Sequence[str | PathLike[str]] = (),
    sr: Sequence[str | PathLike[str]] = (),
    precisions: Sequence[str | None] = (None,),
    warm_start: int = 0,
    protocols: Sequence[EvaluationProtocol] = (PROTOCOLS["rlsp"],),
    degradation: Degradation = PAPER,
    recorder: FrameObserver | None = None,
    finished: Callable[[list[Results]], None] | None = None,
    progress: bool = False,
    command: str = "",
) -> list[Results]:
    """Measures networks, existing frames, and bicubic interpolation.

    Every frame of the ground truth is degraded (by default as in the paper, :func:`rlsp_tf.degrade`),
    upscaled by every network and measured before the next one is read, or some frames later if a codec
    delays them, so memory does not depend on the length of a clip. Ground truth with more than 8 bits is
    rounded to 8, and cropped at the right and the bottom to a multiple of the scale.

    ``bicubic`` is Keys' interpolation (a = -0.5) of the unrounded low-resolution luma at the phase of the
    degradation. Outputs without chroma (most networks, bicubic, grey images) get chroma by the same
    interpolation, as in :func:`rlsp_tf.upscale`.

    Args:
        hr: the ground truth: a video file or a folder of frames; or a folder that holds several of these,
            each a sequence.
        lr: low resolution to upscale instead of the degraded ground truth, laid out and named like ``hr``
            (names do not matter if both are a single sequence): as many frames, of the size of ``hr`` divided
            by the scale and rounded down. ``degradation`` plays no part then.
        models: ``.keras`` files or names of weights, as for :func:`rlsp_tf.load_model`.
        sr: existing frames to measure, laid out and named like ``hr``; names do not matter if both are a
            single sequence. Grey images hold luma, 16..235, unless those of ``hr`` are grey, too, as pictures
            without colour are.
        precisions: precisions in which every model is measured; see
            :func:`rlsp_tf.inference.load.load_step`.
        warm_start: if not 0, every model is measured a second time with a warm start of so many frames; see
            :class:`rlsp_tf.inference.recurrent_stream.RecurrentStream`.
        protocols: the protocols to measure by; all of them take a single pass over the frames.
        degradation: how low resolution is made; if it has several ways, the name of a sequence decides.
        recorder: receives all frames, for a report.
        finished: called with the results so far after every sequence. A sequence that cannot be measured
            does not stop the others.
        progress: show on standard error how far it is.
        command: the command line to record in the results.

    Returns:
        For every protocol a dict of plain types::

            {"protocol": {"name", "crop", "drop", "rounding", "mean", "source"},
             "degradation": {"description", "name", ...},
             "models": [{"name", "config", "sha256", "precision",
                         "mean": {*METRICS},
                         "sequences": [{"name", *METRICS, "frames": [{"index", *METRICS}]}]}],
             "unfinished": [names of the sequences that were not measured],
             "notes": [sentences about assumptions and unreadable parts],
             "versions": {package: version}, "command": command}

        METRICS are explained at :class:`rlsp_tf.pixels.metrics.EvaluationProtocol`: floats, infinity for
        identical frames, ``None`` if there is nothing to measure.

    Raises:
        RLSPError: if a file cannot be read, a frame is missing, or sizes or counts do not match; the
            message names the file.
    """
    sequences = find_sequences(hr)
    given = None if lr is None else _like(sequences, hr, lr)
    made: Results = {"description": str(degradation), **degradation.to_dict()}
    if lr is not None:
        made = {"description": f"given: {Path(lr).name}", "name": "given", "path": fspath(lr)}
    methods: list[_Method] = [
        _Network(path, f"{name} warm start {warm}" if warm else name, precision, warm)
        for path, name, precision in _named(models, precisions)
        for warm in sorted({0, warm_start})
    ]
    methods += [_Frames(path, name, sequences, hr) for path, name, _ in _named(sr, (None,))]
    about = [_BICUBIC, *(method.about for method in methods)]
    names = [str(method["name"]) for method in about]
    if len(set(names)) < len(names):
        raise RLSPError(f"two models have the same name ({', '.join(names[1:])}); rename one of them.")
    _scale(methods)
    backends = [chosen_backend()] if models else []
    measured: dict[str, list[list[Results]]] = {}
    notes: list[str] = []
    results: list[Results] = []
    failures: dict[str, RLSPError] = {}
    for sequence, path in sequences.items():
        try:
            measured[sequence] = _measure(
                sequence,
                path,
                methods,
                protocols,
                given[sequence] if given else degradation,
                recorder,
                progress,
                notes,
            )
        except (Interrupted, UsageError):
            raise
        except RLSPError as error:
            failures[str(error)] = error
            continue
        results = [
            {
                "protocol": asdict(protocol),
                "degradation": made,
                "models": [
                    _summary(method, [rows[p][m] for rows in measured.values()])
                    for m, method in enumerate(about)
                ],
                "unfinished": [name for name in sequences if name not in measured],
                "notes": list(dict.fromkeys(notes)),
                "versions": {"python": platform.python_version()}
                | {package: metadata.version(package) for package in (*_PACKAGES, *backends)},
                "command": command,
            }
            for p, protocol in enumerate(protocols)
        ]
        if finished:
            finished(results)
    if failures:
        raise RLSPError(" ".join(failures)) from next(iter(failures.values()))
    return results


def _named(
    paths: Sequence[str | PathLike[str]], precisions: Sequence[str | None]
) -> list[tuple[str | PathLike[str], str, str | None]]:
    """Returns every path with a short name, once for every precision."""
    names = [(Path(path).name or Path(path).resolve().name).removesuffix(".keras") for path in paths]
    if len(set(names)) < len(names):
        names = [fspath(path) for path in paths]
    return [
        (path, f"{name} {precision}" if len(precisions) > 1 else name, precision)
        for path, name in zip(paths, names, strict=True)
        for precision in precisions
    ]


def _summary(about: Results, sequences: list[Results]) -> Results:
    """The results of one model: its description, its sequences, and their mean."""
    means: Results = {}
    for metric in METRICS:
        values = [sequence[metric] for sequence in sequences]
        means[metric] = None if None in values else float(np.mean(values))
    return {**about, "mean": means, "sequences": sequences}


class _Method(Protocol):
    """A source of high-resolution frames: a network, or files that hold them."""

    about: Results
    scale: int | None
    notes: list[str]

    def begin(
        self, sequence: str, truth: FrameSource, size: tuple[int, int], stack: contextlib.ExitStack
    ) -> None:
        """Starts a sequence.

        Args:
            sequence: its name.
            truth: the ground truth.
            size: expected height and width of frames.
            stack: closes the files that this opens.
        """

    def push(self, lr: np.ndarray) -> list[np.ndarray]:
        """Takes the next low-resolution frame; returns the frames that are ready.

        They are luma ``(H, W)`` or RGB ``(H, W, 3)``, 0..255.
        """

    def end(self) -> list[np.ndarray]:
        """Ends the sequence; returns the remaining frames."""


class _Network:
    def __init__(self, path: str | PathLike[str], name: str, precision: str | None, warm_start: int) -> None:
        # Imported here: existing frames are measured without Keras, whose import takes seconds.
        from rlsp_tf.inference.backend import to_array, to_tensor
        from rlsp_tf.inference.load import load_step
        from rlsp_tf.inference.recurrent_stream import RecurrentStream
        from rlsp_tf.network.weights import find_weights
        from rlsp_tf.system.files import sha256_of

        weights = find_weights(path)
        step = load_step(path, precision=precision)
        self.scale: int | None = step.config.scale
        self.notes: list[str] = []
        self.about = {
            "name": name,
            "config": step.config.to_dict(),
            "sha256": sha256_of(weights),
            "precision": step.precision,
        }
        self._stream = RecurrentStream(step, warm_start=warm_start)
        self._to_tensor, self._to_array = to_tensor, to_array

    def begin(
        self, sequence: str, truth: FrameSource, size: tuple[int, int], stack: contextlib.ExitStack
    ) -> None:
        self._stream.reset()

    def push(self, lr: np.ndarray) -> list[np.ndarray]:
        return self._pixels(self._stream.push(self._to_tensor(lr[None], "float32")))

    def end(self) -> list[np.ndarray]:
        return self._pixels(self._stream.flush())

    def _pixels(self, outputs: Iterable[Any]) -> list[np.ndarray]:
        frames = [self._to_array(output)[0] for output in outputs]
        return [frame[..., 0] if frame.shape[-1] == 1 else frame for frame in frames]


class _Frames:
    def __init__(
        self, path: str | PathLike[str], name: str, truth: dict[str, Path], hr: str | PathLike[str]
    ) -> None:
        self.scale: int | None = None
        self.notes: list[str] = []
        self.about = {"name": name, "config": None, "sha256": None, "precision": None}
        self._paths = _like(truth, hr, path)

    def begin(
        self, sequence: str, truth: FrameSource, size: tuple[int, int], stack: contextlib.ExitStack
    ) -> None:
        path = self._paths[sequence]
        source = stack.enter_context(open_source(path))
        self._path, self._truth, self._size = path, truth.path, size
        self.notes = source.notes
        # Grey pictures of a grey truth are no luma: white is 255 in both.
        self._luma = holds_luma(path) and not holds_luma(truth.path)
        self._frames = rgb_frames(source)
        self._count = 0
        if (source.height, source.width) not in (size, (truth.height, truth.width)):
            theirs, ours = f"{source.width}x{source.height}", f"{truth.width}x{truth.height}"
            raise self._mismatch(f"frames are {theirs}, those of {truth.path} {ours}")

    def push(self, lr: np.ndarray) -> list[np.ndarray]:
        frame = next(self._frames, None)
        if frame is None:
            raise self._mismatch(f"ends after {self._count} frames, but {self._truth} goes on")
        self._count += 1
        frame = frame[: self._size[0], : self._size[1]]
        return [frame[..., 0] if self._luma else frame]

    def end(self) -> list[np.ndarray]:
        if next(self._frames, None) is not None:
            raise self._mismatch(f"goes on after {self._count} frames, where {self._truth} ends")
        return []

    def _mismatch(self, what: str) -> RLSPError:
        return RLSPError(f"{self._path}: {what}; both must have the same frames.")


class _Given:
    """Low resolution that is read, in place of a :class:`rlsp_tf.media.degradations.DegradingStream`.

    Args:
        source: the clip at low resolution.
        truth: the ground truth.
        size: height and width that the frames must have.
    """

    def __init__(self, source: FrameSource, truth: FrameSource, size: tuple[int, int]) -> None:
        self._source, self._truth = source, truth
        if (source.height, source.width) != size:
            raise RLSPError(
                f"{source.path}: frames are {source.width}x{source.height}; those of {truth.path} need low "
                f"resolution of {size[1]}x{size[0]}."
            )
        self._frames = rgb_frames(source)

    def push(self, frame: np.ndarray) -> list[np.ndarray]:
        """Returns the low resolution of the next frame."""
        low = next(self._frames, None)
        if low is None:
            raise RLSPError(f"{self._source.path}: ends before {self._truth.path}; give as many frames.")
        return [low]

    def flush(self) -> list[np.ndarray]:
        """Makes sure that there are no more frames than in the ground truth."""
        if next(self._frames, None) is not None:
            raise RLSPError(f"{self._source.path}: goes on after {self._truth.path}; give as many frames.")
        self._truth.notes += self._source.notes
        return []


def _like(truth: dict[str, Path], hr: str | PathLike[str], path: str | PathLike[str]) -> dict[str, Path]:
    """Finds the sequences that belong to those of the ground truth; their paths by its names."""
    found = find_sequences(path)
    if len(found) == len(truth) == 1:
        return dict(zip(truth, found.values(), strict=True))
    if found.keys() != truth.keys():
        raise RLSPError(
            f"{fspath(path)}: holds {', '.join(found)}, but {fspath(hr)} holds {', '.join(truth)}; both must "
            "hold the same sequences."
        )
    return found


def _measure(
    sequence: str,
    path: Path,
    methods: Sequence[_Method],
    protocols: Sequence[EvaluationProtocol],
    low: Degradation | Path,
    recorder: FrameObserver | None,
    progress: bool,
    notes: list[str],
) -> list[list[Results]]:
    """Measures one sequence; returns results for every protocol and method, bicubic first.

    ``low`` says how low resolution is made, or where it is.
    """
    names = [_BICUBIC["name"], *(method.about["name"] for method in methods)]
    # Protocols that differ only in which frames count share their measurements.
    meters = {(p.crop, p.rounding): [Meter(p.crop) for _ in names] for p in protocols}
    with contextlib.ExitStack() as stack:
        truth = stack.enter_context(open_source(path))
        bar = ProgressBar(total=truth.frames, desc=sequence, unit="frames", show=progress, leave=False)
        stack.enter_context(bar)
        for index, (hr, lr, outputs) in enumerate(_upscaled(sequence, truth, methods, low, stack)):
            bicubic, chroma = _enlarge(lr, hr.shape)
            outputs = [bicubic, *outputs]
            pictures = [_picture(output, chroma) for output in outputs]
            hr_y = luma(hr)
            for (_, rounding), row in meters.items():
                for meter, output, picture in zip(row, outputs, pictures, strict=True):
                    pixels = eight_bits(output) if rounding else output
                    with _naming(path):
                        meter.add(hr_y, pixels if pixels.ndim == 2 else luma(pixels), hr, picture)
            if recorder:
                recorder.frame(sequence, index, hr, dict(zip(names, pictures, strict=True)))
            bar.update()
        notes += truth.notes
        for method in methods:
            notes += method.notes
    with _naming(path):
        return [
            [{"name": sequence, **p.summarize(meter.frames)} for meter in meters[p.crop, p.rounding]]
            for p in protocols
        ]


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Adds the path of the sequence to the messages of errors."""
    try:
        yield
    except RLSPError as error:
        raise RLSPError(f"{path}: {error}") from error


def _upscaled(
    sequence: str,
    truth: FrameSource,
    methods: Sequence[_Method],
    low: Degradation | Path,
    stack: contextlib.ExitStack,
) -> Iterator[tuple[np.ndarray, np.ndarray, list[np.ndarray]]]:
    """Yields ground truth, low resolution and the output of each method for every frame."""
    scale = _scale(methods)
    size = (truth.height // scale * scale, truth.width // scale * scale)
    if not all(size):
        raise RLSPError(
            f"{truth.path}: frames of {truth.width}x{truth.height} are smaller than the scale of {scale}; "
            "use larger ones."
        )
    for method in methods:
        method.begin(sequence, truth, size, stack)
    degrading: DegradingStream | _Given
    if isinstance(low, Path):
        source = stack.enter_context(open_source(low))
        degrading = _Given(source, truth, (size[0] // scale, size[1] // scale))
    else:
        degrading = DegradingStream(low.draw(np.random.default_rng(list(sequence.encode()))), scale)
    # A codec gives a frame some time after it got it.
    coming: deque[np.ndarray] = deque()
    waiting: deque[tuple[np.ndarray, np.ndarray]] = deque()
    ready: list[deque[np.ndarray]] = [deque() for _ in methods]

    def complete() -> Iterator[tuple[np.ndarray, np.ndarray, list[np.ndarray]]]:
        while waiting and all(ready):
            yield (*waiting.popleft(), [queue.popleft() for queue in ready])

    def upscale(low: list[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray, list[np.ndarray]]]:
        for lr in low:
            waiting.append((coming.popleft(), lr))
            for method, queue in zip(methods, ready, strict=True):
                queue += method.push(lr)
            yield from complete()

    for frame in rgb_frames(truth):
        hr = frame[: size[0], : size[1]]
        coming.append(hr)
        yield from upscale(degrading.push(hr))
    yield from upscale(degrading.flush())
    for method, queue in zip(methods, ready, strict=True):
        queue += method.end()
    yield from complete()


def _scale(methods: Sequence[_Method]) -> int:
    scales = {method.scale for method in methods if method.scale}
    if len(scales) > 1:
        raise RLSPError(
            f"the models have different scales ({', '.join(map(str, sorted(scales)))}); evaluate those of "
            "one scale at a time."
        )
    return scales.pop() if scales else SCALE


def _enlarge(lr: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Enlarges RGB ``(h, w, 3)`` by bicubic interpolation.

    Returns:
        Luma ``(H, W)`` and two chroma planes, neither rounded nor clipped.
    """
    rows, columns = (enlarge_matrix(lr.shape[axis], shape[axis] // lr.shape[axis]) for axis in (0, 1))
    red, green, blue = np.moveaxis(lr.astype(np.float64), -1, 0)
    _, cb, cr = rgb_to_ycbcr(red, green, blue, _YCBCR)
    y, cb, cr = (rows @ plane @ columns.T for plane in (luma(lr), cb, cr))
    return y, (cb, cr)


def _picture(output: np.ndarray, chroma: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Converts an output to uint8 RGB; ``chroma`` is used if it is luma."""
    if output.ndim == 3:
        return eight_bits(output)
    rgb = ycbcr_to_rgb(luma_from_bt601(output, *chroma, _YCBCR), *chroma, _YCBCR)
    return eight_bits(np.stack(rgb, axis=-1))
