"""The frames that captions are about, on one sheet: by the sampler, at the times that the messages name."""

import asyncio
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

from connectors.errors import Poison
from connectors.messages.schema import CaptionMessage
from connectors.terminal import named_clip
from daemon.commands.contact_sheet import SHEET_NAME, Row, Thumbs, draw_sheet, thumbs_of
from daemon.commands.terminal import complain
from daemon.config.settings import LimitsSettings, TimeoutsSettings
from daemon.decoding.sampler import Sampler
from daemon.frame_look import FrameSize, PixelBudget
from daemon.windows import FramePolicy, FrameSet, PlannedWindows, Window, WindowPolicy, frames_on_screen

_MOST_PIXELS = 320 * 320  # thumbnails are made of the frames
_MOST_CHARACTERS = 160  # of a line

Captioned = tuple[CaptionMessage, Sequence[str]]
"""A caption, and the lines that stand above its frames."""


class _ChosenWindows(PlannedWindows):
    """Windows that somebody else planned."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows, self.shots = tuple(windows), None

    def __len__(self) -> int:
        return len(self._windows)

    @overload
    def __getitem__(self, at: int) -> Window: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Window, ...]: ...
    def __getitem__(self, at: int | slice) -> Window | tuple[Window, ...]:
        return self._windows[at]

    @property
    def most_frames(self) -> int:
        return max(len(window.frame_indices) for window in self._windows)


async def draw_worst(captions: Sequence[Captioned], clips: Path, out: Path) -> Path | None:
    """Draw the frames of these captions, whose clips lie in ``clips``, and return the sheet; None for no caption."""
    by_clip = defaultdict[Path, list[CaptionMessage]](list)
    for caption, _ in captions:
        if caption.frames.pts_ns and (path := _beneath(clips, caption.clip_name)) is not None:
            by_clip[path].append(caption)
    drawn: dict[str, Thumbs] = {}
    sampler = Sampler(LimitsSettings(decoders=1), TimeoutsSettings(), _small)
    await sampler.start()
    try:
        for path, wanted in by_clip.items():
            try:
                drawn |= await _thumbs(sampler, path, wanted)
            except Poison as fault:
                complain(f"{path}: {fault}.", style="red")
    finally:
        await sampler.close()
    rows: list[Row] = [(_short(lines), drawn.get(caption.caption_id, [])) for caption, lines in captions]
    if not rows:
        return None
    return await asyncio.to_thread(_draw, out, rows)


def _short(lines: Sequence[str]) -> list[str]:
    """Return lines as they fit a sheet: a caption may be as long as a page."""
    return [" ".join(line.split())[:_MOST_CHARACTERS] for line in lines]


def _draw(out: Path, rows: Sequence[Row]) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    return draw_sheet(out / SHEET_NAME, rows)


async def _thumbs(sampler: Sampler, path: Path, captions: Sequence[CaptionMessage]) -> dict[str, Thumbs]:
    """Return small pictures of the frames that each of a clip's captions is about."""
    found = {}
    plan = await sampler.plan(named_clip("terminal", path), WindowPolicy(whole=True), FramePolicy(num_frames=1))
    try:
        in_order = sorted(captions, key=lambda caption: (caption.window.start_ns, caption.caption_id))
        plan.windows = _ChosenWindows([_window(at, one, plan.pts_ns) for at, one in enumerate(in_order)])
        async for shown in sampler.frame_sets(plan):
            if isinstance(shown, FrameSet):
                found[in_order[shown.window.index].caption_id] = thumbs_of(shown)
                sampler.release(shown)
    finally:
        plan.close()
    return found


def _window(at: int, caption: CaptionMessage, pts_ns: np.ndarray) -> Window:
    times, span = caption.frames.pts_ns, caption.window
    return Window(at, span.start_ns, span.exclusive_end_ns, times, tuple(frames_on_screen(pts_ns, times)))


def _beneath(folder: Path, name: str | None) -> Path | None:
    """Return a clip's file in a folder; a name that leads out of it is none."""
    path = Path(os.path.normpath(folder / (name or "")))
    return path if name and path.is_relative_to(os.path.normpath(folder)) and path.is_file() else None


def _small(count: int, own: FrameSize, budget: PixelBudget) -> FrameSize:
    return own.within(_MOST_PIXELS)
