"""Measures how close frames are to the ground truth: PSNR and SSIM in float64, and evaluation protocols.

For the same frames, PSNR can differ by up to 0.3 dB, depending on borders, dropped frames, and whether the
mean or the logarithm is taken first. So every number comes with its :class:`EvaluationProtocol`.

There is no LPIPS: the packages that compute it need PyTorch and download the weights of another network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from rlsp_tf.errors import RLSPError
from rlsp_tf.pixels.color import LUMA_OFFSET, PAPER_WEIGHTS

PEAK = 255.0
SSIM_WINDOW = 11
TYPICAL = 27.0
"""Typical PSNR in dB of the paper's networks on Vid4."""
METRICS = ("psnr_y", "ssim_y", "psnr_rgb", "temporal_psnr_y")
"""Names of the metrics in results; see :class:`EvaluationProtocol`."""


def luma(rgb: np.ndarray) -> np.ndarray:
    """Computes BT.601 luma in float64, without rounding, with the weights that the authors used.

    Args:
        rgb: array ``(..., 3)``, 0..255.

    Returns:
        Array ``(...)``, 16..235.
    """
    return rgb.astype(np.float64) @ PAPER_WEIGHTS + LUMA_OFFSET


def luma_of(output: np.ndarray) -> np.ndarray:
    """Returns the luma of a network's output, which is luma or RGB.

    Args:
        output: array ``(..., 1)`` of luma or ``(..., 3)`` of RGB, 0..255.

    Returns:
        Array ``(...)``, 16..235. RGB is converted by :func:`luma`.
    """
    return output[..., 0] if output.shape[-1] == 1 else luma(output)


def mse(a: np.ndarray, b: np.ndarray | float) -> float:
    """Computes the mean squared difference of two arrays of the same shape, in float64."""
    return float(np.mean(np.square(np.subtract(a, b, dtype=np.float64))))


def decibels(error: float) -> float:
    """Converts a mean squared error to PSNR: ``10 log10(255**2 / error)``, or infinity if it is 0."""
    return float(10 * np.log10(PEAK**2 / error)) if error else float("inf")


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Computes the peak signal-to-noise ratio in dB.

    The peak is 255 even for luma, which only uses 16..235; this is common practice.

    Args:
        a, b: arrays of the same shape, 0..255.

    Returns:
        The PSNR; infinity if the arrays are identical.
    """
    return decibels(mse(a, b))


def cost(difference: np.ndarray) -> float:
    """Estimates how many dB a network of ``TYPICAL`` PSNR loses by a deviation from its float32 output.

    The deviation is assumed to be independent of the network's errors. Unlike a PSNR against the ground
    truth, this reveals a wrong implementation even if the weights are bad.

    Args:
        difference: the deviation, in grey levels.
    """
    return float(10 * np.log10(1 + mse(difference, 0.0) * 10 ** (TYPICAL / 10) / PEAK**2))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Computes the structural similarity of Wang et al. 2004 (IEEE TIP 13(4)) in float64.

    The settings are theirs: an 11x11 Gaussian window with sigma 1.5, K = 0.01 and 0.03, L = 255, and the mean
    over all windows that lie inside the image. This is scikit-image's implementation.

    Args:
        a, b: arrays ``(H, W)`` of at least 11x11, 0..255.

    Returns:
        The SSIM; 1 if the images are identical.

    Raises:
        ValueError: if the images are too small or their shapes differ.
    """
    from skimage.metrics import structural_similarity  # slow to import, and training does not need it

    value = structural_similarity(
        a.astype(np.float64),
        b.astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=PEAK,
    )
    return float(value)


