"""A model's processor: its templates, placeholders and tokens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from daemon.engines.vllm.output import vision_tokens


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


def prompt_updates(
    processor: Any, media: Any, arguments: Mapping[str, Any] = MappingProxyType({})
) -> Mapping[str, list[list[Any]]]:
    """Return the rules by which a processor replaces placeholders: for each item of each modality in ``media``.

    ``arguments`` are what it is given beside the media.

    Raises:
        Exception: the processor's own, for it is a model's code.
    """
    done = processor._apply_hf_processor(*_inputs(processor, [], media, arguments))
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

    def count(ids: list[int], media: Any) -> tuple[int, int]:
        done = processor.apply(*_inputs(processor, ids, media, arguments(media)))
        return len(done["prompt_token_ids"]), vision_tokens(done)

    return count


def _inputs(processor: Any, ids: list[int], media: Any, arguments: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return what vLLM's processor is called with for a prompt's tokens, its media, and what it is given beside."""
    from vllm.multimodal.processing import ProcessorInputs, TimingContext

    items = processor.info.parse_mm_data(media)
    return ProcessorInputs(ids, items, hf_processor_mm_kwargs=arguments), TimingContext(enabled=False)


def vision_counter(
    processor: Any, modality: str, count: Callable[[list[int], Any], tuple[int, int]]
) -> Callable[[int, Any], int]:
    """Return the function that counts the tokens that the frames of ``items`` videos or images fill, without a prompt.

    The text about them is the one that vLLM itself measures a model with; ``count`` is the processor's :func:`counter`.
    """

    def count_vision(items: int, media: Any) -> int:
        text = processor.dummy_inputs.get_dummy_text({modality: items})
        return count(processor.info.get_tokenizer().encode(text, add_special_tokens=False), media)[1]

    return count_vision


def video_settings(processor: Any) -> dict[str, Any]:
    """Return the keyword arguments that the Hugging Face processor of videos is called with, by the configuration.

    There are none where the processor is a checkpoint's own code, which does not say what it takes.
    """
    try:
        merged = processor.info._merge_and_resolve_mm_processor_kwargs({})
    except AttributeError:
        return {}
    return {**merged, **(merged.get("videos_kwargs") or {})}


def takes_timestamps(processor: Any) -> bool:
    """Whether a processor reads the times of frames from its argument ``timestamps``, and not from their metadata."""
    return "timestamps" in type(processor)._get_prompt_updates.__code__.co_consts
