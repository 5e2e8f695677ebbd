"""The form of answers that a question's settings mean, with the JSON Schema read from its file where it has one."""

import json
from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError
from daemon.config.prompt_settings import PromptSettings
from daemon.prompts.answer_form import AnswerForm

_MOST_BYTES = 2**20  # far above any schema that a grammar takes


def form_of(prompt: PromptSettings, path: str) -> AnswerForm | None:
    """Return the form of a question's answers; None where they are free.

    Raises:
        ConfigurationError: with the key below ``path``; the schema is none, or its file can't be read.
    """
    if prompt.choice is not None:
        return AnswerForm.of_choice(prompt.choice)
    if prompt.regex is not None:
        return AnswerForm("regex", prompt.regex)
    if prompt.schema is None:
        return None
    given: Any = prompt.schema
    schema = _read(Path(given), f"{path}.schema") if isinstance(given, str) else given
    _check(schema, f"{path}.schema")
    return AnswerForm.of_schema(schema)


def _read(path: Path, key: str) -> Any:
    try:
        if not path.is_file():
            raise ConfigurationError(f"there is no such file: {path}", path=key)
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigurationError(f"{path} is too large for a JSON Schema", path=key)
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}", path=key) from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not JSON: {error}", path=key) from error


def _check(schema: Any, key: str) -> None:
    """Refuse what is no JSON Schema, and one that points out of itself: nothing is fetched for it."""
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for

    if not isinstance(schema, dict):
        raise ConfigurationError("a JSON Schema is an object here", path=key)
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        place = ".".join(map(str, error.absolute_path))
        where = f" at {place}" if place else ""
        raise ConfigurationError(f"it is no JSON Schema{where}: {error.message}", path=key) from error
    if (outside := next(_references_outside(schema), None)) is not None:
        message = f"$ref {outside!r} points out of the schema: put what is meant into $defs"
        raise ConfigurationError(message, path=key)


def _references_outside(schema: Any) -> Any:
    if isinstance(schema, dict):
        for name, below in schema.items():
            if name in ("$ref", "$dynamicRef") and isinstance(below, str) and not below.startswith("#"):
                yield below
            yield from _references_outside(below)
    elif isinstance(schema, list):
        for below in schema:
            yield from _references_outside(below)
