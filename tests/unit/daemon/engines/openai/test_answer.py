"""Whatever a server answers, it is a completion or a fault with a word about it, and never the program's end."""

import json
from typing import Any

import httpx
import pytest

from connectors.errors import Poison, Reason, Transient
from daemon.engines.contract import Completion
from daemon.engines.openai.answer import completion_of
from daemon.prompts.prompt import Prompt

ASK = Prompt("What is shown?")


def read(body: Any, prompt: Prompt = ASK) -> Completion:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return completion_of(httpx.Response(200, content=content), prompt, 0.0, 0.0)


def said(message: Any, finish: str = "stop", **more: Any) -> Any:
    return {"choices": [{"message": message, "finish_reason": finish}], **more}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("A dog.", "A dog."),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": "A "}, {"type": "text", "text": "dog."}], "A dog."),
        ([{"type": "output_text", "text": "A dog.", "annotations": []}], "A dog."),
        (["A ", {"type": "text", "text": "dog."}], "A dog."),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "A"}], "A"),
        ([{"type": "text", "text": None}], ""),
    ],
)
def test_the_text_of_an_answer(content: Any, text: str) -> None:
    assert read(said({"role": "assistant", "content": content})).text == text


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_reasoning_alone_is_said(key: str) -> None:
    cut = read(said({"content": None, key: "The picture shows"}, "length"))
    ended = read(said({"content": "", key: "The picture shows"}))
    answered = read(said({"content": "A dog.", key: "The picture shows"}, "length"))

    assert (cut.text, cut.truncated) == ("", True)
    assert cut.detail == (
        "the model gave its reasoning alone, cut off at generation.max_tokens before the answer: "
        "raise it, or turn thinking off"
    )
    assert (ended.truncated, ended.detail) == (False, "the model gave its reasoning alone")
    assert (answered.text, answered.truncated, answered.detail) == ("A dog.", True, "")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (said({"content": [{"type": "image_url", "image_url": {"url": "x"}}]}), "a part of type 'image_url'"),
        (said({"content": [{"type": "text", "text": "A"}, {"text": "B"}]}), "a part of type 'None'"),
        (said({"content": None, "refusal": "I can't\nhelp."}), r"the model refuses: I can't help\."),
        (said({"content": [{"type": "refusal", "refusal": "No."}]}), r"the model refuses: No\."),
        (said({"content": None, "tool_calls": [{"id": "1"}]}), "calls a tool"),
        (said({"content": None}, "content_filter"), "filter holds the answer back"),
    ],
)
def test_what_will_never_be_a_caption_is_refused(body: Any, word: str) -> None:
    with pytest.raises(Poison, match=word) as fault:
        read(body)

    assert fault.value.reason == Reason.ENGINE_REFUSED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff\xfe",
        b"null",
        b"3",
        b"[]",
        b'{"choices": ' + b"[" * 100_000,
        {},
        {"choices": []},
        {"choices": None},
        {"choices": [None]},
        {"choices": {"0": 1}},
        said(None),
        said([]),
        said({"content": 5}),
        said({"content": {"type": "text", "text": "A"}}),
        said({"content": [5]}),
        said({"content": [{"type": "text"}]}),
        said({"content": [{"type": ["text"], "text": "A"}]}),
        said({"content": "A"}, "abort"),
        {"error": {"message": "the backend is gone"}},
        {"error": "gone", "choices": None},
    ],
    ids=repr,
)
def test_what_is_no_answer_may_be_one_next_time(body: Any) -> None:
    with pytest.raises(Transient) as fault:
        read(body)

    assert fault.value.reason == Reason.ENGINE_REFUSED


def test_an_error_in_a_good_answer_is_said() -> None:
    with pytest.raises(Transient, match="the backend is gone"):
        read({"error": {"message": "the backend is gone", "code": 502}})


@pytest.mark.parametrize(
    "usage", [None, [], "x", {"prompt_tokens": "many"}, {"prompt_tokens": -1}, {"prompt_tokens": 1.5}]
)
def test_tokens_that_can_not_be_counted_are_not(usage: Any) -> None:
    assert read(said({"content": "A dog."}, usage=usage)).prompt_tokens == 0


@pytest.mark.parametrize("logprobs", [[], {"content": [{"token": "A"}]}, {"content": 3}, {"content": [{}]}])
def test_log_probabilities_that_nobody_asked_for_harm_nobody(logprobs: Any) -> None:
    body = said({"content": "A dog."})
    body["choices"][0]["logprobs"] = logprobs

    assert read(body).text == "A dog."


@pytest.mark.parametrize("wanted", ["off", "strip", "keep"])
def test_reasoning_that_a_server_leaves_in_the_text_is_cut_out(wanted: Any) -> None:
    prompt = Prompt("What?", reasoning=wanted)
    whole = "It is red.</think>\n\nA red ball."

    done = read(said({"content": whole}), prompt)
    cut = read(said({"content": "<think>It is"}, "length"), prompt)

    assert done.text.strip() == (whole if wanted == "keep" else "A red ball.")
    assert (cut.text, cut.truncated) == ("", True)
    assert "raise it" in cut.detail


def test_an_answer_to_a_prompt_that_ended_inside_the_reasoning() -> None:
    def of(message: Any, finish: str) -> Completion:
        content = json.dumps(said(message, finish)).encode()
        return completion_of(httpx.Response(200, content=content), ASK, 0.0, 0.0, is_open=True)

    assert of({"content": "It is"}, "length").text == ""
    assert of({"content": "A red ball."}, "stop").text == "A red ball."  # of a server that cuts it out by itself
    assert of({"content": "A red", "reasoning": "It is"}, "length").text == "A red"


def test_a_servers_count_of_the_reasoning_is_taken() -> None:
    usage = {"completion_tokens": 90, "completion_tokens_details": {"reasoning_tokens": 80}}

    assert read(said({"content": "A ball.", "reasoning": "It is"}, usage=usage)).reasoning_tokens == 80
    assert read(said({"content": "A ball."}, usage={"completion_tokens_details": None})).reasoning_tokens == 0


def test_an_answer_says_what_its_server_calls_it() -> None:
    answer = read(said({"content": "A dog."}, model="tiny-2026", id="chatcmpl-1"))
    nameless = read(said({"content": "A dog."}, model=7, id="x" * 1000))

    assert (answer.origin.provider, answer.origin.model, answer.origin.answer) == ("openai", "tiny-2026", "chatcmpl-1")
    assert (nameless.origin.model, nameless.origin.answer) == ("", "x" * 256)
