"""The tasks that scenes are learned by: how things move from frame to frame, their colours, and whole sentences.

The heads read from the language model what is known of every patch (how it moved since the frame before, how much of it
moves by itself, its colours) and of every frame (how the camera moved, and whether the scene is another). They are not
part of the model that is written. Without them the sentences alone teach all of this far too slowly.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from neva.scenery.statements import COLOURS

_SCALE = 20.0  # movements from frame to frame are hundredths of the frame
_DEEP = 2  # the layers that the first task runs: matching, and gathering what the patches say
_READ = 3  # the layers that are read from in the second one


@dataclass(frozen=True, slots=True)
class SceneBatch:
    """``B`` clips of ``F`` frames with prompts and answers, as in ``neva.shapes.tasks.CaptionBatch``.

    ``motion`` is ``float[B, F, 4]`` and ``flow`` ``float[B, F, P, 3]``, as in :class:`SceneClip`; ``known`` is
    ``float[B, F]``, 1 for the frames that have both, and ``texture``, ``float[B, F, P]``, says where movement shows.
    ``colours``, ``float[B, F, P, 10]``, are the shares of ``COLOURS`` in each patch.
    """

    pixels: torch.Tensor
    ids: torch.Tensor
    targets: torch.Tensor
    motion: torch.Tensor
    flow: torch.Tensor
    known: torch.Tensor
    texture: torch.Tensor
    colours: torch.Tensor


class SceneHeads(nn.Module):  # type: ignore[misc]
    """Linear readings from the language model's first layers: of patches, and of frames.

    A token sees what is before it. So how a frame moved is read from the mean of its patches after the first layer, and
    after the second one from its last token, and how much of a patch moved by itself, against the camera, is read after
    the third layer where the patch is in the next frame.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patch = nn.ModuleList(nn.Linear(width, 3) for _ in range(_DEEP))
        self.mean, self.last = nn.Linear(width, 4), nn.Linear(width, 4)
        self.colours, self.apart = nn.Linear(width, len(COLOURS)), nn.Linear(width, 1)

    def forward(self, layers: list[torch.Tensor], batch: SceneBatch) -> torch.Tensor:
        """Return the loss of the image tokens' ``float[B, F, P, W]`` after each of the first layers."""
        seen = [_even(layer) for layer in layers]
        target = batch.flow * torch.tensor([_SCALE, _SCALE, 2.0])
        shown = (batch.known[..., None] * batch.texture)[..., None]
        scales = torch.tensor([_SCALE, _SCALE, _SCALE, 2.0])
        moved = batch.motion * scales
        loss = sum(_weighted(reading(one), target, shown) for reading, one in zip(self.patch, seen, strict=False))
        for said in (self.mean(seen[0].mean(2)), self.last(seen[1][:, :, -1])):
            loss = loss + _weighted(said, moved, batch.known[..., None])
        if len(seen) == _READ:
            apart = self.apart(seen[2][:, 1:])[..., 0]
            among = batch.known[:, :-1, None].expand_as(apart)
            wrong = functional.binary_cross_entropy_with_logits(apart, batch.flow[:, :-1, :, 2], reduction="none")
            loss = loss + (wrong * among).sum() / among.sum().clamp(min=1)
            named = self.colours(seen[1]).flatten(0, 2)
            loss = loss + functional.cross_entropy(named, batch.colours.flatten(0, 2))
        return loss


def _weighted(said: torch.Tensor, true: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    apart = functional.smooth_l1_loss(said, true, reduction="none")
    return (apart * weight).sum() / weight.sum().clamp(min=1)


def _even(seen: torch.Tensor) -> torch.Tensor:
    return functional.layer_norm(seen.float(), seen.shape[-1:])


class SceneTask(nn.Module):  # type: ignore[misc]
    """The whole model; ``sentences`` says whether it answers, or only its first layers are trained on movement."""

    def __init__(self, llava: Any, heads: SceneHeads, *, sentences: bool) -> None:
        super().__init__()
        self.llava, self.heads, self.sentences = llava, heads, sentences

    def forward(self, batch: SceneBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the losses of the answers and of the movement."""
        clips, frames = batch.motion.shape[:2]
        if self.sentences:
            hidden, span = embedded(self.llava, batch.ids, batch.pixels)
        else:
            hidden = features_of(self.llava, batch.pixels).flatten(0, 1).unflatten(0, (clips, -1))
            span = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        language = self.llava.model.language_model
        kept: list[torch.Tensor] = []
        positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
        rotary = language.rotary_emb(hidden, positions)
        # Causal attention and padding on the right: no real token sees a padded one, so no mask is needed.
        for layer in language.layers if self.sentences else language.layers[:_DEEP]:
            hidden = layer(hidden, attention_mask=None, position_ids=positions, position_embeddings=rotary)
            if len(kept) < _READ:
                kept.append(hidden[span].unflatten(0, (clips, frames, -1)))
        moved = self.heads(kept, batch)
        if not self.sentences:
            return torch.zeros(()), moved
        counts = batch.targets[:, 1:] != -100
        logits = self.llava.lm_head(language.norm(hidden[:, :-1][counts])).float()
        return functional.cross_entropy(logits, batch.targets[:, 1:][counts]), moved


def features_of(llava: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Return what tower and projector make of ``float[N, 3, S, S]``: ``float[N, P, W]``."""
    config = llava.config
    seen = llava.model.get_image_features(
        pixels, vision_feature_layer=config.vision_feature_layer, vision_feature_select_strategy="default"
    )
    return torch.stack(list(seen.pooler_output)).float()


def embedded(llava: Any, ids: torch.Tensor, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the language model reads, ``float[B, T, W]``, and which of it are frames, ``bool[B, T]``."""
    shown = ids == llava.config.image_token_index
    hidden = llava.model.get_input_embeddings()(ids)
    features = features_of(llava, pixels).to(hidden.dtype)
    return hidden.masked_scatter(shown[..., None].expand_as(hidden), features), shown
