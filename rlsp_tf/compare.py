"""Two results beside each other, and where they differ."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Region:
    """A rectangle in a frame, in pixels; ``x`` and ``y`` are its left upper corner."""

    x: int
    y: int
    width: int
    height: int

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The part of ``image``, ``(H, W, ...)``, that lies in the rectangle."""
        return image[self.y : self.y + self.height, self.x : self.x + self.width]


def find_regions(difference: np.ndarray, width: int, height: int, count: int) -> list[Region]:
    """The rectangles of one size in which the sum of ``difference`` is largest.

    Between two of them is room for a third, so that each shows something else.

    Args:
        difference: ``(H, W)``, not negative.
        width: of a rectangle, at most W.
        height: of a rectangle, at most H.
        count: how many, at most; there are fewer where ``difference`` is zero or no room is left.

    Returns:
        The regions, largest sum first; where ``difference`` is zero everywhere, the one in the middle.
    """
    rows, columns = difference.shape
    total = np.zeros((rows + 1, columns + 1))
    total[1:, 1:] = difference.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    sums = (
        total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    )
    if not difference.any():
        return [Region((columns - width) // 2, (rows - height) // 2, width, height)]
    regions: list[Region] = []
    # Differences of cumulative sums leave a rest where the sum is zero.
    least = 1e-9 * total[-1, -1]
    while len(regions) < count and sums.max() > least:
        y, x = (int(position) for position in np.unravel_index(sums.argmax(), sums.shape))
        regions.append(Region(x, y, width, height))
        sums[max(0, y - 2 * height + 1) : y + 2 * height, max(0, x - 2 * width + 1) : x + 2 * width] = 0
    return regions
