"""The share of right statements: of sentences about clips whose truth is known or measured."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neva.scenery.dataset import SceneClips
from neva.scenery.light import Measured, measure
from neva.scenery.statements import PLACES, Statements, statements_of
from neva.shapes.scoring import caption_clips, prompt_ids

KINDS = ("light", "colours", "transition", "camera", "movement")
LONGEST_ANSWER = 64  # tokens
_BATCH = 50


def right_statements(said: Statements | None, true: Statements, seen: Measured) -> dict[str, bool]:
    """Say which of the statements that ``true`` makes are right in ``said``; near a threshold of light both are."""
    if said is None:
        return dict.fromkeys(_stated(true), False)
    transition = said.transition == true.transition and said.black == true.black
    found = {
        "light": not said.black and seen.light_is(said.light),
        "colours": not said.black and seen.colours_are(said.colours),
        "transition": transition,
        "camera": transition and said.camera == true.camera,
        "movement": transition and _movement_is(said, true),
    }
    return {kind: found[kind] for kind in _stated(true)}


def _movement_is(said: Statements, true: Statements) -> bool:
    """Where something moves is to be said of a camera that stands still; where it is said it has to be right."""
    if said.movement == "something":
        return "still" not in (said.camera, true.camera) and true.movement in PLACES
    return said.movement == true.movement


def _stated(true: Statements) -> tuple[str, ...]:
    if true.black:
        return ("transition",)
    return KINDS if true.transition == "none" else KINDS[:3]


def shares(rows: Iterable[dict[str, bool]]) -> dict[str, float]:
    """Return for each kind of statement the share that is right of those made."""
    rows = list(rows)
    found = {kind: [row[kind] for row in rows if kind in row] for kind in KINDS}
    return {kind: sum(right) / len(right) for kind, right in found.items() if right}


def caption_frames(
    llava: Any,
    tokenizer: Any,
    pixels: Callable[[NDArray[np.uint8]], torch.Tensor],
    frames: NDArray[np.uint8],
    patches: int,
) -> list[str]:
    """Return the greedy answers about clips of ``uint8[N, F, S, S, 3]``, asked as the daemon asks."""
    length = frames.shape[1]
    ids = prompt_ids(tokenizer, patches * length)
    answers: list[str] = []
    for at in range(0, len(frames), _BATCH):
        shown = pixels(frames[at : at + _BATCH]).unflatten(0, (-1, length))
        answers += caption_clips(llava, tokenizer, shown, ids, LONGEST_ANSWER)
    return answers


def score_scenes(
    llava: Any, tokenizer: Any, pixels: Callable[[NDArray[np.uint8]], torch.Tensor], clips: SceneClips, patches: int
) -> dict[str, float]:
    """Return the share of right statements about drawn clips."""
    answers = caption_frames(llava, tokenizer, pixels, clips.frames, patches)
    rows = (
        right_statements(statements_of(answer), clips.statements(i), measure(clips.frames[i]))
        for i, answer in enumerate(answers)
    )
    return shares(rows)
