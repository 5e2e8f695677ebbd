"""The commands for a person at a terminal: caption, plan and sample."""

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress as ProgressBar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from connectors.contract import Caption, Progress
from connectors.errors import ExitCode, Poison
from connectors.messages.codec import caption_to_json, rejection_to_json
from connectors.messages.webvtt import HEADER, block
from connectors.terminal import named_clip, terminal_route
from daemon.build import build_pipeline, build_sampler, clip_settings, started
from daemon.commands.contact_sheet import PictureFolder
from daemon.config.clip_settings import ClipSettings
from daemon.config.settings import Settings
from daemon.decoding.sampler import ClipPlan, Sampler
from daemon.engines.build import build_token_planner
from daemon.engines.model_input import offsets_from
from daemon.engines.token_planner import TokenPlanner
from daemon.windows import NS_PER_S, FrameSet

SOURCE = "terminal"


def clock(ns: int) -> str:
    """Return media time as ``00:01:02.345``."""
    ms = ns // 1_000_000
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"


class CaptionPrinter:
    """Prints captions as they come, and remembers which clips failed."""

    def __init__(self, form: str, out: Console, status: Callable[[str], None]) -> None:
        self.failed: list[str] = []
        self._form, self._out, self._status = form, out, status
        self._named: str | None = None
        self._windows = 0

    def __call__(self, progress: Progress) -> None:
        """Print one progress."""
        name = progress.delivery.clip.media.name
        if self._named != name:
            self._named = name
            self._head(name)
        for caption in progress.captions:
            self._windows += 1
            self._caption(caption)
        if progress.rejection is not None:
            self.failed.append(f"{name}: {progress.rejection.reason}: {progress.rejection.detail}")
            if self._form == "json":
                self._line(rejection_to_json(progress.rejection).decode())
        self._status(f"{name}: {self._windows} window(s) captioned")

    def _head(self, name: str) -> None:
        if self._form == "text":
            self._out.print(name, style="bold", highlight=False, markup=False)
        elif self._form == "vtt":
            self._line(HEADER.rstrip("\n"))

    def _caption(self, caption: Caption) -> None:
        if self._form == "json":
            self._line(caption_to_json(caption).decode())
        elif self._form == "vtt":
            self._line(block(caption).rstrip("\n"))
        else:
            span = f"{clock(caption.window.start_ns)} - {clock(caption.window.exclusive_end_ns)}"
            text = caption.text or f"({caption.status}{': ' + caption.detail if caption.detail else ''})"
            self._out.print(f"  [cyan]{span}[/cyan]  ", end="", highlight=False)
            self._out.print(text, highlight=False, markup=False)

    def _line(self, text: str) -> None:
        self._out.file.write(text + "\n")
        self._out.file.flush()


async def caption(settings: Settings, clips: Sequence[Path], form: str) -> ExitCode:
    """Caption files and print what the model says; 65 when one of them could not be captioned to its end."""
    if form != "json":  # for a person each clip's captions stand together; its windows still go side by side
        limits = settings.limits.model_copy(update={"max_clips_in_flight": 1})
        settings = settings.model_copy(update={"limits": limits})
    out, err = Console(), Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with ProgressBar(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("Loading the model")
        printer = CaptionPrinter(form, out, lambda text: bar.update(task, description=text))
        route = terminal_route(SOURCE, clips, printer)
        async with started(settings) as (sampler, engine):
            bar.update(task, description="Captioning")
            await build_pipeline(settings, [route], sampler, engine, clip_settings(settings, SOURCE)).run()
    for line in printer.failed:
        err.print(f"Not captioned to its end: {line}.", style="red", highlight=False, markup=False)
    return ExitCode.CLIP_FAILED if printer.failed else ExitCode.CLEAN


async def _each(settings: Settings, planner: TokenPlanner, clips: Sequence[Path], use: Callable[..., Any]) -> ExitCode:
    """Plan each clip and use the plan; 65 when one of them can't be planned."""
    chosen, code = clip_settings(settings, SOURCE), ExitCode.CLEAN
    sampler = build_sampler(settings)
    sampler.scale_down_to(planner.max_frame_size)
    await sampler.start()
    try:
        for path in clips:
            clip = named_clip(SOURCE, path)
            try:
                mine = chosen(clip)
                planned = await sampler.plan(clip, mine.windows, mine.frames, mine.decoder)
                try:
                    await use(sampler, path, clip.clip_id, planned, mine)
                finally:
                    planned.close()
            except Poison as fault:
                Console(stderr=True).print(f"{path}: {fault}.", style="red", highlight=False, markup=False)
                code = ExitCode.CLIP_FAILED
    finally:
        await sampler.close()
    return code


async def plan(settings: Settings, clips: Sequence[Path], form: str) -> ExitCode:
    """Print windows, the frames shown and what they cost in tokens and bytes; no model is loaded."""
    planner = await asyncio.to_thread(build_token_planner, settings)

    async def show(_: Sampler, path: Path, clip_id: str, planned: ClipPlan, mine: ClipSettings) -> None:
        size = planned.height, planned.width
        tokens = []
        for window in planned.windows:  # a model may write times into its prompt: each window has its own
            offsets = offsets_from(window.start_ns, (int(planned.pts_ns[n]) for n in window.frame_indices))
            planner.check(mine.prompt, len(offsets), *size, offsets)
            tokens.append(planner.prompt_tokens(len(offsets), *size, mine.prompt, offsets))
        row = _plan_row(planned, clip_id, tokens)
        if form == "json":
            print(json.dumps(row))
        else:
            _print_plan(path, planned, row)

    return await _each(settings, planner, clips, show)


def _plan_row(planned: ClipPlan, clip_id: str, tokens: Sequence[int | None]) -> dict[str, Any]:
    windows = [
        {
            "index": window.index,
            "start_ns": window.start_ns,
            "exclusive_end_ns": window.exclusive_end_ns,
            "frames": [
                {"sample_ns": sample_ns, "pts_ns": int(planned.pts_ns[number])}
                for sample_ns, number in zip(window.sample_ns, window.frame_indices, strict=True)
            ],
            "prompt_tokens": prompt_tokens,
        }
        for window, prompt_tokens in zip(planned.windows, tokens, strict=True)
    ]
    return {"clip_id": clip_id, "duration_ns": planned.duration_ns, "windows": windows}


def _print_plan(path: Path, planned: ClipPlan, row: dict[str, Any]) -> None:
    console = Console()
    console.print(
        f"{path}: {planned.container}, {planned.codec}, {len(planned.pts_ns)} frames in "
        f"{planned.duration_ns / NS_PER_S:.3f} s; the model gets {planned.width} x {planned.height}.",
        highlight=False,
        markup=False,
    )
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
    console.print(table)


async def sample(settings: Settings, clips: Sequence[Path], out: Path) -> ExitCode:
    """Write every frame that the model would see as PNG, and one contact sheet a clip."""

    async def write(sampler: Sampler, path: Path, clip_id: str, planned: ClipPlan, mine: ClipSettings) -> None:
        folder = out if len(clips) == 1 else out / path.stem
        pictures, count = PictureFolder(folder), 0
        async for window in sampler.frame_sets(planned):
            if isinstance(window, FrameSet):
                count += len(await asyncio.to_thread(pictures.add, window))
                sampler.release(window)
        await asyncio.to_thread(pictures.finish)
        print(f"{path}: {count} frames in {folder}")

    planner = await asyncio.to_thread(build_token_planner, settings)
    return await _each(settings, planner, clips, write)
