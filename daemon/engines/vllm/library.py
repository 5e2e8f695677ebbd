"""vLLM's names, and the only file that imports it: inside functions alone, for that takes seconds.

Whatever of vLLM the daemon uses has its function here, with what it promises. Some of these names are private or
change between releases, so ``tests/contract/test_vllm_names.py`` looks each of them up.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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


def counter(processor: Any) -> Callable[[list[int], Any], tuple[int, int]]:
    """Return the function that widens placeholders as the engine will, and counts the tokens: all, and the frames'."""
    from vllm.multimodal.processing import ProcessorInputs, TimingContext

    def count(ids: list[int], media: Any) -> tuple[int, int]:
        items = processor.info.parse_mm_data(media)
        done = processor.apply(ProcessorInputs(ids, items), TimingContext(enabled=False))
        return len(done["prompt_token_ids"]), vision_tokens(done)

    return count


def sampling_of(model_config: Any) -> dict[str, Any]:
    """Return the sampling settings that a model's own ``generation_config.json`` says, as ``vllm serve`` takes them."""
    found: dict[str, Any] = model_config.get_diff_sampling_param()
    return found


def reasoning_parsers(tokenizer: Any, model_config: Any) -> dict[str, Any]:
    """Return vLLM's reasoning parsers that can work with a tokenizer, by their names.

    Those that know a pair of marks and nothing else come first; others of the same marks know tool calls too.
    """
    from vllm.reasoning import ReasoningParserManager
    from vllm.reasoning.basic_parsers import BaseThinkingReasoningParser

    found = {}
    for name in ReasoningParserManager.list_registered():
        with suppress(Exception):  # a parser says with an error of its own that the tokenizer lacks its tokens
            found[name] = reasoning_parser(name, tokenizer, model_config)
    plain = {name: parser for name, parser in found.items() if isinstance(parser, BaseThinkingReasoningParser)}
    return plain | found


def reasoning_parser(name: str, tokenizer: Any, model_config: Any) -> Any:
    """Return one of vLLM's reasoning parsers, for text that holds reasoning.

    Raises:
        KeyError: there is none of that name.
    """
    from vllm.reasoning import ReasoningParserManager

    kind = ReasoningParserManager.get_reasoning_parser(name)
    # some parsers are told by the template's arguments to find nothing; these are asked where there is something
    thinking = {"enable_thinking": True, "thinking": True}
    return kind(tokenizer, model_config=model_config, chat_template_kwargs=thinking)


def chosen_reasoning_parser(vllm_config: Any) -> str:
    """Return the name of the reasoning parser that vLLM's arguments name, its plugin loaded; empty for none."""
    from vllm.reasoning import ReasoningParserManager

    chosen = vllm_config.structured_outputs_config
    if chosen.reasoning_parser_plugin:
        ReasoningParserManager.import_reasoning_parser(chosen.reasoning_parser_plugin)
    return str(chosen.reasoning_parser or "")


def extract_reasoning(parser: Any, text: str) -> tuple[str | None, str | None]:
    """Take a text apart into its reasoning and the answer behind it, with one of vLLM's parsers."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    found: tuple[str | None, str | None] = parser.extract_reasoning(text, ChatCompletionRequest(messages=[], model=""))
    return found


def launch(arguments: dict[str, Any], stat_logger: Any) -> Any:
    """Start ``AsyncLLM`` with its processes and return it."""
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(argument_class()(**arguments), stat_loggers=[stat_logger])


def sampling_params(arguments: dict[str, Any]) -> Any:
    """Return ``SamplingParams`` that give the final answer alone."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(**arguments, output_kind=RequestOutputKind.FINAL_ONLY)


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
