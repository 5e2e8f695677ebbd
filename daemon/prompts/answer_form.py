"""The form that an answer is to have: JSON of a schema, one of several words, or what an expression fits."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

FormKind = Literal["schema", "choice", "regex"]


@dataclass(frozen=True)
class AnswerForm:
    """The form of an answer. ``written`` is a schema or the list of words as canonical JSON, or the expression."""

    kind: FormKind
    written: str

    @classmethod
    def of_schema(cls, schema: Any) -> "AnswerForm":
        """Return the form of a JSON Schema."""
        return cls("schema", json.dumps(schema, sort_keys=True))

    @classmethod
    def of_choice(cls, words: tuple[str, ...]) -> "AnswerForm":
        """Return the form of an answer that is one of these."""
        return cls("choice", json.dumps(list(words)))

    @cached_property
    def value(self) -> Any:
        """The schema, the list of words, or the expression."""
        return self.written if self.kind == "regex" else json.loads(self.written)
