"""Reasoning is cut out of an answer, and one that never came to an answer is no caption."""

from typing import Any

import pytest

from daemon.prompts.reasoning import THINK, Answer, ReasoningCutter

WHOLE = "<think>\nIt is red.\n</think>\n\nA red ball."
CUT_OFF = "cut off at generation.max_tokens before the answer: raise it"


@pytest.mark.parametrize(
    ("text", "is_open", "answer"),
    [
        (WHOLE, False, "A red ball."),
        (WHOLE, True, "A red ball."),
        ("It is red.\n</think>A red ball.", True, "A red ball."),
        ("It is red.\n</think>A red ball.", False, "A red ball."),  # a template that nobody asked about
        ("<think></think>A red ball.", False, "A red ball."),
        ("A red ball.", False, "A red ball."),
        ("A <b> ball, </b> thinking.", False, "A <b> ball, </b> thinking."),
    ],
)
def test_the_answer_is_what_stands_behind_the_reasoning(text: str, is_open: bool, answer: str) -> None:
    found = ReasoningCutter().cut(text, "strip", is_open=is_open, is_cut=False)

    assert (found.text.strip(), found.detail) == (answer, "")
    assert found.has_reasoned == (text != answer)


def test_what_is_kept_stays_as_it_is() -> None:
    kept = ReasoningCutter().cut(WHOLE, "keep", is_open=False, is_cut=False)

    assert kept == Answer(WHOLE, has_reasoned=True)


@pytest.mark.parametrize("wanted", ["off", "strip", "keep"])
@pytest.mark.parametrize(
    ("text", "is_open"),
    [
        ("<think>It is", False),
        ("It is", True),
        ("", True),
        ("<think>It is red.</think>", False),
        ("It is red.</think>\n", True),
    ],
)
def test_reasoning_alone_is_never_a_caption(text: str, is_open: bool, wanted: Any) -> None:
    cut = ReasoningCutter().cut(text, wanted, is_open=is_open, is_cut=True)
    ended = ReasoningCutter().cut(text, wanted, is_open=is_open, is_cut=False)

    assert (cut.text, ended.text) == ("", "")
    assert CUT_OFF in cut.detail
    assert ended.detail == "the model gave its reasoning alone"


def test_a_parser_without_marks_is_asked_about_every_answer() -> None:
    asked = ReasoningCutter(None, lambda text: (None, text) if text == "A ball." else ("why", "A ball."))

    assert asked.cut("A ball.", "off", is_open=False, is_cut=False) == Answer("A ball.")
    assert asked.cut("Here is why.", "off", is_open=False, is_cut=False) == Answer("A ball.", has_reasoned=True)


def test_a_parser_that_misses_what_its_own_marks_show_is_not_believed() -> None:
    blind = ReasoningCutter(THINK, lambda text: (None, text))

    assert blind.cut(WHOLE, "strip", is_open=False, is_cut=False).text.strip() == "A red ball."
    assert blind.cut("It is", "strip", is_open=True, is_cut=True).text == ""
    assert blind.cut("A red ball.", "strip", is_open=False, is_cut=True) == Answer("A red ball.")
