"""Paths of a camera over a picture: where it looks in each of a clip's frames.

A view is a centre and a side, in fractions of the picture's shorter side; a path's steps are in fractions of the view.
Paths are drawn so that their name is beyond doubt in the frames: between a camera that is still and the slowest pan
lies a band that no path is drawn from.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STILL_DRIFT = 0.008  # most that a still camera drifts over the clip, of the view
LEAST_PAN, MOST_STEP = 0.12, 0.13  # over the whole clip; from frame to frame
LEAST_ZOOM, MOST_ZOOM = 1.22, 2.4  # the ratio of the sides
LEAST_SHAKE, MOST_SHAKE = 0.02, 0.07  # root mean square of the places, without a trend
_PANS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True, slots=True)
class Path:
    """``places`` is ``float[F, 2]`` of the view's side at the start, ``sides`` is ``float[F]`` of the same."""

    camera: str
    places: NDArray[np.float64]
    sides: NDArray[np.float64]


def draw_path(rng: np.random.Generator, camera: str, frames: int) -> Path:
    """Return a path of the kind ``camera``, a key of ``CAMERAS``, that begins at 0, 0 with a side of 1."""
    places, sides = np.zeros((frames, 2)), np.ones(frames)
    progress = _progress(rng, frames)
    if camera == "still":
        if rng.random() < 0.4:
            places += rng.uniform(-STILL_DRIFT, STILL_DRIFT, 2) / 2 * progress[:, None]
    elif camera in _PANS:
        steepest = np.abs(np.diff(progress)).max()
        most = max(LEAST_PAN, MOST_STEP / steepest)
        length = np.exp(rng.uniform(np.log(LEAST_PAN), np.log(most)))
        along = np.array(_PANS[camera], dtype=float)
        across = along[::-1] * rng.uniform(-0.4, 0.4) * (rng.random() < 0.6)
        places = progress[:, None] * length * (along + across) + rng.normal(0, 0.002, (frames, 2))
    elif camera in {"in", "out"}:
        ratio = np.exp(rng.uniform(np.log(LEAST_ZOOM), np.log(MOST_ZOOM)))
        sides = ratio ** (-progress if camera == "in" else progress)
        places = progress[:, None] * rng.uniform(-0.03, 0.03, 2)
    else:
        places = rng.normal(size=(frames, 2)) * np.array([1, rng.uniform(0.6, 1.2)])[:: rng.choice([-1, 1])]
        trend = np.linspace(-0.5, 0.5, frames)[:, None]
        places -= places.mean(axis=0) + trend * (trend * places).sum(axis=0) / (trend**2).sum()
        places *= rng.uniform(LEAST_SHAKE, MOST_SHAKE) / np.sqrt((places**2).sum(axis=1).mean())
        places = np.clip(places, -0.13, 0.13)
    return Path(camera, places, sides)


def _progress(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """Return the share of the way at each frame, 0 to 1: even, or slow at an end, or only part of the time."""
    time = np.linspace(0, 1, frames)
    kind = rng.random()
    if kind < 0.5:
        return time
    if kind < 0.8:
        power = rng.uniform(0.6, 1.7)
        return time**power if rng.random() < 0.5 else 1 - (1 - time) ** power
    begin, end = (0, rng.uniform(0.55, 1)) if rng.random() < 0.5 else (rng.uniform(0, 0.45), 1)
    return np.clip((time - begin) / (end - begin), 0, 1)
