"""Cubic resampling at exact sample positions, expressed as one matrix for each axis."""

import numpy as np
import scipy.sparse

from rlsp_tf.pixels.color import ColorSpec, eight_bits


def cubic_matrix(size_in: int, size_out: int, *, step: float, origin: float) -> np.ndarray:
    """Returns the matrix that resamples one axis with Keys' cubic kernel (a = -0.5, IEEE ASSP 1981).

    Output sample j is read at position ``origin + j * step`` of the input, counted in input samples. Beyond
    the ends, the edge sample is repeated. For a step above 1, the kernel is widened by the step to prevent
    aliasing. ``matrix_v @ image @ matrix_h.T`` resamples an image.

    The phase matters more than the kernel: in this project, low-resolution sample i lies at high-resolution
    position ``scale * i`` (step ``1 / scale``, origin 0). A resize that aligns the outer edges of the images
    (half-pixel centres) has the origin ``0.5 / scale - 0.5`` instead.

    Args:
        size_in: number of input samples, at least 1.
        size_out: number of output samples.
        step: distance between output samples, in input samples.
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
    """Returns the matrix that enlarges one axis of a low-resolution image.

    Args:
        size: number of low-resolution samples.
        scale: how many times larger the result is.

    Returns:
        ``(scale * size, size)`` float64, phase-aligned with the paper's degradation.
    """
    return cubic_matrix(size, size * scale, step=1 / scale, origin=0.0)


def enlarge(image: np.ndarray, scale: int) -> np.ndarray:
    """Enlarges a low-resolution image by bicubic interpolation with :func:`enlarge_matrix`.

    Args:
        image: RGB ``(H, W, 3)``, 0..255.
        scale: how many times larger the result is.

    Returns:
        uint8 RGB ``(scale*H, scale*W, 3)``.
    """
    if scale == 1:
        return eight_bits(image)
    height, width, channels = image.shape
    # Four numbers of every row are not zero, and a row of a large frame has thousands.
    rows, columns = (scipy.sparse.csr_array(enlarge_matrix(size, scale)) for size in (height, width))
    tall = (rows @ image.reshape(height, -1).astype(np.float64)).reshape(-1, width, channels)
    wide = columns @ tall.transpose(1, 0, 2).reshape(width, -1)
    return eight_bits(wide.reshape(scale * width, -1, channels).transpose(1, 0, 2))


def enlarge_taps(scale: int) -> np.ndarray:
    """Returns the filter taps of :func:`enlarge_matrix`, the same for all samples not near the ends.

    Args:
        scale: how many times larger the result is.

    Returns:
        ``(scale, 4)`` float64. High-resolution sample ``scale * i + p`` is the product of row p and the
        low-resolution samples i - 1 to i + 2.
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
    """Returns the matrices that resample a chroma plane from one colour format and size to another.

    Args:
        size: ``(height, width)`` of the source's luma.
        source: colour format of the source. Its subsampling and chroma location are used.
        target: colour format of the result. Its subsampling and chroma location are used.
        target_size: ``(height, width)`` of the result's luma. By default ``size``.
        scale: luma samples of the result per luma sample of the source.
        shift: offset of the luma grids: target luma sample p lies at source position ``p / scale + shift``.

    Returns:
        ``(rows, columns)`` float32. ``rows @ plane @ columns.T`` resamples a plane.
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
    """Evaluates Keys' cubic kernel at distances from its centre."""
    x = np.abs(distance)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
