"""`captiond check`: the effective configuration, and what is wrong or surprising about it."""

import asyncio
from collections.abc import Mapping
from typing import Any

import yaml

from connectors.errors import Poison
from connectors.messages.url_secrets import MASK, mask_urls
from connectors.routes import check_connectors
from daemon.commands.check_forms import check_forms
from daemon.commands.terminal import say_lines
from daemon.config.chosen import Chosen
from daemon.config.clip_settings import ClipSettings, settings_by_source
from daemon.config.engine_settings import OpenAISettings, VllmSettings
from daemon.config.prompt_trial import check_prompts, check_templates, fewest_frames
from daemon.config.settings import Settings
from daemon.config.weak_settings import weak_settings
from daemon.decoding.fork_server import Launched
from daemon.decoding.process import try_cage
from daemon.engines.build import check_engine, planner_and_choices
from daemon.engines.model.checks import count_devices
from daemon.engines.model.token_planner import ModelTokenPlanner, RemoteTokenPlanner, TokenPlanner
from daemon.frame_look import FrameSize
from daemon.prompts.prompt import Prompt
from daemon.prompts.reasoning import THINK

_SECRET = ("password", "secret", "token", "api_key", "api-key", "credential", "authorization", "cookie")
_NOT_SECRET = ("max_tokens", "min_tokens", "_file")

# the frames that the processor is asked about beside small ones, for there is no clip
_PROBE = FrameSize(1280, 720)


def masked(settings: Settings) -> dict[str, Any]:
    """Return the effective configuration as plain values, with whatever is secret replaced."""
    plain: dict[str, Any] = _mask(settings.model_dump(mode="json"))
    return plain


def _mask(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {name: _mask(below, str(name)) for name, below in value.items()}
    if isinstance(value, list):
        return [_mask(below, key) for below in value]
    name = key.lower()
    if value is not None and name == "username":  # a stream's, which stands nowhere else either
        return MASK
    if value is not None and any(word in name for word in _SECRET) and not any(word in name for word in _NOT_SECRET):
        return MASK
    return mask_urls(value) if isinstance(value, str) else value


def print_check(
    settings: Settings, *, ask_processor: bool = False, show_sandbox: bool = False, decoders: Launched | None = None
) -> None:
    """Print the effective configuration as YAML, and the sentences about it as comments.

    The cage is tried on ``decoders``, a fork server that was launched already, where there is one.
    """
    lines = check(settings, ask_processor=ask_processor)
    lines += check_sandbox(settings, every_layer=show_sandbox, decoders=decoders)
    say_lines(yaml.safe_dump(masked(settings), sort_keys=False, allow_unicode=True).rstrip("\n"))
    for line in lines:
        say_lines(f"# {' '.join(mask_urls(line).split())}")


def check(settings: Settings, *, ask_processor: bool = False) -> list[str]:
    """Return sentences about what the configuration does; :class:`ConfigurationError` when it can't work."""
    by_source = settings_by_source(settings)
    lines = [_about_source(name, mine) for name, mine in by_source.items()]
    check_engine(settings.engine)
    check_forms(settings, by_source)
    lines += _about_limits(settings)
    lines += weak_settings(settings)
    lines += check_connectors(settings)
    if isinstance(settings.engine, VllmSettings) and settings.engine.model == "bundled":
        lines.append(
            "The bundled model says light, colours, movement and cuts, and names nothing; engine.model takes others."
        )
    return lines + _try_prompts(settings, by_source, show_tokens=ask_processor)


def check_sandbox(settings: Settings, *, every_layer: bool = False, decoders: Launched | None = None) -> list[str]:
    """Return sentences about the decoders' cage, tried on a decoder of its own.

    :class:`ConfigurationError` where a layer is missing that ``limits.sandbox`` requires.
    """
    limits = settings.limits
    is_required = limits.sandbox == "required"
    layers = asyncio.run(try_cage(limits.decoder_memory_bytes, required=is_required, launched=decoders))
    missing = [name for name, reason in layers.items() if reason]
    if every_layer:
        return [
            f"The decoders' cage: {name} {f'is missing: {why}' if why else 'holds'}." for name, why in layers.items()
        ]
    return [f"Decoders run without {', '.join(missing)}: limits.sandbox is {limits.sandbox}."] if missing else []


def _about_source(name: str, mine: ClipSettings) -> str:
    windows = mine.windows
    cut = "each clip is one window" if windows.whole else f"windows of {windows.window_ns / 1e9:g} s"
    frames = mine.frames
    shown = (
        f"{frames.fps:g} frames a second" if frames.fps else f"{frames.frames_in(windows.window_ns)} frames a window"
    )
    asked = " and ".join(f"{one.name}: {one.text!r}" if one.name else repr(one.text) for one in mine.questions)
    return f"Source {name}: {cut}, {shown}, asked {asked}."


def _about_limits(settings: Settings) -> list[str]:
    """Return what was chosen for the machine where the configuration says auto, and why."""
    chosen = [(key, number) for key, number in settings.limits if isinstance(number, Chosen)]
    return [f"limits.{key}: {number:,}, chosen: {number.why}." for key, number in chosen]


def _try_prompts(settings: Settings, by_source: Mapping[str, ClipSettings], *, show_tokens: bool) -> list[str]:
    """Put every source's prompt through the model's own template and processor; no engine is started."""
    check_templates(settings)  # before the model's processor is read for nothing
    if isinstance(settings.engine, VllmSettings) and not show_tokens and count_devices() is None:
        return ["The prompts were not put through the model's template: this machine has no device that vLLM knows."]
    planner, lines = _planner(settings)
    check_prompts(settings, planner)
    for name, mine in by_source.items():
        lines += [line for one in mine.questions for line in _about_thinking(name, one, planner)]
        count = fewest_frames(mine)
        place = f"a window of {count} frames of {_PROBE.width} x {_PROBE.height}"
        try:
            size = planner.frame_size(count, _PROBE, mine.frames.budget)
            for one in mine.questions:
                planner.check(one, count, size.height, size.width)
            tokens = planner.prompt_tokens(count, size.height, size.width, mine.prompt)
        except Poison as fault:
            lines.append(f"Source {name}: smaller frames fit, but not {place}: {fault.detail}.")
            continue
        if tokens is not None and show_tokens:
            lines.append(f"Source {name}: {tokens} prompt tokens a window of {_PROBE.width} x {_PROBE.height} frames.")
    return lines


def _planner(settings: Settings) -> tuple[TokenPlanner, list[str]]:
    """Return the planner of the engine's model, and what is surprising about it."""
    if not isinstance(settings.engine, OpenAISettings):
        planner, choices = planner_and_choices(settings)
        return planner, list(choices)
    from daemon.engines.openai.engine import ask_servers

    found, said = asyncio.run(ask_servers(settings.engine, settings.timeouts.request_deadline_s))
    away = "No server of engine.base_urls answers now: the start waits for one."
    return found or RemoteTokenPlanner(), said if found is not None else [away]


def _about_thinking(name: str, prompt: Prompt, planner: TokenPlanner) -> list[str]:
    """Return a sentence where the model's template has it think although that is to be off."""
    if not isinstance(planner, ModelTokenPlanner) or prompt.reasoning != "off":
        return []
    if not planner.encoder.leaves_open(prompt, THINK):
        return []
    return [
        f"Source {name}: the model's template has it think and no switch for it. The reasoning is cut out of captions, "
        f"and counts towards generation.max_tokens ({prompt.max_tokens})."
    ]
