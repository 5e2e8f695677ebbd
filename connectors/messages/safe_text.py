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


# Shown as they are although they are format characters: they join and part letters of a script, and parts of an emoji
_JOINERS = frozenset("\u200c\u200d")
_UNSAFE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escaped(text: str) -> str:
    """Return a text on one line for a terminal or a log: what controls either is written as its code, nothing is lost.

    These are control characters (C0, C1, DEL), those that turn the writing direction, and everything else that is
    there without being seen. A terminal would obey them, and a log would show lines that nobody logged.
    """
    return text if text.isprintable() else "".join(_code(char) if _is_unsafe(char) else char for char in text)


def escaped_lines(text: str, indent: str = "") -> str:
    """Return the same for a text of several lines; the second and later ones begin with ``indent``."""
    return f"\n{indent}".join(map(escaped, text.split("\n")))


def escaped_json(text: str) -> str:
    """Return JSON that means the same and is safe to print: in its strings those characters are JSON's own escapes."""
    return text if text.isprintable() else "".join(_json_code(char) for char in text)


def _is_unsafe(char: str) -> bool:
    return char not in _JOINERS and unicodedata.category(char) in _UNSAFE


def _code(char: str) -> str:
    number = ord(char)
    if number < 0x100:
        return _SHORT.get(char, f"\\x{number:02x}")
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _json_code(char: str) -> str:
    if char < " " or not _is_unsafe(char):
        return char  # JSON escapes the former itself: here they can only stand between its values
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{int.from_bytes(units[at : at + 2]):04x}" for at in range(0, len(units), 2))
