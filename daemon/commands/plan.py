"""`captiond plan`: windows, the frames shown and what they cost in tokens and bytes, without loading a model."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from connectors.errors import ExitCode
from daemon.commands.one_shot import PlannedClip, clock, use_plans
from daemon.commands.terminal import cell, say, say_json, show_table
from daemon.config.settings import Settings
from daemon.engines.build import build_kept_planner
from daemon.engines.model.media_form import offsets_from
from daemon.engines.model.token_planner import RemoteTokenPlanner, TokenPlanner
from daemon.windows import NS_PER_S


async def plan(settings: Settings, clips: Sequence[Path], form: str, *, with_tokens: bool = True) -> ExitCode:
    """Print windows, the frames shown and what they cost in tokens and bytes; no model is loaded.

    The model's processor, which takes seconds to import, is asked what neither an earlier run nor the model's files
    say, and nothing without ``with_tokens``.
    """
    console, uncounted = Console(), RemoteTokenPlanner()
    if not with_tokens:
        return await use_plans(settings, uncounted, clips, partial(_show, console, form, uncounted))
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    planner = build_kept_planner(settings, lambda: loop.call_soon_threadsafe(asked.set))
    waiting: asyncio.Task[None] | None = None
    if form != "json" and console.is_terminal:
        waiting = asyncio.create_task(_show_between(asked, settings, clips, console, uncounted))
    try:
        return await use_plans(settings, planner, clips, partial(_show, console, form, planner, waiting=waiting))
    finally:
        planner.keep()
        if waiting is not None:
            waiting.cancel()
            await asyncio.wait([waiting])  # it has decoders to end


async def _show(
    console: Console, form: str, planner: TokenPlanner, clip: PlannedClip, waiting: asyncio.Task[None] | None = None
) -> None:
    """Print a clip's plan, in the place of what is shown in the meantime."""
    row = _row(clip, await asyncio.to_thread(_tokens, clip, planner))
    if waiting is not None:
        waiting.cancel()
        await asyncio.wait([waiting])
    if form == "json":
        say_json(json.dumps(row))
        return
    for line in _lines(clip, row):
        say(line, to=console)
    show_table(_table(clip, row), to=console)


async def _show_between(
    asked: asyncio.Event,
    settings: Settings,
    clips: Sequence[Path],
    console: Console,
    uncounted: TokenPlanner,
) -> None:
    """Show the windows to a person once the model is asked, until this is cancelled.

    What is wrong with a clip is said afterwards.
    """
    shown: list[Text | Table] = []
    await asked.wait()
    with Live(console=console, transient=True) as live:

        async def show(clip: PlannedClip) -> None:
            row = _row(clip, _tokens(clip, uncounted))
            shown.extend([*(cell(line) for line in _lines(clip, row)), _table(clip, row)])
            live.update(Group(*shown, cell("Tokens are counted as soon as the model's processor is there.")))

        await use_plans(settings, uncounted, clips, show, say_faults=False)
        await asyncio.Event().wait()


@dataclass(frozen=True, slots=True)
class _Tokens:
    """The tokens of a window: the prompt's, those of its frames, and these without ``frames``' own bounds."""

    prompt: int | None
    vision: int | None
    unbounded_vision: int | None


def _tokens(clip: PlannedClip, planner: TokenPlanner) -> list[_Tokens]:
    """Return the tokens of each window: a model may write times into its prompt, so each has its own."""
    plan, prompt, tokens = clip.plan, clip.settings.prompt, list[_Tokens]()
    for window in plan.windows:
        size, count = plan.size_of(window), len(window.frame_indices)
        offsets = offsets_from(window.start_ns, (int(plan.pts_ns[index]) for index in window.frame_indices))
        planner.check(prompt, count, size.height, size.width, offsets)
        tokens.append(
            _Tokens(
                planner.prompt_tokens(count, size.height, size.width, prompt, offsets),
                planner.vision_tokens(count, size),
                planner.vision_tokens(count, plan.own_size),
            )
        )
    return tokens


def _row(clip: PlannedClip, tokens: Sequence[_Tokens]) -> dict[str, Any]:
    windows = [
        {
            "index": window.index,
            "start_ns": window.start_ns,
            "exclusive_end_ns": window.exclusive_end_ns,
            "frames": [
                {"sample_ns": sample_ns, "pts_ns": int(clip.plan.pts_ns[index])}
                for sample_ns, index in zip(window.sample_ns, window.frame_indices, strict=True)
            ],
            "width": clip.plan.size_of(window).width,
            "height": clip.plan.size_of(window).height,
            "prompt_tokens": of_window.prompt,
            "vision_tokens": of_window.vision,
            "unbounded_vision_tokens": of_window.unbounded_vision,
        }
        for window, of_window in zip(clip.plan.windows, tokens, strict=True)
    ]
    plan = clip.plan
    return {
        "clip_id": clip.clip_id,
        "duration_ns": plan.duration_ns,
        "media_start_ns": plan.media_start_ns,
        "mended": plan.mended.in_words(),
        "windows": windows,
    }


def _lines(clip: PlannedClip, row: dict[str, Any]) -> list[str]:
    """Return sentences about a clip as a whole."""
    planned = clip.plan
    lines = [
        f"{clip.path}: {planned.container}, {planned.codec}, {len(planned.pts_ns)} frames in "
        f"{planned.duration_ns / NS_PER_S:.3f} s, {planned.width} x {planned.height} as they are."
    ]
    if planned.media_start_ns:
        lines.append(f"The first frame is shown at {planned.media_start_ns / NS_PER_S:.3f} s of the container's clock.")
    return lines + [f"Mended: {line}." for line in row["mended"]]


def _table(clip: PlannedClip, row: dict[str, Any]) -> Table:
    """Return the table of a clip's windows."""
    planned = clip.plan
    is_bounded = any(window["unbounded_vision_tokens"] != window["vision_tokens"] for window in row["windows"])
    columns = ["tokens", "of frames", "unbounded"] if is_bounded else ["tokens", "of frames"]
    table = Table("window", "span", "frames shown at (s)", "size", *columns, "KiB")
    for window, planned_window in zip(row["windows"], planned.windows, strict=True):
        at = [f"{frame['pts_ns'] / NS_PER_S:.3f}" for frame in window["frames"]]
        shown = " ".join(at) if len(at) <= 8 else f"{' '.join(at[:3])} ... {at[-1]} ({len(at)} frames)"
        size = f"{window['width']} x {window['height']}"
        if planned_window.distinct_frames < len(at):
            shown += f" ({planned_window.distinct_frames} distinct)"
        span = f"{clock(window['start_ns'])} - {clock(window['exclusive_end_ns'])}"
        counts = [window[name] for name in ("prompt_tokens", "vision_tokens", "unbounded_vision_tokens")]
        tokens = ["-" if count is None else str(count) for count in counts[: len(columns)]]
        table.add_row(
            str(window["index"]), span, shown, size, *tokens, f"{planned.window_bytes(planned_window) // 1024:,}"
        )
    return table
