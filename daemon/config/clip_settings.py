"""The settings of a clip: the top level's, under the source's own, under what came with the clip."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from connectors.contract import PROMPT_FROM, SENDER, TOPICS_PROMPT, Clip
from connectors.errors import ConfigurationError, Poison, Reason
from connectors.section import FromRecords, Section
from connectors.settings import AnySource
from connectors.validation import first_fault
from daemon.config.frame_presets import KEYS as PRESET_KEYS
from daemon.config.prompt_settings import ContextSettings, PromptSettings, QualitySettings
from daemon.config.schema_file import form_of
from daemon.config.settings import GenerationSettings, Settings, own_questions
from daemon.content.spans import UnchangedPolicy
from daemon.frame_look import ON_DEVICE
from daemon.prompts.chat_template import is_template_file, read_template
from daemon.prompts.places import places_in, with_words_behind
from daemon.prompts.prompt import Prompt
from daemon.prompts.templates import AUTO
from daemon.windows import FramePolicy, WindowPolicy

_MAX_PROMPT_CHARACTERS = 32_768  # a prompt that comes with a clip obeys prompt.text's own bound

_NO_QUALITY, _NO_CONTEXT = QualitySettings(), ContextSettings()

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
    others: tuple[Prompt, ...] = ()  # the questions beside ``prompt``, where windows are asked several
    unasked: tuple[str, ...] = ()  # what a picture shows about which the model is not asked
    alarm: float | None = None
    from_records: FromRecords = "replace"
    unchanged: UnchangedPolicy | None = None
    named_as: str = ""  # the name of the frames that these stand for, where they are fewer than the configuration's

    @cached_property
    def questions(self) -> tuple[Prompt, ...]:
        """What each window is asked."""
        return (self.prompt, *self.others)

    @cached_property
    def sampler_hash(self) -> str:
        """Name everything that decides which frames the model sees."""
        decoder = "av" if self.decoder == ON_DEVICE else self.decoder  # whoever decodes, the frames are the same
        return self.named_as or digest(self.windows, self.frames, decoder)[:16]

    def plan_hash(self, model_id: str) -> str:
        """Name everything that decides what window ``i`` is and what is said of it."""
        asked = *(prompt.hash for prompt in self.questions), model_id
        unasked = () if self.unchanged is None else (self.unchanged,)
        return digest(self.sampler_hash, *asked, *unasked)[:16]

    @cached_property
    def thinned(self) -> "ClipSettings":
        """The same with half the frames, under the same plan hash: captions have the ids that they would have had."""
        return replace(self, frames=self.frames.halved, named_as=self.sampler_hash)

    def asked(self, text: str, *, by_sender: bool = False) -> "ClipSettings":
        """Return the same with another question; one that came with the clip is data, see :class:`Prompt`.

        Of several questions the first is asked so; a sender's words may also stand behind each, or count for nothing.
        """
        if by_sender and self.from_records == "never":
            return self
        if not 0 < len(text) <= _MAX_PROMPT_CHARACTERS:
            detail = f"the clip's prompt has {len(text)} characters; 1 to {_MAX_PROMPT_CHARACTERS} are allowed"
            raise Poison(Reason.PROMPT, detail, origin="prompt")
        if by_sender and self.from_records == "append":
            first, *others = (with_words_behind(prompt, text) for prompt in self.questions)
            return replace(self, prompt=first, others=tuple(others))
        if by_sender:
            system = places_in(self.prompt.system, "prompt.system")
            return replace(self, prompt=replace(self.prompt, text=text, places=system, from_sender=True))
        places = _places(text, self.prompt.system, "sources.NAME.prompts", "prompt")
        return replace(self, prompt=replace(self.prompt, text=text, places=places, from_sender=False))


def prompt_of(
    prompt: PromptSettings,
    generation: GenerationSettings,
    path: str = "prompt",
    quality: QualitySettings = _NO_QUALITY,
    context: ContextSettings = _NO_CONTEXT,
    name: str | None = None,
) -> Prompt:
    """Return the prompt that these sections mean; :class:`ConfigurationError` for a file or a place that is none."""
    template, source = prompt.template, None
    if is_template_file(template):
        template, source = AUTO, read_template(Path(template), f"{path}.template")
    form = form_of(prompt, path)
    judged = form is not None or quality.loops or bool(quality.refusals)
    places = _places(prompt.text, prompt.system, f"{path}.text", f"{path}.system")
    told = context.windows if "previous" in places else 0
    if "previous" in places and not told:
        raise ConfigurationError("{previous} needs context.windows above 0", path=f"{path}.text")
    return Prompt(
        prompt.text,
        template,
        prompt.system,
        chat_template=source,
        template_args=prompt.template_args,
        from_model=generation.left_to_model,
        **generation.model_dump(exclude={"from_model", "retries"}),
        name=name,
        form=form,
        places=places,
        context_windows=told,
        retries=int(judged) if generation.retries is None else generation.retries,
        stop_loops=quality.loops,
        refusals=quality.refusals,
    )


def _places(text: str, system: str | None, path: str, system_path: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*places_in(text, path), *places_in(system, system_path))))


def settings_by_source(settings: Settings) -> dict[str, ClipSettings]:
    """Return each source's settings; :class:`ConfigurationError` names the key of one that contradicts itself."""
    found = {}
    for name, source in settings.sources.items():
        path = f"sources.{name}"
        windows = _under(settings.windows, source.windows, f"{path}.windows", _REPLACED)
        frames = _under(settings.frames, source.frames, f"{path}.frames", _REPLACED)
        first, *others = _questions(settings, name, source)
        found[name] = ClipSettings(
            windows.to_policy(),
            frames.to_policy(),
            first,
            frames.decodes_with,
            tuple(others),
            settings.quality.input,
            settings.quality.alarm,
            source.prompts_from_records,
            windows.unchanged.to_policy() if windows.unchanged is not None else None,
        )
        _check_topics_questions(found[name], source, path)
        if source.kind == "stream":
            _check_windows_of_a_stream(found[name], path)
    return found


