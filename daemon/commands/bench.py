"""`captiond bench`: the share of the model's speed that reaches the captions, on the user's own model and clips.

Three measurements over the same windows take turns: the engine alone, given frames that are decoded already, the whole
pipeline, from files to captions, and decoding alone. The quotient of the first two is the efficiency; it says what
decoding and everything around the engine cost, whatever the machine does besides. Beside it stands what the cores
allow: where the engine needs them too, decoding takes them from it, however well the two are put together.
"""

import asyncio
import contextlib
import itertools
import json
import math
import os
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from connectors.contract import CaptionStatus, Progress
from connectors.errors import ExitCode, Poison, Reason
from connectors.terminal import named_clip, terminal_route
from daemon.build import build_pipeline, clip_settings, started
from daemon.commands.bench_host import bench_host
from daemon.commands.one_shot import SOURCE
from daemon.commands.terminal import say, say_json, show_table
from daemon.config.clip_settings import ClipSettings
from daemon.config.machine import core_count
from daemon.config.settings import Settings
from daemon.decoding.sampler import Sampler
from daemon.engines.contract import Completion, Engine
from daemon.prompts.prompt import Prompt
from daemon.telemetry.metrics import Metrics
from daemon.telemetry.processor_time import processor_s_with_children
from daemon.windows import NS_PER_S, FrameSet

_ENGINE_BOUND = 0.8  # from this efficiency on the engine is the bottleneck
_DECODERS_BOUND = 0.8  # from this share of busy decoders on they are
_CORES_BOUND = 0.8  # from this share of what the cores allow on they are


@dataclass(frozen=True)
class Rate:
    """The work of one way of captioning over all its rounds, in seconds of wall time."""

    windows: int = 0
    output_tokens: int = 0
    prompt_tokens: int = 0
    took_s: float = 0.0
    decode_s: float = 0.0  # of the decoders' time, added up over the decoders
    video_s: float = 0.0  # of media time captioned
    rejected: int = 0
    processor_s: float = 0.0  # of this program and all its processes

    def __add__(self, other: "Rate") -> "Rate":
        mine, theirs = asdict(self), asdict(other)
        return Rate(**{name: mine[name] + theirs[name] for name in mine})

    @property
    def windows_per_s(self) -> float:
        """Windows a second."""
        return self.windows / self.took_s

    @property
    def processor_s_each(self) -> float:
        """Processor time a window."""
        return self.processor_s / self.windows

    @property
    def output_tokens_per_s(self) -> float:
        """Tokens of captions a second."""
        return self.output_tokens / self.took_s


class _Meter:
    """Counts from its making on: wall time, and the processor time of this program and all its processes."""

    def __init__(self) -> None:
        self._began_s, self._before_s = time.monotonic(), processor_s_with_children(os.getpid())

    def read(self) -> Rate:
        """Return the seconds so far, as those of no window."""
        spent_s = processor_s_with_children(os.getpid()) - self._before_s
        return Rate(took_s=time.monotonic() - self._began_s, processor_s=spent_s)


@dataclass(frozen=True)
class Held:
    """Decoded windows to give to the engine again and again, and how many there are in all clips together."""

    frame_sets: list[tuple[FrameSet, Prompt]]
    windows: int


async def bench(
    settings: Settings, clips: Sequence[Path], windows: int, rounds: int, form: str, *, host: bool = False
) -> ExitCode:
    """Measure and print; 65 when a clip could not be captioned to its end. With ``host`` there is no model."""
    if host:
        return await bench_host(settings, clips, windows, form)
    async with started(settings) as (sampler, engine):
        held = await _decode(settings, sampler, clips)
        repeats = math.ceil(windows / held.windows)
        alone, whole, decoding = Rate(), Rate(), Rate()
        for _ in range(rounds):
            alone += await _engine_alone(engine, held, repeats * held.windows)
            whole += await _whole(settings, sampler, engine, list(clips) * repeats)
            decoding += await _decoding_alone(settings, sampler, list(clips) * repeats)
    if form == "json":
        say_json(json.dumps(_report(settings, alone, whole, decoding)))
    else:
        _show(settings, alone, whole, decoding)
    return ExitCode.CLIP_FAILED if whole.rejected else ExitCode.CLEAN


async def _decode(settings: Settings, sampler: Sampler, clips: Sequence[Path]) -> Held:
    """Decode the clips' windows, and keep as many as half of ``limits.in_flight_bytes`` holds."""
    held, windows = list[tuple[FrameSet, Prompt]](), 0
    room_bytes = settings.limits.in_flight_bytes // 2
    async with aclosing(_windows(settings, sampler, clips)) as decoded:
        async for frame_set, prompt in decoded:
            windows += 1
            if not held or frame_set.frames.nbytes <= room_bytes:
                held.append((_copy(frame_set), prompt))
                room_bytes -= frame_set.frames.nbytes
    if not held:
        raise Poison(Reason.NO_FRAMES, "no window of these clips can be decoded", origin="sampler")
    return Held(held, windows)


async def _windows(
    settings: Settings, sampler: Sampler, clips: Sequence[Path]
) -> AsyncGenerator[tuple[FrameSet, Prompt], None]:
    """Yield the clips' windows, each until the next one is asked for. What can't be read the pipeline counts."""
    choose = clip_settings(settings, SOURCE)
    for path in clips:
        clip = named_clip(SOURCE, path)
        mine: ClipSettings = choose(clip)
        with contextlib.suppress(Poison):
            plan = await sampler.plan(clip, mine.windows, mine.frames, mine.decoder)
            await sampler.reach(plan)
            with contextlib.closing(plan):
                async with aclosing(sampler.frame_sets(plan)) as frame_sets:
                    async for frame_set in frame_sets:
                        if isinstance(frame_set, FrameSet):
                            yield frame_set, mine.prompt
                            sampler.release(frame_set)


