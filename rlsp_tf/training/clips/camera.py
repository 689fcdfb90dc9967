"""A virtual camera that moves over photographs, which turns them into sharp clips.

A photograph has more detail than the frames of most videos, because it is neither compressed nor blurred by
motion. The camera moves by fractions of a pixel, and the motion is known exactly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

SCALES = (1.0, 1.7)
"""Range of the number of photograph pixels per frame pixel, for photographs that are large enough. With at
least one, frames are sharp."""
SPEEDS = (0.0, 0.6, 1.5, 3.5, 8.0)
"""Standard deviations of the camera's velocity in frame pixels per frame, one of which is drawn."""
SPEED_SHARES = (0.08, 0.28, 0.32, 0.26, 0.06)
"""Probabilities of ``SPEEDS``."""
ACCELERATION = 0.1
"""Standard deviation of the camera's acceleration in frame pixels per frame squared."""
ZOOM = 0.006
"""Standard deviation of the change of the logarithm of the scale from frame to frame."""
TILT = 6.0
"""Standard deviation of the camera's constant rotation, in degrees."""
TURN = 0.35
"""Standard deviation of the rotation from frame to frame, in degrees."""
KEYSTONE = 3e-4
"""Standard deviation of the perspective: relative change of scale per frame pixel."""
HAND = 0.35
"""Standard deviation of the shake of a hand-held camera from frame to frame, in frame pixels."""
FRONT = 0.3
"""Share of scenes in which a part of another photograph moves in front."""
CUTS, DISSOLVES, FADES, FLASHES = 0.03, 0.03, 0.03, 0.02
"""Shares of clips with a cut, a dissolve to another scene, a fade from or to a colour, and a flash."""
CANDIDATES = 3
"""Largest number of places that are tried; the one with the most detail is used."""


