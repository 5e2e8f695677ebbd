"""The settings of a clip: the top level's, under the source's own, under what came with the clip."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from pydantic import ValidationError

from connectors.contract import PROMPT_FROM, SENDER, Clip
from connectors.errors import ConfigurationError, Poison, Reason
from connectors.section import Section
from connectors.validation import first_fault
from daemon.config.settings import GenerationSettings, PromptSettings, Settings
from daemon.frame_look import ON_DEVICE
from daemon.prompts.prompt import Prompt
from daemon.windows import FramePolicy, WindowPolicy

_MAX_PROMPT_CHARACTERS = 32_768  # a prompt that comes with a clip obeys prompt.text's own bound

_Part = TypeVar("_Part", bound=Section)


def digest(*parts: object) -> str:
    """Return the SHA-256 over the parts' texts, in hexadecimal."""
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()


@dataclass(frozen=True)
class ClipSettings:
    """The settings of a clip. A clip in flight keeps those that it started with, whatever is reloaded."""

    windows: WindowPolicy
    frames: FramePolicy
    prompt: Prompt
    decoder: str = "av"

    @cached_property
    def sampler_hash(self) -> str:
        """Name everything that decides which frames the model sees."""
        decoder = "av" if self.decoder == ON_DEVICE else self.decoder  # whoever decodes, the frames are the same
        return digest(self.windows, self.frames, decoder)[:16]

    def plan_hash(self, model_id: str) -> str:
        """Name everything that decides what window ``i`` is and what is said of it."""
        return digest(self.sampler_hash, self.prompt.hash, model_id)[:16]

    def asked(self, text: str, *, by_sender: bool = False) -> "ClipSettings":
        """Return the same with another question; one that came with the clip is data, see :class:`Prompt`."""
        if not 0 < len(text) <= _MAX_PROMPT_CHARACTERS:
            detail = f"the clip's prompt has {len(text)} characters; 1 to {_MAX_PROMPT_CHARACTERS} are allowed"
            raise Poison(Reason.PROMPT, detail, origin="prompt")
        return replace(self, prompt=replace(self.prompt, text=text, from_sender=by_sender))


def prompt_of(prompt: PromptSettings, generation: GenerationSettings) -> Prompt:
    """Return the prompt that these sections mean."""
    return Prompt(prompt.text, prompt.template, prompt.system, **generation.model_dump())


def settings_by_source(settings: Settings) -> dict[str, ClipSettings]:
    """Return each source's settings; :class:`ConfigurationError` names the key of one that contradicts itself."""
    found = {}
    for name, source in settings.sources.items():
        path = f"sources.{name}"
        windows = _under(settings.windows, source.windows, f"{path}.windows", _REPLACED)
        frames = _under(settings.frames, source.frames, f"{path}.frames", _REPLACED)
        prompt = _under(settings.prompt, source.prompt, f"{path}.prompt", {})
        found[name] = ClipSettings(
            windows.to_policy(), frames.to_policy(), prompt_of(prompt, settings.generation), frames.decodes_with
        )
    return found


def settings_chooser(by_source: Mapping[str, ClipSettings]) -> Callable[[Clip], ClipSettings]:
    """Return the function that the pipeline asks for a clip's settings."""

    def choose(clip: Clip) -> ClipSettings:
        settings = by_source[clip.source]
        text = clip.attributes.get("prompt")
        by_sender = clip.attributes.get(PROMPT_FROM) == SENDER
        return settings if text is None else settings.asked(text, by_sender=by_sender)

    return choose


# a source's key that stands for another choice takes these of the top level away instead of contradicting them
_SECONDS = frozenset({"window_s", "stride_s", "min_tail_s"})
_REPLACED = {
    "policy": _SECONDS,
    "window_s": _SECONDS,
    "fps": frozenset({"num_frames"}),
    "num_frames": frozenset({"fps", "min_frames", "max_frames"}),
}


def _under(top: _Part, own: Mapping[str, Any] | None, path: str, replaced: Mapping[str, frozenset[str]]) -> _Part:
    """Return a section with a source's own keys over the top level's."""
    if not own:
        return top
    gone = frozenset[str]().union(*(keys for key, keys in replaced.items() if key in own))
    inherited = {key: value for key, value in top.model_dump(exclude_unset=True).items() if key not in gone}
    try:
        return type(top).model_validate({**inherited, **own})
    except ValidationError as error:
        fault = first_fault(error)
        raise ConfigurationError(fault.sentence(), path=fault.path(path)) from error
