"""Text from outside, made safe to print: a model describes pixels that anyone may have chosen."""

import unicodedata
from typing import Any

MAX_TEXT_CHARS = 65_536  # far above what any max_tokens in use gives; bounds the size of a message

# Overrides and isolates of writing direction reorder what is shown after them; marks (LRM, RLM) stay
_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_LINE_ENDS = {ord(char): "\n" for char in "\v\f\x85\u2028\u2029"}


def clean_text(value: Any) -> Any:
    """Return a text without control characters, its line ends all newlines; anything but a string is left as it is."""
    if not isinstance(value, str):
        return value
    if len(value) <= MAX_TEXT_CHARS and value.replace("\n", "").isprintable():
        return value  # as nearly every text is
    text = value.replace("\r\n", "\n").replace("\r", "\n").translate(_LINE_ENDS)
    return "".join(map(_shown, text[:MAX_TEXT_CHARS]))


def clean_line(value: Any) -> Any:
    """Return a text on one line without control characters; anything but a string is left as it is."""
    return " ".join(clean_text(value).split()) if isinstance(value, str) else value


def _shown(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Cs":
        return "\ufffd"  # half of a pair, or a byte that is not UTF-8
    return "" if (category == "Cc" and char not in "\n\t") or char in _DIRECTION else char