def _copy(frame_set: FrameSet) -> FrameSet:
    """Return frames in memory of their own: the budget stays the pipeline's."""
    return frame_set.with_pixels(frame_set.frames.copy())


async def _engine_alone(engine: Engine, held: Held, windows: int) -> Rate:
    """Give decoded windows to the engine, as many at once as it takes."""
    work = iter(list(itertools.islice(itertools.cycle(held.frame_sets), windows)))
    done: list[Completion] = []
    names = itertools.count()

    async def one_lane() -> None:
        for frame_set, prompt in work:
            done.append(await engine.describe(frame_set, prompt, f"bench/{next(names)}"))

    meter = _Meter()
    async with asyncio.TaskGroup() as lanes:
        for _ in range(min(engine.slots, windows)):
            lanes.create_task(one_lane())
    tokens = sum(d.output_tokens for d in done), sum(d.prompt_tokens for d in done)
    return Rate(len(done), *tokens) + meter.read()


async def _decoding_alone(settings: Settings, sampler: Sampler, clips: Sequence[Path]) -> Rate:
    """Decode the clips for nobody."""
    windows, meter = 0, _Meter()
    async with aclosing(_windows(settings, sampler, clips)) as decoded:
        async for _ in decoded:
            windows += 1
    return Rate(windows) + meter.read()


async def _whole(settings: Settings, sampler: Sampler, engine: Engine, clips: Sequence[Path]) -> Rate:
    """Caption the clips as the daemon does, with captions that go nowhere."""
    seen = Rate()

    def count(progress: Progress) -> None:
        nonlocal seen
        captions = [each for each in progress.captions if each.status is not CaptionStatus.ERROR]
        seen += Rate(
            windows=len(captions),
            output_tokens=sum(each.usage.output_tokens for each in captions),
            prompt_tokens=sum(each.usage.prompt_tokens for each in captions),
            decode_s=sum(each.timing_ms.get("decode", 0.0) for each in captions) / 1000,
            video_s=sum(each.window.exclusive_end_ns - each.window.start_ns for each in captions) / NS_PER_S,
            rejected=progress.rejection is not None,
        )

    route = terminal_route(SOURCE, clips, count)
    pipeline = build_pipeline(settings, [route], sampler, engine, clip_settings(settings, SOURCE), Metrics())
    begun_s, spent_s = time.monotonic(), processor_s_with_children(os.getpid())
    await pipeline.run()
    return replace(
        seen, took_s=time.monotonic() - begun_s, processor_s=processor_s_with_children(os.getpid()) - spent_s
    )


def _cores_allow(alone: Rate, decoding: Rate) -> float:
    """Return the efficiency at which all cores would be busy with decoding and the engine's own work."""
    each_s = alone.processor_s_each + decoding.processor_s_each
    return min(1.0, core_count() / (each_s * alone.windows_per_s)) if each_s else 1.0


def _report(settings: Settings, alone: Rate, whole: Rate, decoding: Rate) -> dict[str, object]:
    efficiency = whole.output_tokens_per_s / alone.output_tokens_per_s if alone.output_tokens else math.nan
    decoders_busy = whole.decode_s / (whole.took_s * settings.limits.decoders)
    cores_allow = _cores_allow(alone, decoding)
    return {
        "engine_alone": asdict(alone) | {"windows_per_s": alone.windows_per_s},
        "whole_pipeline": asdict(whole) | {"windows_per_s": whole.windows_per_s},
        "decoding_alone": asdict(decoding) | {"windows_per_s": decoding.windows_per_s},
        "efficiency": efficiency,
        "cores_allow": cores_allow,
        "decoders_busy": decoders_busy,
        "bottleneck": _bottleneck(efficiency, cores_allow, decoders_busy),
    }


def _bottleneck(efficiency: float, cores_allow: float, decoders_busy: float) -> str:
    if efficiency >= _ENGINE_BOUND:
        return "engine"
    if cores_allow < _ENGINE_BOUND and efficiency >= _CORES_BOUND * cores_allow:
        return "cores"
    return "decoders" if decoders_busy >= _DECODERS_BOUND else "neither"


_ADVICE = {
    "engine": "the engine: a faster or a second one makes captions faster, nothing else does",
    "cores": "the cores, which decoding takes from the engine: give it more, or show fewer frames (frames, snap)",
    "decoders": "the decoders: raise limits.decoders while there are cores, or show fewer frames (frames, snap)",
    "neither": "neither the engine nor the decoders: give more clips at once, or look for what else uses the machine",
}


def _show(settings: Settings, alone: Rate, whole: Rate, decoding: Rate) -> None:
    console = Console()
    table = Table("", "windows", "windows/s", "output tok/s", "prompt tok/s", "x real time")
    for name, rate in (("engine alone", alone), ("whole pipeline", whole)):
        table.add_row(
            name,
            str(rate.windows),
            f"{rate.windows_per_s:.2f}",
            f"{rate.output_tokens_per_s:.1f}",
            f"{rate.prompt_tokens / rate.took_s:.1f}",
            f"{rate.video_s / rate.took_s:.1f}" if rate.video_s else "-",
        )
    show_table(table, to=console)
    report = _report(settings, alone, whole, decoding)
    efficiency = f"Efficiency {report['efficiency']:.2f}, the pipeline against the engine alone"
    cores = f"the cores allow {report['cores_allow']:.2f}"
    say(f"{efficiency}; {cores}; decoders {report['decoders_busy']:.0%} busy.", to=console)
    say(f"The bottleneck is {_ADVICE[str(report['bottleneck'])]}.", to=console)
    if whole.rejected:
        say(f"{whole.rejected} clip(s) could not be captioned to the end.", to=console, style="red")
