"""The common class of the configuration's sections, and the sizes that are written in them."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, PrivateAttr

from connectors.questions import Questions

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class Section(BaseModel):
    """A part of the configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=False, allow_inf_nan=False
    )


Priority = Literal["live", "normal", "backfill"]
"""Whose turn it is first where sources wait for slots."""

FromRecords = Literal["never", "replace", "append"]
"""The use of a question that came with a clip: none, or it is asked instead of the operator's own, or behind it."""


class TakesAnswers(Section):
    """The section of a sink, which knows what the sources ask: no key of its own says it."""

    _questions: Questions = PrivateAttr(default_factory=Questions)

    @property
    def questions(self) -> Questions:
        """What windows are asked, by source."""
        return self._questions

    def know(self, questions: Questions) -> None:
        """Take note of what the rest of the configuration asks; :class:`ValueError` where that does not fit a key."""
        self._questions = questions


def parse_bytes(value: Any) -> Any:
    """Turn ``"64MiB"`` into a number of bytes; anything but a string is left to pydantic."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?i?B?)\s*", value, re.IGNORECASE)
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError("write a size as a number of bytes or with a unit, for example 64MiB or 2GB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


Bytes = Annotated[int, BeforeValidator(parse_bytes)]
