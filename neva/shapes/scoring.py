"""Scores of captions of held-out clips: the share of correct captions, colours, shapes and motions."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch

from neva.shapes.dataset import ShapeClips
from neva.shapes.prompts import CHAT, DEFAULT_QUESTION
from neva.shapes.scenes import COLOURS, MOTIONS, SHAPES
from neva.shapes.tokenizer import IMAGE, encode_around_media

_LONGEST_ANSWER = 24  # tokens; the longest caption has fewer


@dataclass(frozen=True, slots=True)
class Score:
    """The shares of correct answers, 0 to 1, and the number of times that one label was taken for another."""

    clips: int
    caption: float
    colour: float
    shape: float
    motion: float
    confusions: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{name} {100 * getattr(self, name):.2f} %" for name in ("caption", "colour", "shape", "motion")]
        return f"{self.clips} clips: {', '.join(parts)}"


def prompt_ids(tokenizer: Any, patches: int, question: str = DEFAULT_QUESTION) -> list[int]:
    """Return the chat template's prompt for a span of ``patches`` image tokens and ``question``."""
    span = [tokenizer.convert_tokens_to_ids(IMAGE)] * patches
    return encode_around_media(tokenizer, CHAT.before, CHAT.separator + question + CHAT.after, span)


@torch.inference_mode()  # type: ignore[untyped-decorator]
def caption_clips(
    llava: Any, tokenizer: Any, pixels: torch.Tensor, ids: list[int], longest: int = _LONGEST_ANSWER
) -> list[str]:
    """Return the greedy answer for each clip of ``pixels[B, F, 3, S, S]``, all asked with the same ``ids``."""
    count = len(pixels)
    prompt = torch.tensor([ids] * count, device=pixels.device)
    answers = llava.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        pixel_values=pixels.flatten(0, 1),
        do_sample=False,
        max_new_tokens=longest,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return list(tokenizer.batch_decode(answers[:, len(ids) :], skip_special_tokens=True))


def score_captions(answers: list[str], clips: ShapeClips) -> Score:
    """Return the score of one answer for each clip."""
    right, confusions = Counter[str](), Counter[str]()
    tables = {"colour": tuple(COLOURS), "shape": SHAPES, "motion": tuple(MOTIONS)}
    for i, answer in enumerate(answers):
        right["caption"] += answer == clips.caption(i)
        for name, words in tables.items():
            true = words[int(getattr(clips, name)[i])]
            said = next((word for word in words if f" {word}" in answer), "nothing")
            right[name] += said == true
            if said != true:
                confusions[f"{true} -> {said}"] += 1
    shares = {name: right[name] / len(answers) for name in ("caption", *tables)}
    return Score(len(answers), **shares, confusions=dict(confusions.most_common()))
