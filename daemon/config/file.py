"""The reader of a configuration: a YAML file, the environment and overrides become settings, or one clear error.

The order: the file, then ``--set key.path=value``. ``${NAME}`` and ``${NAME:default}`` in the file's values are taken
from the environment, and ``$$`` is a dollar sign. Relative paths are relative to the file. Every error is a
:class:`ConfigurationError` (exit 78) that names the key's path.
"""

import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from connectors.errors import ConfigurationError
from connectors.validation import Fault, faults_of
from daemon.config.known_keys import hint
from daemon.config.overrides import set_key
from daemon.config.prompt_settings import PromptSettings
from daemon.config.settings import Settings
from daemon.config.yaml_file import read_mapping, texts
from daemon.config.yaml_file import read_yaml as read_yaml
from daemon.prompts.chat_template import is_template_file

_VARIABLE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?\}")
_LARGEST = 2**63  # no number of a configuration is near it, and what counts in 64 bits would break


def load(path: Path, overrides: Iterable[str] = ()) -> Settings:
    """Read the configuration file ``path`` with ``key.path=value`` overrides."""
    return settings_from(read_mapping(path), overrides, folder=path.resolve().parent)


def settings_from(values: Mapping[str, Any], overrides: Iterable[str] = (), *, folder: Path) -> Settings:
    """Return the settings that plain values mean; relative paths are relative to ``folder``."""
    merged: dict[str, Any] = _substituted(texts(dict(values)), "")
    for override in overrides:
        set_key(merged, override, Settings)
    _refuse_odd_numbers(merged, "")
    if "STATE_DIRECTORY" in os.environ:  # systemd's StateDirectory=
        merged.setdefault("state_dir", os.environ["STATE_DIRECTORY"])
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise _as_configuration_error(error, merged) from error
    absolute: Settings = _with_templates(_absolute(settings, folder), folder)
    return absolute


def _with_templates(settings: Settings, folder: Path) -> Settings:
    """Return the settings with the paths of chat templates and of schemas absolute: they look like such."""
    changed: dict[str, Any] = {}
    for name, source in settings.sources.items():
        prompts: dict[str, Any] = {
            key: _with_paths(asked, folder) if isinstance(asked, dict) else asked
            for key, asked in source.prompts.items()
        }
        own = {"prompt": _with_paths(source.prompt, folder), "prompts": prompts}
        if own != {"prompt": source.prompt, "prompts": source.prompts}:
            changed[name] = source.model_copy(update=own)
    update: dict[str, Any] = {"sources": {**settings.sources, **changed}} if changed else {}
    update["prompt"] = _section_with_paths(settings.prompt, folder)
    update["prompts"] = {name: _section_with_paths(one, folder) for name, one in settings.prompts.items()}
    return settings.model_copy(update=update)


def _section_with_paths(prompt: PromptSettings, folder: Path) -> PromptSettings:
    given = prompt.model_dump(include={"template", "schema"}, exclude_unset=True)
    changed = _with_paths(given, folder)
    return prompt if changed == given else prompt.model_copy(update=changed)


def _with_paths(prompt: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a question's keys with the files that they name by absolute paths."""
    found, template, schema = dict(prompt), prompt.get("template"), prompt.get("schema")
    if isinstance(template, str) and is_template_file(template):
        found["template"] = str(_absolute(Path(template), folder))
    if isinstance(schema, str):
        found["schema"] = str(_absolute(Path(schema), folder))
    return found


def _substituted(value: Any, path: str) -> Any:
    """Return values with the environment's in them."""
    if isinstance(value, dict):
        return {key: _below(key, below, f"{path}.{key}" if path else str(key)) for key, below in value.items()}
    if isinstance(value, list):
        return [_substituted(below, f"{path}.{i}") for i, below in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        if name is None:
            return "$"
        if default is not None and "${" in default:
            message = f"a default is text: ${{{name}:...}} can't hold another variable (a dollar sign is $$)"
            raise ConfigurationError(message, path=path)
        found = os.environ.get(name, default)
        if found is None:
            message = f"the environment has no {name}, and ${{{name}}} no default ($${{{name}}} is the text itself)"
            raise ConfigurationError(message, path=path)
        return found

    return _VARIABLE.sub(replace, value)


def _below(key: Any, value: Any, path: str) -> Any:
    if isinstance(key, str) and "${" in key:
        raise ConfigurationError("the environment is read in values, not in keys", path=path)
    return _substituted(value, path)


def _refuse_odd_numbers(value: Any, path: str) -> None:
    """Refuse infinities, what is no number, and numbers that nothing can count with, wherever they stand."""
    if isinstance(value, dict):
        for key, below in value.items():
            _refuse_odd_numbers(below, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for i, below in enumerate(value):
            _refuse_odd_numbers(below, f"{path}.{i}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigurationError(f"{value} is no number that can be counted with", path=path)
    elif isinstance(value, int | float) and abs(value) >= _LARGEST:
        raise ConfigurationError("the number is too large", path=path)


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
            text += hint(path)
        elif fault.is_missing_key:
            text = "this key is needed"
        elif isinstance(fault.given, str | int | float | bool):
            text += f" (it is {fault.given!r}{_hint(fault)})"
        lines.append((path, text))
    (first_path, first), *others = lines
    more = "".join(f"\n{path}: {text}" for path, text in others)
    return ConfigurationError(first + more, path=first_path)


def _hint(fault: Fault) -> str:
    is_text_wanted = fault.kind == "string_type" and not isinstance(fault.given, str)
    return ": as text it stands in quotes" if is_text_wanted else ""


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
