"""The answers of OpenAI-compatible servers, read as text from outside: a completion, or a fault with a word about it.

Servers differ in what they put into a message. Whatever an answer holds, it never ends the program.
"""

from collections.abc import Mapping
from typing import Any

import httpx

from connectors.contract import TokenLogprob
from connectors.errors import Poison, Reason, Transient
from connectors.messages.safe_text import clean_line
from daemon.engines.contract import Completion, Origin
from daemon.prompts.prompt import Prompt
from daemon.prompts.reasoning import ReasoningCutter, reasoning_alone

_LONGEST = 300  # characters of a server's own words in a detail
_TEXT = frozenset({"text", "output_text"})
_REASONING = frozenset({"reasoning", "thinking"})  # parts that lead to an answer and are none
_MOST_OF_A_NAME = 256  # of what a server calls its model or an answer
_GAVE_UP = frozenset({"abort", "error"})  # the server ended the answer, not the model


def completion_of(
    answer: httpx.Response, prompt: Prompt, queue_ms: float, engine_ms: float, *, is_open: bool = False
) -> Completion:
    """Return what a server's good answer says. With ``is_open`` the prompt ended inside the model's reasoning.

    Raises:
        Poison: the model refuses, or answers with something else than text.
        Transient: the answer is no chat completion, or the server gave it up.
    """
    try:
        return _completion(answer.json(), prompt, queue_ms, engine_ms, is_open)
    except (Poison, Transient):
        raise
    except Exception as error:  # no shape of an answer is the program's fault
        raise _transient("the server's answer is no chat completion") from error


def _completion(body: Any, prompt: Prompt, queue_ms: float, engine_ms: float, is_open: bool) -> Completion:
    if body.get("error"):
        raise _transient(f"the server answers with an error: {_said(body['error'])}")
    choice = body["choices"][0]
    message, finish = choice["message"], choice.get("finish_reason")
    if finish in _GAVE_UP:
        raise _transient(f"the server gave the answer up: {finish}")
    refusal = _refusal_in(message) if prompt.refusals else ""
    text, has_reasoned = (refusal, False) if refusal else _text_of(message)
    if not text.strip():
        _raise_for_silence(message, finish)
    usage = body.get("usage") if isinstance(body.get("usage"), Mapping) else {}
    is_cut = finish in ("length", "content_filter")
    about = _about(text, has_reasoned=has_reasoned, is_cut=is_cut)
    if not has_reasoned:  # the server left the reasoning where it was; a whole answer without a mark holds none
        found = ReasoningCutter().cut(text, prompt.reasoning, is_open=is_open and is_cut, is_cut=is_cut)
        text, about = found.text, found.detail
    return Completion(
        text,
        is_cut,
        _count(usage.get("prompt_tokens")),
        0,
        _count(usage.get("completion_tokens")),
        queue_ms,
        engine_ms,
        logprobs=() if prompt.logprobs is None else _logprobs(choice),
        detail=about,
        looping=finish == "repetition",
        refusal=refusal,
        reasoning_tokens=_count((usage.get("completion_tokens_details") or {}).get("reasoning_tokens")),
        origin=Origin("openai", model=_name(body.get("model")), answer=_name(body.get("id"))),
    )


def _name(said: Any) -> str:
    return said[:_MOST_OF_A_NAME] if isinstance(said, str) else ""


def _refusal_in(message: Mapping[str, Any]) -> str:
    """Return a model's own words where it declines in a field that servers have for it; empty where it does not."""
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    said = [part.get("refusal") for part in parts if isinstance(part, Mapping) and part.get("type") == "refusal"]
    words = message.get("refusal") or next(iter(said), None)
    return "" if not words else _said(words)


def _text_of(message: Mapping[str, Any]) -> tuple[str, bool]:
    """Return a message's text, its parts joined, and whether it holds any reasoning."""
    has_reasoned = bool(message.get("reasoning_content") or message.get("reasoning"))
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or "", has_reasoned
    if not isinstance(content, list):
        raise _transient(f"the answer's content is a {type(content).__name__}, not a text")
    texts = []
    for part in content:
        kind = "text" if isinstance(part, str) else part.get("type")
        if kind in _TEXT:
            texts.append(str(part if isinstance(part, str) else part["text"] or ""))
        elif kind in _REASONING:
            has_reasoned = True
        elif kind == "refusal":
            raise _poison(f"the model refuses: {_said(part.get('refusal'))}")
        else:
            raise _poison(f"the answer holds a part of type {_said(kind)!r}, not text alone")
    return "".join(texts), has_reasoned


def _raise_for_silence(message: Mapping[str, Any], finish: object) -> None:
    """Raise :class:`Poison` where an answer without a text says why it has none."""
    if message.get("refusal"):
        raise _poison(f"the model refuses: {_said(message['refusal'])}")
    if message.get("tool_calls"):
        raise _poison("the model calls a tool instead of answering")
    if finish == "content_filter":
        raise _poison("the server's filter holds the answer back")


def _about(text: str, *, has_reasoned: bool, is_cut: bool) -> str:
    """Return the word about an answer whose text does not speak for itself."""
    if text.strip():
        return ""
    return reasoning_alone(is_cut=is_cut) if has_reasoned else ""


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _logprobs(choice: Mapping[str, Any]) -> tuple[TokenLogprob, ...]:
    steps = (choice.get("logprobs") or {}).get("content") or ()
    return tuple(_logprob(one, tuple(map(_logprob, one.get("top_logprobs") or ()))) for one in steps)


def _logprob(step: Mapping[str, Any], top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    return TokenLogprob(str(step["token"]), float(step["logprob"]), top)


def _said(value: object) -> str:
    """Return a server's own words, short and on one line."""
    words = value.get("message", value) if isinstance(value, Mapping) else value
    return str(clean_line(str(words)))[:_LONGEST]


def _poison(detail: str) -> Poison:
    return Poison(Reason.ENGINE_REFUSED, detail, origin="engine")


def _transient(detail: str) -> Transient:
    return Transient(detail, reason=Reason.ENGINE_REFUSED, origin="engine")
