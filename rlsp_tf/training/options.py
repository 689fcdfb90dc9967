"""The options of a training: the network, its samples, and how it is optimized."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from rlsp_tf.errors import UsageError
from rlsp_tf.network.config import PRESETS, RLSPConfig
from rlsp_tf.network.model import rlsp_layer
from rlsp_tf.network.weights import load_model
from rlsp_tf.training.clips.clip import Halving
from rlsp_tf.training.clips.mixture import CLIPS_ONLY, Mixture

LEAST = {
    "batch": 1,
    "frames": 2,
    "pieces": 1,
    "curriculum": 0,
    "crop": 8,
    "steps": 1,
    "seed": 0,
    "every": 1,
    "reuse": 1,
}
"""The smallest value of each number."""


@dataclass(frozen=True)
class TrainingOptions:
    """Everything that decides what a training computes, except its clips and photographs.

    Attributes:
        network: configuration of the network.
        batch: samples per step.
        frames: frames per sample.
        pieces: number of successive samples that make up a sequence. The state is carried from one to the
            next, gradients are not; see :class:`rlsp_tf.training.truncated.CarriedRLSP`.
        curriculum: number of steps in which motion goes from simple pans to that of the clips; 0 for no
            curriculum. See :class:`rlsp_tf.training.clips.sampler.ClipSampler`.
        crop: height and width of a sample in low-resolution pixels.
        steps: number of steps of the whole training.
        learning_rate: largest learning rate; see :class:`rlsp_tf.training.loss.WarmUpAndDecay`.
        precision: precision of the convolutions. Weights, their averages and the loss are float32.
        seed: seed of the initial weights and of the samples.
        halve: whether frames are reduced to half their size; see
            :func:`rlsp_tf.training.clips.index.index_clips`.
        held_out: names of the clips for validation; ``None`` for every fifth. See
            :func:`rlsp_tf.training.clips.index.split_clips`.
        init: a ``.keras`` file or the name of published weights to start from. Its network may have fewer
            filters; see :mod:`rlsp_tf.network.widen`.
        every: steps between validations. Each writes a checkpoint; the log has ten rows in between.
        mixture: what samples are made of and how they are degraded.
        reuse: number of steps that a sample is used in, on average; above 1, see
            :class:`rlsp_tf.training.clips.jax_pool.SamplePool`.

    Raises:
        UsageError: if a number is out of range.
    """

    network: RLSPConfig = PRESETS["7-48"]
    batch: int = 8
    frames: int = 7
    pieces: int = 1
    curriculum: int = 0
    crop: int = 32
    steps: int = 100_000
    learning_rate: float = 1e-3
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    halve: Halving = "auto"
    held_out: Sequence[str] | None = None
    init: str | None = None
    every: int = 1000
    mixture: Mixture = CLIPS_ONLY
    reuse: int = 1

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise UsageError(f"--{name} must be at least {least}, not {getattr(self, name)}.")
        if not 0 < self.learning_rate < 1:
            raise UsageError(f"--learning-rate must be between 0 and 1, not {self.learning_rate}.")
        if self.reuse > 1 and self.pieces > 1:
            raise UsageError("--reuse cannot be combined with --pieces; leave one of them out.")

    def to_dict(self) -> dict[str, Any]:
        """Returns the options as a dictionary that can be written as JSON."""
        held_out = None if self.held_out is None else sorted(self.held_out)
        mixture = {**asdict(self.mixture), "degradation": self.mixture.degradation.to_dict()}
        return {
            **asdict(self),
            "network": self.network.to_dict(),
            "held_out": held_out,
            "mixture": mixture,
        }


def network_of(name: str | None, output: Literal["y", "rgb"] | None, init: str | None) -> RLSPConfig:
    """Returns the network that command-line options describe.

    What ``name`` and ``output`` leave open comes from ``init``, or else from the 7-48 network for luma.

    Args:
        name: layers and filters, such as ``"7-64"``.
        output: ``"y"`` for luma, or ``"rgb"``.
        init: a ``.keras`` file or the name of published weights.

    Raises:
        RLSPError: if the name has another form, or the file holds no RLSP model.
    """
    config = PRESETS["7-48"] if init is None else rlsp_layer(load_model(init)).config
    if name is not None and name != config.name:
        config = RLSPConfig.from_name(name)
    return config if output is None else replace(config, output=output)
