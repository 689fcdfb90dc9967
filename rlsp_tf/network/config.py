"""The numbers that describe an RLSP network, and the four networks of the paper.

First of the four modules that are the network; :mod:`rlsp_tf.network.cell` comes next.
"""

import re
import reprlib
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from rlsp_tf.errors import RLSPError

RANGES = {
    "filters": (1, 10_000),
    "layers": (2, 1000),
    "state_filters": (1, 10_000),
    "scale": (1, 64),
    "frames_before": (0, 100),
    "frames_after": (0, 100),
}
"""Smallest and largest value of each number in an :class:`RLSPConfig`; the largest ones are far beyond what
any machine can compute."""


@dataclass(frozen=True)
class RLSPConfig:
    """Everything that decides the shapes of an RLSP network's weights.

    The paper names its networks "layers-filters": 7-64 has seven layers of 64 filters.

    Attributes:
        filters: int, number of channels of every hidden convolution.
        layers: int, depth of the network: the number of convolutions between a frame and its output. The
            last one has a sibling that makes the hidden state, so there are ``layers + 1`` convolutions.
        state_filters: int, number of channels of the hidden state; ``None`` means the same as ``filters``.
        scale: int, how many times larger the output is in each direction.
        output: ``"y"`` for BT.601 luma (16..235 for RGB 0..255), ``"rgb"`` for three colour channels.
        frames_before: int, number of past frames that the network sees beside the present one.
        frames_after: int, number of future frames that the network sees. Streaming lags by as many frames.

    Raises:
        ValueError: if a number is out of range.
    """

    filters: int = 64
    layers: int = 7
    state_filters: int | None = None
    scale: int = 4
    output: Literal["y", "rgb"] = "y"
    frames_before: int = 1
    frames_after: int = 1

    def __post_init__(self) -> None:
        if self.state_filters is None:
            object.__setattr__(self, "state_filters", self.filters)
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            # isinstance would accept True and False, which are integers to Python.
            if type(value) is not int or not least <= value <= most:
                shown = reprlib.repr(value)
                raise ValueError(f"{name} must be an integer from {least} to {most}, not {shown}")
        if self.output not in ("y", "rgb"):
            raise ValueError(f'output must be "y" or "rgb", not {reprlib.repr(self.output)}')

    @property
    def window(self) -> int:
        """Number of frames that the network sees at once."""
        return self.frames_before + 1 + self.frames_after

    @property
    def hidden_channels(self) -> int:
        """Number of channels of the hidden state."""
        assert self.state_filters is not None  # __post_init__ filled it in
        return self.state_filters

    @property
    def output_channels(self) -> int:
        """Number of channels of an output frame: 1 for luma, 3 for RGB."""
        return 1 if self.output == "y" else 3

    @property
    def feedback_channels(self) -> int:
        """Number of channels of an output frame folded to low resolution: ``scale**2 * output_channels``."""
        return self.scale**2 * self.output_channels

    @property
    def input_channels(self) -> int:
        """Number of channels that enter the first convolution: RGB window, hidden state, feedback."""
        return 3 * self.window + self.hidden_channels + self.feedback_channels

    def channels(self, layer: int) -> tuple[int, int]:
        """Numbers of channels that enter and leave one convolution.

        Args:
            layer: int, index of the convolution, 0 to ``layers``. The one before the last makes the hidden
                state, the last one the output.
        """
        inputs = self.filters if layer else self.input_channels
        outputs = {self.layers - 1: self.hidden_channels, self.layers: self.feedback_channels}
        return inputs, outputs.get(layer, self.filters)

    @property
    def name(self) -> str:
        """The paper's name, such as ``"7-64"``."""
        return f"{self.layers}-{self.filters}"

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RLSPConfig":
        """Makes a configuration from the dictionary that :meth:`to_dict` returned.

        Raises:
            ValueError: if ``values`` is not a dictionary, or a field is unknown or out of range.
        """
        if not isinstance(values, dict):
            raise ValueError(f"the fields of RLSPConfig must be a dictionary, not {type(values).__name__}")
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown RLSPConfig fields: {', '.join(sorted(map(repr, unknown)))}")
        return cls(**values)

    @classmethod
    def from_name(cls, name: str) -> "RLSPConfig":
        """Makes the configuration that a name in the paper's style stands for.

        Args:
            name: layers and filters, such as ``"7-64"`` for seven layers of 64 filters.

        Raises:
            RLSPError: if the name has another form, or a number is out of range.
        """
        match = re.fullmatch(r"(\d{1,9})-(\d{1,9})", name)
        if match is None:
            raise RLSPError(f"{name}: not a network name; write layers-filters, such as 7-64.")
        try:
            return cls(layers=int(match[1]), filters=int(match[2]))
        except ValueError as error:
            raise RLSPError(f"{name}: {error}; write layers-filters, such as 7-64.") from error


PRESETS = {name: RLSPConfig.from_name(name) for name in ("7-48", "7-64", "7-128", "7-256")}
"""The four networks of the paper (Table 1), by name."""
