"""The parsers that tell an answer from its reasoning."""

from contextlib import suppress
from typing import Any


def reasoning_parser(name: str, tokenizer: Any, model_config: Any, plugin: str | None = None) -> Any:
    """Return one of vLLM's reasoning parsers, for texts that hold reasoning; ``plugin`` is a file that adds some."""
    from vllm.reasoning import ReasoningParserManager

    if plugin:
        ReasoningParserManager.import_reasoning_parser(plugin)
    kind = ReasoningParserManager.get_reasoning_parser(name)
    told = {"enable_thinking": True, "thinking": True}  # without it some find nothing
    return kind(tokenizer, model_config=model_config, chat_template_kwargs=told)


def reasoning_parsers(tokenizer: Any, model_config: Any) -> list[Any]:
    """Return those that can work with a tokenizer; first those that know a pair of marks and nothing else."""
    from vllm.reasoning import ReasoningParserManager
    from vllm.reasoning.basic_parsers import BaseThinkingReasoningParser

    found = []
    for name in ReasoningParserManager.list_registered():
        with suppress(Exception):  # a parser says with an error of its own that the tokenizer lacks its tokens
            found.append(reasoning_parser(name, tokenizer, model_config))
    return sorted(found, key=lambda one: not isinstance(one, BaseThinkingReasoningParser))


def extract_reasoning(parser: Any, text: str) -> tuple[str | None, str | None]:
    """Take a text apart into its reasoning and the answer behind it, with one of vLLM's parsers."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    return parser.extract_reasoning(text, ChatCompletionRequest(messages=[], model=""))  # type: ignore[no-any-return]
