"""The shape of an RLSP network."""

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
"""Least and most of each number of an :class:`RLSPConfig`; the most is far beyond what can be computed."""


@dataclass(frozen=True)
class RLSPConfig:
    """Everything that decides the shapes of an RLSP network's weights.

    The paper names its networks "layers-filters": 7-64 has seven layers of 64 filters.

    Attributes:
        filters: channels of every hidden convolution.
        layers: depth: convolutions that a frame passes before it is an output, the last of which stands
            beside the one that makes the hidden state.
        state_filters: channels of the hidden state; ``None`` means as many as ``filters``.
        scale: how many times larger the output is in each direction.
        output: ``"y"`` for BT.601 luma (16..235 for RGB 0..255), ``"rgb"`` for three colour channels.
        frames_before: how many past frames the network sees beside the present one.
        frames_after: how many future frames it sees; as many frames of latency when streaming.

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
            # A type of its own, not a subclass: True is no number of filters.
            if type(value) is not int or not least <= value <= most:
                shown = reprlib.repr(value)
                raise ValueError(f"{name} must be an integer from {least} to {most}, not {shown}")
        if self.output not in ("y", "rgb"):
            raise ValueError(f'output must be "y" or "rgb", not {reprlib.repr(self.output)}')

    @property
    def window(self) -> int:
        """Frames that the network sees at once."""
        return self.frames_before + 1 + self.frames_after

    @property
    def hidden_channels(self) -> int:
        """Channels of the hidden state."""
        assert self.state_filters is not None  # __post_init__ filled it in
        return self.state_filters

    @property
    def output_channels(self) -> int:
        """Channels of an output frame: 1 for luma, 3 for RGB."""
        return 1 if self.output == "y" else 3

    @property
    def feedback_channels(self) -> int:
        """Channels of an output frame folded to low resolution: ``scale**2 * output_channels``."""
        return self.scale**2 * self.output_channels

    @property
    def input_channels(self) -> int:
        """Channels that enter the first convolution: RGB window, hidden state, feedback."""
        return 3 * self.window + self.hidden_channels + self.feedback_channels

    def channels(self, layer: int) -> tuple[int, int]:
        """Channels that enter and leave the convolution ``layer0`` ... ``layer{layers}``."""
        inputs = self.filters if layer else self.input_channels
        outputs = {self.layers - 1: self.hidden_channels, self.layers: self.feedback_channels}
        return inputs, outputs.get(layer, self.filters)

    @property
    def name(self) -> str:
        """The paper's name, such as ``"7-64"``."""
        return f"{self.layers}-{self.filters}"

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RLSPConfig":
        """The opposite of :meth:`to_dict`.

        Raises:
            ValueError: if it is no dictionary, or a field is unknown or out of range.
        """
        if not isinstance(values, dict):
            raise ValueError(f"the fields of RLSPConfig must be a dictionary, not {type(values).__name__}")
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown RLSPConfig fields: {', '.join(sorted(map(repr, unknown)))}")
        return cls(**values)

    @classmethod
    def from_name(cls, name: str) -> "RLSPConfig":
        """The configuration of a name in the paper's style, ``"7-64"``: seven layers of 64 filters.

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
