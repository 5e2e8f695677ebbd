"""Synthetic clips of one coloured shape that moves or stays: drawn, encoded and described by the project itself.

A :class:`Scene` describes a clip completely: the shape, its path and the encoding. It follows from a seed alone, so a
data set is a range of seeds. Training takes its seeds from :data:`TRAINING_SEEDS` and scoring from
:data:`HELD_OUT_SEEDS`, which have none in common.

Positions and sizes are fractions of the frame's side, ``(x, y)`` with ``(0, 0)`` at the top left.
"""

import io
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 36, 36),
    "green": (34, 176, 60),
    "blue": (40, 84, 232),
    "yellow": (246, 222, 40),
    "purple": (158, 48, 196),
    "white": (246, 246, 246),
}
SHAPES = ("circle", "square", "triangle")
MOTIONS: dict[str, tuple[int, int]] = {
    "moves to the left": (-1, 0),
    "moves to the right": (1, 0),
    "moves up": (0, -1),
    "moves down": (0, 1),
    "stays still": (0, 0),
}

TRAINING_SEEDS = range(0, 10_000_000)
HELD_OUT_SEEDS = range(10_000_000, 20_000_000)

FRAME_PX = 128
_SUPERSAMPLING = 4  # gives edges 16 levels of coverage a pixel; the encoding would lose any more
_MIN_SIZE, _MAX_SIZE = 0.28, 0.42  # smaller circles and squares look alike at the tower's 64 px
_MIN_TRAVEL = 0.30  # several times the drift that the noise of the encoding could suggest
_MIN_CONTRAST = 120  # Euclidean distance in RGB between a shape and its background, of 441 at most


@dataclass(frozen=True, slots=True)
class Scene:
    """A clip of one shape: ``size`` is its width, ``start`` and ``end`` are its centre at the ends of the clip."""

    colour: str
    shape: str
    motion: str
    size: float
    start: tuple[float, float]
    end: tuple[float, float]
    shape_rgb: tuple[int, int, int]
    background_rgb: tuple[int, int, int]
    texture: float  # standard deviation of the background's grain and slope, in levels of 255
    frame_rate: int  # frames a second
    length_s: float
    crf: int
    seed: int

    def __post_init__(self) -> None:
        if self.colour not in COLOURS or self.shape not in SHAPES or self.motion not in MOTIONS:
            raise ValueError(f"no such scene: {self.colour!r} {self.shape!r} {self.motion!r}")
        if not (self.length_s > 0 and self.frame_rate > 0 and 0 < self.size < 1):
            raise ValueError(f"not a clip: {self.length_s=}, {self.frame_rate=}, {self.size=}")

    @property
    def frames(self) -> int:
        """The number of frames in the clip."""
        return max(1, round(self.length_s * self.frame_rate))

    def centre_at(self, fraction: float) -> tuple[float, float]:
        """Return the shape's centre when ``fraction`` of the clip, 0 to 1, is over."""
        (x0, y0), (x1, y1) = self.start, self.end
        return x0 + (x1 - x0) * fraction, y0 + (y1 - y0) * fraction


def caption_of(scene: Scene) -> str:
    """Return the only correct caption, for example ``A red circle moves to the left.``."""
    return f"A {scene.colour} {scene.shape} {scene.motion}."


def all_captions() -> tuple[str, ...]:
    """Return every possible caption, in a fixed order."""
    return tuple(f"A {c} {s} {m}." for c in COLOURS for s in SHAPES for m in MOTIONS)


def random_scene(seed: int, length_s: float | None = None) -> Scene:
    """Return the scene of ``seed``, the same at every call. ``length_s`` overrides its length of 2 to 4 seconds."""
    rng = np.random.default_rng(seed)
    colour = list(COLOURS)[rng.integers(len(COLOURS))]
    shape = SHAPES[rng.integers(len(SHAPES))]
    motion = list(MOTIONS)[rng.integers(len(MOTIONS))]
    size = float(rng.uniform(_MIN_SIZE, _MAX_SIZE))
    shape_rgb = _vary(rng, COLOURS[colour], 10)
    start, end = _path(rng, MOTIONS[motion], size)
    return Scene(
        colour=colour,
        shape=shape,
        motion=motion,
        size=size,
        start=start,
        end=end,
        shape_rgb=shape_rgb,
        background_rgb=_background(rng, shape_rgb),
        texture=float(rng.choice([0.0, rng.uniform(1.0, 7.0)])),
        frame_rate=int(rng.choice([24, 25, 30])),
        length_s=float(rng.uniform(2.0, 4.0)) if length_s is None else length_s,
        crf=int(rng.integers(18, 29)),
        seed=seed,
    )


def draw_scene(scene: Scene) -> Iterator[NDArray[np.uint8]]:
    """Yield the clip's frames in order, each ``uint8[128, 128, 3]`` RGB."""
    background = Image.fromarray(_draw_background(scene))
    for index in range(scene.frames):
        image = background.copy()
        _paste_shape(image, scene, scene.centre_at(index / max(1, scene.frames - 1)))
        yield np.asarray(image)


def write_clip(target: str | os.PathLike[str] | BinaryIO, scene: Scene) -> None:
    """Encode ``scene`` to H.264 in MP4 at ``target``, a path or a seekable binary file."""
    write_film(target, [scene])


def encode_clip(scene: Scene) -> bytes:
    """Return ``scene`` as the bytes of an MP4 file."""
    buffer = io.BytesIO()
    write_clip(buffer, scene)
    return buffer.getvalue()


