"""The reasoning of models that think before they answer, cut out of what they say.

A caption is an answer, and never a chain of thought that was cut off: where the answer did not begin, there is none.
An answer is taken apart only where reasoning is seen, by its marks in the answer or by a prompt that left one open, so
a model that merely knows the marks keeps its captions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Reasoning = Literal["strip", "keep", "off"]
Parse = Callable[[str], tuple[str | None, str | None]]
"""Takes the whole text apart into its reasoning and the answer behind it; None for one that there is none of."""


@dataclass(frozen=True, slots=True)
class Marks:
    """The texts around a model's reasoning."""

    start: str
    end: str

    def are_in(self, text: str) -> bool:
        """Whether one of them is in a text: the first may stand in the prompt, the last may not have come yet."""
        return self.start in text or self.end in text

    def left_open_in(self, text: str) -> bool:
        """Whether a text ends inside the reasoning."""
        return text.rfind(self.start) > text.rfind(self.end)

    def parse(self, text: str) -> tuple[str | None, str | None]:
        """Take a text apart that begins with reasoning, with or without the first mark."""
        before, mark, after = text.partition(self.start)
        reasoning, _, answer = (after if mark else before).partition(self.end)
        return reasoning, answer or None


THINK = Marks("<think>", "</think>")  # those of most models, and what others are asked for in words


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said. ``text`` is empty where it gave its reasoning alone, and ``detail`` then says so."""

    text: str
    has_reasoned: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ReasoningCutter:
    """Cuts reasoning out of answers. Without ``marks``, ``parse`` tells by itself whether there is any."""

    marks: Marks | None = THINK
    parse: Parse = THINK.parse

    def cut(self, text: str, wanted: Reasoning, *, is_open: bool, is_cut: bool) -> Answer:
        """Return the answer in a model's text.

        With ``is_open`` the prompt ended inside the reasoning, with ``is_cut`` the text ended at ``max_tokens``. Where
        ``wanted`` is ``keep`` the reasoning stays in front of the answer.
        """
        if self.marks is not None and not is_open and not self.marks.are_in(text):
            return Answer(text)
        reasoning, answer = self.parse(text)
        if reasoning is None and answer == text:
            if self.marks is None:
                return Answer(text)
            reasoning, answer = self.marks.parse(text)  # a parser that sees none where there is some
        if answer is None or not answer.strip():
            return Answer("", has_reasoned=True, detail=reasoning_alone(is_cut=is_cut))
        return Answer(text if wanted == "keep" else answer, has_reasoned=True)


def reasoning_alone(*, is_cut: bool) -> str:
    """Return the word about a model that gave its reasoning and no answer."""
    end = ", cut off at generation.max_tokens before the answer: raise it, or turn thinking off" if is_cut else ""
    return f"the model gave its reasoning alone{end}"
