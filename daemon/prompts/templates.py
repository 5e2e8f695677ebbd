"""The one table of prompt profiles beside the models' own chat templates: what ``prompt.template`` may name.

This is the daemon's only way to ``neva/``, whose conversations it reads at the first use.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module

AUTO = "auto"  # the model's own chat template
MEDIA_TOKEN = "<video>"  # noqa: S105  where a profile's text shows the frames


@dataclass(frozen=True, slots=True)
class Profile:
    """How one family of conversations wraps a question.

    ``render(text, system)`` returns the whole prompt, in which :data:`MEDIA_TOKEN` stands once, where the frames are
    shown. ``stop`` are strings that end the answer beside the model's own end token.
    """

    render: Callable[[str, str | None], str]
    stop: tuple[str, ...] = ()


@cache
def profiles() -> Mapping[str, Profile]:
    """Return every profile by its name."""
    conversations = import_module("neva.conversations")
    return {
        name: Profile(partial(conversations.render, name), tuple(conversations.STOP.get(name, ())))
        for name in conversations.TEMPLATES
        if name not in conversations.NOT_FOR_INFERENCE
    }