def write_film(target: str | os.PathLike[str] | BinaryIO, scenes: Sequence[Scene], keyframe_s: float = 2.0) -> None:
    """Encode ``scenes`` one after another into one MP4, with a key frame at least every ``keyframe_s`` seconds.

    Every scene lasts its own ``length_s``; the frame rate and the quality are the first scene's. Frames are drawn as
    they are encoded, so a long film needs no more memory than a short one.
    """
    if not scenes:
        raise ValueError("a film has at least one scene")
    rate = scenes[0].frame_rate
    if any(scene.frame_rate != rate for scene in scenes):
        raise ValueError(f"one film has one frame rate, not {sorted({s.frame_rate for s in scenes})}")
    out = os.fspath(target) if isinstance(target, str | os.PathLike) else target
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width = stream.height = FRAME_PX
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # the same bytes on every machine
        stream.codec_context.gop_size = max(1, round(keyframe_s * rate))
        stream.options = {"crf": str(scenes[0].crf), "preset": "veryfast"}
        number = 0
        for scene in scenes:
            for pixels in draw_scene(scene):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, rate)
                container.mux(stream.encode(frame))
                number += 1
        container.mux(stream.encode())


def film_of(seeds: Sequence[int], scene_s: float, frame_rate: int = 24) -> list[Scene]:
    """Return one scene of ``scene_s`` seconds for each seed, all at ``frame_rate``, for :func:`write_film`."""
    scenes = [random_scene(seed, scene_s) for seed in seeds]
    fields = list(Scene.__dataclass_fields__)
    return [Scene(**{name: getattr(s, name) for name in fields} | {"frame_rate": frame_rate}) for s in scenes]


def write_demo_clips(folder: Path, count: int, first_seed: int = HELD_OUT_SEEDS.start) -> dict[str, str]:
    """Write ``count`` clips of consecutive seeds into ``folder``; return the correct caption of each file name."""
    folder.mkdir(parents=True, exist_ok=True)
    captions = {}
    for seed in range(first_seed, first_seed + count):
        scene = random_scene(seed)
        write_clip(folder / f"shape-{seed}.mp4", scene)
        captions[f"shape-{seed}.mp4"] = caption_of(scene)
    return captions


def _vary(rng: np.random.Generator, rgb: tuple[int, int, int], spread: int) -> tuple[int, int, int]:
    """Return ``rgb`` with up to ``spread`` levels added to or taken from each channel."""
    red, green, blue = np.clip(np.asarray(rgb) + rng.integers(-spread, spread + 1, 3), 0, 255)
    return int(red), int(green), int(blue)


def _background(rng: np.random.Generator, shape_rgb: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return a muted colour that stands out from the shape's."""
    while True:
        grey = rng.uniform(10, 200)
        rgb = np.clip(grey + rng.uniform(-28, 28, 3), 0, 255)
        if float(np.linalg.norm(rgb - np.asarray(shape_rgb))) >= _MIN_CONTRAST:
            return int(rgb[0]), int(rgb[1]), int(rgb[2])


def _path(
    rng: np.random.Generator, direction: tuple[int, int], size: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the centre at the start and at the end, the shape wholly inside the frame all the way."""
    low, high = size / 2 + 0.02, 1 - size / 2 - 0.02
    centre = rng.uniform(low, high, 2)
    if direction == (0, 0):
        return (float(centre[0]), float(centre[1])), (float(centre[0]), float(centre[1]))
    axis = 0 if direction[0] else 1
    travel = rng.uniform(min(_MIN_TRAVEL, high - low), high - low)
    first = rng.uniform(low, high - travel)
    start, end = centre.copy(), centre.copy()
    start[axis], end[axis] = (first, first + travel)[:: direction[axis]]
    return (float(start[0]), float(start[1])), (float(end[0]), float(end[1]))


def _draw_background(scene: Scene) -> NDArray[np.uint8]:
    """Return ``uint8[128, 128, 3]``: plain, or with grain and a slope of brightness."""
    plain = np.broadcast_to(np.asarray(scene.background_rgb, dtype=np.float64), (FRAME_PX, FRAME_PX, 3))
    if scene.texture == 0:
        return plain.astype(np.uint8)
    rng = np.random.default_rng([scene.seed, 1])
    angle = rng.uniform(0, 2 * math.pi)
    along = np.linspace(-1, 1, FRAME_PX)
    slope = along[None, :] * math.cos(angle) + along[:, None] * math.sin(angle)
    grain = rng.normal(0, 1, (FRAME_PX, FRAME_PX))
    return np.clip(plain + scene.texture * (2 * slope + grain)[..., None], 0, 255).astype(np.uint8)


def _paste_shape(image: Image.Image, scene: Scene, centre: tuple[float, float]) -> None:
    """Draw the shape at ``centre``; only a box around it is supersampled, four times faster than a whole frame."""
    half_px = scene.size * FRAME_PX / 2
    box_px = math.ceil(2 * half_px) + 3
    left, top = (math.floor(c * FRAME_PX - half_px) - 1 for c in centre)
    x, y = ((c * FRAME_PX - corner) * _SUPERSAMPLING for c, corner in zip(centre, (left, top), strict=True))
    half = half_px * _SUPERSAMPLING
    mask = Image.new("L", (box_px * _SUPERSAMPLING,) * 2)
    pen = ImageDraw.Draw(mask)
    if scene.shape == "circle":
        pen.ellipse((x - half, y - half, x + half, y + half), fill=255)
    elif scene.shape == "square":
        side = half * 0.9  # a square as wide as a circle could be told from it by its area alone
        pen.rectangle((x - side, y - side, x + side, y + side), fill=255)
    else:
        pen.polygon([(x, y - half * 0.9), (x + half, y + half * 0.85), (x - half, y + half * 0.85)], fill=255)
    image.paste(Image.new("RGB", (box_px, box_px), scene.shape_rgb), (left, top), mask.reduce(_SUPERSAMPLING))
