"""The reload of the configuration while clips are captioned (SIGHUP).

Prompts, windows, frames and the generation's settings take effect with the next clip; a clip in flight keeps what it
started with. Anything else needs a restart, and then nothing at all is changed: a file is in force as a whole or not.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from connectors.errors import ConfigurationError
from connectors.routes import refuse_overlaps
from daemon.config.clip_settings import ClipSettings, settings_by_source
from daemon.config.prompt_trial import check_prompts
from daemon.config.settings import Settings
from daemon.engines.build import most_frames
from daemon.engines.contract import Engine

_RELOADABLE = ("windows", "frames", "prompt", "generation", "quality", "context")
_OF_A_SOURCE = ("windows", "frames", "prompt")


class Outcome(StrEnum):
    """The ways in which a reload ends; the metric's label."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass
class Reloader:
    """Holds the configuration in force. ``by_source`` is what the pipeline looks each new clip's settings up in."""

    settings: Settings
    read: Callable[[], Settings]
    by_source: dict[str, ClipSettings]
    engine: Engine

    def __post_init__(self) -> None:
        self._most_frames = most_frames(self.settings)  # what the engine was started for

    def reload(self) -> tuple[Outcome, str]:
        """Read the file again and return what became of it, with a sentence.

        Asks the model's processor, so it is called in a thread.
        """
        try:
            fresh = self.read()
            changed = list(differences(self.settings.model_dump(), fresh.model_dump()))
            changed += [] if changed else list(self._changed_templates(fresh))
            if not changed:
                return Outcome.UNCHANGED, "The configuration is as it was."
            fixed = [key for key in changed if not is_reloadable(key)]
            if fixed:
                needs = "needs" if len(fixed) == 1 else "need"
                return Outcome.REFUSED, f"Not reloaded: {_listed(fixed)} {needs} a restart."
            refuse_overlaps(fresh)
            by_source = settings_by_source(fresh)
            moved = [name for name in fresh.sources if self._moves_windows(name, fresh, by_source)]
            if moved:
                return Outcome.REFUSED, f"Not reloaded: windows of the stream {_listed(moved)} need a restart."
            self._check(fresh)
        except ConfigurationError as error:
            return Outcome.REFUSED, f"Not reloaded, the configuration is wrong: {' '.join(str(error).split())}."
        self.settings = fresh
        self.by_source.update(by_source)
        return Outcome.APPLIED, f"Reloaded: {_listed(changed)} changed; clips in flight keep what they started with."

    def _changed_templates(self, fresh: Settings) -> Iterator[str]:
        """Yield the key of each chat template and schema whose file holds something else than before."""
        for name, mine in settings_by_source(fresh).items():
            before = self.by_source[name].questions
            for old, new in zip(before, mine.questions, strict=False):
                if new.chat_template != old.chat_template:
                    yield f"sources.{name}.prompt.template"
                if new.form != old.form:
                    yield f"sources.{name}.prompt.schema"

    def _moves_windows(self, name: str, fresh: Settings, by_source: Mapping[str, ClipSettings]) -> bool:
        """Whether a stream's windows would lie elsewhere on the wall clock: its source was told at the start."""
        return fresh.sources[name].kind == "stream" and by_source[name].windows != self.by_source[name].windows

    def _check(self, fresh: Settings) -> None:
        """Refuse what the running engine can't do."""
        most = most_frames(fresh)
        if most > self._most_frames:
            message = f"{most} frames a window need a restart: the engine was started for {self._most_frames}"
            raise ConfigurationError(message, path="frames")
        check_prompts(fresh, self.engine.planner)


def is_reloadable(key: str) -> bool:
    """Return whether a changed key takes effect without a restart."""
    parts = key.split(".")
    if parts[-1] == "vtt_text":
        return False  # the sink was told at the start, as of the questions' names
    if parts[0] == "sources":
        return len(parts) > 2 and parts[2] in _OF_A_SOURCE
    return parts[0] in _RELOADABLE


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Yield the dotted keys whose values differ."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from differences(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
    elif before != after:
        yield path


def _listed(keys: list[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{', '.join(keys[:-1])} and {keys[-1]}"
