"""`captiond sample`: every frame that the model would see as a picture, and one contact sheet a clip."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from connectors.errors import ExitCode
from daemon.commands.contact_sheet import PictureFolder
from daemon.commands.one_shot import PlannedClip, use_plans
from daemon.commands.terminal import say
from daemon.config.settings import Settings
from daemon.engines.build import build_token_planner
from daemon.windows import FrameSet


async def sample(settings: Settings, clips: Sequence[Path], out: Path) -> ExitCode:
    """Write the pictures beneath ``out``, in a folder a clip where there are several clips."""

    async def write(clip: PlannedClip) -> None:
        folder = out if len(clips) == 1 else out / clip.path.stem
        pictures, count = PictureFolder(folder), 0
        async for window in clip.sampler.frame_sets(clip.plan):
            if isinstance(window, FrameSet):
                count += len(await asyncio.to_thread(pictures.add, window))
                clip.sampler.release(window)
        await asyncio.to_thread(pictures.finish)
        say(f"{clip.path}: {count} frames in {folder}", wrap=False)

    planner = await asyncio.to_thread(build_token_planner, settings)
    return await use_plans(settings, planner, clips, write)
