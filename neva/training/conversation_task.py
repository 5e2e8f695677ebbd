"""The task of both stages: a module that returns the loss of the answers in a batch of conversations."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from neva.training.tower_features import tower_features


class ConversationTask(nn.Module):  # type: ignore[misc]
    """The answers of conversations about videos and images."""

    def __init__(self, llava: Any) -> None:
        super().__init__()
        self.llava = llava
        self._tower_is_frozen = not any(p.requires_grad for p in llava.model.vision_tower.parameters())

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the sum of the negative log-likelihoods of the targets.

        ``batch`` has ``ids`` and ``targets`` (``int64[B, T]``, padded on the right, -100 for tokens that do not
        count), and ``pixels`` (``float[N, 3, S, S]``) or the tower's ``features`` (``float[N, patches, width]``) of all
        N frames.
        """
        model, ids = self.llava.model, batch["ids"]
        features = batch["features"] if "features" in batch else self._features(batch["pixels"])
        embedded = model.get_input_embeddings()(ids)
        projected = model.multi_modal_projector(features.to(self._projector_type())).to(embedded.dtype)
        span = (ids == self.llava.config.image_token_index)[..., None].expand_as(embedded)
        # Adding zero keeps the projector in the graph of a batch without media: other ranks wait for its gradients.
        embedded = embedded.masked_scatter(span, projected.flatten(0, 1)) + 0 * projected.sum()
        # Causal attention and padding on the right: no real token sees a padded one, so no mask is needed.
        hidden = model.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        counts = batch["targets"][:, 1:] != -100
        logits = self.llava.lm_head(hidden[:, :-1][counts]).float()
        return functional.cross_entropy(logits, batch["targets"][:, 1:][counts], reduction="sum")

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._tower_is_frozen):
            return tower_features(self.llava, pixels)

    def _projector_type(self) -> torch.dtype:
        return next(self.llava.model.multi_modal_projector.parameters()).dtype