def _questions(settings: Settings, name: str, source: AnySource) -> list[Prompt]:
    """Return what a source's windows are asked: its own questions, else the top level's, else one without a name."""
    path = f"sources.{name}"
    usual = _under(settings.prompt, source.prompt, f"{path}.prompt", _FORM_REPLACED)
    given = settings.questions(source)
    about = settings.generation, settings.quality, settings.context
    if not given:
        section = f"{path}.prompt" if {"template", "schema", "text", "system"} & source.prompt.keys() else "prompt"
        return [prompt_of(usual, about[0], section, *about[1:])]
    above = f"{path}.prompts" if own_questions(source) else "prompts"
    return [
        prompt_of(_under(usual, asked, f"{above}.{key}", _FORM_REPLACED), about[0], f"{above}.{key}", *about[1:], key)
        for key, asked in given.items()
    ]


def _check_topics_questions(mine: ClipSettings, source: AnySource, path: str) -> None:
    """Refuse places that there are none of in the questions of a Kafka source's topics."""
    for topic, text in source.prompts.items():
        if isinstance(text, str):
            places = places_in(text, f"{path}.prompts.{topic}")
            if "previous" in places and not mine.prompt.context_windows:
                message = "{previous} needs context.windows above 0, and stands in prompt.text too"
                raise ConfigurationError(message, path=f"{path}.prompts.{topic}")


def _check_windows_of_a_stream(mine: ClipSettings, path: str) -> None:
    """Refuse what says something of several windows of a clip: a stream's clip is one window, of so many seconds."""
    if mine.windows.whole or mine.windows.shots is not None:
        message = "a stream has windows of seconds on the wall clock: write policy: seconds, with window_s"
        raise ConfigurationError(message, path=f"{path}.windows.policy")
    if mine.unchanged is not None:
        message = "a stream's windows are described each by itself: write null for this source"
        raise ConfigurationError(message, path=f"{path}.windows.unchanged")
    if any(prompt.context_windows for prompt in mine.questions):
        message = "a stream's windows are described each by itself: {previous} has nothing to stand for"
        raise ConfigurationError(message, path=f"{path}.prompt.text")


def settings_chooser(by_source: Mapping[str, ClipSettings]) -> Callable[[Clip], ClipSettings]:
    """Return the function that the pipeline asks for a clip's settings."""

    def choose(clip: Clip) -> ClipSettings:
        settings = by_source[clip.source]
        if clip.stream is not None and clip.stream.thinned:
            settings = settings.thinned
        text = clip.attributes.get("prompt")
        by_sender = clip.attributes.get(PROMPT_FROM) == SENDER
        if (own := clip.attributes.get(TOPICS_PROMPT)) is not None:
            settings = settings.asked(own)
        return settings if text is None else settings.asked(text, by_sender=by_sender)

    return choose


# a source's key that stands for another choice takes these of the top level away instead of contradicting them
_SECONDS = frozenset({"window_s", "stride_s", "min_tail_s"})
_FORM_REPLACED = {
    "schema": frozenset({"choice", "regex"}),
    "choice": frozenset({"schema", "regex", "vtt_text"}),
    "regex": frozenset({"schema", "choice", "vtt_text"}),
}
_REPLACED = {
    "policy": _SECONDS | {"min_s", "max_s", "sensitivity"},
    "window_s": _SECONDS,
    "fps": frozenset({"num_frames"}),
    "num_frames": frozenset({"fps", "min_frames", "max_frames"}),
    "preset": frozenset(PRESET_KEYS),
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
