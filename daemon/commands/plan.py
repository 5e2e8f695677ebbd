"""`captiond plan`: windows, the frames shown and what they cost in tokens and bytes, without loading a model."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from connectors.errors import ExitCode
from daemon.commands.one_shot import PlannedClip, clock, use_plans
from daemon.commands.terminal import say, say_json, show_table
from daemon.config.settings import Settings
from daemon.decoding.sampler import ClipPlan
from daemon.engines.build import build_token_planner
from daemon.engines.model.media_form import offsets_from
from daemon.engines.model.token_planner import TokenPlanner
from daemon.windows import NS_PER_S


async def plan(settings: Settings, clips: Sequence[Path], form: str) -> ExitCode:
    """Print windows, the frames shown and what they cost in tokens and bytes; no model is loaded."""
    planner = await asyncio.to_thread(build_token_planner, settings)

    async def show(clip: PlannedClip) -> None:
        row = _row(clip, _tokens(clip, planner))
        if form == "json":
            say_json(json.dumps(row))
        else:
            _print_table(clip.path, clip.plan, row)

    return await use_plans(settings, planner, clips, show)


def _tokens(clip: PlannedClip, planner: TokenPlanner) -> list[int | None]:
    """Return the prompt's tokens of each window: a model may write times into its prompt, so each has its own."""
    plan, prompt, tokens = clip.plan, clip.settings.prompt, list[int | None]()
    for window in plan.windows:
        offsets = offsets_from(window.start_ns, (int(plan.pts_ns[index]) for index in window.frame_indices))
        planner.check(prompt, len(offsets), plan.height, plan.width, offsets)
        tokens.append(planner.prompt_tokens(len(offsets), plan.height, plan.width, prompt, offsets))
    return tokens


def _row(clip: PlannedClip, tokens: Sequence[int | None]) -> dict[str, Any]:
    windows = [
        {
            "index": window.index,
            "start_ns": window.start_ns,
            "exclusive_end_ns": window.exclusive_end_ns,
            "frames": [
                {"sample_ns": sample_ns, "pts_ns": int(clip.plan.pts_ns[index])}
                for sample_ns, index in zip(window.sample_ns, window.frame_indices, strict=True)
            ],
            "prompt_tokens": prompt_tokens,
        }
        for window, prompt_tokens in zip(clip.plan.windows, tokens, strict=True)
    ]
    plan = clip.plan
    return {
        "clip_id": clip.clip_id,
        "duration_ns": plan.duration_ns,
        "media_start_ns": plan.media_start_ns,
        "mended": plan.mended.in_words(),
        "windows": windows,
    }


def _print_table(path: Path, planned: ClipPlan, row: dict[str, Any]) -> None:
    console = Console()
    say(
        f"{path}: {planned.container}, {planned.codec}, {len(planned.pts_ns)} frames in "
        f"{planned.duration_ns / NS_PER_S:.3f} s; the model gets {planned.width} x {planned.height}.",
        to=console,
    )
    if planned.media_start_ns:
        at_s = planned.media_start_ns / NS_PER_S
        say(f"The first frame is shown at {at_s:.3f} s of the container's clock.", to=console)
    for line in row["mended"]:
        say(f"Mended: {line}.", to=console)
    table = Table("window", "span", "frames shown at (s)", "tokens", "KiB")
    for window, planned_window in zip(row["windows"], planned.windows, strict=True):
        at = [f"{frame['pts_ns'] / NS_PER_S:.3f}" for frame in window["frames"]]
        shown = " ".join(at) if len(at) <= 8 else f"{' '.join(at[:3])} ... {at[-1]} ({len(at)} frames)"
        size_kib = len(at) * planned.width * planned.height * 3 // 1024
        if planned_window.distinct_frames < len(at):
            shown += f" ({planned_window.distinct_frames} distinct)"
        span = f"{clock(window['start_ns'])} - {clock(window['exclusive_end_ns'])}"
        tokens = "-" if window["prompt_tokens"] is None else str(window["prompt_tokens"])
        table.add_row(str(window["index"]), span, shown, tokens, f"{size_kib:,}")
    show_table(table, to=console)
