"""`captiond sample`: every frame that the model would see as a picture, and one contact sheet a clip."""

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from connectors.errors import ExitCode
from daemon.commands.contact_sheet import PictureFolder
from daemon.commands.one_shot import PlannedClip, use_plans
from daemon.commands.terminal import say
from daemon.config.settings import Settings
from daemon.engines.build import build_kept_planner
from daemon.windows import FrameSet


async def sample(settings: Settings, clips: Sequence[Path], out: Path) -> ExitCode:
    """Write the pictures beneath ``out``, in a folder a clip where there are several clips."""
    clips = list(dict.fromkeys(clips))  # one that is named twice is the same twice
    folders = dict(zip(clips, picture_folders(clips, out), strict=True))

    async def write(clip: PlannedClip) -> None:
        folder = folders[clip.path]
        pictures, count = PictureFolder(folder), 0
        async for window in clip.sampler.frame_sets(clip.plan):
            if isinstance(window, FrameSet):
                count += len(await asyncio.to_thread(pictures.add, window))
                clip.sampler.release(window)
        await asyncio.to_thread(pictures.finish)
        say(f"{clip.path}: {count} frames in {folder}")

    planner = build_kept_planner(settings)
    try:
        return await use_plans(settings, planner, clips, write)
    finally:
        planner.keep()


def picture_folders(clips: Sequence[Path], out: Path) -> list[Path]:
    """Return a folder for each clip: ``out`` for one alone, else one of its name, and never one for two.

    Clips of one name, or that differ in what stands behind the dot, are told apart by their names as a whole and the
    folders that they lie in.
    """
    if len(clips) == 1:
        return [out]
    absolute = [Path(os.path.abspath(clip)) for clip in clips]
    named = [Path(clip.stem) for clip in absolute]
    for longer in (_beneath_common(absolute, suffixes=False), _beneath_common(absolute, suffixes=True)):
        count = Counter(named)
        named = [name if count[name] == 1 else other for name, other in zip(named, longer, strict=True)]
    taken: dict[Path, None] = {}
    for name in named:
        numbered = (name.with_name(f"{name.name}.{number}") for number in itertools.count(1))
        taken[next(one for one in itertools.chain([name], numbered) if one not in taken)] = None
    return [out / name for name in taken]


def _beneath_common(clips: Sequence[Path], *, suffixes: bool) -> list[Path]:
    above = os.path.commonpath([clip.parent for clip in clips])
    beneath = [clip.relative_to(above) for clip in clips]
    return beneath if suffixes else [clip.with_name(clip.stem) for clip in beneath]
