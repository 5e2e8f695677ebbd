"""The adapter that windows are described with: the one of ``engine.adapter``, or the one by which a checkpoint sees.

Some checkpoints carry an adapter beside their weights and can't do without it: their language model reads text as it
is, and images with a LoRA of its own (``vision_lora`` in their ``config.json``). vLLM loads such a model without it,
says nothing, and describes images badly. It says nothing either of modules of an adapter that a model does not have.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError
from daemon.config.engine_settings import VllmSettings
from daemon.engines.library_errors import sentence
from daemon.engines.model.lora_adapter import PATH, LoraAdapter, read_adapter
from daemon.engines.model.weights import stored_shapes
from daemon.engines.vllm import library
from daemon.engines.vllm.args import checked_args
from daemon.prompts.prompt import Modality

log = logging.getLogger(__name__)

_SETTING = "vision_lora"
_FOLDER = "vision-lora"  # where a checkpoint has it
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM makes room for
ARGUMENT = "default_mm_loras"  # vLLM's name: an adapter for each form of media
_LORA = frozenset({"enable_lora", "max_lora_rank", ARGUMENT})


def own_adapter(model: str, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the arguments of vLLM that switch the adapter on which a model's folder brings; none where it has none."""
    folder = Path(model) / _FOLDER
    setting = (config or {}).get(_SETTING)
    if not isinstance(setting, Mapping) or not folder.is_dir():
        return {}
    rank = next((rank for rank in RANKS if rank >= int(setting.get("r", 0))), RANKS[-1])
    return _switched_on(folder, rank)


def _switched_on(folder: Path, rank: int) -> dict[str, Any]:
    return {"enable_lora": True, "max_lora_rank": rank, ARGUMENT: dict.fromkeys(("image", "video"), str(folder))}


def given_adapter(settings: VllmSettings, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of vLLM for ``engine.adapter``; ``own`` are those of an adapter that the model brings.

    Raises:
        ConfigurationError: there is no such adapter, it is too large, or requests have another one already.
    """
    if settings.adapter is None:
        return {}
    if own:
        raise ConfigurationError("the model sees with an adapter of its own, and a request has one alone", path=PATH)
    if named := _LORA & checked_args(settings.args).keys():
        raise ConfigurationError("engine.adapter says it", path=f"engine.args.{min(named)}")
    rank = read_adapter(settings.adapter).rank
    if rank > RANKS[-1]:
        raise ConfigurationError(f"its rank is {rank}; vLLM makes room for {RANKS[-1]} at most", path=PATH)
    return _switched_on(settings.adapter, next(room for room in RANKS if room >= rank))


def check_given(settings: VllmSettings, model: str, configuration: Any) -> None:
    """Refuse an adapter that vLLM would not take, or would take without a word and leave parts of it out.

    Raises:
        ConfigurationError: naming ``engine.adapter``.
    """
    if settings.adapter is None:
        return
    adapter = read_adapter(settings.adapter)
    try:
        library.check_lora(adapter.folder, configuration)
        modules = library.lora_modules(configuration.model_config, adapter.shapes)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(sentence(error), path=PATH) from error
    fixed = library.without_lora(configuration.model_config)
    if left := sorted(module for module in modules.values() if module.startswith(fixed)):
        raise ConfigurationError(f"it changes {left[0]}, which vLLM leaves as it is", path=PATH)
    if Path(model).is_dir() and configuration.model_config.quantization is None:
        _check_shapes(adapter, modules, _weights(model, configuration.model_config))
    if adapter.base and not _is_same(adapter.base, model, settings.model):
        log.warning("The adapter was trained over %s, and engine.model is %s.", adapter.base, settings.model)


def _weights(model: str, model_config: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model's weights, by their names in vLLM's class."""
    shapes = stored_shapes(Path(model))
    return {new: shapes[name] for name, new in library.weight_names(model_config, shapes).items()}


def _check_shapes(adapter: LoraAdapter, modules: Mapping[str, str], weights: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse modules that the model does not have, or has in another size; pickled weights say nothing of theirs."""
    for name, module in modules.items() if weights else ():
        below = weights.get(f"{module}.weight")
        if below is None:
            raise ConfigurationError(f"it was trained over another model: this one has no {module}", path=PATH)
        side = 1 if ".lora_A." in name else 0
        if adapter.shapes[name][side] != below[side]:
            message = f"it was trained over another model: {module} has {below[side]} channels, not "
            raise ConfigurationError(f"{message}{adapter.shapes[name][side]}", path=PATH)


def _is_same(base: str, model: str, named: str | None) -> bool:
    """Say whether the name of an adapter's base model is the model's; one of a folder that moved is not."""
    return base == named or Path(base).expanduser().resolve() == Path(model).resolve()


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
