"""The adapter by which a checkpoint sees: some carry one beside their weights and can't do without it.

Their language model reads text as it is, and images with a LoRA of its own (``vision_lora`` in their ``config.json``).
vLLM loads such a model without it, says nothing, and describes images badly.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError
from daemon.prompts.prompt import Modality

_SETTING = "vision_lora"
_FOLDER = "vision-lora"  # where a checkpoint has it
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM makes room for
ARGUMENT = "default_mm_loras"  # vLLM's name: an adapter for each form of media


def own_adapter(model: str, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the arguments of vLLM that switch the adapter on which a model's folder brings; none where it has none."""
    folder = Path(model) / _FOLDER
    setting = (config or {}).get(_SETTING)
    if not isinstance(setting, Mapping) or not folder.is_dir():
        return {}
    rank = next((rank for rank in RANKS if rank >= int(setting.get("r", 0))), RANKS[-1])
    return {"enable_lora": True, "max_lora_rank": rank, ARGUMENT: dict.fromkeys(("image", "video"), str(folder))}


def check_adapter(config: Any, arguments: Mapping[str, Any], modality: Modality) -> None:
    """Refuse a model that would see without its adapter.

    Raises:
        ConfigurationError: naming ``engine.args.default_mm_loras``.
    """
    named = arguments.get(ARGUMENT) or {}
    if getattr(config, _SETTING, None) and not (arguments.get("enable_lora") and modality in named):
        message = (
            f"the model sees with an adapter of its own; give engine.model the folder of the whole checkpoint, which "
            f"holds {_FOLDER}, or name it here: {{{modality}: FOLDER}}, with enable_lora and max_lora_rank"
        )
        raise ConfigurationError(message, path=f"engine.args.{ARGUMENT}")
