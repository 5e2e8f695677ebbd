"""The reader of a configuration: a YAML file, the environment and overrides become settings, or one clear error.

The order: the file, then ``--set key.path=value``. ``${NAME}`` and ``${NAME:default}`` in any string are taken from the
environment. Relative paths are relative to the file. Every error is a :class:`ConfigurationError` (exit 78) that names
the key's path.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from connectors.errors import ConfigurationError
from connectors.section import Section
from connectors.validation import faults_of
from daemon.config.settings import Settings

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?\}")


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, with a key that stands twice an error instead of a silent loss."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load(path: Path, overrides: Iterable[str] = ()) -> Settings:
    """Read the configuration file ``path`` with ``key.path=value`` overrides."""
    return settings_from(read_yaml(path), overrides, folder=path.resolve().parent)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a file's mapping; an empty file is an empty one."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path} holds a {type(values).__name__}, not a mapping of keys.")
    return values


def settings_from(values: Mapping[str, Any], overrides: Iterable[str] = (), *, folder: Path) -> Settings:
    """Return the settings that plain values mean; relative paths are relative to ``folder``."""
    merged: dict[str, Any] = _interpolate(dict(values), "")
    for override in overrides:
        set_key(merged, override)
    if "STATE_DIRECTORY" in os.environ:  # systemd's StateDirectory=
        merged.setdefault("state_dir", os.environ["STATE_DIRECTORY"])
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise _as_configuration_error(error, merged) from error
    absolute: Settings = _absolute(settings, folder)
    return absolute


def set_key(values: dict[str, Any], override: str) -> None:
    """Apply one ``key.path=value``; the value is read as YAML."""
    key, sign, text = override.lstrip("+").partition("=")
    if not sign or not key:
        raise ConfigurationError(f"{override!r} is not an override: write key.path=value.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"the value {text!r} is not YAML: {error}", path=key) from error
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


def _interpolate(value: Any, path: str) -> Any:
    if isinstance(value, dict):
        return {key: _interpolate(below, f"{path}.{key}" if path else str(key)) for key, below in value.items()}
    if isinstance(value, list):
        return [_interpolate(below, f"{path}.{i}") for i, below in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        found = os.environ.get(match[1], match[2])
        if found is None:
            raise ConfigurationError(f"the environment has no {match[1]}, and ${{{match[1]}}} no default.", path=path)
        return found

    return _VARIABLE.sub(replace, value)


def _absolute(section: Any, folder: Path) -> Any:
    """Return a section with its relative paths made absolute, sections below it included."""
    if isinstance(section, Path):
        return folder / section.expanduser()
    if isinstance(section, BaseModel):
        changed = {}
        for name in type(section).model_fields:
            before = getattr(section, name)
            after = _absolute(before, folder)
            if after is not before:
                changed[name] = after
        return section.model_copy(update=changed) if changed else section
    if isinstance(section, dict) and any(isinstance(value, BaseModel | Path) for value in section.values()):
        return {key: _absolute(value, folder) for key, value in section.items()}
    if isinstance(section, tuple) and any(isinstance(value, Path) for value in section):
        return tuple(_absolute(value, folder) for value in section)
    return section


def _as_configuration_error(error: ValidationError, values: Mapping[str, Any]) -> ConfigurationError:
    """Return every complaint of pydantic as a line that names the key as the user wrote it."""
    lines = []
    for fault in faults_of(error):
        path = _user_path(fault.location, values)
        text = fault.sentence()
        if fault.is_unknown_key:
            close = difflib.get_close_matches(path.rpartition(".")[2], _every_key(), n=1)
            text += f"; do you mean {close[0]!r}?" if close else ""
        elif fault.is_missing_key:
            text = "this key is needed"
        elif isinstance(fault.given, str | int | float | bool):
            text += f" (it is {fault.given!r})"
        lines.append((path, text))
    (first_path, first), *others = lines
    more = "".join(f"\n{path}: {text}" for path, text in others)
    return ConfigurationError(first + more, path=first_path)


def _user_path(loc: tuple[int | str, ...], values: Any) -> str:
    """Return a location as the user wrote it, without what pydantic adds to it (the kind of a union)."""
    path: list[str] = []
    for i, part in enumerate(loc):
        in_mapping = isinstance(values, Mapping) and part in values
        in_list = isinstance(values, list) and isinstance(part, int) and part < len(values)
        if in_mapping or in_list:
            values = values[part]
        elif i < len(loc) - 1:
            continue
        path.append(str(part))
    return ".".join(path)


def _every_key(section: type[BaseModel] = Section) -> set[str]:
    """Return every key that some section knows, for the suggestion beside an unknown one."""
    below = section.__subclasses__()
    return set(section.model_fields).union(*(_every_key(child) for child in below))