@dataclass(frozen=True)
class EvaluationProtocol:
    """Which pixels and frames are measured, and how the metrics are averaged.

    To make your own protocol, write for example ``EvaluationProtocol("mine", crop=4)``.

    - ``psnr_y``, ``ssim_y``: PSNR and SSIM of luma (:func:`luma`). The ground truth's luma is never rounded.
    - ``psnr_rgb``: PSNR of all three channels at 8 bits.
    - ``temporal_psnr_y``: PSNR of the frame difference ``sr[t] - sr[t-1]`` against ``hr[t] - hr[t-1]``, in
      luma. Errors that flicker lower it, errors that stay the same do not. It does not compensate for motion,
      and a blurred but steady result scores well.

    Every sequence has the same weight in the mean over sequences.

    Attributes:
        name: the protocol's name in results.
        crop: pixels to leave out along every edge (the crop border).
        drop: frames to leave out at the beginning and at the end of every sequence.
        rounding: whether to round the network's output to 8 bits, as in a file.
        mean: how the PSNR of a sequence is computed: ``"sequence MSE"`` is the PSNR of the mean squared error
            of all its pixels, ``"mean over frames"`` is the mean of the frames' PSNR. SSIM is always the
            mean over frames.
        source: the publication that the protocol comes from.
    """

    name: str
    crop: int = 0
    drop: int = 0
    rounding: bool = True
    mean: Literal["sequence MSE", "mean over frames"] = "mean over frames"
    source: str = ""

    def describe(self) -> str:
        """Describes the protocol in one line."""
        parts = [
            f"{self.crop} pixels cropped at every edge" if self.crop else "no crop",
            f"first and last {self.drop} frames dropped" if self.drop else "all frames",
            "output rounded to 8 bits" if self.rounding else "output not rounded",
            "PSNR of the sequence's MSE" if self.mean == "sequence MSE" else "mean PSNR of the frames",
        ]
        return ", ".join(parts)

    def summarize(self, frames: Sequence["FrameErrors"]) -> dict[str, Any]:
        """Computes the metrics of one sequence.

        Args:
            frames: the errors of all frames of the sequence, including those to drop.

        Returns:
            The ``METRICS`` of the sequence, and under ``"frames"`` those of every frame that is not dropped,
            with its ``"index"`` in the sequence. The temporal PSNR of the first frame is ``None``.

        Raises:
            RLSPError: if all frames are dropped.
        """
        counted = frames[self.drop : len(frames) - self.drop]
        if not counted:
            raise RLSPError(
                f"protocol {self.name} drops {self.drop} frames at each end, which leaves none of "
                f"{len(frames)}; use longer sequences or another protocol."
            )
        # The first frame's difference is to a dropped frame.
        temporal = [None, *(frame.mse_difference for frame in counted[1:])]
        rows = [
            {
                "index": self.drop + position,
                "psnr_y": decibels(frame.mse_y),
                "ssim_y": frame.ssim_y,
                "psnr_rgb": decibels(frame.mse_rgb),
                "temporal_psnr_y": None if difference is None else decibels(difference),
            }
            for position, (frame, difference) in enumerate(zip(counted, temporal, strict=True))
        ]
        return {
            "psnr_y": self._psnr([frame.mse_y for frame in counted]),
            "ssim_y": float(np.mean([frame.ssim_y for frame in counted])),
            "psnr_rgb": self._psnr([frame.mse_rgb for frame in counted]),
            "temporal_psnr_y": self._psnr([error for error in temporal if error is not None]),
            "frames": rows,
        }

    def _psnr(self, errors: Sequence[float]) -> float | None:
        if not errors:
            return None
        if self.mean == "sequence MSE":
            return decibels(float(np.mean(errors)))
        return float(np.mean([decibels(error) for error in errors]))


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        EvaluationProtocol(
            "rlsp",
            crop=8,
            drop=2,
            mean="sequence MSE",
            source="Fuoli et al. 2019 (RLSP, arXiv 1909.08080); not spelled out there, found by matching the "
            "published numbers with the authors' published frames",
        ),
        EvaluationProtocol(
            "duf",
            crop=8,
            source="Jo et al. 2018 (VSR-DUF, CVPR), and most tables since; matches their published table on "
            "their published frames",
        ),
        EvaluationProtocol("full", source="this project; every pixel of every frame counts"),
    )
}
"""The predefined protocols by name."""


class FrameErrors(NamedTuple):
    """The errors of one frame.

    Attributes:
        mse_y: mean squared error of luma.
        ssim_y: structural similarity of luma.
        mse_rgb: mean squared error of RGB.
        mse_difference: mean squared error of the luma difference to the frame before; ``None`` for the first
            frame.
    """

    mse_y: float
    ssim_y: float
    mse_rgb: float
    mse_difference: float | None


class Meter:
    """Measures the frames of one sequence, one after the other. It keeps one frame in memory.

    Args:
        crop: pixels to leave out along every edge.

    Attributes:
        frames: the errors of the frames measured so far.
    """

    def __init__(self, crop: int) -> None:
        self._crop = crop
        self._before: tuple[np.ndarray, np.ndarray] | None = None
        self.frames: list[FrameErrors] = []

    def add(self, hr_y: np.ndarray, sr_y: np.ndarray, hr_rgb: np.ndarray, sr_rgb: np.ndarray) -> None:
        """Measures the next frame.

        Args:
            hr_y, sr_y: luma ``(H, W)`` of the ground truth and of the result, 16..235.
            hr_rgb, sr_rgb: RGB ``(H, W, 3)`` of the ground truth and of the result, 0..255.

        Raises:
            RLSPError: if the cropped frame is smaller than SSIM's window.
        """
        height, width = hr_y.shape
        if min(height, width) < 2 * self._crop + SSIM_WINDOW:
            raise RLSPError(
                f"frames of {width}x{height} are too small for a crop border of {self._crop} and SSIM's "
                f"window of {SSIM_WINDOW}; use larger frames or a protocol that crops less."
            )
        inner = (slice(self._crop, height - self._crop), slice(self._crop, width - self._crop))
        hr_y, sr_y = (plane[inner].astype(np.float64) for plane in (hr_y, sr_y))
        difference = None
        if self._before is not None:
            hr_before, sr_before = self._before
            difference = mse(hr_y - hr_before, sr_y - sr_before)
        self._before = hr_y, sr_y
        self.frames.append(
            FrameErrors(mse(hr_y, sr_y), ssim(hr_y, sr_y), mse(hr_rgb[inner], sr_rgb[inner]), difference)
        )
