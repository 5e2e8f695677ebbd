"""Shape clips as training data: encoded, read back as the daemon reads clips, resized by the model's own processor.

Making a clip costs about 35 ms, so the frames are made once and kept in one ``.npz`` under the build folder.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neva.shapes.clip_frames import read_clip_frames
from neva.shapes.scenes import COLOURS, MOTIONS, SHAPES, encode_clip, random_scene

_CHUNK = 64  # clips a task: long enough to hide the queue, short enough for a smooth progress bar
_MADE_BY = "shapes 2"  # to be changed when a seed gives other pixels: frames from before are then made again

# Motions are numbered as MOTIONS lists them: left, right, up, down, still.
FLIPPED_SIDEWAYS = np.array([1, 0, 2, 3, 4])
FLIPPED_UPSIDE_DOWN = np.array([0, 1, 3, 2, 4])
REVERSED_IN_TIME = np.array([1, 0, 3, 2, 4])


@dataclass(frozen=True, slots=True)
class ShapeClips:
    """``N`` clips of ``F`` frames of ``S`` px, with labels.

    ``frames`` is ``uint8[N, F, S, S, 3]``; ``colour``, ``shape`` and ``motion`` are ``int64[N]``, positions in
    ``COLOURS``, ``SHAPES`` and ``MOTIONS``; ``centres`` is ``float32[N, F, 2]``, fractions of the frame's side.
    """

    frames: NDArray[np.uint8]
    colour: NDArray[np.int64]
    shape: NDArray[np.int64]
    motion: NDArray[np.int64]
    centres: NDArray[np.float32]

    def __post_init__(self) -> None:
        if not len(self.frames) == len(self.colour) == len(self.shape) == len(self.motion) == len(self.centres):
            raise ValueError(f"frames and labels differ in number: {len(self.frames)=}, {len(self.colour)=}")

    def __len__(self) -> int:
        return len(self.frames)

    def caption(self, index: int) -> str:
        """Return the correct caption of one clip."""
        return caption_of_labels(int(self.colour[index]), int(self.shape[index]), int(self.motion[index]))

    def augmented(self, chosen: NDArray[np.int64], rng: np.random.Generator, one_frame: bool = False) -> "ShapeClips":
        """Return the chosen clips, each flipped at random sideways, upside down and in time, with labels to match.

        With ``one_frame`` only one frame of each clip is returned.
        """
        if one_frame:
            at = chosen[:, None], rng.integers(self.frames.shape[1], size=len(chosen))[:, None]
            frames, centres = self.frames[at], self.centres[at]
        else:
            frames, centres = self.frames[chosen], self.centres[chosen]
        motion = self.motion[chosen]
        for i, (sideways, upside_down, backwards) in enumerate(rng.random((len(chosen), 3)) < 0.5):
            if sideways:
                frames[i], centres[i, :, 0] = frames[i, :, :, ::-1].copy(), 1 - centres[i, :, 0]
                motion[i] = FLIPPED_SIDEWAYS[motion[i]]
            if upside_down:
                frames[i], centres[i, :, 1] = frames[i, :, ::-1].copy(), 1 - centres[i, :, 1]
                motion[i] = FLIPPED_UPSIDE_DOWN[motion[i]]
            if backwards:
                frames[i], centres[i] = frames[i, ::-1].copy(), centres[i, ::-1].copy()
                motion[i] = REVERSED_IN_TIME[motion[i]]
        return ShapeClips(frames, self.colour[chosen], self.shape[chosen], motion, centres)


def caption_of_labels(colour: int, shape: int, motion: int) -> str:
    """Return the caption of three label numbers."""
    return f"A {list(COLOURS)[colour]} {SHAPES[shape]} {list(MOTIONS)[motion]}."


def load_or_make(
    path: Path,
    seeds: range,
    image_processor: Any,
    num_frames: int,
    workers: int,
    on_progress: Callable[[int], None] = lambda clips: None,
) -> ShapeClips:
    """Return the clips of ``seeds``: those in ``path`` where it holds exactly these, or new ones, written there.

    ``image_processor`` is the model's own; it resizes and crops the frames here, and batches normalise them.
    """
    size_px = int(image_processor.crop_size["height"])
    made_as = f"{_MADE_BY}, seeds {seeds.start} to {seeds.stop}, {num_frames} frames of {size_px} px"
    if path.exists():
        with np.load(path) as stored:
            if str(stored["made_as"]) == made_as:
                return ShapeClips(**{name: stored[name] for name in ShapeClips.__dataclass_fields__})
    clips = _make(seeds, image_processor, num_frames, size_px, workers, on_progress)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez(part, made_as=made_as, **{name: getattr(clips, name) for name in ShapeClips.__dataclass_fields__})
    part.replace(path)
    return clips


def _make(
    seeds: range, image_processor: Any, num_frames: int, size_px: int, workers: int, on_progress: Callable[[int], None]
) -> ShapeClips:
    """Return the clips of ``seeds``, made in ``workers`` processes."""
    count = len(seeds)
    frames = np.empty((count, num_frames, size_px, size_px, 3), dtype=np.uint8)
    labels = np.empty((count, 3), dtype=np.int64)
    centres = np.empty((count, num_frames, 2), dtype=np.float32)
    chunks = [seeds[i : i + _CHUNK] for i in range(0, count, _CHUNK)]
    make = partial(_make_chunk, image_processor=image_processor, num_frames=num_frames)
    at = 0
    for chunk in _in_processes(make, chunks, workers):
        for pixels, label, centre in chunk:
            frames[at], labels[at], centres[at] = pixels, label, centre
            at += 1
        on_progress(at)
    return ShapeClips(frames, labels[:, 0], labels[:, 1], labels[:, 2], centres)


def _in_processes(make: Callable[[range], Any], chunks: list[range], workers: int) -> Iterator[Any]:
    """Yield ``make(chunk)`` in order; spawned processes, because torch's threads do not survive a fork."""
    if workers <= 1:
        yield from map(make, chunks)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(make, chunks)


def _make_chunk(
    seeds: range, image_processor: Any, num_frames: int
) -> list[tuple[NDArray[np.uint8], tuple[int, int, int], NDArray[np.float32]]]:
    """Return frames, label numbers and centres of each seed's clip."""
    import torch

    torch.set_num_threads(1)
    return [_make_one(seed, image_processor, num_frames) for seed in seeds]


def _make_one(
    seed: int, image_processor: Any, num_frames: int
) -> tuple[NDArray[np.uint8], tuple[int, int, int], NDArray[np.float32]]:
    """Return ``uint8[F, S, S, 3]``, (colour, shape, motion) and ``float32[F, 2]``."""
    from PIL import Image

    scene = random_scene(seed)
    shown, begins = read_clip_frames(encode_clip(scene), num_frames)
    images = [Image.fromarray(frame) for frame in shown]
    done = image_processor(images, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"]
    pixels = np.clip(np.rint(done), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    labels = (list(COLOURS).index(scene.colour), SHAPES.index(scene.shape), list(MOTIONS).index(scene.motion))
    last = max(1, scene.frames - 1)
    centres = [scene.centre_at(round(b * scene.frames) / last) for b in begins]
    return pixels, labels, np.array(centres, dtype=np.float32)
