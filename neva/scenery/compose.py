"""Synthetic clips: a camera's path over a picture, things that move before it, light, noise, cuts and fades.

A clip is drawn at the size that the tower sees, with everything that is true of it. The camera and the movers are
chosen so that what is said of them is beyond doubt; light and colours are measured on the finished frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from neva.scenery.camera import Path, draw_path
from neva.scenery.light import measure
from neva.scenery.movers import LEAST_STEP, Mover, draw_mover, paste
from neva.scenery.photographs import Photograph
from neva.scenery.statements import CAMERAS, Statements

SIDE_PX, CELLS = 64, 4  # of a frame, and the cells along it that the dense labels are given for
NOTHING_BELOW, SOMETHING, MUCH_FROM = 0.006, (0.025, 0.28), 0.38  # the share of the picture that moves
MIDDLE_WITHIN, ASIDE_FROM = 0.15, 0.21  # how far from the centre that is, in frames
_MANY = 0.35  # of clips in which something moves have many small things
_TEXTURED = 11.0  # the standard deviation of luma that a camera's movement needs to be seen
_CUT_DIFFERENCE = 24.0


@dataclass(slots=True)
class SceneClip:
    """A clip with all that is known of it.

    ``frames`` is ``uint8[F, S, S, 3]``. ``motion`` is ``float[F, 4]``: how the scene moved across the picture since
    the frame before, by how much it grew (as a logarithm), and whether it was another scene. ``flow`` is
    ``float[F, C, C, 3]``: the movement of each cell since the frame before, and the share of it that moves by itself.
    """

    frames: NDArray[np.uint8]
    statements: Statements
    motion: NDArray[np.float32]
    flow: NDArray[np.float32]


def draw_clip(rng: np.random.Generator, pictures: Sequence[Photograph], frames: int = 8) -> SceneClip:
    """Return a random clip over ``pictures``."""
    while True:
        kind = rng.random()
        clip = (
            _black(rng, frames)
            if kind < 0.03
            else _with_cut(rng, pictures, frames)
            if kind < 0.12
            else _with_fade(rng, pictures, frames)
            if kind < 0.26
            else _steady(rng, pictures, frames)
        )
        if clip is None:
            continue
        if not clip.statements.black:
            seen = measure(clip.frames)
            clip.statements = replace(clip.statements, light=seen.light, colours=seen.colours)
        return clip


def _black(rng: np.random.Generator, frames: int) -> SceneClip:
    level = rng.uniform(0, 9) + rng.normal(0, rng.uniform(0, 2.5), (frames, SIDE_PX, SIDE_PX, 3))
    return SceneClip(
        np.clip(level, 0, 30).astype(np.uint8),
        Statements(black=True),
        np.zeros((frames, 4), np.float32),
        np.zeros((frames, CELLS, CELLS, 3), np.float32),
    )


def _steady(rng: np.random.Generator, pictures: Sequence[Photograph], frames: int) -> SceneClip | None:
    camera = str(rng.choice(list(CAMERAS), p=[0.2, 0.11, 0.11, 0.11, 0.11, 0.11, 0.11, 0.14]))
    much = rng.random()
    wanted = "nothing" if much < 0.34 else "much" if much > 0.87 else "something"
    shown = _render(rng, pictures, draw_path(rng, camera, frames), wanted)
    if shown is None:
        return None
    scene, motion, flow, moving = shown
    movement = movement_of(moving, NOTHING_BELOW, SOMETHING, MUCH_FROM)
    if movement is None:
        return None
    return SceneClip(_lit(rng, scene), Statements(camera=camera, movement=movement), motion, flow)


def _with_cut(rng: np.random.Generator, pictures: Sequence[Photograph], frames: int) -> SceneClip | None:
    """Return two or three scenes, one after another."""
    count = 2 + int(rng.random() < 0.25)
    cuts = [0, *sorted(rng.choice(np.arange(1, frames), count - 1, replace=False)), frames]
    parts = [_any_scene(rng, pictures, frames) for _ in range(count)]
    whole = _any_scene(rng, pictures, frames)
    for part, begin, end in zip(parts, cuts, cuts[1:], strict=False):
        for mine, theirs in zip(whole, part, strict=True):
            mine[begin:end] = theirs[begin:end]
    scene, motion, flow, _ = whole
    small = scene.reshape(frames, 8, SIDE_PX // 8, 8, SIDE_PX // 8, 3).mean(axis=(2, 4))
    if any(np.abs(small[cut] - small[cut - 1]).mean() < _CUT_DIFFERENCE for cut in cuts[1:-1]):
        return None
    motion[cuts[1:-1]], flow[cuts[1:-1]] = (0, 0, 0, 1), 0
    return SceneClip(_lit(rng, scene), Statements(transition="cut"), motion, flow)


def _with_fade(rng: np.random.Generator, pictures: Sequence[Photograph], frames: int) -> SceneClip | None:
    scene, motion, flow, _ = _any_scene(rng, pictures, frames)
    shown = _lit(rng, scene)
    if measure(shown).luma < 40:
        return None
    rising = np.clip(np.arange(frames) / (frames - 1) / rng.uniform(0.4, 1.0), 0, 1)
    if begins := int(rng.random() < 0.4):
        rising = np.concatenate([np.zeros(begins), rising[:-begins]])
    into = rng.random() < 0.5
    gain = (rising if into else rising[::-1])[:, None, None, None]
    transition = "fade in" if into else "fade out"
    return SceneClip((shown * gain).astype(np.uint8), Statements(transition=transition), motion, flow)


Rendered = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def _any_scene(rng: np.random.Generator, pictures: Sequence[Photograph], frames: int) -> Rendered:
    while True:
        camera = "still" if rng.random() < 0.5 else str(rng.choice(list(CAMERAS)))
        wanted = "nothing" if rng.random() < 0.6 else "something"
        if shown := _render(rng, pictures, draw_path(rng, camera, frames), wanted):
            return shown


def _render(rng: np.random.Generator, pictures: Sequence[Photograph], path: Path, wanted: str) -> Rendered | None:
    """Return frames, motion, flow and, for each pixel, how much of the time something moves there."""
    scene = _background(rng, _picture(rng, pictures), path)
    if scene is None:
        return None
    frames = len(path.sides)
    movers = draw_movers(rng, pictures, path, wanted)
    motion, flow = _scene_motion(path)
    opacity = np.zeros((frames, SIDE_PX, SIDE_PX), np.float32)
    for index in range(frames):
        for mover in movers:
            drawn = paste(scene[index], mover, index)
            step = mover.places[index] - mover.places[index - 1] if index else np.zeros(2)
            against = step - _shift_at(path, mover.places[index], index)
            if index and np.hypot(*against) >= LEAST_STEP:
                opacity[index] = np.maximum(opacity[index], drawn)
                share = _cells(drawn)
                flow[index, ..., :2] += share[..., None] * (step - flow[index, ..., :2])
    flow[..., 2] = [_cells(frame) for frame in opacity]
    return scene, motion, flow, opacity[1:].mean(axis=0)


def draw_movers(rng: np.random.Generator, pictures: Sequence[Photograph], path: Path, wanted: str) -> list[Mover]:
    """Return nothing, a few things, or many small ones near each other, as people seen from far away are."""
    if wanted == "something" and rng.random() < _MANY:
        about = rng.uniform(-0.45, 0.45, 2)
        return [draw_mover(rng, _picture(rng, pictures), path, (0.06, 0.18), about) for _ in range(rng.integers(3, 10))]
    count = {"nothing": 0, "something": int(rng.integers(1, 4)), "much": 3}[wanted]
    sizes = (0.5, 0.9) if wanted == "much" else (0.16, 0.5)
    return [draw_mover(rng, _picture(rng, pictures), path, sizes) for _ in range(count)]


def _picture(rng: np.random.Generator, pictures: Sequence[Photograph]) -> Photograph:
    return pictures[int(rng.integers(len(pictures)))]


def _background(rng: np.random.Generator, picture: Photograph, path: Path) -> NDArray[np.float32] | None:
    """Return what the camera sees of the picture, ``float32[F, S, S, 3]``; None where the path does not fit on it."""
    low = (path.places - path.sides[:, None] / 2).min(axis=0)
    high = (path.places + path.sides[:, None] / 2).max(axis=0)
    height, width = picture.sizes[0].shape[:2]
    short = min(height, width)
    room = np.array([width, height]) / short / (high - low)
    view = min(room.min(), 1.0) * rng.uniform(0.45, 1.0)
    if view * short < 0.7 * SIDE_PX:
        return None
    size = picture.for_scale(view * float(np.exp(np.log(path.sides).mean())), SIDE_PX)
    side = view * min(size.shape[:2])  # of the view at the start, in pixels of this size
    corner = rng.uniform(0, 1, 2) * (np.array(size.shape[1::-1]) - (high - low) * side) - low * side
    shown = np.empty((len(path.sides), SIDE_PX, SIDE_PX, 3), np.float32)
    for index, (place, zoom) in enumerate(zip(path.places, path.sides, strict=True)):
        scale = zoom * side / SIDE_PX
        first = corner + place * side - scale * (SIDE_PX - 1) / 2
        matrix = np.array([[scale, 0, first[0] - 0.5], [0, scale, first[1] - 0.5]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        shown[index] = cv2.warpAffine(size, matrix, (SIDE_PX, SIDE_PX), flags=flags, borderMode=cv2.BORDER_REFLECT)
    if path.camera != "still" and shown.mean(axis=-1).std(axis=(1, 2)).min() < _TEXTURED:
        return None
    return shown


def _shift_at(path: Path, place: NDArray[np.float64], index: int) -> NDArray[np.float64]:
    """Return how far the scene at ``place[..., 2]`` of the picture moved since the frame before."""
    if index == 0:
        return np.zeros_like(place)
    before = (path.places[index] + path.sides[index] * place - path.places[index - 1]) / path.sides[index - 1]
    return np.asarray(place - before)


def _scene_motion(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    frames = len(path.sides)
    motion = np.zeros((frames, 4), np.float32)
    flow = np.zeros((frames, CELLS, CELLS, 3), np.float32)
    middles = (np.arange(CELLS) + 0.5) / CELLS - 0.5
    grid = np.stack(np.meshgrid(middles, middles), axis=-1)
    for index in range(1, frames):
        motion[index, :2] = _shift_at(path, np.zeros(2), index)
        motion[index, 2] = np.log(path.sides[index - 1] / path.sides[index])
        flow[index, ..., :2] = _shift_at(path, grid, index)
    return motion, flow


def _cells(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(pixels.reshape(CELLS, SIDE_PX // CELLS, CELLS, SIDE_PX // CELLS).mean(axis=(1, 3)))


def movement_of(
    moving: NDArray[np.floating], nothing: float, something: tuple[float, float], much: float
) -> str | None:
    """Return the name of how much of ``float[S, S]`` moves where; None where that is in doubt."""
    share = float(moving.mean())
    if share < nothing:
        return "nothing"
    if share >= much:
        return "much"
    if not something[0] <= share <= something[1]:
        return None
    middles = (np.arange(len(moving)) + 0.5) / len(moving) - 0.5
    x = float((moving.sum(axis=0) * middles).sum() / moving.sum())
    y = float((moving.sum(axis=1) * middles).sum() / moving.sum())
    if max(abs(x), abs(y)) < MIDDLE_WITHIN:
        return "middle"
    if max(abs(x), abs(y)) < ASIDE_FROM or min(abs(x), abs(y)) > 0.75 * max(abs(x), abs(y)):
        return None
    if abs(x) > abs(y):
        return "left" if x < 0 else "right"
    return "top" if y < 0 else "bottom"


def _lit(rng: np.random.Generator, scene: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the frames in a random light: colourful or not, dark to bright, steady or not, with a camera's noise."""
    luma = scene.mean(axis=-1, keepdims=True)
    colourful = rng.random()
    scene = luma + (scene - luma) * (0.0 if colourful < 0.06 else rng.uniform(0.6, 1.7))
    gain = np.full(3, rng.uniform(25, 165) / max(8.0, float(luma.mean())) if rng.random() < 0.75 else 1.0)
    if rng.random() < 0.5:
        gain = gain * rng.uniform(0.92, 1.08, 3)
    steady = np.ones((len(scene), 1, 1, 1))
    if rng.random() < 0.15:
        steady = (1 + np.linspace(-1, 1, len(scene)) * rng.uniform(-0.15, 0.15))[:, None, None, None]
    elif rng.random() < 0.1:
        steady = 1 + rng.normal(0, 0.03, steady.shape)
    lit = scene * np.clip(gain, 0.15, 3.0) * steady
    if rng.random() < 0.6:
        lit = lit + rng.normal(0, rng.uniform(0.3, 3.5), scene.shape)
    return np.asarray(np.clip(lit, 0, 255), dtype=np.uint8)
