"""A folder with a LoRA adapter, as peft writes it: what it says of itself, and the heads of its weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError
from daemon.engines.model.weights import stored_shapes

PATH = "engine.adapter"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # peft's names for an adapter's files


@dataclass(frozen=True, slots=True)
class LoraAdapter:
    """An adapter: the largest rank of its modules, the model that it was trained over, and its tensors' shapes."""

    folder: Path
    rank: int
    base: str
    shapes: Mapping[str, tuple[int, ...]]


def read_adapter(folder: Path) -> LoraAdapter:
    """Return the adapter in ``folder``.

    Raises:
        ConfigurationError: there is none, or one that is not LoRA's.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ConfigurationError(f"{folder} holds no {name}, which peft writes for an adapter", path=PATH)
    config = _config(folder / CONFIG)
    if config.get("peft_type") != "LORA":
        raise ConfigurationError(f"it is an adapter of kind {config.get('peft_type')}; LoRA's are served", path=PATH)
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    if not all(isinstance(rank, int) and rank > 0 for rank in ranks):
        raise ConfigurationError(f"{CONFIG} says no rank (r)", path=PATH)
    try:
        shapes = stored_shapes(folder)
    except ConfigurationError as error:
        raise ConfigurationError(str(error).removeprefix(f"{error.path}: "), path=PATH) from error
    if not shapes:
        raise ConfigurationError(f"{WEIGHTS} holds no weights", path=PATH)
    return LoraAdapter(folder, max(ranks), str(config.get("base_model_name_or_path") or ""), shapes)


def _config(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigurationError(f"its {CONFIG} is not JSON: {error}", path=PATH) from error
    if not isinstance(config, dict) or not isinstance(config.get("rank_pattern") or {}, dict):
        raise ConfigurationError(f"its {CONFIG} holds no settings of an adapter", path=PATH)
    return config
