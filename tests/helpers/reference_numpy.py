"""RLSP once more, in NumPy and float64, from the paper's equations: the reference of the tests."""

import numpy as np

RGB_TO_LUMA = np.array([65.738, 129.057, 25.064]) / 256


def conv3x3(image: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """``(B, H, W, in)`` * ``(3, 3, in, out)`` -> ``(B, H, W, out)``, zeros outside."""
    _, height, width, _ = image.shape
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = np.zeros((*image.shape[:3], kernel.shape[3])) + bias
    for row in range(3):
        for column in range(3):
            out += padded[:, row : row + height, column : column + width] @ kernel[row, column]
    return out


def space_to_depth(image: np.ndarray, scale: int) -> np.ndarray:
    """``(B, s*H, s*W, C)`` -> ``(B, H, W, s*s*C)``, row by row within each block of pixels."""
    return np.concatenate([image[:, i::scale, j::scale] for i in range(scale) for j in range(scale)], axis=-1)


def depth_to_space(packed: np.ndarray, scale: int) -> np.ndarray:
    """The inverse of :func:`space_to_depth`."""
    batch, height, width, depth = packed.shape
    channels = depth // scale**2
    image = np.empty((batch, height * scale, width * scale, channels))
    for index in range(scale**2):
        row, column = divmod(index, scale)
        image[:, row::scale, column::scale] = packed[..., index * channels : (index + 1) * channels]
    return image


def rlsp(
    clip: np.ndarray,
    weights: list[np.ndarray],
    *,
    scale: int = 4,
    before: int = 1,
    after: int = 1,
    state: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """``(B, T, H, W, 3)`` 0..255 -> ``(B, T, s*H, s*W, C)`` and the last (hidden state, output frame).

    Args:
        weights: kernel and bias of each layer in turn; the last two layers read the same tensor.
    """
    clip = np.asarray(clip, np.float64)
    batch, length, height, width, _ = clip.shape
    layers = [
        (weights[i].astype(np.float64), weights[i + 1].astype(np.float64)) for i in range(0, len(weights), 2)
    ]
    *trunk, to_hidden, to_output = layers
    channels = to_output[1].size // scale**2
    if state is None:
        hidden = np.zeros((batch, height, width, to_hidden[1].size))
        previous = np.zeros((batch, height * scale, width * scale, channels))
    else:
        hidden, previous = state
    outputs = []
    for t in range(length):
        window = [clip[:, min(max(t + d, 0), length - 1)] for d in range(-before, after + 1)]
        features = np.concatenate([*window, hidden, space_to_depth(previous, scale)], axis=-1)
        for kernel, bias in trunk:
            features = np.maximum(conv3x3(features, kernel, bias), 0)
        hidden = np.maximum(conv3x3(features, *to_hidden), 0)
        residual = clip[:, t] if channels == 3 else (clip[:, t] @ RGB_TO_LUMA + 16)[..., None]
        residual = residual.repeat(scale, axis=1).repeat(scale, axis=2)
        previous = depth_to_space(conv3x3(features, *to_output), scale) + residual
        outputs.append(previous)
    return np.stack(outputs, axis=1), (hidden, previous)
