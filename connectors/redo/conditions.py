"""Conditions on messages: ``status=looping``, ``window.index!=0``, ``source=inbox``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Condition:
    """A key of a message, as a path with dots, and the values that it is to have, or not to have."""

    path: tuple[str, ...]
    values: tuple[str, ...]
    is_met_by_others: bool = False

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Read ``KEY=VALUE``, ``KEY=VALUE|VALUE`` or ``KEY!=VALUE``; :class:`ConfigurationError` for anything else."""
        key, equals, value = text.partition("=")
        is_not = key.endswith("!")
        path = tuple(key.removesuffix("!").strip().split("."))
        if not equals or not all(path):
            raise ConfigurationError(f"{text!r} is no KEY=VALUE or KEY!=VALUE", path="--where")
        return cls(path, tuple(one.strip() for one in value.split("|")), is_not)

    def is_met(self, message: Mapping[str, Any]) -> bool:
        """Return whether a message meets it. A key that a message does not have has no value: it equals nothing."""
        found: Any = message
        for part in self.path:
            if not isinstance(found, Mapping) or part not in found:
                return self.is_met_by_others
            found = found[part]
        return (_said(found) in self.values) is not self.is_met_by_others


def all_met(conditions: Sequence[Condition], message: Mapping[str, Any]) -> bool:
    """Return whether one message meets all conditions."""
    return all(condition.is_met(message) for condition in conditions)


def _said(value: Any) -> str:
    """Return a value as JSON writes it, and a text as it is."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
