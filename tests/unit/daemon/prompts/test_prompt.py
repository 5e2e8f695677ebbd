"""Prompts: their hash, and their way through a template into tokens."""

import re
from dataclasses import replace
from typing import Any

import pytest

from connectors.errors import Poison, Reason
from daemon.prompts.answer_form import AnswerForm
from daemon.prompts.chat_template import ChatTemplate
from daemon.prompts.prompt import _UNHASHED, Placeholder, Prompt, PromptEncoder, Stop
from daemon.prompts.templates import PromptTemplate

IMAGE_ID, VIDEO_ID = 1000, 1001
SPECIAL = {"<image>": IMAGE_ID, "<video>": VIDEO_ID}


class CharacterTokenizer:
    """A token a character, but for the special ones; its templates are Python's."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        pieces = re.split("(<image>|<video>)", text)
        return [i for piece in pieces for i in ([SPECIAL[piece]] if piece in SPECIAL else map(ord, piece))]

    def get_added_vocab(self) -> dict[str, int]:
        return SPECIAL

    def apply_chat_template(self, messages: list[Any], *, chat_template: str, **_: Any) -> str:
        if chat_template == "refuses system" and messages[0]["role"] == "system":
            raise ValueError("System role not supported")
        return "".join(f"{one['role']}: {self._text(one['content'])}\n" for one in messages)

    def _text(self, content: Any) -> str:
        if isinstance(content, str):
            return content
        return "".join(part.get("text", f"<{part['type']}>") for part in content)


def encoder(modality: Any = "image", *, parts: bool = True, template: str | None = "plain") -> PromptEncoder:
    placeholder = Placeholder.of_token(modality, f"<{modality}>", SPECIAL[f"<{modality}>"])
    chat = None if template is None else ChatTemplate(template, parts)
    table = {
        "shout": PromptTemplate(lambda text, system: f"{system or 'Q'}! <video>{text}!", stop=("!",)),
        "blind": PromptTemplate(lambda text, _: text),
    }
    return PromptEncoder(CharacterTokenizer(), placeholder, chat, table)


def test_the_hash_is_over_every_field() -> None:
    prompt = Prompt("What happens?")

    changed = [
        replace(prompt, text="Who?"),
        replace(prompt, template="v1"),
        replace(prompt, system="Be brief."),
        replace(prompt, max_tokens=1),
        replace(prompt, stop=(".",)),
        replace(prompt, seed=1),
        replace(prompt, logprobs=0),
    ]

    assert re.fullmatch("[0-9a-f]{16}", prompt.hash)
    assert len({one.hash for one in [prompt, *changed]}) == 8
    assert prompt.hash == Prompt("What happens?").hash


def test_the_hash_of_what_does_not_use_a_later_setting_is_what_it_was() -> None:
    v1 = Prompt("Who?", "v1", "Be brief.", max_tokens=9, temperature=0.5, stop=(".",), seed=3, logprobs=2)

    assert Prompt("Describe this video.").hash == "83801910e600d382"
    assert v1.hash == "fe0f16534e5ab062"


def test_the_hash_is_over_every_later_setting_that_is_used() -> None:
    changes: list[dict[str, Any]] = [
        {"min_p": 0.1},
        {"presence_penalty": 0.1},
        {"frequency_penalty": 0.1},
        {"ignore_eos": True},
        {"chat_template": "{{ messages }}"},
        {"template_args": {"enable_thinking": False}},
        {"template_args": {"enable_thinking": True}},
        {"reasoning": "strip"},
        {"reasoning": "keep"},
        {"from_model": ("temperature",)},
        {"from_model": ("temperature", "top_p")},
        {"name": "alert"},
        {"form": AnswerForm.of_choice(("yes", "no"))},
        {"form": AnswerForm("regex", "yes|no")},
        {"places": ("clip",)},
        {"context_windows": 2},
        {"retries": 1},
        {"stop_loops": True},
        {"refusals": ("I can't",)},
    ]

    assert len({replace(Prompt("What?"), **change).hash for change in [{}, *changes]}) == 1 + len(changes)
    assert {name for change in changes for name in change} == set(_UNHASHED)


@pytest.mark.parametrize("parts", [True, False])
def test_a_chat_shows_every_frame_and_the_question(parts: bool) -> None:
    between = "" if parts else "\n"

    text = encoder(parts=parts).render(Prompt("What?", system="Be brief."), 2)

    assert text == f"system: Be brief.\nuser: <image>{between}<image>{between}What?\n"


def test_a_video_is_one_placeholder() -> None:
    ids = encoder("video").encode(Prompt("What?"), 1)

    assert ids.count(VIDEO_ID) == 1


def test_a_conversation_shows_the_frames_where_its_media_token_stands() -> None:
    assert encoder().render(Prompt("What", template="shout", system="S"), 3) == "S! <image><image><image>What!"


def test_a_conversations_stop_strings_join_the_prompts_own() -> None:
    prompt = Prompt("What", template="shout", stop=("?", "!"))

    assert encoder().stop(prompt) == Stop(("?", "!"))
    assert encoder().stop(replace(prompt, stop=())) == Stop(("!",))
    assert encoder().stop(Prompt("What", stop=("?",))) == Stop(("?",))


def test_a_special_token_ends_the_answer_by_its_id() -> None:
    prompt = Prompt("What", stop=("<video>", ".", "<image>", "."))

    assert encoder().stop(prompt) == Stop((".",), (VIDEO_ID, IMAGE_ID))


@pytest.mark.parametrize(
    ("prompt", "template", "says"),
    [
        (Prompt("What is in <image>?"), "plain", r"3 placeholders for 2 image inputs.*own <image>"),
        (Prompt("What?", template="nobody"), "plain", r"no template 'nobody'; there are auto, blind, shout"),
        (Prompt("What?", template="blind"), "plain", r"shows <video> 0 times"),
        (Prompt("What?"), None, r"no chat template: prompt\.template"),
        (Prompt("What?", system="Be brief."), "refuses system", r"refuses the prompt: System role not supported"),
    ],
)
def test_what_does_not_fit_the_template_is_refused(prompt: Prompt, template: str | None, says: str) -> None:
    with pytest.raises(Poison, match=says) as refused:
        encoder(template=template).encode(prompt, 2)

    assert (refused.value.reason, refused.value.origin) == (Reason.PROMPT, "prompt")
