"""Cubic resampling at exact sample positions, as a matrix for each axis."""

import numpy as np

from rlsp_tf.pixels.color import ColorSpec


def cubic_matrix(size_in: int, size_out: int, *, step: float, origin: float) -> np.ndarray:
    """The matrix that resamples one axis with Keys' cubic kernel (a = -0.5, IEEE ASSP 1981).

    Output sample j is read at position ``origin + j * step`` of the input, counted in input samples.
    Beyond the ends the edge sample is repeated. For a step above 1 the kernel is widened by it, so
    that reducing does not alias. ``matrix_v @ image @ matrix_h.T`` resamples an image.

    Phase matters more than the kernel: low-resolution sample i of this project lies at
    high-resolution position ``scale * i`` (step ``1 / scale``, origin 0), while a resize that aligns
    the outer edges of the images (half-pixel centres) has origin ``0.5 / scale - 0.5``.

    Args:
        size_in: samples of the input, at least 1.
        size_out: samples of the output.
        step: distance of output samples, in input samples.
        origin: position of the first output sample, in input samples.

    Returns:
        ``(size_out, size_in)`` float64; every row sums to 1.
    """
    width = max(1.0, step)
    positions = origin + step * np.arange(size_out)
    reach = int(np.ceil(2 * width))
    taps = np.floor(positions)[:, None] + np.arange(-reach, reach + 2)
    weights = _keys((taps - positions[:, None]) / width)
    weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((size_out, size_in))
    rows = np.broadcast_to(np.arange(size_out)[:, None], taps.shape)
    np.add.at(matrix, (rows, np.clip(taps, 0, size_in - 1).astype(int)), weights)
    return matrix


def enlarge_matrix(size: int, scale: int) -> np.ndarray:
    """The matrix that enlarges one axis of a low-resolution image of this project ``scale`` times.

    Returns:
        ``(scale * size, size)`` float64, phase-aligned with the paper's degradation.
    """
    return cubic_matrix(size, size * scale, step=1 / scale, origin=0.0)


def enlarge_taps(scale: int) -> np.ndarray:
    """The weights of :func:`enlarge_matrix`, which are the same for all samples away from the ends.

    Returns:
        ``(scale, 4)`` float64: high-resolution sample ``scale * i + p`` is row p times low-resolution samples
        i - 1 to i + 2.
    """
    return enlarge_matrix(4, scale)[scale : 2 * scale]


def chroma_matrices(
    size: tuple[int, int],
    source: ColorSpec,
    target: ColorSpec,
    target_size: tuple[int, int] | None = None,
    *,
    scale: int = 1,
    shift: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """The matrices that take chroma from the grid of one frame to that of another.

    Args:
        size: ``(height, width)`` of the source's luma.
        source: its subsampling and siting of chroma.
        target: those of the result.
        target_size: ``(height, width)`` of the result's luma; ``size`` by default.
        scale: luma samples of the result per luma sample of the source.
        shift: target luma sample p lies at source luma position ``p / scale + shift``.

    Returns:
        ``(rows, columns)`` float32, to be used as ``rows @ plane @ columns.T``.
    """
    matrices = []
    for axis, (low, high) in enumerate(zip(size, target_size or size, strict=True)):
        # ColorSpec counts horizontal first, arrays count rows first.
        held, wanted = source.subsampling[1 - axis], target.subsampling[1 - axis]
        offset, wanted_offset = source.siting[1 - axis], target.siting[1 - axis]
        matrix = cubic_matrix(
            -(-low // held),
            -(-high // wanted),
            step=wanted / (scale * held),
            origin=(wanted_offset / scale + shift - offset) / held,
        )
        matrices.append(matrix.astype(np.float32))
    return matrices[0], matrices[1]


def _keys(distance: np.ndarray) -> np.ndarray:
    x = np.abs(distance)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
