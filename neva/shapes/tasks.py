"""The tasks that the bundled model is trained on; each is a module whose forward pass returns its losses.

:class:`TowerTask` trains the tower alone, on the content of single frames. :class:`CaptionTask` trains the whole model
to answer, with two auxiliary losses. The frame heads read colour, shape and place from the tower's features of each
frame; without them the model confuses circles and squares. The motion head reads from the language model, at the end of
each frame's span, where the shape is and how far it has moved since the first frame; without it the model confuses
motions. The heads are not part of the model that is written.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

_PLACE_WEIGHT = 10.0  # squared errors of fractions of a frame are a tenth of the cross-entropies


class FrameHeads(nn.Module):  # type: ignore[misc]
    """Linear classifiers of a frame's colour, shape and place, from the mean of its patch features."""

    def __init__(self, width: int, colours: int, shapes: int) -> None:
        super().__init__()
        self.colour = nn.Linear(width, colours)
        self.shape = nn.Linear(width, shapes)
        self.centre = nn.Linear(width, 2)

    def forward(self, patches: torch.Tensor, colour: torch.Tensor, shape: torch.Tensor, centre: torch.Tensor) -> Any:
        """Return the loss of ``patches[M, P, W]`` against ``int64[M]``, ``int64[M]`` and ``float[M, 2]``."""
        pooled = patches.float().mean(dim=1)
        loss = functional.cross_entropy(self.colour(pooled), colour)
        loss = loss + functional.cross_entropy(self.shape(pooled), shape)
        return loss + _PLACE_WEIGHT * functional.mse_loss(self.centre(pooled), centre)


@dataclass(frozen=True, slots=True)
class CaptionBatch:
    """``B`` clips of ``F`` frames of ``P`` patches with their prompts and answers, ``T`` tokens, padded on the right.

    ``pixels`` is ``float[B * F, 3, S, S]``. ``ids`` and ``targets`` are ``int64[B, T]``; the target of a token that
    does not count is -100. ``frame_ends`` is ``int64[B, F]``, the position of each frame's last patch. ``colour`` and
    ``shape`` are ``int64[B]``, and ``centres`` is ``float[B, F, 2]``.
    """

    pixels: torch.Tensor
    ids: torch.Tensor
    targets: torch.Tensor
    frame_ends: torch.Tensor
    colour: torch.Tensor
    shape: torch.Tensor
    centres: torch.Tensor


class TowerTask(nn.Module):  # type: ignore[misc]
    """The tower, trained on single frames."""

    def __init__(self, llava: Any, heads: FrameHeads) -> None:
        super().__init__()
        self.tower = llava.model.vision_tower
        self.layer = llava.config.vision_feature_layer
        self.heads = heads

    def forward(self, pixels: torch.Tensor, colour: torch.Tensor, shape: torch.Tensor, centre: torch.Tensor) -> Any:
        """Return the loss of ``pixels[M, 3, S, S]``."""
        seen = self.tower(pixels, output_hidden_states=True).hidden_states[self.layer][:, 1:]
        return self.heads(seen, colour, shape, centre)


class CaptionTask(nn.Module):  # type: ignore[misc]
    """The whole model, trained on whole clips."""

    def __init__(self, llava: Any, heads: FrameHeads) -> None:
        super().__init__()
        self.llava = llava
        self.heads = heads
        self.motion = nn.Linear(llava.config.text_config.hidden_size, 4)

    def forward(self, batch: CaptionBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the losses of the caption, of the frames and of the motion."""
        model = self.llava.model
        frames = batch.centres.shape[1]
        seen = model.get_image_features(
            batch.pixels,
            vision_feature_layer=self.llava.config.vision_feature_layer,
            vision_feature_select_strategy="default",
        )
        patches = seen.hidden_states[self.llava.config.vision_feature_layer][:, 1:]
        embedded = model.get_input_embeddings()(batch.ids)
        span = (batch.ids == self.llava.config.image_token_index)[..., None].expand_as(embedded)
        features = torch.stack(list(seen.pooler_output)).to(embedded.dtype)
        embedded = embedded.masked_scatter(span, features)
        # Causal attention and padding on the right: no real token sees a padded one, so no mask is needed.
        hidden = model.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        counts = batch.targets[:, 1:] != -100
        logits = self.llava.lm_head(hidden[:, :-1][counts]).float()
        caption = functional.cross_entropy(logits, batch.targets[:, 1:][counts])
        frame = self.heads(
            patches,
            batch.colour.repeat_interleave(frames),
            batch.shape.repeat_interleave(frames),
            batch.centres.flatten(0, 1),
        )
        at_ends = hidden.gather(1, batch.frame_ends[..., None].expand(-1, -1, hidden.shape[-1])).float()
        where = torch.cat([batch.centres, batch.centres - batch.centres[:, :1]], dim=-1)
        return caption, frame, functional.mse_loss(self.motion(at_ends), where)
