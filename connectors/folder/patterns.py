"""Patterns of paths: globs in which ``**`` is any number of folders and braces hold alternatives.

``*``, ``?`` and ``[]`` are as in a shell; ``{mp4,mkv}`` and ``{1..4}`` too, and they nest. A backslash takes the
meaning from the character behind it. A pattern that can never match is refused, for it would leave a folder untouched
without a word.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase, translate
from functools import lru_cache

_MOST_BRACES, _MOST_ALTERNATIVES = 50, 1_000  # each path is held against each alternative
_TOKEN = re.compile(r"\\.|\[!?\]?[^\]/]*\]|.", re.DOTALL)
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
_NEVER = "(?!)"  # what fnmatch makes of an empty range, such as [z-a]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern as the alternatives that its braces mean, each as the components of a path."""

    alternatives: tuple[tuple[str, ...], ...]

    def fits(self, parts: Sequence[str]) -> bool:
        """Whether a path, as components, fits."""
        return any(fits_pattern(parts, alternative) for alternative in self.alternatives)


@lru_cache(maxsize=256)
def parse_pattern(text: str) -> Pattern:
    """Return the pattern of a text; :class:`ValueError` where it can't be read or an alternative never fits."""
    return Pattern(tuple(_components(alternative, text) for alternative in expand_braces(text)))


def expand_braces(text: str) -> list[str]:
    """Return a pattern's alternatives, with their backslashes; :class:`ValueError` where a brace is open."""
    tokens: list[str] = _TOKEN.findall(text)
    if tokens.count("{") > _MOST_BRACES:
        raise ValueError(f"{text!r} has more than {_MOST_BRACES} braces")
    return _expand(tokens, text)


def _expand(tokens: Sequence[str], text: str) -> list[str]:
    if "{" not in tokens:
        return ["".join(tokens)]
    at = tokens.index("{")
    choices, end = _choices(tokens, at, text)
    if len(choices) > 1:
        inner = [one for choice in choices for one in _expand(choice, text)]
    else:
        inner = _numbers("".join(choices[0])) or [f"{{{one}}}" for one in _expand(choices[0], text)]
    rests = _expand(tokens[end + 1 :], text)
    if len(inner) * len(rests) > _MOST_ALTERNATIVES:
        raise ValueError(f"the braces of {text!r} mean more than {_MOST_ALTERNATIVES} alternatives")
    before = "".join(tokens[:at])
    return [before + one + rest for one in inner for rest in rests]


def _choices(tokens: Sequence[str], at: int, text: str) -> tuple[list[list[str]], int]:
    """Return what the commas of the brace at ``at`` part, and where it ends."""
    choices: list[list[str]] = [[]]
    depth = 0
    for place in range(at + 1, len(tokens)):
        piece = tokens[place]
        if piece == "}" and depth == 0:
            return choices, place
        if piece == "," and depth == 0:
            choices.append([])
            continue
        depth += (piece == "{") - (piece == "}")
        choices[-1].append(piece)
    raise ValueError(f"a brace of {text!r} is not closed; a name with a brace in it is written with \\{{")


def _numbers(text: str) -> list[str]:
    """Return the numbers of ``1..4``, as long as its longer end where one begins with 0; empty where it is none."""
    found = _RANGE.fullmatch(text)
    if found is None:
        return []
    first, last = int(found[1]), int(found[2])
    if abs(last - first) >= _MOST_ALTERNATIVES:
        raise ValueError(f"{{{text}}} means more than {_MOST_ALTERNATIVES} alternatives")
    padded = any(len(end.lstrip("-")) > 1 and end.lstrip("-").startswith("0") for end in found.groups())
    width = max(map(len, found.groups())) if padded else 0
    step = 1 if last >= first else -1
    return [f"{number:0{width}d}" for number in range(first, last + step, step)]


def _components(alternative: str, text: str) -> tuple[str, ...]:
    parts = alternative.split("/")
    if alternative.startswith("/") or ".." in parts:
        raise ValueError(f"{text!r} leads elsewhere: write it relative to path, without ..")
    if "" in parts or "." in parts:
        raise ValueError(
            f"{text!r} can never match: no path has an empty part or a . between its slashes or at its end"
        )
    components = tuple(map(_for_fnmatch, parts))
    never = next((part for part in components if _NEVER in translate(part) or "\0" in part), None)
    if never is not None:
        raise ValueError(f"{text!r} can never match: no name fits {never!r}")
    return components


def _for_fnmatch(part: str) -> str:
    """Return a component as :mod:`fnmatch` reads it, which takes brackets for backslashes."""
    tokens = _TOKEN.findall(part)
    if "\\" in tokens:
        raise ValueError(f"{part!r} ends with a backslash: it takes the meaning from a character behind it")
    return "".join(_unescaped(token) for token in tokens)


def _unescaped(token: str) -> str:
    if len(token) != 2 or token[0] != "\\":
        return token
    return f"[{token[1]}]" if token[1] in "*?[" else token[1]


def fits_pattern(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path fits a glob, both as components; ``**`` stands for any number of folders.

    A sender chooses the path: its length costs neither stack nor more than its product with the pattern's.
    """
    at = fitting = 0
    behind_last: tuple[int, int] | None = None  # where the last ** lets the path, and the pattern, go on
    while at < len(parts):
        wanted = pattern[fitting] if fitting < len(pattern) else None
        if wanted == "**":
            fitting += 1
            behind_last = at, fitting
        elif wanted is not None and fnmatchcase(parts[at], wanted):
            at, fitting = at + 1, fitting + 1
        elif behind_last is not None:
            at, fitting = behind_last[0] + 1, behind_last[1]
            behind_last = at, fitting
        else:
            return False
    return all(wanted == "**" for wanted in pattern[fitting:])
