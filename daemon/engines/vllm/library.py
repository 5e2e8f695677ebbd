"""vLLM's names, and the only file that imports it: inside functions alone, for that takes seconds.

Whatever of vLLM the daemon uses has its function here, with what it promises. Some of these names are private or
change between releases, so ``tests/contract/test_vllm_names.py`` looks each of them up.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, make_dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any

from connectors.errors import EngineLost, Poison, Reason, Transient
from daemon.engines.library_errors import sentence
from daemon.engines.vllm.output import vision_tokens


def argument_class() -> type[Any]:
    """Return vLLM's ``AsyncEngineArgs``."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    return AsyncEngineArgs  # type: ignore[no-any-return]


def processor_of(model_config: Any) -> Any:
    """Return the processor by which vLLM makes a request of a prompt and its media: no weights are needed for it."""
    from vllm.multimodal import MULTIMODAL_REGISTRY

    return MULTIMODAL_REGISTRY.create_processor(model_config)


def chat_template_of(model_config: Any, tokenizer: Any, given: str | None = None) -> tuple[str, bool] | None:
    """Return the chat template that vLLM would use, and whether it takes content as a list of parts; None without one.

    ``given`` is the text of one that is taken instead of the model's own.
    """
    from vllm.renderers.hf import resolve_chat_template, resolve_chat_template_content_format

    source = resolve_chat_template(tokenizer, given, None, model_config=model_config)
    if source is None:
        return None
    form = resolve_chat_template_content_format(source, None, "auto", tokenizer, model_config=model_config)
    return source, form == "openai"


def placeholder_text(model_config: Any, modality: str, number: int) -> str | None:
    """Return what the model's class writes into a prompt for its ``number``-th video or image, counted from 1."""
    from vllm.model_executor.model_loader import get_model_cls

    text: str | None = get_model_cls(model_config).get_placeholder_str(modality, number)
    return text


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
    config = argument_class()(**{**arguments, **without_language}).create_engine_config()
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


def prompt_updates(
    processor: Any, media: Any, arguments: Mapping[str, Any] = MappingProxyType({})
) -> Mapping[str, list[list[Any]]]:
    """Return the rules by which a processor replaces placeholders: for each item of each modality in ``media``.

    ``arguments`` are what it is given beside the media.

    Raises:
        Exception: the processor's own, for it is a model's code.
    """
    from vllm.multimodal.processing import ProcessorInputs, TimingContext

    inputs = ProcessorInputs([], processor.info.parse_mm_data(media), hf_processor_mm_kwargs=arguments)
    done = processor._apply_hf_processor(inputs, TimingContext(enabled=False))
    return {modality: [list(rules) for rules in items] for modality, items in done.prompt_updates.items()}


def is_found_by_tokens(rules: Sequence[Any]) -> bool:
    """Whether these rules replace tokens of the prompt; others insert at a place, and need nothing in it."""
    return all(rule.mode == "replace" and isinstance(rule.target, list) for rule in rules)


def items_found(processor: Any, modality: str, rules: Sequence[Sequence[Any]], ids: list[int], *, as_text: bool) -> int:
    """Return how many of the items, each with its rules, a processor finds in a prompt, by its tokens or by its text.

    vLLM looks for tokens first, and where not all are there for their text.
    """
    from vllm.multimodal.processing import PromptUpdateDetails

    nothing = PromptUpdateDetails.from_seq([])
    bound = [[replace(rule, item_idx=index, content=nothing) for rule in one] for index, one in enumerate(rules)]
    match = processor._apply_prompt_updates_via_text if as_text else processor._apply_token_matches
    _, found = match(ids, {modality: bound})
    return sum(rule is not None for rule in found[modality])


def counter(
    processor: Any, arguments: Callable[[Any], Mapping[str, Any]] = lambda _: {}
) -> Callable[[list[int], Any], tuple[int, int]]:
    """Return the function that widens placeholders as the engine will, and counts the tokens: all, and the frames'.

    ``arguments(media)`` are what the processor is given beside the media.
    """
    from vllm.multimodal.processing import ProcessorInputs, TimingContext

    def count(ids: list[int], media: Any) -> tuple[int, int]:
        items = processor.info.parse_mm_data(media)
        inputs = ProcessorInputs(ids, items, hf_processor_mm_kwargs=arguments(media))
        done = processor.apply(inputs, TimingContext(enabled=False))
        return len(done["prompt_token_ids"]), vision_tokens(done)

    return count


def takes_timestamps(processor: Any) -> bool:
    """Whether a processor reads the times of frames from its argument ``timestamps``, and not from their metadata."""
    return "timestamps" in type(processor)._get_prompt_updates.__code__.co_consts


def launch(arguments: dict[str, Any], stat_logger: Any) -> Any:
    """Start ``AsyncLLM`` with its processes and return it."""
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(argument_class()(**arguments), stat_loggers=[stat_logger])


def configuration_of(arguments: dict[str, Any]) -> Any:
    """Return the ``VllmConfig`` that an engine of these arguments has."""
    return argument_class()(**arguments).create_engine_config()


def packed_configuration(configuration: Any) -> bytes:
    """Return a ``VllmConfig`` for another process of ours, packed as vLLM packs it for its own."""
    import cloudpickle  # type: ignore[import-untyped]
    from vllm.transformers_utils.config import maybe_register_config_serialize_by_value

    maybe_register_config_serialize_by_value()
    packed: bytes = cloudpickle.dumps(configuration)
    return packed


