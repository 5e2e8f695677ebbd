"""What is learned, each a module whose forward pass returns its losses.

:class:`ConversationTask` is Video NeVA's own: the answers of conversations, in both of its stages. The other two make
the bundled model.

:class:`TowerTask` teaches the tower alone what is on a single frame. :class:`CaptionTask` teaches everything to answer,
with two helpers along the way: the frame heads keep the features telling, and the motion head asks the language model,
at the end of each frame's span, where the shape is and how far it has come since the first frame. Without the frame
heads circles and squares are mixed up; without the motion head motions are. The helpers are not part of the model.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from neva.training.tower_features import tower_features

_PLACE_WEIGHT = 10.0  # squared errors of fractions of a frame are a tenth of the cross-entropies


class FrameHeads(nn.Module):  # type: ignore[misc]
    """Colour, shape and place of the shape on a frame, linear in the mean of its patch features."""

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

    ``pixels`` is ``float[B * F, 3, S, S]``, ``ids`` and ``targets`` ``int64[B, T]`` (-100 where nothing is asked);
    ``frame_ends`` is ``int64[B, F]``, the position of each frame's last patch; ``colour`` and ``shape`` are
    ``int64[B]`` and ``centres`` is ``float[B, F, 2]``.
    """

    pixels: torch.Tensor
    ids: torch.Tensor
    targets: torch.Tensor
    frame_ends: torch.Tensor
    colour: torch.Tensor
    shape: torch.Tensor
    centres: torch.Tensor


class ConversationTask(nn.Module):  # type: ignore[misc]
    """The answers of conversations about what is shown."""

    def __init__(self, llava: Any) -> None:
        super().__init__()
        self.llava = llava
        self._sees_frozen = not any(p.requires_grad for p in llava.model.vision_tower.parameters())

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the sum of the targets' negative log-likelihoods.

        ``batch`` has ``ids`` and ``targets`` (``int64[B, T]``, padded on the right, -100 where nothing is asked), and
        ``pixels`` (``float[N, 3, S, S]``) or the tower's ``features`` (``float[N, patches, width]``) of all N frames.
        """
        model, ids = self.llava.model, batch["ids"]
        features = batch["features"] if "features" in batch else self._see(batch["pixels"])
        embedded = model.get_input_embeddings()(ids)
        projected = model.multi_modal_projector(features.to(self._projector_type())).to(embedded.dtype)
        span = (ids == self.llava.config.image_token_index)[..., None].expand_as(embedded)
        # the term of nothing keeps the projector in the graph of a batch without media, which other ranks wait for
        embedded = embedded.masked_scatter(span, projected.flatten(0, 1)) + 0 * projected.sum()
        # Causal attention and padding on the right: no real token sees a padded one, so no mask is needed.
        hidden = model.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        asked = batch["targets"][:, 1:] != -100
        logits = self.llava.lm_head(hidden[:, :-1][asked]).float()
        return functional.cross_entropy(logits, batch["targets"][:, 1:][asked], reduction="sum")

    def _see(self, pixels: torch.Tensor) -> torch.Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._sees_frozen):
            return tower_features(self.llava, pixels)

    def _projector_type(self) -> torch.dtype:
        return next(self.llava.model.multi_modal_projector.parameters()).dtype


class TowerTask(nn.Module):  # type: ignore[misc]
    """The tower on single frames."""

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
    """Everything on whole clips."""

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
        asked = batch.targets[:, 1:] != -100
        logits = self.llava.lm_head(hidden[:, :-1][asked]).float()
        caption = functional.cross_entropy(logits, batch.targets[:, 1:][asked])
        frame = self.heads(
            patches,
            batch.colour.repeat_interleave(frames),
            batch.shape.repeat_interleave(frames),
            batch.centres.flatten(0, 1),
        )
        at_ends = hidden.gather(1, batch.frame_ends[..., None].expand(-1, -1, hidden.shape[-1])).float()
        where = torch.cat([batch.centres, batch.centres - batch.centres[:, :1]], dim=-1)
        return caption, frame, functional.mse_loss(self.motion(at_ends), where)
