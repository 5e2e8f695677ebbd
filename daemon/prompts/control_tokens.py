"""The control tokens of a model: what its tokenizer adds to text, and what a sender's text must never become."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROUNDS = 8
# The brackets that open a control token, or a mark of a template, in the families of models in use. Wide ones count,
# because some tokenizers make ordinary ones of them.
_OPENINGS = re.compile(
    # <|im_end|>, <\uff5c...\uff5c>, <<SYS>>, </s>, <start_of_turn>, <extra_id_1>
    r"[<\uff1c\ufe64](?=[|\uff5c<\uff1c\ufe64\]]|[^\s<>\uff1e\ufe65]+[>\uff1e\ufe65])"
    # [INST], [/INST], [IMG], [@BOS@]; but not [12]
    r"|[\[\uff3b](?=/?(?!\d+[\]\uff3d])[\w@-]+[\]\uff3d])"
    # ]~b], [e~[, ]<]image[>[
    r"|\[(?=e~\[|>)|\](?=[~<])"
)


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


class LikelyControlTokens:
    """The control tokens of a model whose tokenizer is not here, told by their shape.

    A text gets a space behind each bracket that opens a name as control tokens have it, so its words stay readable.
    Breaking only parts what stood together, so nothing new comes of it, and once is enough.
    """

    def broken(self, text: str) -> str:
        """Return the text with a space in each control token's name, so that it is read as what it says."""
        return _OPENINGS.sub(r"\g<0> ", text)


def control_tokens_of(model: str) -> ControlTokens | LikelyControlTokens:
    """Return those of a model that a server reads: its tokenizer's, where the name is a folder here that holds one."""
    folder = Path(model)
    if not folder.is_absolute() or not (folder / "tokenizer_config.json").is_file():
        return LikelyControlTokens()
    from transformers import AutoTokenizer

    try:
        return ControlTokens.of(AutoTokenizer.from_pretrained(model, local_files_only=True))
    except Exception:  # a tokenizer of code that is not here, or of another version: loaders raise anything
        return LikelyControlTokens()
