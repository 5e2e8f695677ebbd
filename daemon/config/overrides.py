"""Overrides on the command line: ``key.path=value``, read by what the key takes.

A key that takes text gets the text as it is, quotes and ``#`` included. Every other value is YAML: a number, a boolean,
a list, a mapping. ``null``, or nothing behind the sign, takes a key's value away where the key may be without one.
"""

from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from connectors.errors import ConfigurationError
from daemon.config.yaml_file import parse_yaml, plain_values, texts

_OF_A_SOURCE = ("prompt", "prompts", "windows", "frames")
_OWN = (dict[str, Any], dict[str, dict[str, Any]])
_TEXT_OR_SECTION = [str, dict[str, Any]]  # a question of a topic, or one that a source asks


def set_key(values: dict[str, Any], override: str, settings: type[BaseModel] | None = None) -> None:
    """Apply one ``key.path=value``; where ``settings`` says nothing of the key, its value is read as YAML."""
    key, text = split_override(override)
    value = value_of(key, text, settings)
    *parents, last = key.split(".")
    at = values
    for parent in parents:
        below = at.get(parent)
        if below is None:
            below = at[parent] = {}
        if not isinstance(below, dict):
            raise ConfigurationError(f"{parent!r} is a value, not a section.", path=key)
        at = below
    at[last] = value


def split_override(override: str) -> tuple[str, str]:
    """Return an override's key and the text of its value."""
    key, sign, text = override.lstrip("+").partition("=")
    if not sign or not key:
        raise ConfigurationError(f"{override!r} is not an override: write key.path=value.")
    return key, text


def value_of(key: str, text: str, settings: type[BaseModel] | None) -> Any:
    """Return the value that ``text`` means for a key of ``settings``."""
    kinds = [] if settings is None else list(_kinds(settings, key.split(".")))
    taken = [kind for kind in kinds if kind is not NoneType]
    if (taken and all(_is_text(kind) for kind in taken)) or (taken == _TEXT_OR_SECTION and not text.startswith("{")):
        return None if NoneType in kinds and text in ("", "null") else text
    try:
        value = parse_yaml(text)
        return texts(value) if taken and not {Any, dict[str, Any]} & {*taken} else plain_values(value)
    except ValueError as error:
        raise ConfigurationError(f"the value {text!r} is not YAML: {error}", path=key) from error


def _is_text(kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return all(isinstance(choice, str) for choice in get_args(kind))
    return kind in (str, Path)


def _kinds(kind: Any, path: list[str]) -> Iterator[Any]:
    """Yield every type that the key at ``path`` below a type may have; nothing where nobody knows the key."""
    for one in choices(kind):
        if not path:
            yield one
        elif isinstance(one, type) and issubclass(one, BaseModel):
            yield from _kinds_in(one, path)
        elif get_origin(one) is dict:
            yield from _kinds(get_args(one)[1], path[1:])


def _kinds_in(section: type[BaseModel], path: list[str]) -> Iterator[Any]:
    own = section.model_fields.get(path[0])
    if own is None:
        return
    if own.annotation in _OWN and (above := _overridden(path[0])) is not None:
        yield from _kinds(above, path[1:])  # a source's own prompt, windows and frames have the keys of the top level's
    else:
        yield from _kinds(own.annotation, path[1:])


def _overridden(name: str) -> Any:
    from daemon.config.settings import Settings

    return Settings.model_fields[name].annotation if name in _OF_A_SOURCE else None


def choices(kind: Any) -> Iterator[Any]:
    """Yield the members of a union; a type by itself is the only one."""
    if get_origin(kind) is Annotated:
        yield from choices(get_args(kind)[0])
    elif get_origin(kind) in (Union, UnionType):
        for member in get_args(kind):
            yield from choices(member)
    else:
        yield kind
