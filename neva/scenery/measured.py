"""The truth about real clips, measured with OpenCV's optical flow; what is in doubt is None and is not scored.

A window's frames are followed at the clip's own frame rate: corners are tracked from frame to frame, and the similarity
that most of them agree on is the camera's. Added up between the eight frames that the model sees, this is the camera's
path. What moves by itself is where the aligned frames still flow. All distances are in sides of the centre square.

| | said from | doubtful |
|---|---|---|
| still | the path stays within 0.02 and grows by less than 3 % | up to what follows |
| pans | 0.10 from end to end, 1.5 times as far along one axis as along the other, growing by less than 12 % | |
| zooms | 15 % from end to end, and less than 0.10 of movement | |
| shakes | 0.015 root mean square about the trend, and less than 0.06 from end to end | |
| nothing else, something, much | below 0.6 % as in drawn clips, 3 % to 30 %, from 38 % of the picture | between |
| where | as drawn clips have it: within 0.15 of the middle, from 0.21 at a side | between |
| a cut | fewer than a quarter of the corners agree, and the colours' histograms differ | |
"""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from neva.scenery.compose import NOTHING_BELOW, movement_of
from neva.scenery.statements import Statements

_SIDE = 192  # of the frames that are measured
_STILL, _STILL_GROWTH = 0.02, 0.03
_PAN, _ALONG, _PAN_GROWTH = 0.10, 1.5, 0.113
_ZOOM, _ZOOM_DRIFT = 0.14, 0.10
_SHAKE, _SHAKE_DRIFT = 0.015, 0.06
_MOVES = 0.012  # from one of the eight frames to the next
_NOTHING, _SOMETHING, _MUCH = NOTHING_BELOW, (0.03, 0.30), 0.38
_AGREEING, _ALIKE = 0.25, 0.6
_FADED, _SHOWN = 14.0, 40.0  # mean luma of a frame that is black, and of one that is not


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of a window; a None is in doubt."""

    transition: str | None
    black: bool
    camera: str | None
    movement: str | None

    def statements(self) -> Statements:
        """Return the truth as statements, with what is in doubt left as it is by default."""
        return Statements(
            camera=self.camera or "still",
            movement=self.movement or "nothing",
            transition=self.transition or "none",
            black=self.black,
        )

    @property
    def doubtful(self) -> set[str]:
        """The kinds of statement that are not scored."""
        return {kind for kind in ("transition", "camera", "movement") if getattr(self, kind) is None}


def measure_window(frames: list[NDArray[np.uint8]], shown: list[int]) -> Truth:
    """Return the truth about the ``uint8[S, S, 3]`` frames of a window, of which the model sees those in ``shown``."""
    colour = [np.asarray(cv2.resize(frame, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.uint8) for frame in frames]
    grey = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8) for frame in colour]
    luma = np.array([float(grey[at].mean()) for at in shown])
    if luma.max() < _FADED:
        return Truth("none", True, None, None)
    if min(luma[0], luma[-1]) < _FADED and luma.max() > _SHOWN:
        falls = bool(luma[-1] < luma[0])
        even = np.all(np.diff(luma) * (-1 if falls else 1) > -3)
        return Truth(("fade out" if falls else "fade in") if even else None, False, None, None)
    steps, cut = _camera_steps(grey, colour, shown)
    if cut:
        return Truth("cut", False, None, None)
    if steps is None:
        return Truth("none", False, None, None)
    return Truth("none", False, _camera(steps), _movement([grey[at] for at in shown], steps))


def _camera_steps(
    grey: list[NDArray[np.uint8]], colour: list[NDArray[np.uint8]], shown: list[int]
) -> tuple[list[NDArray[np.float64]] | None, bool]:
    """Return the similarity from each shown frame to the next, ``float[3, 3]``, and whether there is a cut.

    Instead of the similarities None is returned where one is not to be had.
    """
    steps, lost = [], False
    for first, last in pairwise(shown):
        whole = np.eye(3)
        for at in range(first, last):
            step, agreeing = _similarity(grey[at], grey[at + 1])
            if agreeing < _AGREEING and _histograms_differ(colour[at], colour[at + 1]):
                return None, True
            lost |= step is None
            if step is not None:
                whole = step @ whole
        steps.append(whole)
    return None if lost else steps, False


def _similarity(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> tuple[NDArray[np.float64] | None, float]:
    """Return the similarity that most corners follow, and the share of them that do."""
    corners = cv2.goodFeaturesToTrack(before, 200, 0.01, 5)
    if corners is None or len(corners) < 12:
        return None, 1.0
    moved, found, _ = cv2.calcOpticalFlowPyrLK(
        before, after, corners, np.empty_like(corners), winSize=(21, 21), maxLevel=4
    )
    kept = found.ravel() == 1
    if kept.sum() < 12:
        return None, 0.0
    matrix, inliers = cv2.estimateAffinePartial2D(corners[kept], moved[kept], ransacReprojThreshold=1.0)
    if matrix is None:
        return None, 0.0
    return np.vstack([matrix, [0, 0, 1]]), float(inliers.sum()) / len(corners)


def _histograms_differ(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> bool:
    one, two = (cv2.calcHist([frame], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3).ravel() for frame in (before, after))
    return bool(np.minimum(one, two).sum() / one.sum() < _ALIKE)


def _camera(steps: list[NDArray[np.float64]]) -> str | None:
    """Return the name of the camera's path; None where it is in doubt."""
    centre = np.array([_SIDE / 2, _SIDE / 2, 1])
    moved = np.array([(step @ centre - centre)[:2] / _SIDE for step in steps])
    growth = np.array([np.log(np.hypot(step[0, 0], step[1, 0])) for step in steps])
    path = np.concatenate([np.zeros((1, 2)), -np.cumsum(moved, axis=0)])  # the camera goes against the picture
    net, grown = path[-1], float(growth.sum())
    trend = np.linspace(0, 1, len(path))[:, None] * net
    shake = float(np.sqrt(((path - trend - (path - trend).mean(axis=0)) ** 2).sum(axis=1).mean()))
    along, across = sorted(np.abs(net))[::-1]
    if np.abs(path).max() < _STILL and abs(grown) < _STILL_GROWTH:
        return "still"
    if along >= _PAN and along >= _ALONG * across and abs(grown) < _PAN_GROWTH:
        horizontal = abs(net[0]) >= abs(net[1])
        return ("right" if net[0] > 0 else "left") if horizontal else ("down" if net[1] > 0 else "up")
    if abs(grown) >= _ZOOM and along < _ZOOM_DRIFT:
        return "in" if grown > 0 else "out"
    if shake >= _SHAKE and along < _SHAKE_DRIFT and abs(grown) < _PAN_GROWTH:
        return "shakes"
    return None


def _movement(shown: list[NDArray[np.uint8]], steps: list[NDArray[np.float64]]) -> str | None:
    """Return how much moves by itself and where; None where it is in doubt."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    moving = np.zeros((_SIDE, _SIDE))
    seen = np.zeros((_SIDE, _SIDE))
    for before, after, step in zip(shown, shown[1:], steps, strict=False):
        aligned = cv2.warpAffine(before, step[:2], (_SIDE, _SIDE))
        inside = cv2.erode(cv2.warpAffine(np.ones_like(before), step[:2], (_SIDE, _SIDE)), np.ones((9, 9)))
        rest = np.hypot(*np.moveaxis(flow.calc(aligned, after, np.zeros((_SIDE, _SIDE, 2), np.float32)), 2, 0)) / _SIDE
        moving += (rest >= _MOVES) & (inside > 0)
        seen += inside > 0
    share = moving / np.maximum(seen, 1)
    return movement_of(share[:: _SIDE // 64, :: _SIDE // 64], _NOTHING, _SOMETHING, _MUCH)
