"""The trial of a configuration's prompts: each source's is rendered and counted before any clip is taken.

A prompt that fits no window would send every clip of an inbox to ``failed/``. So what the configuration says is put
through the model's own template and processor, with small frames: whatever fails with those fails with all.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from connectors.errors import ConfigurationError, Poison, Reason
from daemon.config.clip_settings import ClipSettings, settings_by_source
from daemon.config.engine_settings import OpenAISettings
from daemon.config.settings import Settings
from daemon.frame_look import FrameSize, PixelBudget
from daemon.prompts.prompt import Prompt
from daemon.prompts.templates import AUTO, templates

_SMALL = 64  # height and width: a frame costs hardly fewer tokens than this one


class Planner(Protocol):
    """The part of :class:`daemon.engines.model.token_planner.TokenPlanner` that a trial asks."""

    def check(self, prompt: Prompt, num_frames: int, height: int, width: int) -> None: ...

    def frame_size(self, num_frames: int, own: FrameSize, budget: PixelBudget) -> FrameSize: ...


def check_templates(settings: Settings) -> None:
    """Raise :class:`ConfigurationError` for a template that there is none of; no model is loaded for it."""
    for name, mine in settings_by_source(settings).items():
        for prompt in mine.questions:
            _check_template(settings, prompt, _Keys(settings, name, prompt.name))


def _check_template(settings: Settings, prompt: Prompt, keys: "_Keys") -> None:
    wanted, path = prompt.template, keys.of("prompt", "template")
    if isinstance(settings.engine, OpenAISettings) and (wanted in templates() or prompt.chat_template):
        given = repr(wanted) if prompt.chat_template is None else "a file"
        message = f"a server knows its own chat template alone: write {AUTO}; {given} needs engine.kind: vllm"
        raise ConfigurationError(message, path=path)
    if wanted == AUTO:
        return
    if wanted not in templates():
        close = difflib.get_close_matches(wanted, templates(), n=1)
        hint = f"; do you mean {close[0]!r}?" if close else ""
        known = ", ".join([AUTO, *sorted(templates())])
        message = f"there is no template {wanted!r}, but {known}{hint}; a file ends with .jinja"
        raise ConfigurationError(message, path=path)
    if prompt.template_args:
        message = f"{wanted!r} is a conversation and takes no arguments: they are for chat templates"
        raise ConfigurationError(message, path=keys.of("prompt", "template_args"))


def check_prompts(settings: Settings, planner: Planner) -> None:
    """Raise :class:`ConfigurationError` where no window of a source can be asked what the configuration says."""
    check_templates(settings)
    for name, mine in settings_by_source(settings).items():
        for prompt in mine.questions:
            trial, keys = _Trial(planner, prompt, fewest_frames(mine)), _Keys(settings, name, prompt.name)
            if (fault := trial.fault()) is not None:
                message = f"every clip of source {name} would be rejected (sources.{name}.prompt, or the top level's)"
                raise ConfigurationError(f"{message}: {fault.detail}", path=trial.key(fault, keys))
        _check_budget(settings, name, mine, planner)


def _check_budget(settings: Settings, name: str, mine: ClipSettings, planner: Planner) -> None:
    """Raise :class:`ConfigurationError` where the frames of a full window can't be made to cost as little as they may.

    A server counts its tokens itself, so nobody can say to what size frames must shrink for it.
    """
    if mine.frames.max_vision_tokens is None:
        return
    path = _Keys(settings, name).of("frames", "max_vision_tokens", "preset")
    if isinstance(settings.engine, OpenAISettings):
        if path.endswith("max_vision_tokens"):
            message = (
                "a server counts its tokens itself: bound frames by frames.max_pixels, or in the server's settings"
            )
            raise ConfigurationError(message, path=path)
        return
    try:
        planner.frame_size(fewest_frames(mine), FrameSize(_SMALL, _SMALL), mine.frames.budget)
    except Poison as fault:
        if fault.reason == Reason.OVER_CONTEXT:
            raise ConfigurationError(fault.detail, path=path) from fault


def fewest_frames(mine: ClipSettings) -> int:
    """Return the frames of a source's full window; for whole clips, those of the shortest one."""
    return mine.frames.frames_in(1 if mine.windows.whole else mine.windows.window_ns)


@dataclass(frozen=True)
class _Keys:
    """The keys that a source's settings come from: its own where it has them, else the top level's."""

    settings: Settings
    source: str
    question: str | None = None

    def of(self, section: str, *names: str) -> str:
        """Return the first of a section's keys that is set, else the first."""
        if section == "prompt" and (found := self._of_question(names)):
            return found
        own: Mapping[str, Any] = getattr(self.settings.sources[self.source], section, {})
        for name in names:
            if name in own:
                return f"sources.{self.source}.{section}.{name}"
        given = getattr(self.settings, section).model_fields_set
        return f"{section}.{next((name for name in names if name in given), names[0])}"

    def _of_question(self, names: Sequence[str]) -> str:
        """Return the first of the keys that the question itself sets; empty where it sets none, or has no name."""
        if self.question is None:
            return ""
        own = self.settings.sources[self.source].prompts
        if any(isinstance(asked, dict) for asked in own.values()):
            given, path = set(own[self.question]), f"sources.{self.source}.prompts.{self.question}"
        else:
            given, path = self.settings.prompts[self.question].model_fields_set, f"prompts.{self.question}"
        return next((f"{path}.{name}" for name in names if name in given), "")


@dataclass(frozen=True)
class _Trial:
    """One source's prompt, over a window of small frames."""

    planner: Planner
    prompt: Prompt
    frames: int

    def fault(self) -> Poison | None:
        """Return why such a window would be rejected; None where it would not, or where only its size is refused."""
        try:
            self.planner.check(self.prompt, self.frames, _SMALL, _SMALL)
        except Poison as fault:
            return fault if fault.reason in (Reason.PROMPT, Reason.OVER_CONTEXT) else None
        return None

    def key(self, fault: Poison, keys: _Keys) -> str:
        """Return the key without which there would be no fault."""
        if fault.reason == Reason.OVER_CONTEXT:
            return self._key_of_length(keys)
        if self.prompt.system is not None and self._passes(prompt=replace(self.prompt, system=None)):
            return keys.of("prompt", "system")
        if self.prompt.template_args and self._passes(prompt=replace(self.prompt, template_args={})):
            return keys.of("prompt", "template_args")
        is_text = self._passes(prompt=replace(self.prompt, text="Describe."))
        return keys.of("prompt", "text" if is_text else "template")

    def _key_of_length(self, keys: _Keys) -> str:
        if self._passes(prompt=replace(self.prompt, max_tokens=1, min_tokens=0)):
            return keys.of("generation", "max_tokens")
        if self._passes(prompt=replace(self.prompt, max_tokens=1, min_tokens=0), frames=1):
            return keys.of("frames", "num_frames", "fps", "max_frames", "min_frames")
        return keys.of("prompt", "text")

    def _passes(self, *, prompt: Prompt, frames: int | None = None) -> bool:
        return _Trial(self.planner, prompt, self.frames if frames is None else frames).fault() is None
