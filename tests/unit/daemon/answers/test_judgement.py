"""The status of answers: their form, their quality, and what is said of those that are not good."""

import json

import pytest

from connectors.contract import CaptionStatus
from daemon.answers.judgement import Judgement, judge
from daemon.answers.structured import read_answer
from daemon.engines.contract import Completion
from daemon.prompts.answer_form import AnswerForm
from daemon.prompts.prompt import Prompt

SCHEMA = AnswerForm.of_schema(
    {"type": "object", "required": ["who"], "properties": {"who": {"type": "string"}, "count": {"type": "integer"}}}
)


def said(text: str, prompt: Prompt, **more: object) -> Judgement:
    return judge(Completion(text, bool(more.pop("truncated", False)), 1, 0, 1, **more), prompt)  # type: ignore[arg-type]


def test_an_answer_that_fits_has_its_data_and_its_text() -> None:
    found = said(' {"who": "a dog", "count": 2}\n', Prompt("?", form=SCHEMA))

    assert found == Judgement(CaptionStatus.SUCCESS, '{"who": "a dog", "count": 2}', {"who": "a dog", "count": 2})


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ("A dog.", "not_json", "it is not JSON"),
        ('{"who": 1}', "schema", "at $.who: 1 is not of type 'string'"),
        ("{}", "schema", "'who' is a required property"),
        ('{"who": "x", "count": NaN}', "not_json", "NaN"),
        ('{"who": "x", "count": 1e999}', "not_json", "too large"),
        ("[" * 100 + "]" * 100, "not_json", "64 deep"),
        ("[" * 100_000, "not_json", ""),
        ('{"who": "x", "count": ' + "1" * 10_000 + "}", "not_json", ""),
    ],
)
def test_an_answer_that_does_not_fit_is_invalid_and_says_why(text: str, reason: str, detail: str) -> None:
    found = said(text, Prompt("?", form=SCHEMA))

    assert (found.status, found.data, found.reason) == (CaptionStatus.INVALID, None, reason)
    assert detail in found.detail
    assert len(found.detail) <= 300


def test_control_characters_that_a_grammar_lets_into_a_text_are_read_as_what_they_are() -> None:
    assert read_answer('{"who": "a\x16\tb"}', SCHEMA).data == {"who": "a\x16\tb"}


def test_a_schema_that_leads_nowhere_makes_no_answer_valid() -> None:
    for schema in ({"$ref": "#/$defs/none"}, {"$ref": "#"}):
        assert read_answer("{}", AnswerForm.of_schema(schema)).reason == "schema"


def test_words_and_expressions() -> None:
    choice, regex = AnswerForm.of_choice(("yes", "no")), AnswerForm("regex", r"\d+ (cars?|dogs?)")

    assert said(" yes ", Prompt("?", form=choice)).status is CaptionStatus.SUCCESS
    assert said("Yes.", Prompt("?", form=choice)).reason == "choice"
    assert said("12 dogs", Prompt("?", form=regex)).status is CaptionStatus.SUCCESS
    assert said("12 dogs and a cat", Prompt("?", form=regex)).reason == "regex"


def test_what_was_cut_off_is_no_success_whatever_it_holds() -> None:
    whole = said('{"who": "a"}', Prompt("?", form=SCHEMA), truncated=True)
    half = said('{"who": "a', Prompt("?", form=SCHEMA), truncated=True)

    assert (whole.status, whole.data) == (CaptionStatus.TRUNCATED, {"who": "a"})
    assert (half.status, half.data, half.reason) == (CaptionStatus.TRUNCATED, None, "not_json")


def test_loops_and_refusals_count_where_they_are_asked_for() -> None:
    loop, plain = "the dog runs " * 20, Prompt("?")
    asked = Prompt("?", stop_loops=True, refusals=("I can't",))

    assert said(loop, plain).status is CaptionStatus.SUCCESS
    assert said("I can't.", plain).status is CaptionStatus.SUCCESS
    assert (said(loop, asked, truncated=True).status, said(loop, asked).reason) == (CaptionStatus.LOOPING, "text")
    assert said("A dog", asked, looping=True).reason == "engine"
    assert (said("I can't.", asked).status, said("I can't.", asked).reason) == (CaptionStatus.REFUSED, "phrase")
    assert said("", asked, refusal="It declines").reason == "model"
    assert said("A dog runs.", asked) == Judgement(CaptionStatus.SUCCESS, "A dog runs.")


def test_data_is_what_json_says() -> None:
    any_json = AnswerForm.of_schema({})

    for data in (None, 0, "a", [1, {"b": None}], {"c": 1.5}):
        assert read_answer(json.dumps(data), any_json).data == data
