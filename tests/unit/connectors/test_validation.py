"""One translation of pydantic's errors: where a fault is, and what is wrong."""

from typing import Any

import pytest
from pydantic import ValidationError, field_validator

from connectors.section import Section
from connectors.validation import Fault, faults_of, first_fault


class Inner(Section):
    """A section with a rule of its own."""

    size: int

    @field_validator("size")
    @classmethod
    def _is_even(cls, size: int) -> int:
        if size % 2:
            raise ValueError(f"{size} is odd")
        return size


class Outer(Section):
    """A section around another."""

    inner: Inner
    name: str = ""


def faults(values: dict[str, Any]) -> list[Fault]:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(values)
    assert first_fault(caught.value) == faults_of(caught.value)[0]
    return faults_of(caught.value)


def test_a_rules_own_sentence_is_said_as_it_is() -> None:
    (fault,) = faults({"inner": {"size": 3}})

    assert (fault.path(), fault.path("sources", "a")) == ("inner.size", "sources.a.inner.size")
    assert (fault.sentence(), fault.message, fault.given) == ("3 is odd", "Value error, 3 is odd", 3)


def test_an_unknown_key_is_named() -> None:
    (fault,) = faults({"inner": {"size": 2}, "nmae": "a"})

    assert fault.is_unknown_key
    assert (fault.path(), fault.sentence()) == ("nmae", "unknown key")
    assert fault.sentence("no such key") == "no such key"


def test_every_fault_is_there_in_order() -> None:
    wrong = faults({"inner": {}, "name": 7})

    assert [(fault.path(), fault.is_missing_key) for fault in wrong] == [("inner.size", True), ("name", False)]
