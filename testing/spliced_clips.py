"""Clips that are spliced of drawn shots, with the frames known at which one shot gives way to the next.

A shot is a camera that looks at a part of a large coloured picture with things moving before it. It stands still, pans,
zooms or shakes; flashes and quick pans are in the middle of shots and are no cuts. Shots give way by a hard cut or by a
fade through black.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

RATE = 25
SIZE = (320, 180)
MOVES = ("still", "pan", "zoom", "shake", "quick pan", "flash")
_FADE_FRAMES, _BLACK_FRAMES = 12, 4
_WORLD = (640, 360)


@dataclass(frozen=True)
class Transition:
    """The frames over which one shot gives way to another; for a hard cut the first frame of the new one alone."""

    kind: str
    first: int
    last: int

    def is_met_by(self, frame: int, tolerance: int = 1) -> bool:
        """Return whether a cut found at a frame is this one."""
        return self.first - tolerance <= frame <= self.last + tolerance


@dataclass
class Spliced:
    """A clip with what is known of it."""

    path: Path
    transitions: list[Transition] = field(default_factory=list)
    moves: list[str] = field(default_factory=list)
    frames: int = 0


def _world(draw: np.random.Generator) -> Image.Image:
    """Return a large picture of soft colours, lines and shapes that no other shot has."""
    coarse = draw.integers(0, 256, (draw.integers(3, 9), draw.integers(4, 14), 3)).astype(np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize(_WORLD, Image.Resampling.BICUBIC)).astype(np.float32)
    tint = draw.integers(30, 226, 3)
    pixels = 0.5 * soft + 0.5 * tint * draw.uniform(0.5, 1.1)
    grain = draw.normal(0, draw.uniform(2, 12), (_WORLD[1] // 2, _WORLD[0] // 2, 1))
    pixels += np.repeat(np.repeat(grain, 2, 0), 2, 1)
    for _ in range(draw.integers(4, 14)):
        x, y = draw.integers(0, _WORLD[0] - 40), draw.integers(0, _WORLD[1] - 40)
        width, height = draw.integers(14, 160), draw.integers(14, 120)
        pixels[y : y + height, x : x + width] = draw.integers(0, 256, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _cameras(move: str, frames: int, draw: np.random.Generator) -> Iterator[tuple[float, float, float]]:
    """Yield left, top and width of what the camera sees, in the world's pixels."""
    width = float(draw.uniform(280, 380))
    room_x, room_y = _WORLD[0] - width, _WORLD[1] - width * SIZE[1] / SIZE[0]
    x, y = draw.uniform(0.3, 0.7) * room_x, draw.uniform(0.3, 0.7) * room_y
    jump = int(frames * draw.uniform(0.35, 0.6))
    for at in range(frames):
        share = at / frames
        match move:
            case "pan":
                yield room_x * share, y, width
            case "zoom":
                yield x * (1 - 0.3 * share), y * (1 - 0.3 * share), width * (1 - 0.35 * share)
            case "shake":
                yield x + draw.normal(0, 3), y + draw.normal(0, 3), width
            case "quick pan":  # across the picture within nine frames
                yield room_x * min(max((at - jump) / 9, 0.0), 1.0), y, width
            case _:
                yield x, y, width


def _shot(move: str, frames: int, draw: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures of one shot."""
    world = _world(draw)
    things = [
        (draw.uniform(0, SIZE[0]), draw.uniform(0, SIZE[1]), *draw.uniform(-3, 3, 2), *draw.integers(8, 50, 2))
        for _ in range(draw.integers(1, 4))
    ]
    colours = draw.integers(0, 256, (len(things), 3))
    flashes = {int(frames * share) for share in draw.uniform(0.3, 0.7, 2)} if move == "flash" else set[int]()
    flash_frames = int(draw.integers(1, 5))
    for at, (left, top, width) in enumerate(_cameras(move, frames, draw)):
        height = width * SIZE[1] / SIZE[0]
        seen = world.resize(SIZE, Image.Resampling.BILINEAR, (left, top, left + width, top + height))
        picture = np.array(seen)
        for (x, y, dx, dy, w, h), colour in zip(things, colours, strict=True):
            x0, y0 = int(x + dx * at) % SIZE[0], int(y + dy * at) % SIZE[1]
            picture[y0 : y0 + int(h), x0 : x0 + int(w)] = colour
        if any(flash <= at < flash + flash_frames for flash in flashes):
            picture = (255 - (255 - picture) * 0.15).astype(np.uint8)
        yield picture


def _dimmed(picture: NDArray[np.uint8], light: float) -> NDArray[np.uint8]:
    return picture if light >= 1 else (picture * light).astype(np.uint8)


def splice(path: Path, seed: int, shots: int = 6, *, options: dict[str, str] | None = None) -> Spliced:
    """Draw and encode a clip of so many shots of 1.5 to 4 seconds; the same for the same seed."""
    draw = np.random.default_rng(seed)
    clip = Spliced(path)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast", **(options or {})})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"

        def write(picture: NDArray[np.uint8]) -> None:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            clip.frames += 1

        fades_in = False
        for number in range(shots):
            frames, move = int(draw.integers(3 * RATE // 2, 4 * RATE)), str(draw.choice(MOVES))
            fades_out = number + 1 < shots and draw.random() < 0.3
            clip.moves.append(move)
            for at, picture in enumerate(_shot(move, frames, draw)):
                into = (at + 1) / _FADE_FRAMES if fades_in else 1.0
                out = (frames - 1 - at) / _FADE_FRAMES if fades_out else 1.0
                write(_dimmed(picture, min(into, out)))
            if number + 1 == shots:
                break
            if fades_out:
                began = clip.frames - _FADE_FRAMES
                for _ in range(_BLACK_FRAMES):
                    write(np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
                clip.transitions.append(Transition("fade", began, clip.frames + _FADE_FRAMES - 1))
            else:
                clip.transitions.append(Transition("cut", clip.frames, clip.frames))
            fades_in = fades_out
        container.mux(stream.encode())
    return clip


# how clips are encoded: by x264 as it is, with a key frame a second and none at cuts, as cameras do, and all of them
ENCODINGS: tuple[dict[str, str], ...] = (
    {},
    {"g": str(RATE), "keyint_min": str(RATE), "sc_threshold": "0"},
    {"g": str(2 * RATE), "sc_threshold": "40"},
)
