"""The prompt templates that ``prompt.template`` may name beside the models' own chat templates.

A model family registers its templates when the program starts, so the daemon knows no family by name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

AUTO = "auto"  # the model's own chat template
MEDIA_TOKEN = "<video>"  # noqa: S105  where the text of a template shows the frames

_registered: dict[str, "PromptTemplate"] = {}


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The conversation that one family of models expects around a question.

    ``render(text, system)`` returns the whole prompt, in which :data:`MEDIA_TOKEN` stands once, where the frames are
    shown. ``stop`` are strings that end the answer beside the model's own end token.
    """

    render: Callable[[str, str | None], str]
    stop: tuple[str, ...] = ()


def register(name: str, template: PromptTemplate) -> None:
    """Let ``prompt.template`` name a template; a second one of the same name replaces the first."""
    _registered[name] = template


def templates() -> Mapping[str, PromptTemplate]:
    """Return every template that was registered, by its name."""
    return MappingProxyType(_registered)