def renderer_of(packed: bytes) -> Any:
    """Return vLLM's own renderer for a packed ``VllmConfig``; no weights are loaded, and no device is touched."""
    import pickle

    from vllm.renderers import renderer_from_config

    return renderer_from_config(pickle.loads(packed))  # noqa: S301 - by ourselves, see packed_configuration


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


def render(renderer: Any, request: dict[str, Any]) -> Any:
    """Return the request as vLLM's processor makes it, in this thread; :class:`Poison` where it can't."""
    with _refusals():
        (rendered,) = renderer.render_cmpl([request])
        return rendered


async def render_in_its_thread(renderer: Any, request: dict[str, Any]) -> Any:
    """Return the request as vLLM's processor makes it, in the one thread that vLLM has for that; else as above."""
    with _refusals():
        (rendered,) = await renderer.render_cmpl_async([request])
        return rendered


@contextmanager
def _refusals() -> Iterator[None]:
    """Take whatever a processor raises for a refusal of the window, assertions too: no memory is another matter."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise Poison(Reason.ENGINE_REFUSED, sentence(error), origin="engine") from error


def encoded(rendered: Any) -> Sequence[Any]:
    """Return a rendered request as buffers, as vLLM sends it: what belongs together, then each large tensor's bytes."""
    from vllm.v1.serial_utils import MsgpackEncoder

    return MsgpackEncoder().encode(rendered)  # type: ignore[no-any-return]


def decoded(buffers: Sequence[Any]) -> dict[str, Any]:
    """Return the rendered request that :func:`encoded` made buffers of; its large tensors lie in the buffers."""
    from vllm.v1.serial_utils import MsgpackDecoder

    found = vars(MsgpackDecoder(_rendered_class()).decode(buffers))
    return {name: value for name, value in found.items() if value is not None}


@cache
def _rendered_class() -> type[Any]:
    from vllm.multimodal.inputs import MultiModalKwargsItems, PlaceholderRange

    text = field(default=None)
    return make_dataclass(
        "Rendered",
        [
            ("type", str),
            ("prompt_token_ids", list[int]),
            ("mm_kwargs", MultiModalKwargsItems),
            ("mm_hashes", dict[str, list[str]]),
            ("mm_placeholders", dict[str, list[PlaceholderRange]]),
            ("arrival_time", float),
            ("prompt", str | None, text),
        ],
    )


def replicas(llm: Any) -> list[int]:
    """Return the numbers of the replicas that an ``AsyncLLM`` gives requests to."""
    return list(llm.engine_core.engine_ranks_managed)


def handed_over(llm: Any) -> Mapping[int, int]:
    """Return how many requests each replica was given and has not ended, by vLLM's own table.

    The table is that of vLLM's load balancer, so there is none with one replica. Its keys are the replicas' numbers,
    written as vLLM writes them for ZeroMQ. An aborted request stays in it until its replica has said that it let go.
    """
    table = getattr(llm.engine_core, "engine_inflight", {})
    return {int.from_bytes(identity, "little"): count for identity, count in table.items()}


def sampling_params(arguments: dict[str, Any]) -> Any:
    """Return ``SamplingParams`` that give the final answer alone."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(**arguments, output_kind=RequestOutputKind.FINAL_ONLY)


def sees_videos_as_images(model_config: Any) -> bool:
    """Whether a model's class keeps its vision tower for images alone, and looks at videos with it all the same.

    vLLM leaves a tower out where a request may hold none of what it is kept for.
    """
    from vllm.model_executor.model_loader import get_model_cls

    source = inspect.getsource(get_model_cls(model_config).__init__)
    kept_for = re.findall(r'_mark_tower_model\(\s*\w+,\s*(\{[^}]*\}|"\w+")', source)
    return any('"image"' in one for one in kept_for) and not any('"video"' in one for one in kept_for)


def adapter_of(arguments: Mapping[str, Any], modality: str) -> Any:
    """Return the ``LoRARequest`` for requests with such media, numbered as vLLM does; None without an adapter."""
    from vllm.lora.request import LoRARequest

    adapters = arguments.get("default_mm_loras") or {}
    if modality not in adapters:
        return None
    return LoRARequest(modality, sorted(adapters).index(modality) + 1, adapters[modality])


@contextmanager
def translated(is_dead: Callable[[], bool]) -> Iterator[None]:
    """Translate vLLM's errors into ours, once. ``is_dead`` says whether the engine has died."""
    from vllm.exceptions import GracefulHTTPError, VLLMClientError
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    try:
        yield
    except EngineDeadError as error:
        raise EngineLost("the engine's process died") from error
    except EngineGenerateError as error:
        cause = error.__cause__ or error
        raise Transient(sentence(cause), reason=Reason.ENGINE_REFUSED, origin="engine") from error
    except GracefulHTTPError as error:  # a queue of its own that is full
        raise Transient(sentence(error), reason=Reason.ENGINE_REFUSED, origin="engine") from error
    except (VLLMClientError, ValueError, TypeError, RuntimeError) as error:
        if is_dead():
            raise EngineLost("the engine's process died") from error
        raise Poison(Reason.ENGINE_REFUSED, sentence(error), origin="engine") from error
