"""LoRA adapters: what vLLM takes, the modules of its classes that they change, and how requests name them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def adapter_of(arguments: Mapping[str, Any], modality: str) -> Any:
    """Return the ``LoRARequest`` for requests with such media, numbered as vLLM does; None without an adapter."""
    from vllm.lora.request import LoRARequest

    adapters = arguments.get("default_mm_loras") or {}
    if modality not in adapters:
        return None
    return LoRARequest(modality, sorted(adapters).index(modality) + 1, adapters[modality])


def check_lora(folder: Path, configuration: Any) -> None:
    """Refuse an adapter with features that vLLM's LoRA does not have: a :class:`ValueError` with vLLM's sentence."""
    from vllm.lora.peft_helper import PEFTHelper

    PEFTHelper.from_local_dir(str(folder), None).validate_legal(configuration.lora_config)


def lora_modules(model_config: Any, names: Iterable[str]) -> dict[str, str]:
    """Return the modules that an adapter's tensors change, under the names in vLLM's class of the model.

    Raises:
        ValueError: a tensor is none of LoRA's.
    """
    from vllm.lora.utils import parse_fine_tuned_lora_name

    mapper = _renames(model_config)
    return {name: parse_fine_tuned_lora_name(name, mapper)[0] for name in names}


def weight_names(model_config: Any, names: Iterable[str]) -> dict[str, str]:
    """Return a checkpoint's weights under the names in vLLM's class of the model."""
    mapper = _renames(model_config)
    mapped = {name: name if mapper is None else mapper.map_name(name) for name in names}
    return {name: new for name, new in mapped.items() if new is not None}


def _renames(model_config: Any) -> Any:
    from vllm.model_executor.model_loader import get_model_cls

    mapper = getattr(get_model_cls(model_config), "hf_to_vllm_mapper", None)
    return None if mapper is None else mapper.get_rename_mapper()


def without_lora(model_config: Any) -> tuple[str, ...]:
    """Return the prefixes of the modules that vLLM leaves as they are, whatever an adapter says: towers, connectors.

    Empty where a model's class tells them of a model that is loaded alone.
    """
    from vllm.model_executor.model_loader import get_model_cls

    try:
        mapping = get_model_cls(model_config).get_mm_mapping(None)
    except AttributeError:
        return ()
    return tuple(f"{prefix.rstrip('.')}." for prefix in (*mapping.tower_model, *mapping.connector))
