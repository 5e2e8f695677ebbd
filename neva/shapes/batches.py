"""Batches of shape clips, each of which follows from the seed and the step alone, so that a run can resume."""

from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neva.shapes.dataset import ShapeClips
from neva.shapes.prompts import draw_prompts
from neva.shapes.tasks import CaptionBatch
from neva.shapes.tokenizer import IMAGE, encode_around_media
from neva.training.samples import IGNORED


class ShapeBatches:
    """The source of batches from ``clips`` for a model with ``patches`` tokens a frame."""

    def __init__(self, clips: ShapeClips, tokenizer: Any, image_processor: Any, patches: int, seed: int) -> None:
        self._clips = clips
        self._tokenizer = tokenizer
        self.patches = patches
        self._seed = seed
        self._mean = torch.tensor(image_processor.image_mean) * 255
        self._deviation = torch.tensor(image_processor.image_std) * 255

    def pixels(self, frames: NDArray[np.uint8]) -> torch.Tensor:
        """Return ``uint8[M, S, S, 3]`` as ``float[M, 3, S, S]``, normalised as the model's processor does it."""
        return normalised(frames, self._mean, self._deviation)

    def single_frames(self, step: int, count: int) -> tuple[torch.Tensor, ...]:
        """Return pixels, colour, shape and centre of ``count`` single frames."""
        rng = np.random.default_rng([self._seed, 1, step])
        picked = self._clips.augmented(rng.integers(len(self._clips), size=count), rng, one_frame=True)
        return (
            self.pixels(picked.frames[:, 0]),
            torch.from_numpy(picked.colour),
            torch.from_numpy(picked.shape),
            torch.from_numpy(picked.centres[:, 0]),
        )

    def captioned(self, step: int, count: int) -> CaptionBatch:
        """Return ``count`` whole clips with prompts and answers."""
        rng = np.random.default_rng([self._seed, 2, step])
        clips = self._clips.augmented(rng.integers(len(self._clips), size=count), rng)
        captions = [clips.caption(i) for i in range(count)]
        ids, targets, ends = prompted(self._tokenizer, rng, captions, clips.frames.shape[1], self.patches)
        return CaptionBatch(
            pixels=self.pixels(clips.frames.reshape(-1, *clips.frames.shape[2:])),
            ids=ids,
            targets=targets,
            frame_ends=ends,
            colour=torch.from_numpy(clips.colour),
            shape=torch.from_numpy(clips.shape),
            centres=torch.from_numpy(clips.centres),
        )


def normalised(frames: NDArray[np.uint8], mean: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """Return ``uint8[M, S, S, 3]`` as ``float[M, 3, S, S]``, less the mean and over the deviation."""
    return ((torch.from_numpy(frames).float() - mean) / deviation).permute(0, 3, 1, 2).contiguous()


def prompted(
    tokenizer: Any, rng: np.random.Generator, captions: list[str], frames: int, patches: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return token ids, targets and the places of each frame's last patch for clips with these captions."""
    image_id = tokenizer.convert_tokens_to_ids(IMAGE)
    span = [image_id] * (patches * frames)
    rows, targets, ends = [], [], []
    for caption, (before, after) in zip(captions, draw_prompts(rng, len(captions)), strict=True):
        prompt = encode_around_media(tokenizer, before, after, span)
        answer = tokenizer(caption, add_special_tokens=False)["input_ids"]
        answer = [*answer, tokenizer.eos_token_id]
        rows.append(prompt + answer)
        targets.append([IGNORED] * len(prompt) + answer)
        ends.append(prompt.index(image_id) + patches * np.arange(1, frames + 1) - 1)
    return _padded(rows, tokenizer.pad_token_id), _padded(targets, IGNORED), torch.from_numpy(np.stack(ends))


def to_device(batch: CaptionBatch, device: torch.device) -> CaptionBatch:
    """Return the batch with every tensor on ``device``."""
    return CaptionBatch(**{f.name: getattr(batch, f.name).to(device) for f in fields(batch)})


def _padded(rows: list[list[int]], value: int) -> torch.Tensor:
    """Return ``int64[B, T]``, each row filled up on the right with ``value``."""
    length = max(len(row) for row in rows)
    return torch.tensor([row + [value] * (length - len(row)) for row in rows])
