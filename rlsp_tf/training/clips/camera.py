"""A virtual camera that moves over photographs, and makes clips of them as sharp as they are.

A photograph has more detail than the frames of most videos, because no codec has seen it and nothing in it
moved. What moves here is the camera, by fractions of a pixel, and what it sees is known exactly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

SCALES = (1.0, 1.7)
"""Pixels of a photograph for one of a frame: at least one, where it is large enough, so that frames are
sharp."""
SPEEDS = (0.0, 0.6, 1.5, 3.5, 8.0)
"""Standard deviations of the velocity of a camera, in pixels of a frame, of which one is drawn."""
SPEED_SHARES = (0.08, 0.28, 0.32, 0.26, 0.06)
ACCELERATION = 0.1
ZOOM = 0.006
"""Standard deviation of the logarithm by which the scale changes from frame to frame."""
TILT = 6.0
TURN = 0.35
"""Standard deviations of how far a camera is tilted, and turns from frame to frame, in degrees."""
KEYSTONE = 3e-4
"""Standard deviation of the perspective, as the change of scale per pixel of a frame."""
HAND = 0.35
"""Standard deviation of what an unsteady hand adds from frame to frame, in pixels of a frame."""
FRONT = 0.3
"""Share of scenes in which a part of another photograph moves in front of the first one."""
CUTS, DISSOLVES, FADES, FLASHES = 0.03, 0.03, 0.03, 0.02
"""Shares of clips with a cut, a dissolve to another scene, a fade from or to one colour, and a flash."""
CANDIDATES = 3
"""Places tried at most, of which that with the most detail is taken."""


@dataclass(frozen=True)
class View:
    """What a camera sees of a photograph over time.

    Attributes:
        photo: uint8 RGB ``(H, W, 3)``.
        path: float64 ``(T, 3, 3)`` homographies from pixel (x, y) of a frame, counted from the frame's
            middle, to pixel (x, y) of the photograph.
    """

    photo: np.ndarray
    path: np.ndarray

    def renderer(self, height: int, width: int) -> Callable[[int], np.ndarray]:
        """Gives what renders frame t at twice the height and width, as uint8 ``(2 height, 2 width, 3)``.

        The part of the photograph that is seen is enlarged twice by cubic interpolation, once for all
        frames. Linear interpolation loses next to nothing of that, and is quick. What lies beyond the
        photograph is its mirror image.
        """
        corners = np.array([[x, y] for x in (-width / 2, width / 2) for y in (-height / 2, height / 2)])
        seen = np.concatenate([_transform(each, corners) for each in self.path])
        size = np.array(self.photo.shape[1::-1])
        low = np.clip(np.floor(seen.min(0)) - 3, 0, size - 2).astype(int)
        high = np.clip(np.ceil(seen.max(0)) + 4, low + 2, size).astype(int)
        part = np.ascontiguousarray(self.photo[low[1] : high[1], low[0] : high[0]])
        enlarged = cv2.resize(part, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        # Pixel x of the part is pixel 2 x + 1/2 of the enlarged one, and the same holds for frames.
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
    """A view, and perhaps a part of another photograph in front of it.

    Attributes:
        back: what fills the frame.
        front: what is in front.
        outline: ``(N, 2)`` pixels (x, y) of the photograph in front: the polygon that is cut out of it.
            It moves as its photograph does.
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
                # Sixteenths of a pixel.
                cv2.fillPoly(mask, [np.rint(16 * place).astype(np.int32)], 255, shift=4)
                cv2.copyTo(front(t), mask, twice)
            cv2.resize(twice, (width, height), dst=frame, interpolation=cv2.INTER_AREA)
        return frames


def draw_clip(
    rng: np.random.Generator, photos: Sequence[np.ndarray], frames: int, height: int, width: int
) -> np.ndarray:
    """A random clip of random photographs.

    Args:
        rng: draws everything.
        photos: uint8 RGB ``(H, W, 3)``, of any size.
        frames: of the clip.
        height, width: of its frames.

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
    """A random scene without cuts; see :func:`draw_clip`."""
    back = draw_view(rng, photos[int(rng.integers(len(photos)))], frames, height, width)
    if rng.random() >= FRONT:
        return Scene(back)
    photo = photos[int(rng.integers(len(photos)))]
    front = draw_view(rng, photo, frames, height, width)
    # A round shape of a few waves, somewhere in the middle frame.
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
    """A camera's way over a photograph: smooth, in any direction, with zooms, turns and perspective.

    Args:
        rng, frames, height, width: see :func:`draw_clip`.
        photo: what to see.
        calm: a hand-held camera that neither stands still nor rushes, not mirrored and not turned by
            quarters, as in :class:`rlsp_tf.training.validator.Validator`.
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
    # Of a photograph that is too small for that, the mirror image is seen beyond its edges.
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
    """A place (x, y) between two, with much to be seen around it; the middle where there is no room."""
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
    mapped = points @ homography[:, :2].T + homography[:, 2]
    return mapped[:, :2] / mapped[:, 2:]


def _ramp(rng: np.random.Generator, frames: int) -> np.ndarray:
    """From 0 to 1 or the other way round, within a clip or partly beyond its ends."""
    first, last = np.sort(rng.uniform(-0.5 * frames, 1.5 * frames, 2))
    ramp = np.interp(np.arange(frames), [first, last + 1e-6], [0.0, 1.0])
    return ramp[:: rng.choice([-1, 1])]


def _blend(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Both clips mixed, with the share of the second one in every frame."""
    weight = share.astype(np.float32)[:, None, None, None]
    return np.rint(first + weight * (second.astype(np.float32) - first)).astype(np.uint8)
