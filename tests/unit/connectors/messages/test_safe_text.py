"""Text from outside: what a terminal or a log gets of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.messages.safe_text import escaped, escaped_json, escaped_lines

HOSTILE = {
    "\x1b[2J": r"\x1b[2J",  # clears the screen
    "\x1b]52;c;cm0=\x07": r"\x1b]52;c;cm0=\x07",  # writes the clipboard
    "\x9b31m\x85": r"\x9b31m\x85",  # C1: a colour, a new line
    "a\rb\nc\td": r"a\rb\nc\td",
    "\u202egp4.exe\u2066\u200f\u061c": r"\u202egp4.exe\u2066\u200f\u061c",  # writing direction
    "a\u2028b\u2029c": r"a\u2028b\u2029c",
    "\ufeff\u00ad\U000e0041": r"\ufeff\xad\U000e0041",  # there without being seen
    "\udcff\x7f\x00": r"\udcff\x7f\x00",
}
HARMLESS = "T\u00fcre \u6249 \u062f\u0631\u0628\u200c\u0647\u0627 \U0001f469\u200d\U0001f680 a\\b \u00a0'\"[x]"


@pytest.mark.parametrize("text", HOSTILE)
def test_what_would_control_a_terminal_is_written_as_its_code(text: str) -> None:
    assert escaped(text) == HOSTILE[text]


def test_letters_of_every_script_stay() -> None:
    assert escaped(HARMLESS) == HARMLESS
    assert escaped_json(json.dumps(HARMLESS, ensure_ascii=False)) == json.dumps(HARMLESS, ensure_ascii=False)


def test_lines_stay_lines_under_the_first() -> None:
    assert escaped_lines("a\x1b\nb\r\nc", "  ") == "a\\x1b\n  b\\r\n  c"


@given(st.text())
def test_json_stays_the_same_json(text: str) -> None:
    for indent in (None, 2):
        printed = escaped_json(json.dumps({"a": text}, ensure_ascii=False, indent=indent))
        assert json.loads(printed) == {"a": text}
        assert all(
            char.isprintable() or char in "\n\u200c\u200d" or not escaped(char).startswith("\\") for char in printed
        )


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("".join(HOSTILE))))
def test_nothing_that_is_escaped_would_be_escaped_again(text: str) -> None:
    assert escaped(escaped(text)) == escaped(text)
    assert "\n" not in escaped(text)
