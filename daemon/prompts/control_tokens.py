"""The control tokens of a model: what its tokenizer adds to text, and what a sender's text must never become."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_ROUNDS = 8


@dataclass(frozen=True)
class ControlTokens:
    """The tokens of a tokenizer that stand for something else than their text, by their text.

    Blank ones and single characters (some tokenizers add line ends, runs of spaces, symbols) are text like any other.
    """

    ids: Mapping[str, int]

    @classmethod
    def of(cls, tokenizer: Any) -> "ControlTokens":
        """Return those of a Hugging Face tokenizer."""
        special = getattr(tokenizer, "all_special_tokens", ()), getattr(tokenizer, "all_special_ids", ())
        known = {**dict(zip(*special, strict=False)), **tokenizer.get_added_vocab()}
        return cls({text: number for text, number in known.items() if len(text.strip()) > 1})

    def broken(self, text: str, also: Sequence[str] = ()) -> str:
        """Return the text with a space in each control token's name, so that it is read as what it says.

        A text without any is returned as it is, and gives the same tokens as ever. What breaking one brings together
        is broken too, within a few rounds; :meth:`in_` tells what that leaves.
        """
        names = sorted({*self.ids, *also}, key=len, reverse=True)
        for _ in range(_ROUNDS):
            found = [name for name in names if name in text]
            for name in found:
                first = len(name) - len(name.lstrip()) + 1
                text = text.replace(name, f"{name[:first]} {name[first:]}")
            if not found:
                break
        return text

    def in_(self, ids: Sequence[int]) -> list[int]:
        """Return the control tokens among these, in their order."""
        numbers = frozenset(self.ids.values())
        return [number for number in ids if number in numbers]
