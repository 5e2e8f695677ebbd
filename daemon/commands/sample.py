"""`captiond sample`: every frame that the model would see as a picture, and one contact sheet a clip."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import count
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
    folders = picture_folders(out, clips)

    async def write(clip: PlannedClip) -> None:
        folder = folders[clip.path]
        pictures, written = PictureFolder(folder), 0
        async for window in clip.sampler.frame_sets(clip.plan):
            if isinstance(window, FrameSet):
                written += len(await asyncio.to_thread(pictures.add, window))
                clip.sampler.release(window)
        await asyncio.to_thread(pictures.finish)
        say(f"{clip.path}: {written} frames in {folder}")

    planner = await asyncio.to_thread(build_token_planner, settings)
    return await use_plans(settings, planner, clips, write)


def picture_folders(out: Path, clips: Sequence[Path]) -> dict[Path, Path]:
    """Return each clip's folder: the clip's name, with its own folder's in front where clips share a name."""
    if len(clips) == 1:
        return {clips[0]: out}
    shared = Counter(path.stem for path in dict.fromkeys(clips))
    folders: dict[Path, Path] = {}
    for path in dict.fromkeys(clips):
        parts = (path.absolute().parent.name, path.stem) if shared[path.stem] > 1 else (path.stem,)
        name = "-".join(part for part in parts if part)
        free = (out / (name if number == 1 else f"{name}-{number}") for number in count(1))
        folders[path] = next(folder for folder in free if folder not in folders.values())
    return folders
