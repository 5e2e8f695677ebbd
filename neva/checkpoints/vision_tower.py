"""The vision tower of an imported model: configuration from its Hugging Face folder, weights from the checkpoint.

A checkpoint holds the tower's weights only where the tower was trained; those of a frozen one come from the folder too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectors.errors import ConfigurationError
from neva.checkpoints.hf_folder import model_folder, read_tensors
from neva.checkpoints.names import tower_name
from neva.checkpoints.weights import Tensors
from neva.pixel_values import CLIP, SIGLIP, TowerPixels


@dataclass(frozen=True, slots=True)
class Tower:
    """A vision tower: its Hugging Face configuration, and its weights under their names in the LLaVA layout."""

    config: Any
    state: Mapping[str, Any]

    @property
    def pixels(self) -> TowerPixels:
        """The way in which frames are scaled for the tower."""
        return SIGLIP if self.config.model_type.startswith("siglip") else CLIP


def read_tower(named: str, tensors: Tensors) -> Tower:
    """Return the tower that ``named``, a folder or a Hugging Face name, and the checkpoint's ``tensors`` make.

    Raises:
        ConfigurationError: the tower can't be found, or is neither CLIP nor SigLIP.
    """
    from transformers import AutoConfig

    folder = model_folder(named, key="vision_tower")
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    config = getattr(config, "vision_config", config)
    if config.model_type not in ("clip_vision_model", "siglip_vision_model"):
        raise ConfigurationError(f"{named} is a {config.model_type}; CLIP and SigLIP are imported", path="vision_tower")
    trained = {tower_name(weight.rest): tensors[weight] for weight in tensors if weight.part == "tower"}
    if trained:
        return Tower(config, trained)
    stored = dict(read_tensors(folder))
    inner = {name: tensor for name, tensor in stored.items() if name.startswith("vision_model.")} or stored
    return Tower(config, {tower_name(name): tensor for name, tensor in inner.items() if "position_ids" not in name})


def reverse_channels(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tower's weights with its input channels reversed.

    With a reversed :class:`TowerPixels` the tower then computes from RGB frames what it computed from BGR ones.
    """
    first = "vision_tower.vision_model.embeddings.patch_embedding.weight"
    return {**state, first: state[first].flip(1).contiguous()}
