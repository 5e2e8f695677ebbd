"""The places in a question's text that each window fills: words in braces, and what stands there.

A text is the operator's, and what fills it is data: names, attributes and earlier captions come from whoever sends
clips or shows something to a camera. So a filled text stays apart in the two (see :attr:`Prompt.words`), is filled
once, and what fills it is no template, whatever braces it holds.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from connectors.errors import ConfigurationError
from daemon.prompts.prompt import Prompt

PLACES = ("source", "clip", "start", "end", "duration", "timestamps", "num_frames", "previous")
ATTRIBUTES = "attributes."
MOST_CHARACTERS = 10_000  # of what fills one place: a sender's attribute can be as long as a record

_WORD = r"[A-Za-z_][A-Za-z0-9_.-]*"
_IS_TEMPLATE = re.compile(r"\{" + _WORD + r"\}")
_PIECE = re.compile(r"\{\{|\}\}|\{(" + _WORD + r")\}|[{}]")


def places_in(text: str | None, path: str) -> tuple[str, ...]:
    """Return the places in a text, in their order; none for one that holds no word in braces and stays as it is.

    Raises:
        ConfigurationError: with ``path``; there is no such place, or a brace that is none of one.
    """
    if text is None or not _IS_TEMPLATE.search(text):
        return ()
    found = dict[str, None]()
    for piece in _PIECE.finditer(text):
        name = piece[1]
        if name is not None:
            _refuse_unknown(name, path)
            found[name] = None
        elif len(piece[0]) == 1:
            message = f"a brace beside places such as {{clip}} is written twice: {piece[0]}{piece[0]}"
            raise ConfigurationError(message, path=path)
    return tuple(found)


def _refuse_unknown(name: str, path: str) -> None:
    if name in PLACES or (name.startswith(ATTRIBUTES) and len(name) > len(ATTRIBUTES)):
        return
    close = difflib.get_close_matches(name, PLACES, n=1)
    known = ", ".join(f"{{{one}}}" for one in (*PLACES, f"{ATTRIBUTES}NAME"))
    hint = f"do you mean {{{close[0]}}}?" if close else f"there are {known}"
    raise ConfigurationError(
        f"nothing stands for {{{name}}}: {hint}; the braces themselves are {{{{ and }}}}", path=path
    )


def filled(prompt: Prompt, value_of: Callable[[str], str]) -> Prompt:
    """Return a question with its places filled, each once, by what ``value_of`` returns for it."""
    values = {name: value_of(name)[:MOST_CHARACTERS] for name in prompt.places}
    words = _filled(prompt.words or (prompt.text,), values)
    system_words = () if prompt.system is None else _filled((prompt.system,), values)
    system = prompt.system if prompt.system is None else "".join(system_words)
    return replace(prompt, text="".join(words), system=system, words=words, system_words=system_words)


def _filled(words: Sequence[str], values: Mapping[str, str]) -> tuple[str, ...]:
    """Return text that is the operator's and data in turns with the places in the operator's filled."""
    found = [""]
    for at, part in enumerate(words):
        if at % 2:
            found += [part, ""]
        elif _IS_TEMPLATE.search(part):
            own = list(_taken_apart(part, values))
            found[-1] += own[0]
            found += own[1:]
        else:
            found[-1] += part
    return tuple(found)


def _taken_apart(text: str, values: Mapping[str, str]) -> tuple[str, ...]:
    words, at = [""], 0
    for piece in _PIECE.finditer(text):
        words[-1] += text[at : piece.start()]
        if piece[1] is None:
            words[-1] += piece[0][0]
        else:
            words += [values[piece[1]], ""]
        at = piece.end()
    words[-1] += text[at:]
    return tuple(words)


def with_words_behind(prompt: Prompt, text: str) -> Prompt:
    """Return a question with a sender's words behind it, as data."""
    return replace(prompt, text=f"{prompt.text}\n\n{text}", words=(f"{prompt.text}\n\n", text))
