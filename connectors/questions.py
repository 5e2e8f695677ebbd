"""The questions of each source as sinks know them: their names, and what of an answer a text track shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

NAME = r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$"
"""The form of a question's name: it is a part of names of topics."""


@dataclass(frozen=True)
class Questions:
    """What windows are asked. ``of`` holds, by source, each question's name with the JSON pointer of its cues.

    A source that asks one question without a name has the name ``""``.
    """

    of: Mapping[str, Mapping[str, str | None]] = field(default_factory=lambda: MappingProxyType({}))

    def names(self, source: str) -> tuple[str, ...]:
        """Return the names of a source's questions in their order; none for the one without a name."""
        return tuple(name for name in self.of.get(source, ()) if name)

    def pointer(self, source: str, name: str | None) -> str | None:
        """Return where in an answer's data the text of its cue is; None where the cue shows the text."""
        return self.of.get(source, {}).get(name or "")