@dataclass(frozen=True)
class View:
    """A photograph and the path of the camera over it.

    Attributes:
        photo: uint8 RGB ``(H, W, 3)``.
        path: float64 ``(T, 3, 3)``, a homography for each frame that maps a pixel (x, y) of the frame,
            relative to its centre, to a pixel (x, y) of the photograph.
    """

    photo: np.ndarray
    path: np.ndarray

    def renderer(self, height: int, width: int) -> Callable[[int], np.ndarray]:
        """Returns a function that renders frame t at twice the size: uint8 ``(2 height, 2 width, 3)``.

        The visible part of the photograph is enlarged twofold by cubic interpolation, once for all frames.
        Frames are sampled from it by linear interpolation, which is fast and then loses almost no detail.
        Beyond its edges, the photograph is mirrored.

        Args:
            height, width: size of a frame in pixels.
        """
        corners = np.array([[x, y] for x in (-width / 2, width / 2) for y in (-height / 2, height / 2)])
        seen = np.concatenate([_transform(each, corners) for each in self.path])
        size = np.array(self.photo.shape[1::-1])
        low = np.clip(np.floor(seen.min(0)) - 3, 0, size - 2).astype(int)
        high = np.clip(np.ceil(seen.max(0)) + 4, low + 2, size).astype(int)
        part = np.ascontiguousarray(self.photo[low[1] : high[1], low[0] : high[0]])
        enlarged = cv2.resize(part, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        # Pixel x of the part is at 2 x + 1/2 in the enlarged part; the same holds for frames.
        to_enlarged = np.array([[2, 0, 0.5 - 2 * low[0]], [0, 2, 0.5 - 2 * low[1]], [0, 0, 1]])
        from_twice = np.array([[0.5, 0, 0.25 - width / 2], [0, 0.5, 0.25 - height / 2], [0, 0, 1]])

        def render(t: int) -> np.ndarray:
            return cv2.warpPerspective(
                enlarged,
                to_enlarged @ self.path[t] @ from_twice,
                (2 * width, 2 * height),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REFLECT,
            )

        return render

    def render(self, height: int, width: int) -> np.ndarray:
        """Its frames, uint8 ``(T, height, width, 3)``."""
        return Scene(self).render(height, width)


@dataclass(frozen=True)
class Scene:
    """A view, optionally with a part of another photograph that moves in front of it.

    Attributes:
        back: the view that fills the frame.
        front: the view in front; ``None`` if there is none.
        outline: float64 ``(N, 2)``, the polygon that is cut out of the photograph in front, as pixels (x, y)
            of that photograph.
    """

    back: View
    front: View | None = None
    outline: np.ndarray | None = None

    def render(self, height: int, width: int) -> np.ndarray:
        """Its frames, uint8 ``(T, height, width, 3)``."""
        back = self.back.renderer(height, width)
        front = self.front.renderer(height, width) if self.front else None
        frames = np.empty((len(self.back.path), height, width, 3), np.uint8)
        for t, frame in enumerate(frames):
            twice = back(t)
            if front is not None and self.front is not None and self.outline is not None:
                place = _transform(np.linalg.inv(self.front.path[t]), self.outline)
                place = 2 * np.add(place, (width / 2, height / 2)) - 0.5
                mask = np.zeros(twice.shape[:2], np.uint8)
                # Coordinates have four fractional bits.
                cv2.fillPoly(mask, [np.rint(16 * place).astype(np.int32)], 255, shift=4)
                cv2.copyTo(front(t), mask, twice)
            cv2.resize(twice, (width, height), dst=frame, interpolation=cv2.INTER_AREA)
        return frames


def draw_clip(
    rng: np.random.Generator, photos: Sequence[np.ndarray], frames: int, height: int, width: int
) -> np.ndarray:
    """Draws a random clip from photographs.

    Args:
        rng: source of all random numbers.
        photos: photographs, uint8 RGB ``(H, W, 3)`` of any size.
        frames: number of frames.
        height, width: size of the frames in pixels.

    Returns:
        uint8 ``(frames, height, width, 3)``.
    """

    def scene() -> np.ndarray:
        return draw_scene(rng, photos, frames, height, width).render(height, width)

    kind = rng.random()
    clip = scene()
    if (kind := kind - CUTS) < 0:
        first = rng.integers(1, frames)
        clip[first:] = scene()[first:]
    elif (kind := kind - DISSOLVES) < 0:
        clip = _blend(clip, scene(), _ramp(rng, frames))
    elif (kind := kind - FADES) < 0:
        color = np.uint8(rng.choice([0, 255]) if rng.random() < 0.8 else rng.integers(256, size=3))
        clip = _blend(clip, np.broadcast_to(color, clip.shape), _ramp(rng, frames))
    elif kind - FLASHES < 0:
        light = np.zeros(frames)
        first = rng.integers(frames)
        light[first : first + rng.integers(1, 3)] = rng.uniform(0.3, 0.9)
        clip = _blend(clip, np.broadcast_to(np.uint8(255), clip.shape), light)
    return clip


def draw_scene(
    rng: np.random.Generator, photos: Sequence[np.ndarray], frames: int, height: int, width: int
) -> Scene:
    """Draws a random scene without cuts; arguments as for :func:`draw_clip`."""
    back = draw_view(rng, photos[int(rng.integers(len(photos)))], frames, height, width)
    if rng.random() >= FRONT:
        return Scene(back)
    photo = photos[int(rng.integers(len(photos)))]
    front = draw_view(rng, photo, frames, height, width)
    # The outline is a circle with a few random waves, somewhere in the middle frame.
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = np.ones_like(angle)
    for wave in range(2, 7):
        radius += rng.normal(0, 0.35 / wave) * np.sin(wave * angle + rng.uniform(0, 2 * np.pi))
    radius *= rng.uniform(0.12, 0.45) * min(height, width)
    middle = rng.uniform(-0.4, 0.4, 2) * (width, height)
    shape = middle + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return Scene(back, front, _transform(front.path[frames // 2], shape))


def draw_view(
    rng: np.random.Generator, photo: np.ndarray, frames: int, height: int, width: int, *, calm: bool = False
) -> View:
    """Draws a smooth path of the camera over a photograph, with zoom, rotation and perspective.

    Args:
        rng, frames, height, width: as for :func:`draw_clip`.
        photo: the photograph, uint8 RGB ``(H, W, 3)``.
        calm: use a hand-held camera of moderate speed, and do not mirror the photograph. Validation needs
            such views; see :func:`rlsp_tf.training.validator.photograph_excerpts`.
    """
    t = np.arange(frames) - (frames - 1) / 2
    speed = 1.5 if calm else rng.choice(SPEEDS, p=SPEED_SHARES)
    way = rng.normal(0, speed, 2) * t[:, None]
    if speed:
        way += rng.normal(0, ACCELERATION, 2) * t[:, None] ** 2 / 2
    if calm or rng.random() < 0.4:
        way += np.cumsum(rng.normal(0, HAND, (frames, 2)), axis=0)
    zoom = np.exp(rng.normal(0, ZOOM) * t) if rng.random() < 0.5 else np.ones(frames)
    angle = np.deg2rad(
        (rng.random() < 0.5) * rng.normal(0, TILT) + (rng.random() < 0.4) * rng.normal(0, TURN) * t
    )
    keystone = np.zeros((frames, 2))
    if rng.random() < 0.3:
        keystone += rng.normal(0, KEYSTONE, 2) + rng.normal(0, KEYSTONE / 10, 2) * t[:, None]
    turned = np.eye(2)
    if not calm:
        turned = turned[:, :: rng.choice([-1, 1])] * rng.choice([-1, 1], 2)
    room = np.array(photo.shape[1::-1])
    # A photograph that is too small for this scale is mirrored beyond its edges.
    scale = max(0.5, min(rng.uniform(*SCALES), 0.9 * min(room / (width, height))))
    cosine, sine = np.cos(angle) * zoom * scale, np.sin(angle) * zoom * scale
    path = np.zeros((frames, 3, 3))
    path[:, :2, :2] = turned @ np.moveaxis(np.array([[cosine, -sine], [sine, cosine]]), 2, 0)
    path[:, :2, 2] = scale * way
    path[:, 2, :2] = keystone
    path[:, 2, 2] = 1
    corners = np.array([[x, y] for x in (-width / 2, width / 2) for y in (-height / 2, height / 2)])
    seen = np.concatenate([_transform(each, corners) for each in path])
    place = _draw_place(rng, photo, -seen.min(0), room - 1 - seen.max(0), np.ptp(seen, axis=0))
    move = np.eye(3)
    move[:2, 2] = place
    return View(photo, move @ path)


def _draw_place(
    rng: np.random.Generator, photo: np.ndarray, low: np.ndarray, high: np.ndarray, size: np.ndarray
) -> np.ndarray:
    """Draws a place (x, y) between two others, with much detail around it; their middle if they are close."""
    middle = (low + high) / 2
    low, high = np.minimum(low, middle), np.maximum(high, middle)
    low, high = np.where(high - low < 1, middle, low), np.where(high - low < 1, middle, high)
    best, most = middle, -1.0
    for place in rng.uniform(low, high, (rng.integers(1, CANDIDATES + 1), 2)):
        x, y = np.maximum(place - size / 4, 0).astype(int)
        part = photo[y : y + int(size[1] / 2) + 2 : 2, x : x + int(size[0] / 2) + 2 : 2, 1].astype(np.int16)
        detail = float(np.abs(np.diff(part, axis=1)).mean()) if part.shape[1] > 1 and len(part) else 0.0
        if detail > most:
            best, most = place, detail
    return best


def _transform(homography: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Applies a homography ``(3, 3)`` to points ``(N, 2)``."""
    mapped = points @ homography[:, :2].T + homography[:, 2]
    return mapped[:, :2] / mapped[:, 2:]


def _ramp(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Draws a ramp ``(frames,)`` from 0 to 1 or from 1 to 0, which may begin or end outside the clip."""
    first, last = np.sort(rng.uniform(-0.5 * frames, 1.5 * frames, 2))
    ramp = np.interp(np.arange(frames), [first, last + 1e-6], [0.0, 1.0])
    return ramp[:: rng.choice([-1, 1])]


def _blend(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Mixes two clips; ``share`` is that of the second clip in each frame, ``(T,)`` in 0..1."""
    weight = share.astype(np.float32)[:, None, None, None]
    return np.rint(first + weight * (second.astype(np.float32) - first)).astype(np.uint8)
