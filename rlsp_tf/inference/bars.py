"""Black bars around the picture: the network computes the picture, and the bars are interpolated."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from keras import ops

from rlsp_tf.inference.backend import compiled, dtype_of, to_tensor
from rlsp_tf.inference.color_path import enlarged
from rlsp_tf.inference.step import Step, StepWrapper
from rlsp_tf.network.cell import luma
from rlsp_tf.pixels.color import LUMA_OFFSET

Bars = Literal["interpolate", "compute"]
"""How bars are enlarged: by interpolation, or by the network as the picture is."""
BLACK = 8
"""Largest red, green and blue, of 255, that counts as black. Encoders leave some noise in bars."""
MARGIN = 4
"""Rows and columns of a bar that are computed with the picture. With four, the picture is as sharp at its
edge as with the whole bar."""
WORTH = 0.95
"""Largest part of a frame that a picture may fill for its bars to be left out."""


class Area(NamedTuple):
    """The part of a frame that shows the picture: rows and columns, the ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left

    def of(self, frame: Any) -> Any:
        """Returns the area of frames ``(B, H, W, C)``."""
        return frame[:, self.top : self.bottom, self.left : self.right]

    def around(self, frame: Any) -> list[Any]:
        """Returns the bars of frames ``(B, H, W, C)``: above, below, left and right of the area."""
        beside = frame[:, self.top : self.bottom]
        return [
            frame[:, : self.top],
            frame[:, self.bottom :],
            beside[:, :, : self.left],
            beside[:, :, self.right :],
        ]


def picture_of(samples: Iterable[np.ndarray]) -> Area | None:
    """Finds the area outside of which all frames of a sample are black.

    Args:
        samples: RGB 0..255, each ``(H, W, 3)``. No more are taken once there can be no bars.

    Returns:
        The area with a margin, from even positions to even ones; ``None`` if there are no bars that are worth
        leaving out.
    """
    rows: Any = False
    columns: Any = False
    area = None
    for frame in samples:
        seen: Any = (frame > BLACK).any(axis=-1)
        rows, columns = rows | seen.any(axis=1), columns | seen.any(axis=0)
        if rows.any():
            area = Area(*_ends(rows), *_ends(columns))
            if area.height * area.width > WORTH * seen.size:
                return None
    return area


def _ends(seen: np.ndarray) -> tuple[int, int]:
    """Returns the first position of what is seen, and the last one plus one, with a margin."""
    positions = np.flatnonzero(seen)
    first, end = max(0, positions[0] - MARGIN), min(len(seen), positions[-1] + 1 + MARGIN)
    return int(first - first % 2), int(min(len(seen), end + end % 2))


class PictureStep(StepWrapper):
    """A step that computes a part of the frame and interpolates the bars around it.

    As soon as a window shows something else than black in the bars, such as subtitles, the whole frame is
    computed until the state is new; what the state holds of the picture is kept.

    Args:
        step: the :class:`rlsp_tf.inference.step.Step` that computes the picture.
        area: the part of the frame that shows the picture.
    """

    def __init__(self, step: Step, area: Area) -> None:
        super().__init__(step)
        self._area = area
        self._join = compiled(self._joined)
        self._is_black = compiled(self._black)

    def initial_state(self, batch: int, height: int, width: int) -> Any:
        return self._step.initial_state(batch, self._area.height, self._area.width)

    def __call__(self, window: Sequence[Any], state: Any) -> tuple[Any, Any]:
        if self._is_whole(state, window):
            return self._step(window, state)
        if not self._is_black(tuple(window)):
            return self._step(window, self._widened(state, window))
        output, state = self._step([self._area.of(frame) for frame in window], state)
        return self._join(output, window[self.config.frames_before]), state

    def shown(self, window: Sequence[Any], state: Any) -> Any:
        output = super().shown(window, state)
        if self._is_whole(state, window):
            return output
        return self._join(output, window[self.config.frames_before])

    def _is_whole(self, state: Any, window: Sequence[Any]) -> bool:
        return tuple(state[0].shape[1:3]) == tuple(window[0].shape[1:3])

    def _black(self, window: Sequence[Any]) -> Any:
        """Returns whether the bars of all frames are black."""
        bars = [bar for frame in window for bar in self._area.around(frame) if 0 not in bar.shape]
        return ops.all(ops.stack([ops.max(bar) for bar in bars]) <= BLACK)

    def _widened(self, state: Any, window: Sequence[Any]) -> list[Any]:
        """Returns the state of the whole frame: new in the bars, whose output so far was black."""
        _, height, width, _ = window[0].shape
        top, bottom, left, right = self._area
        around = ((0, 0), (top, height - bottom), (left, width - right), (0, 0))
        black = LUMA_OFFSET if self.config.output == "y" else 0
        widened = []
        for each, value in zip(state, (0, black), strict=True):
            if isinstance(each, np.ndarray):
                widened.append(np.pad(each, around, constant_values=value))
            else:
                fill = to_tensor(value, str(dtype_of(each)))
                widened.append(ops.pad(each, around, constant_values=fill))
        return widened

    def _joined(self, output: Any, frame: Any) -> Any:
        """Returns the large frame: the network's output of the area, and bars enlarged by interpolation."""
        scale, (top, bottom, left, right) = self.config.scale, self._area
        if self.config.output == "y":
            frame = luma(frame)

        def large(rows: slice, columns: slice) -> Any:
            return enlarged(frame[:, rows, columns], scale)

        # The interpolation of a pixel looks one pixel back and two ahead.
        whole = slice(None)
        beside = output
        if left:
            before = large(slice(top, bottom), slice(left + 2))[:, :, : scale * left]
            beside = ops.concatenate([before, beside], axis=2)
        if right < frame.shape[2]:
            beside = ops.concatenate(
                [beside, large(slice(top, bottom), slice(right - 1, None))[:, :, scale:]], axis=2
            )
        above = [large(slice(top + 2), whole)[:, : scale * top]] if top else []
        below = [large(slice(bottom - 1, None), whole)[:, scale:]] if bottom < frame.shape[1] else []
        return ops.concatenate([*above, beside, *below], axis=1)
