"""The configuration of an engine, and the word of its classes about it."""

import inspect
import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any


def argument_class() -> type[Any]:
    """Return vLLM's ``AsyncEngineArgs``."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    return AsyncEngineArgs  # type: ignore[no-any-return]


def configuration_of(arguments: dict[str, Any]) -> Any:
    """Return the ``VllmConfig`` that an engine of these arguments has, with the defaults of ``vllm serve`` here."""
    from vllm.usage.usage_lib import UsageContext

    return argument_class()(**arguments).create_engine_config(UsageContext.OPENAI_API_SERVER)


def packed_configuration(configuration: Any) -> bytes:
    """Return a ``VllmConfig`` for another process of ours, packed as vLLM packs it for its own."""
    import cloudpickle  # type: ignore[import-untyped]
    from vllm.transformers_utils.config import maybe_register_config_serialize_by_value

    maybe_register_config_serialize_by_value()
    packed: bytes = cloudpickle.dumps(configuration)
    return packed


def encoder_budget(config: Any) -> int:
    """Return how many tokens of one video or image an engine with this configuration takes."""
    from vllm.multimodal import MULTIMODAL_REGISTRY
    from vllm.multimodal.encoder_budget import MultiModalBudget

    return int(MultiModalBudget(config, MULTIMODAL_REGISTRY, enable_cache=False).encoder_cache_size)


def logging_config() -> dict[str, Any]:
    """Return the logging configuration that vLLM takes where it is given none, at the level of the environment."""
    from vllm import envs
    from vllm.logger import DEFAULT_LOGGING_CONFIG

    config: dict[str, Any] = deepcopy(DEFAULT_LOGGING_CONFIG)
    for part in (config["handlers"]["vllm"], config["loggers"]["vllm"]):
        part["level"] = envs.VLLM_LOGGING_LEVEL
    return config


def hashes_media(configuration: Any) -> bool:
    """Whether vLLM names media by their content, for a cache that may find them again."""
    media = configuration.model_config.multimodal_config
    kept = media is not None and media.mm_processor_cache_gb > 0
    return kept or bool(configuration.cache_config.enable_prefix_caching)


def renders_itself(configuration: Any) -> str:
    """Return which setting ties rendering to the process that vLLM is in, empty where none does.

    A cache of rendered media is kept in step with the engine's, and media in a GPU's memory are handed over by address.
    """
    media = configuration.model_config.multimodal_config
    ties = ("mm_processor_cache_gb", "mm_ipc_gpu_memory_gb")
    return next((name for name in ties if getattr(media, name, 0)), "")


def tower_fits(arguments: Mapping[str, Any], ranks: int) -> bool:
    """Say whether ``ranks`` devices can hold the vision tower of a model: split, or whole on each.

    vLLM's class decides as it is built, so it is built, without its language model and without memory: for one device,
    then for ``ranks``, where what can't be divided is an assertion or a bad value. A class that can't be built so for
    another reason is left to the engine's start, which will say why.
    """
    try:
        _build_tower(arguments, 1)
    except Exception:
        return True
    try:
        _build_tower(arguments, ranks)
    except (AssertionError, ValueError):
        return False
    except Exception:
        return True
    return True


def _build_tower(arguments: Mapping[str, Any], ranks: int) -> None:
    """Build a model's vision tower on the meta device, as the first of ``ranks`` devices would."""
    import torch
    from vllm.distributed import parallel_state
    from vllm.model_executor.model_loader.utils import initialize_model

    without_language = {"mm_encoder_only": True, "enable_prefix_caching": False}
    config = configuration_of({**arguments, **without_language})
    config.parallel_config.tensor_parallel_size = ranks
    before = parallel_state._TP, parallel_state._PP
    parallel_state._TP, parallel_state._PP = _Devices(ranks), _Devices(1)
    try:
        with torch.device("meta"):
            initialize_model(config)
    finally:
        parallel_state._TP, parallel_state._PP = before


class _Devices:
    """The group of devices that a model is built for, seen from the first; nothing is sent between them."""

    rank = local_rank = rank_in_group = first_rank = 0
    is_first_rank = is_last_rank = True

    def __init__(self, size: int) -> None:
        self.world_size, self.ranks, self.last_rank = size, list(range(size)), size - 1


def sees_videos_as_images(model_config: Any) -> bool:
    """Whether a model's class keeps its vision tower for images alone, and looks at videos with it all the same.

    vLLM leaves a tower out where a request may hold none of what it is kept for.
    """
    from vllm.model_executor.model_loader import get_model_cls

    source = inspect.getsource(get_model_cls(model_config).__init__)
    kept_for = re.findall(r'_mark_tower_model\(\s*\w+,\s*(\{[^}]*\}|"\w+")', source)
    return any('"image"' in one for one in kept_for) and not any('"video"' in one for one in kept_for)
