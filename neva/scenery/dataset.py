"""Scene clips as training data: drawn once, kept in one file, turned about at random when they are used."""

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from neva.scenery.compose import CELLS, SIDE_PX, SceneClip, draw_clip
from neva.scenery.light import measure
from neva.scenery.photographs import Photograph, draw_texture, load_photographs
from neva.scenery.statements import CAMERAS, COLOURS, LIGHTS, MOVEMENTS, PLACES, TRANSITIONS, Statements

TRAINING_SEED, HELD_OUT_SEED = 1, 2
_TEXTURES = 48  # pictures of noise beside the photographs
_CHUNK = 64
_MADE_BY = "scenes 2"  # to be changed when a seed gives other pixels

_held: list[Photograph] = []  # in a process that makes clips

_NOTHING, _STEADY = list(MOVEMENTS).index("nothing"), list(TRANSITIONS).index("none")
_SPECKLED = 0.6

_SIDEWAYS = {"left": "right", "right": "left"}
_UPSIDE_DOWN = {"up": "down", "down": "up", "top": "bottom", "bottom": "top"}
_BACKWARDS = {"left": "right", "right": "left", "up": "down", "down": "up", "in": "out", "out": "in"}
_FADES = {"fade in": "fade out", "fade out": "fade in"}


def _turned(table: Sequence[str], turn: dict[str, str]) -> NDArray[np.int64]:
    names = list(table)
    return np.array([names.index(turn.get(name, name)) for name in names])


_CAMERA_TURNS = tuple(_turned(list(CAMERAS), turn) for turn in (_SIDEWAYS, _UPSIDE_DOWN, _BACKWARDS))
_MOVEMENT_TURNS = tuple(_turned(list(MOVEMENTS), turn) for turn in (_SIDEWAYS, _UPSIDE_DOWN, {}))
_TRANSITION_TURNS = tuple(_turned(list(TRANSITIONS), turn) for turn in ({}, {}, _FADES))


@dataclass(slots=True)
class SceneClips:
    """``N`` clips with their labels.

    ``frames`` is ``uint8[N, F, S, S, 3]``. ``labels``, ``int64[N, 7]``, are the positions of light, first and second
    colour (or -1), camera, movement and transition in their tables, and whether all is black. ``motion`` and ``flow``
    are those of :class:`SceneClip`, in half precision.
    """

    frames: NDArray[np.uint8]
    labels: NDArray[np.int64]
    motion: NDArray[np.float16]
    flow: NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.frames)

    def statements(self, index: int) -> Statements:
        """Return what is true of a clip."""
        light, first, second, camera, movement, transition, black = (int(n) for n in self.labels[index])
        colours = (COLOURS[first],) if second < 0 else (COLOURS[first], COLOURS[second])
        names = list(CAMERAS)[camera], list(MOVEMENTS)[movement], list(TRANSITIONS)[transition]
        return Statements(LIGHTS[light], colours, *names, bool(black))

    def have_place(self) -> NDArray[np.bool_]:
        """Return for each clip whether its sentence says where something moves."""
        steady = (self.labels[:, 5] == _STEADY) & (self.labels[:, 6] == 0)
        places = [list(MOVEMENTS).index(place) for place in PLACES]
        still = self.labels[:, 3] == list(CAMERAS).index("still")
        return np.asarray(steady & still & np.isin(self.labels[:, 4], places))

    def augmented(self, chosen: NDArray[np.int64], rng: np.random.Generator) -> "SceneClips":
        """Return the chosen clips, turned at random sideways, upside down and in time, some in other colours."""
        picked = SceneClips(*(getattr(self, field.name)[chosen] for field in fields(self)))
        for i, turns in enumerate(rng.random((len(chosen), 4)) < 0.5):
            for axis, turned in enumerate(turns[:3]):
                if turned:
                    picked.turn(i, axis)
            if turns[3] and not picked.labels[i, 6]:
                picked.frames[i] = picked.frames[i][..., rng.permutation(3)]
                picked.labels[i, :3] = light_labels(picked.frames[i])
            if picked.labels[i, 4:].tolist() == [_NOTHING, _STEADY, 0] and rng.random() < _SPECKLED:
                add_specks(picked.frames[i], rng)
        return picked

    def turn(self, i: int, axis: int) -> None:
        """Turn a clip sideways (0), upside down (1) or backwards (2), with its labels."""
        label, motion, flow = self.labels[i], self.motion[i], self.flow[i]
        for column, tables in ((3, _CAMERA_TURNS), (4, _MOVEMENT_TURNS), (5, _TRANSITION_TURNS)):
            label[column] = tables[axis][label[column]]
        if axis == 2:
            self.frames[i] = self.frames[i][::-1].copy()
            motion[1:], flow[1:] = motion[:0:-1].copy(), flow[:0:-1].copy()
            motion[1:, :3] *= -1
            flow[1:, ..., :2] *= -1
        else:
            across = 2 - axis  # columns of [F, rows, columns] for sideways
            self.frames[i] = np.flip(self.frames[i], across).copy()
            self.flow[i] = np.flip(flow, across).copy()
            self.flow[i][..., axis] *= -1
            motion[:, axis] *= -1


