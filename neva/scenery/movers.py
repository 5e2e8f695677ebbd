"""Things that move before a scene: cut out of pictures, each on a path of its own."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from neva.scenery.camera import Path
from neva.scenery.photographs import Photograph

LEAST_STEP = 0.010  # a thing that moves less than this from frame to frame against the scene does not count as moving
_SPRITE_PX = 48


@dataclass(frozen=True, slots=True)
class Mover:
    """A thing that moves.

    ``sprite`` is ``float32[P, P, 4]`` with its opacity; ``places`` and ``sizes``, ``float[F, 2]``, are its centre, from
    -0.5 to 0.5, and its extent in the picture.
    """

    sprite: NDArray[np.float32]
    places: NDArray[np.float64]
    sizes: NDArray[np.float64]


def draw_mover(
    rng: np.random.Generator,
    picture: Photograph,
    path: Path,
    shares: tuple[float, float],
    about: NDArray[np.float64] | None = None,
) -> Mover:
    """Return a thing that moves while the camera takes ``path``, its size between two shares of the view's side.

    It is anywhere, or near the place ``about``, ``float[2]``.
    """
    frames = len(path.sides)
    extent = np.exp(rng.uniform(*np.log(shares))) * np.array([1.0, np.exp(rng.uniform(-0.6, 0.6))])
    start = rng.uniform(-0.5, 0.5, 2) * 0.9 if about is None else about + rng.normal(0, 0.12, 2)
    own = _own_motion(rng, frames)
    if rng.random() < 0.6:  # it moves in the scene; otherwise the camera goes along with it
        sides = path.sides[:, None]
        places, sizes = (start + own - path.places) / sides, extent / sides
    else:
        places, sizes = start + own, np.broadcast_to(extent, (frames, 2)).copy()
    return Mover(_draw_sprite(rng, picture), places, sizes)


def _own_motion(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """Return ``float[F, 2]``: straight on, to and fro, or anyhow."""
    speed = np.exp(rng.uniform(np.log(0.018), np.log(0.11)))
    angle = rng.uniform(0, 2 * np.pi)
    along = np.array([np.cos(angle), 0.6 * np.sin(angle)])
    along /= np.hypot(*along)
    time = np.arange(frames)
    kind = rng.random()
    if kind < 0.6:
        return np.asarray((time - rng.uniform(0, frames - 1))[:, None] * speed * along)
    if kind < 0.8:
        period = rng.uniform(3, 9)
        wave = np.sin(2 * np.pi * (time / period + rng.random())) * speed * period / 4
        return np.asarray(wave[:, None] * along)
    steps = rng.normal(size=(frames, 2)) * speed
    return np.asarray(np.cumsum(steps, axis=0) * 0.8)


def _draw_sprite(rng: np.random.Generator, picture: Photograph) -> NDArray[np.float32]:
    """Return a piece of the picture, or a plain thing, with the outline of an ellipse, a box or a blob."""
    size = picture.sizes[rng.integers(len(picture.sizes) // 2, len(picture.sizes))]
    y, x = (rng.integers(0, max(1, side - _SPRITE_PX)) for side in size.shape[:2])
    piece = cv2.resize(size[y : y + _SPRITE_PX, x : x + _SPRITE_PX], (_SPRITE_PX, _SPRITE_PX)).astype(np.float32)
    if rng.random() < 0.35:
        piece = 0.25 * piece + 0.75 * rng.uniform(0, 255, 3).astype(np.float32)
    piece = np.clip((piece - 128) * rng.uniform(0.8, 1.4) + 128 + rng.uniform(-60, 60), 0, 255)
    along = np.linspace(-1, 1, _SPRITE_PX)
    angle = np.arctan2(along[:, None], along[None, :])
    kind, radius = rng.random(), np.hypot(along[:, None], along[None, :])
    if kind < 0.25:
        radius = np.maximum(np.abs(along[:, None]), np.abs(along[None, :]))
    elif kind < 0.75:
        lobes, turn = rng.integers(2, 6), rng.uniform(0, 2 * np.pi)
        radius = radius / (0.8 + 0.2 * np.sin(lobes * angle + turn))
    opacity = np.clip((0.97 - radius) * 10, 0, 1)
    return np.dstack([piece, opacity]).astype(np.float32)


def paste(frame: NDArray[np.float32], mover: Mover, index: int) -> NDArray[np.float32]:
    """Draw the mover into ``frame`` of ``float32[S, S, 3]``; return how opaque it is at each pixel."""
    side = len(frame)
    scale = mover.sizes[index] * side / _SPRITE_PX
    centre = (mover.places[index] + 0.5) * side - 0.5
    shift = centre - scale * (_SPRITE_PX - 1) / 2
    sprite = mover.sprite
    while scale.max() < 0.6 and len(sprite) > 8:  # smaller first, so that no pixel is skipped
        smaller = cv2.resize(sprite, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        sprite = np.asarray(smaller, dtype=np.float32)
        scale = scale * 2
    matrix = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
    drawn = cv2.warpAffine(sprite, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0, 0))
    opacity = drawn[..., 3]
    frame *= 1 - opacity[..., None]
    frame += drawn[..., :3] * opacity[..., None]
    return np.asarray(opacity, dtype=np.float32)
