"""Answers lose their conversation and their end, and never a letter."""

import pytest

from neva.conversations import TEMPLATES, Turn, conversation
from neva.evaluate.responses import RULES, clean_answer, clean_response

TRAPS = ["a tiger eating a deer", "data", "extra", "a red axe dart", "tired _ id 1", "<extra", "1"]
REACHABLE = sorted(set(TEMPLATES) - {"plain", "interleaved"})


def test_every_template_of_inference_has_a_rule() -> None:
    assert sorted(RULES) == REACHABLE


@pytest.mark.parametrize("template", REACHABLE)
@pytest.mark.parametrize("answer", TRAPS)
def test_no_letter_is_eaten(template: str, answer: str) -> None:
    text = conversation(template, [Turn("What?<video>", answer)])

    assert clean_response(template, text) == answer


@pytest.mark.parametrize("template", REACHABLE)
def test_the_last_answer_counts(template: str) -> None:
    text = conversation(template, [Turn("One?", "first"), Turn("Two?", "second")])

    assert clean_response(template, text) == "second"


@pytest.mark.parametrize("template", REACHABLE)
def test_an_empty_answer_is_empty(template: str) -> None:
    assert clean_response(template, conversation(template, [Turn("One?", "first"), Turn("Two?")])) == ""


def test_a_label_in_the_middle_of_a_conversation_is_none_of_the_answer() -> None:
    text = conversation("nvgpt", [Turn("Q", "A hand with a robot arm", label="quality:4,toxicity:0")])

    assert clean_response("nvgpt", text) == "A hand with a robot arm"


@pytest.mark.parametrize(
    ("template", "generated", "clean"),
    [
        ("nvgpt", "A tiger\n<extra_id_1>", "A tiger"),
        ("nv_dpo", " data<extra_id_1>", "data"),
        ("llama_3", "Yes<|eot_id|><|eot_id|>", "Yes"),
        ("yi_34b", "immediately<|im_end|>", "immediately"),
        ("v1", " A red axe</s>", "A red axe"),
        ("mistral", "so</s>", "so"),
        ("auto", " as it is<extra_id_1>", "as it is<extra_id_1>"),
    ],
)
def test_generated_text(template: str, generated: str, clean: str) -> None:
    assert clean_answer(template, generated) == clean


def test_the_users_own_ends_are_removed_whole() -> None:
    assert clean_answer("v1", "pond END", ("END",)) == "pond"
    assert clean_answer("v1", "pond", ("END", "")) == "pond"


def test_text_without_an_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match="no answer of template"):
        clean_response("v1", "nothing here")