def add_specks(frames: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Let so little move that it counts as nothing: birds, leaves and people far away do in most films."""
    for _ in range(rng.integers(1, 3)):
        height, width = rng.integers(2, 5), rng.integers(2, 4)
        start, step = rng.uniform(0, SIDE_PX - 4, 2), rng.normal(0, 1.5, 2)
        colour, opacity = rng.uniform(0, 255, 3), rng.uniform(0.3, 1.0)
        for number, frame in enumerate(frames):
            left, top = np.clip(start + number * step, 0, SIDE_PX - 4).astype(int)
            piece = frame[top : top + height, left : left + width]
            piece[:] = (1 - opacity) * piece + opacity * colour


def light_labels(frames: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Return the label numbers of light and colours of a clip."""
    seen = measure(frames)
    first, second = (*(COLOURS.index(name) for name in seen.colours), -1)[:2]
    return LIGHTS.index(seen.light), first, second


def load_or_make(path: Path, photographs: Path, count: int, frames: int, workers: int, *, held_out: bool) -> SceneClips:
    """Return ``count`` clips: those in ``path`` where it holds exactly these, or new ones, written there."""
    pictures = load_photographs(photographs, held_out=held_out)
    made_as = f"{_MADE_BY}, {count} clips of {frames} frames, {len(pictures)} photographs"
    if path.exists():
        with np.load(path) as stored:
            if str(stored["made_as"]) == made_as:
                return SceneClips(*(stored[field.name] for field in fields(SceneClips)))
    seed = HELD_OUT_SEED if held_out else TRAINING_SEED
    pictures += [draw_texture(np.random.default_rng([seed, 0, n])) for n in range(_TEXTURES)]
    clips = SceneClips(
        np.empty((count, frames, SIDE_PX, SIDE_PX, 3), np.uint8),
        np.empty((count, 7), np.int64),
        np.empty((count, frames, 4), np.float16),
        np.empty((count, frames, CELLS, CELLS, 3), np.float16),
    )
    chunks = [range(at, min(at + _CHUNK, count)) for at in range(0, count, _CHUNK)]
    make = partial(_make_chunk, seed=seed, frames=frames)
    with multiprocessing.get_context("spawn").Pool(workers, _hold, (pictures,)) as pool:
        for numbers, made in zip(chunks, pool.imap(make, chunks), strict=True):
            for n, clip in zip(numbers, made, strict=True):
                clips.frames[n], clips.motion[n], clips.flow[n] = clip.frames, clip.motion, clip.flow
                clips.labels[n] = label_row(clip)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez(part, made_as=made_as, **{field.name: getattr(clips, field.name) for field in fields(SceneClips)})
    part.replace(path)
    return clips


def _hold(pictures: list[Photograph]) -> None:
    """Keep the pictures in a process that makes clips."""
    cv2.setNumThreads(1)
    _held[:] = pictures


def _make_chunk(numbers: range, seed: int, frames: int) -> list[SceneClip]:
    return [draw_clip(np.random.default_rng([seed, 1, n]), _held, frames) for n in numbers]


def label_row(clip: SceneClip) -> tuple[int, ...]:
    """Return a clip's row of ``SceneClips.labels``."""
    said = clip.statements
    light = (0, 0, -1) if said.black else light_labels(clip.frames)
    names = (CAMERAS, said.camera), (MOVEMENTS, said.movement), (TRANSITIONS, said.transition)
    return (*light, *(list(table).index(name) for table, name in names), int(said.black))
