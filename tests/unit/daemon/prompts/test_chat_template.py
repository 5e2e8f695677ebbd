"""Chat templates: out of a file, with arguments, and with thinking turned off where they have a switch for it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError, Poison, Reason
from daemon.prompts.chat_template import ChatTemplate, is_template_file, loops_over_parts, read_template, variables
from daemon.prompts.prompt import Placeholder, Prompt, PromptEncoder
from daemon.prompts.reasoning import THINK
from testing.tiny_models import QWEN_TEMPLATE, byte_tokenizer
from tests.thinking_templates import ALWAYS, QWEN3, QWEN35, SWITCHED

pytest.importorskip("transformers")
TOKENS = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>", "<think>", "</think>"]
CLOSED, OPEN = "<think>\n\n</think>\n\n", "<think>\n"


def encoder(template: str, **more: Any) -> PromptEncoder:
    tokenizer = byte_tokenizer(TOKENS, template)
    at = Placeholder.of_token("video", "<|video_pad|>", tokenizer.convert_tokens_to_ids("<|video_pad|>"))
    return PromptEncoder(tokenizer, at, ChatTemplate(template, parts=True), **more)


def end_of(template: str, prompt: Prompt) -> str:
    return encoder(template).render(prompt, 1).rpartition("assistant\n")[2]


@pytest.mark.parametrize(
    ("template", "reasoning", "arguments", "end"),
    [
        (QWEN3, "off", {}, CLOSED),
        (QWEN3, "strip", {}, ""),
        (QWEN3, "keep", {}, ""),
        (QWEN3, "off", {"enable_thinking": True}, ""),
        (QWEN3, "strip", {"enable_thinking": False}, CLOSED),
        (QWEN35, "off", {}, CLOSED),
        (QWEN35, "strip", {}, OPEN),
        (SWITCHED, "off", {}, "</think>"),
        (SWITCHED, "keep", {"thinking": True}, "<think>"),
        (ALWAYS, "off", {}, OPEN),
        (QWEN_TEMPLATE, "off", {}, ""),
    ],
)
def test_thinking_is_off_where_the_template_can_and_nobody_says_otherwise(
    template: str, reasoning: Any, arguments: dict[str, Any], end: str
) -> None:
    prompt = Prompt("What?", reasoning=reasoning, template_args=arguments)

    assert end_of(template, prompt) == end


@pytest.mark.parametrize(
    ("template", "reasoning", "is_open"),
    [(QWEN3, "strip", False), (QWEN35, "strip", True), (QWEN35, "off", False), (ALWAYS, "off", True)],
)
@pytest.mark.parametrize("text", ["What?", "Answer as <think>why</think>what", "Never write <think>", "</think>"])
def test_a_prompt_that_ends_inside_the_reasoning_is_known_by_what_the_template_adds(
    template: str, reasoning: Any, text: str, is_open: bool
) -> None:
    for by_sender in (False, True):
        prompt = Prompt(text, reasoning=reasoning, from_sender=by_sender)

        assert encoder(template).leaves_open(prompt, THINK) == is_open


@pytest.mark.parametrize(("given", "hint"), [("enable_thinkin", "do you mean 'enable_thinking'"), ("tall", "'tall'")])
def test_an_argument_that_changes_nothing_is_refused(given: str, hint: str) -> None:
    with pytest.raises(Poison, match=hint) as refused:
        encoder(QWEN3).encode(Prompt("What?", template_args={given: False}), 1)

    assert refused.value.reason == Reason.PROMPT


def test_a_template_of_a_file_stands_for_the_models_own() -> None:
    read: list[str] = []

    def as_one_text(source: str) -> ChatTemplate:
        read.append(source)
        return ChatTemplate(source, parts=False)

    mine = encoder(QWEN_TEMPLATE, read=as_one_text)
    prompt = Prompt("What?", chat_template="Q: {{ messages[0].content }} {{ tone }} A:", template_args={"tone": "dry"})

    assert mine.render(prompt, 2) == "Q: <|video_pad|>\n<|video_pad|>\nWhat? dry A:"
    assert mine.render(replace(prompt, text="Who?"), 1) == "Q: <|video_pad|>\nWho? dry A:"
    assert read == [prompt.chat_template]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{% set tone = tone|default('dry') %}{{ tone }}", {"tone"}),
        ("{% set ns = namespace(enable_thinking=true) %}{{ ns.enable_thinking }}", set()),
        ("{% for one in messages %}{% if loop.first %}{% continue %}{% endif %}{{ one }}{% endfor %}", {"messages"}),
        ("{% generation %}{{ messages }}{% endgeneration %}", {"messages"}),
        ("{% if %}", set()),
    ],
)
def test_the_variables_of_a_template_are_those_that_it_does_not_set(text: str, found: set[str]) -> None:
    assert variables(text) == found


@pytest.mark.parametrize(
    ("name", "is_file"),
    [("auto", False), ("v1", False), ("nv_steerlm", False), ("mine.jinja", True), ("a/mine", True), ("x.j2", True)],
)
def test_a_file_is_told_by_its_name(name: str, is_file: bool) -> None:
    assert is_template_file(name) == is_file


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "there is no such file"),
        (b"{% if %}", r"is no Jinja template: .*\(line 1\)"),
        (b"\n{{ messages", r"is no Jinja template: .*\(line 2\)"),
        (b"\xff", "is not UTF-8: its byte 0"),
        (b"x" * (2**20 + 1), "too large"),
    ],
)
def test_a_file_that_is_no_template_is_refused_with_its_key(tmp_path: Path, content: bytes | None, word: str) -> None:
    if content is not None:
        (tmp_path / "mine.jinja").write_bytes(content)

    with pytest.raises(ConfigurationError, match=word) as refused:
        read_template(tmp_path / "mine.jinja", "prompt.template")

    assert refused.value.path == "prompt.template"


def test_a_folder_is_no_template(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        read_template(tmp_path, "prompt.template")


@pytest.mark.parametrize(
    ("text", "certain"),
    [
        ("{% for m in messages %}{% for part in m['content'] %}{{ part }}{% endfor %}{% endfor %}", True),
        ("{% for m in messages %}{% for part in m.content %}{{ part }}{% endfor %}{% endfor %}", True),
        ("{% for m in messages %}{% set n.any = true %}{% for p in m.content %}{% endfor %}{% endfor %}", True),
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", False),
        ("{% for m in messages %}{% for part in m['parts'] %}{{ part }}{% endfor %}{% endfor %}", False),
        ("{% for m in others %}{% for part in m['content'] %}{{ part }}{% endfor %}{% endfor %}", False),
        ("{% set n.all = messages %}{% for m in messages %}{% for p in m.content %}{% endfor %}{% endfor %}", False),
        ("{% for a, b in messages %}{% for part in a.content %}{{ part }}{% endfor %}{% endfor %}", False),
        ("{% for m in messages %}{% for part in", False),
    ],
)
def test_a_template_that_plainly_takes_parts_is_known(text: str, certain: bool) -> None:
    assert loops_over_parts(text) is certain
