"""The quality of an answer: whether it says the same again and again, and whether the model declines to answer."""

import re
from collections.abc import Sequence
from itertools import pairwise

_WORDS = re.compile(r"\w+|[^\w\s]")
_LONGEST_UNIT = 64  # words, or tokens, of what is repeated
_LAST = 512  # of an answer's words, tokens or characters so many are looked at: a loop does not end by itself
# how often a unit comes in a row, and how long all of that is: people say "very, very, very" and "no, no, no, no"
_LEAST_TIMES, _LEAST_LENGTH = 3, 12
_LEAST_TIMES_OF_ONE = 8
_LEAST_CHARACTERS = 48
# a loop that varies: of so many words in a row, so few are different, and so few of their pairs
_STRETCH, _FEWEST_WORDS, _FEWEST_PAIRS = 48, 0.25, 0.4


def loops(text: str, token_ids: Sequence[int] = ()) -> str:
    """Return how an answer repeats itself at its end; empty where it does not."""
    words = _WORDS.findall(text.lower())[-_LAST:]
    ends = words, words[:-1], list(token_ids[-_LAST:])  # the last word may be cut off
    if unit := next(filter(None, map(_repeated, ends)), None):
        return f"it ends with {unit[1]} times the same {unit[0]} words"
    letters = "".join(text.split())[-_LAST:]
    if (unit := _repeated(letters)) and unit[0] * unit[1] >= _LEAST_CHARACTERS:
        return f"it ends with {unit[1]} times the same {unit[0]} characters"
    if len(words) >= _STRETCH and _says_little(words[-_STRETCH:]):
        return f"its last {_STRETCH} words are the same few"
    return ""


def _repeated(items: Sequence[object]) -> tuple[int, int] | None:
    """Return the length of the unit that the end consists of and how often it comes; None where it does not repeat.

    The last of them may be cut off, as an answer is at ``max_tokens``.
    """
    count = len(items)
    for unit in range(1, min(_LONGEST_UNIT, count // _LEAST_TIMES) + 1):
        alike = 0
        while alike + unit < count and items[-1 - alike] == items[-1 - alike - unit]:
            alike += 1
        length = alike + unit
        least = _LEAST_TIMES_OF_ONE if unit == 1 else _LEAST_TIMES
        if length // unit >= least and (unit == 1 or length >= _LEAST_LENGTH):
            return unit, length // unit
    return None


def _says_little(words: Sequence[str]) -> bool:
    pairs = set(pairwise(words))
    return len(set(words)) / len(words) < _FEWEST_WORDS and len(pairs) / len(words) < _FEWEST_PAIRS


def refuses(text: str, phrases: Sequence[str]) -> str:
    """Return the phrase of refusal that an answer holds, whatever its case and kind of apostrophe; empty for none."""
    said = _plain(text)
    return next((phrase for phrase in phrases if _plain(phrase) in said), "")


def _plain(text: str) -> str:
    return " ".join(text.replace("\u2019", "'").casefold().split())
