"""Answers that are to have a form: JSON of a schema, one of several words, or what an expression fits.

Whatever holds a model to the form, its answer is looked at all the same: a server may pass over what it was asked, and
a grammar knows less than a schema says.
"""

import json
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

from daemon.prompts.answer_form import AnswerForm

_LONGEST = 300  # characters of the reason
_DEEPEST = 64  # objects and lists in each other: writers of messages have a bound of their own


@dataclass(frozen=True, slots=True)
class Read:
    """An answer as its form reads it. Where it does not fit, ``reason`` is a code and ``detail`` says why."""

    data: Any = None
    reason: str = ""
    detail: str = ""


def read_answer(text: str, form: AnswerForm) -> Read:
    """Return what an answer says in its form, or why it has another one."""
    if form.kind == "choice":
        return (
            Read() if text in form.value else Read(reason="choice", detail=f"it is none of {form.written}"[:_LONGEST])
        )
    if form.kind == "regex":
        fits = re.fullmatch(form.written, text, re.DOTALL) is not None
        return Read() if fits else Read(reason="regex", detail=f"it does not fit {form.written}"[:_LONGEST])
    try:
        data = json.loads(text, strict=False, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        return Read(reason="not_json", detail=f"it is not JSON: {error}"[:_LONGEST])
    if _depth(data) > _DEEPEST:
        return Read(reason="not_json", detail=f"it is nested more than {_DEEPEST} deep")
    fault = _fault(data, form)
    return Read(data) if fault is None else Read(reason="schema", detail=fault[:_LONGEST])


def _fault(data: Any, form: AnswerForm) -> str | None:
    """Return why data does not fit its schema; None where it does."""
    from jsonschema.exceptions import best_match

    try:
        error = best_match(_validator(form).iter_errors(data))
    except Exception as fault:  # a reference to nowhere, or one that leads round in a circle
        return f"its schema can't be followed: {type(fault).__name__}"
    if error is None:
        return None
    return f"at {error.json_path}: {error.message}"


@lru_cache(maxsize=64)
def _validator(form: AnswerForm) -> Any:
    """Return the validator of a schema, which fetches nothing that the schema refers to."""
    from jsonschema.validators import validator_for
    from referencing import Registry

    schema = form.value
    return validator_for(schema)(schema, registry=Registry())


def _depth(data: Any) -> int:
    deepest, left = 0, [(data, 1)]
    while left:
        one, depth = left.pop()
        below = one.values() if isinstance(one, dict) else one if isinstance(one, list) else None
        if below is not None:
            deepest = max(deepest, depth)
            left += [(inner, depth + 1) for inner in below]
    return deepest


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number that is too large")
    return number
