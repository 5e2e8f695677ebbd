"""The keys that a configuration may have, each with the places where it stands, for the hint beside an unknown one."""

import difflib
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from daemon.config.overrides import choices
from daemon.config.settings import Settings

_PLACES_SHOWN = 3


def hint(path: str) -> str:
    """Return what to write instead of the unknown key at ``path``: the place it has, or a key of nearly its name."""
    name = path.rpartition(".")[2]
    names, places = set[str](), dict[str, list[str]]()
    for place, kind in _places(Settings, ""):
        key = place.rpartition(".")[2]
        names.add(key)
        if key == name:
            places.setdefault(place, []).extend([kind] if kind else [])
    if places:
        said = [place + (f" with kind: {' or '.join(kinds)}" if kinds else "") for place, kinds in places.items()]
        return f"; it stands at {', '.join(said[:_PLACES_SHOWN])}"
    close = difflib.get_close_matches(name, names, n=1)
    return f"; do you mean {close[0]!r}?" if close else ""


def _places(kind: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the place of every key below a type, and the kind of its section where sections differ by kind."""
    for one in choices(kind):
        if get_origin(one) is dict:
            yield from _places(get_args(one)[1], f"{path}.NAME")
        elif isinstance(one, type) and issubclass(one, BaseModel):
            said = one.model_fields.get("kind")
            for name, field in one.model_fields.items():
                place = f"{path}.{name}" if path else name
                yield place, said.default if said is not None else ""
                yield from _places(field.annotation, place)
