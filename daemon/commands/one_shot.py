"""The common part of the commands that run once at a terminal: settings, clips, and the plan of each clip."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from connectors.errors import ExitCode, Poison
from connectors.terminal import named_clip
from daemon.build import build_sampler, clip_settings
from daemon.commands.terminal import complain
from daemon.config.clip_settings import ClipSettings
from daemon.config.file import settings_from
from daemon.config.settings import LogSettings, Settings
from daemon.config.yaml_file import read_mapping
from daemon.decoding.sampler import ClipPlan, Sampler
from daemon.engines.model.token_planner import TokenPlanner
from daemon.service import logs

SOURCE = "terminal"
_FILES = MappingProxyType({"kind": "folder", "path": "."})


def one_shot_settings(
    config: Path | None,
    overrides: Sequence[str] | None,
    model: str | None,
    prompt: str | None = None,
    source: Mapping[str, str] = _FILES,
) -> Settings:
    """Return the settings of a one-shot command; sources and sink are the terminal whatever the file says."""
    values = read_mapping(config) if config is not None else {}
    values["sources"] = {SOURCE: dict(source)}
    values["sink"] = {"kind": "folder", "path": "."}
    given = list(overrides or ())
    given += [f"engine.model={model}"] if model is not None else []
    given += [f"prompt.text={prompt}"] if prompt is not None else []
    loaded = settings_from(values, given, folder=(config.resolve().parent if config is not None else Path.cwd()))
    logs.set_up(LogSettings(level="error", format=loaded.log.format))
    return loaded


@dataclass(frozen=True, slots=True)
class PlannedClip:
    """A file that is named at the terminal, with its plan. The sampler gives the frames of the plan."""

    path: Path
    clip_id: str
    plan: ClipPlan
    settings: ClipSettings
    sampler: Sampler


async def use_plans(
    settings: Settings,
    planner: TokenPlanner,
    clips: Sequence[Path],
    use: Callable[[PlannedClip], Awaitable[None]],
    *,
    say_faults: bool = True,
) -> ExitCode:
    """Plan each clip and use the plan; 65 when one of them can't be planned, which is said on standard error."""
    settings_of, code = clip_settings(settings, SOURCE), ExitCode.CLEAN
    sampler = build_sampler(settings)
    sampler.scale_by(planner.frame_size)
    try:
        await sampler.start()
        for path in clips:
            clip = named_clip(SOURCE, path)
            try:
                mine = settings_of(clip)
                plan = await sampler.plan(clip, mine.windows, mine.frames, mine.decoder)
                try:
                    await sampler.reach(plan)
                    await use(PlannedClip(path, clip.clip_id, plan, mine, sampler))
                finally:
                    plan.close()
            except Poison as fault:
                if say_faults:
                    complain(f"{path}: {fault}.", style="red")
                code = ExitCode.CLIP_FAILED
    finally:
        await sampler.close()
    return code


def clock(ns: int) -> str:
    """Return media time as ``00:01:02.345``."""
    ms = ns // 1_000_000
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"
