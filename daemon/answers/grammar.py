"""The check of forms against the grammars that will hold the model to them, with the keyword that one can't take."""

import copy
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from connectors.errors import ConfigurationError
from daemon.prompts.answer_form import AnswerForm

Refuses = Callable[[AnswerForm], str]
"""Returns why a grammar can't be made of a form; empty where it can."""
Place = tuple[str | int, ...]


def check_form(form: AnswerForm, refuses: Refuses, path: str) -> None:
    """Refuse a form that no grammar can be made of.

    Raises:
        ConfigurationError: with the key below ``path``, and the keyword of a schema without which there would be one.
    """
    why = refuses(form)
    if not why:
        return
    keyword = keyword_refused(form.value, refuses) if form.kind == "schema" else ""
    named = f"the keyword {keyword} can't be asked for" if keyword else "it can't be asked for"
    raise ConfigurationError(f"{named}: vLLM's grammar refuses it ({why})", path=f"{path}.{form.kind}")


def keyword_refused(schema: Any, refuses: Refuses) -> str:
    """Return the places of the keywords without which a schema would be taken; empty where it would not be at all.

    They go one after the other, the innermost first, for what holds a keyword is not to blame; then each comes back
    that was not in the way.
    """
    gone: list[Place] = []
    for place in sorted(_places(schema), key=len, reverse=True):
        gone.append(place)
        if not refuses(_without(schema, gone)):
            break
    else:
        return ""
    for place in list(gone):
        others = [one for one in gone if one != place]
        if not refuses(_without(schema, others)):
            gone = others
    return " and ".join(".".join(map(str, place)) for place in gone)


def _places(schema: Any, place: Place = ()) -> Iterator[Place]:
    """Yield the place of every keyword: a name below ``properties`` is none."""
    if isinstance(schema, dict):
        for name, below in schema.items():
            is_name = bool(place) and place[-1] in ("properties", "$defs", "definitions", "patternProperties")
            if not is_name and name != "type":
                yield (*place, name)
            yield from _places(below, (*place, name))
    elif isinstance(schema, list):
        for at, below in enumerate(schema):
            yield from _places(below, (*place, at))


def _without(schema: Any, places: Iterable[Place]) -> AnswerForm:
    """Return the form of a schema without the keywords at these places."""
    left = copy.deepcopy(schema)
    for place in places:
        at = left
        for part in place[:-1]:
            at = at[part]
        del at[place[-1]]
    return AnswerForm("schema", json.dumps(left))
