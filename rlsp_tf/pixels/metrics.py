"""How far frames are from the truth: PSNR and SSIM in float64, and the protocols that count them.

The same frames give PSNR values up to 0.3 dB apart depending on borders, dropped frames and the order
of logarithm and mean, so a number here always comes with its :class:`EvaluationProtocol`.

LPIPS is left out: the packages that have it need PyTorch, and fetch the weights of another network when
they run.
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
"""PSNR in dB of the paper's networks on Vid4, in the middle."""
METRICS = ("psnr_y", "ssim_y", "psnr_rgb", "temporal_psnr_y")
"""What is measured, by its name in results; see :class:`EvaluationProtocol`."""


def luma(rgb: np.ndarray) -> np.ndarray:
    """BT.601 luma in float64, not rounded, by the weights that the authors trained and measured with.

    Args:
        rgb: ``(..., 3)``, 0..255.

    Returns:
        ``(...)``, 16..235.
    """
    return rgb.astype(np.float64) @ PAPER_WEIGHTS + LUMA_OFFSET


def luma_of(output: np.ndarray) -> np.ndarray:
    """Luma of what a network gives, be it luma or RGB.

    Args:
        output: ``(..., 1)`` or ``(..., 3)``, 0..255.

    Returns:
        ``(...)``, 16..235; of RGB as :func:`luma` has it.
    """
    return output[..., 0] if output.shape[-1] == 1 else luma(output)


def mse(a: np.ndarray, b: np.ndarray | float) -> float:
    """Mean squared difference of two arrays of one shape, in float64."""
    return float(np.mean(np.square(np.subtract(a, b, dtype=np.float64))))


def decibels(error: float) -> float:
    """PSNR of a mean squared error on the scale 0..255: ``10 log10(255**2 / error)``, infinity for 0."""
    return float(10 * np.log10(PEAK**2 / error)) if error else float("inf")


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in decibels; the peak is 255 for luma 16..235 too, as in the literature.

    Args:
        a, b: arrays of one shape, 0..255.

    Returns:
        Infinity for identical arrays.
    """
    return decibels(mse(a, b))


def cost(difference: np.ndarray) -> float:
    """What differences from float32, in grey levels, take from a network of ``TYPICAL`` PSNR, in dB.

    As if they were independent of its errors. Unlike a PSNR against the truth this tells a wrong network
    from a right one whatever the weights.
    """
    return float(10 * np.log10(1 + mse(difference, 0.0) * 10 ** (TYPICAL / 10) / PEAK**2))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity of Wang et al. 2004 (IEEE TIP 13(4)) in float64.

    Their settings: Gaussian window of 11x11 and sigma 1.5, K = 0.01 and 0.03, L = 255, and the mean over
    the valid region, that is all windows that lie inside the image. scikit-image has exactly these, in a
    version that many use; it is small beside TensorFlow.

    Args:
        a, b: ``(H, W)`` of at least 11x11, 0..255.

    Returns:
        At most 1, for identical images.

    Raises:
        ValueError: if the images are smaller or their shapes differ.
    """
    from skimage.metrics import structural_similarity  # training measures PSNR and does without

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
    """What is counted, and how it becomes one number.

    One of your own is made by ``EvaluationProtocol("mine", crop=4)``.

    - ``psnr_y``, ``ssim_y``: of luma (:func:`luma`). The truth's luma is never rounded.
    - ``psnr_rgb``: of all three channels at 8 bits.
    - ``temporal_psnr_y``: PSNR of frame differences: of ``sr[t] - sr[t-1]`` against ``hr[t] - hr[t-1]``,
      in luma. It falls when an error flickers and does not when it stands still; motion is not followed,
      and a blurred but steady result scores well.

    Every sequence has the same weight in the mean over sequences.

    Attributes:
        name: what results call it.
        crop: pixels left out along every edge (the crop border).
        drop: frames left out at the beginning and at the end of every sequence.
        rounding: whether a network's output is rounded to 8 bits, as a file would hold it.
        mean: how a sequence's PSNR comes from its frames: ``"sequence MSE"`` is the PSNR of the mean
            squared error of all its pixels, ``"mean over frames"`` the mean of the frames' PSNR. SSIM
            is always the mean over frames.
        source: where the protocol is from.
    """

    name: str
    crop: int = 0
    drop: int = 0
    rounding: bool = True
    mean: Literal["sequence MSE", "mean over frames"] = "mean over frames"
    source: str = ""

    def describe(self) -> str:
        """The protocol in one line."""
        parts = [
            f"{self.crop} pixels cropped at every edge" if self.crop else "no crop",
            f"first and last {self.drop} frames dropped" if self.drop else "all frames",
            "output rounded to 8 bits" if self.rounding else "output not rounded",
            "PSNR of the sequence's MSE" if self.mean == "sequence MSE" else "mean PSNR of the frames",
        ]
        return ", ".join(parts)

    def summarize(self, frames: Sequence["FrameErrors"]) -> dict[str, Any]:
        """The numbers of one sequence.

        Args:
            frames: all its frames, those to be dropped too.

        Returns:
            The ``METRICS`` of the sequence and, under ``"frames"``, of every frame that counts with its
            ``"index"`` in the sequence. ``None`` where there is nothing to measure: temporal PSNR of
            the first frame.

        Raises:
            RLSPError: if no frame is left to count.
        """
        counted = frames[self.drop : len(frames) - self.drop]
        if not counted:
            raise RLSPError(
                f"protocol {self.name} drops {self.drop} frames at each end, which leaves none of "
                f"{len(frames)}; use longer sequences or another protocol."
            )
        # The difference to a frame that is dropped does not count.
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
"""The protocols that have a name."""


class FrameErrors(NamedTuple):
    """What one frame is off by; ``mse_difference`` is that of the difference to the frame before."""

    mse_y: float
    ssim_y: float
    mse_rgb: float
    mse_difference: float | None


class Meter:
    """Measures the frames of one sequence one after the other; remembers numbers, and one frame.

    Args:
        crop: see :class:`EvaluationProtocol`.
    """

    def __init__(self, crop: int) -> None:
        self._crop = crop
        self._before: tuple[np.ndarray, np.ndarray] | None = None
        self.frames: list[FrameErrors] = []

    def add(self, hr_y: np.ndarray, sr_y: np.ndarray, hr_rgb: np.ndarray, sr_rgb: np.ndarray) -> None:
        """Measures the next frame.

        Args:
            hr_y, sr_y: luma ``(H, W)``, of the truth and of the result.
            hr_rgb, sr_rgb: RGB ``(H, W, 3)``, 0..255.

        Raises:
            RLSPError: if the crop leaves less than a window of SSIM.
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
