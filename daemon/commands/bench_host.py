"""`captiond bench --host`: how many GPUs this machine's other half could feed, without a model and without a GPU.

Clips are decoded, rendered by the model's processor, and handed over as vLLM's engine gets them; nothing answers. The
processor time of each part says where the host's limit is. One H100 takes twelve windows of ten seconds a second, of
80 frames of 448 x 448, as NVIDIA measured with Cosmos-Reason and its RT-VLM service.
"""

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from connectors.contract import CaptionStatus, Progress
from connectors.errors import ConfigurationError, ExitCode, Poison, Reason
from connectors.terminal import terminal_route
from daemon.build import build_pipeline, clip_settings, started
from daemon.commands.one_shot import SOURCE
from daemon.commands.terminal import say, say_json, show_table
from daemon.config.engine_settings import VllmSettings
from daemon.config.settings import Settings
from daemon.decoding.budgets import processor_s
from daemon.decoding.sampler import Sampler
from daemon.engines.build import most_frames
from daemon.engines.vllm.host import HostEngine
from daemon.telemetry.metrics import Metrics

H100_WINDOWS_PER_S = 12
H100_WINDOW_PIXELS = 80 * 448 * 448


@dataclass(frozen=True)
class HostRun:
    """What the host did. Processor seconds are by part; ``pixels`` are those of all windows' frames."""

    windows: int
    took_s: float
    decode_s: float
    render_s: float
    hand_over_s: float
    daemon_s: float
    vision_tokens: int
    pixels: int
    rejected: int

    @property
    def parts(self) -> dict[str, float]:
        """Processor seconds a window, by part."""
        named = {
            "decode": self.decode_s,
            "render": self.render_s,
            "hand over": self.hand_over_s,
            "all else": self.daemon_s,
        }
        return {name: spent_s / self.windows for name, spent_s in named.items()}

    @property
    def windows_per_s(self) -> float:
        """Windows a second on the clock, on the cores that there were."""
        return self.windows / self.took_s

    @property
    def windows_per_core_s(self) -> float:
        """Windows a second of one core that does nothing else."""
        return 1 / sum(self.parts.values())

    def h100s(self, windows_per_s: float) -> float:
        """Return how many H100s such windows feed, by their pixels."""
        return windows_per_s * self.pixels / self.windows / (H100_WINDOWS_PER_S * H100_WINDOW_PIXELS)


async def bench_host(settings: Settings, clips: Sequence[Path], windows: int, form: str) -> ExitCode:
    """Measure and print; 65 when a clip could not be read to its end."""
    if not isinstance(settings.engine, VllmSettings):
        raise ConfigurationError("the host's side is that of engine.kind: vllm", path="engine.kind")
    engine = HostEngine(
        settings.engine, max_frames=most_frames(settings), render_deadline_s=settings.timeouts.render_deadline_s
    )
    async with started(settings, engine) as (sampler, _):
        first = await _run(settings, sampler, engine, clips)  # starts what starts with the first clip
        if not first.windows:
            raise Poison(Reason.NO_FRAMES, "no window of these clips can be decoded", origin="sampler")
        measured = await _run(settings, sampler, engine, list(clips) * math.ceil(windows / first.windows))
    if form == "json":
        say_json(json.dumps(_report(measured)))
    else:
        _show(measured)
    return ExitCode.CLIP_FAILED if measured.rejected else ExitCode.CLEAN


async def _run(settings: Settings, sampler: Sampler, engine: HostEngine, clips: Sequence[Path]) -> HostRun:
    """Take the clips through the daemon's main loop."""
    done = rejected = tokens = 0

    def count(progress: Progress) -> None:
        nonlocal done, rejected, tokens
        read = [each for each in progress.captions if each.status is not CaptionStatus.ERROR]
        done += len(read)
        tokens += sum(each.usage.vision_tokens for each in read)
        rejected += progress.rejection is not None

    route = terminal_route(SOURCE, clips, count)
    pipeline = build_pipeline(settings, [route], sampler, engine, clip_settings(settings, SOURCE), Metrics())
    before, pixels, begun_s = _spent(sampler, engine), engine.pixels, time.monotonic()
    await pipeline.run()
    took_s, after = time.monotonic() - begun_s, _spent(sampler, engine)
    decode_s, render_s, hand_over_s, daemon_s = (b - a for a, b in zip(before, after, strict=True))
    shown = engine.pixels - pixels
    return HostRun(done, took_s, decode_s, render_s, hand_over_s, daemon_s, tokens, shown, rejected)


def _spent(sampler: Sampler, engine: HostEngine) -> tuple[float, float, float, float]:
    """Return the processor seconds so far of decoders, renderers, the process that takes windows, and this one."""
    return (
        sum(map(processor_s, sampler.pool.pids)),
        sum(map(processor_s, engine.renderer_pids)),
        processor_s(engine.receiver_pid),
        time.process_time(),
    )


def _report(run: HostRun) -> dict[str, object]:
    return {
        **asdict(run),
        "cores": len(os.sched_getaffinity(0)),
        "core_s_a_window": run.parts,
        "windows_per_s": run.windows_per_s,
        "windows_per_core_s": run.windows_per_core_s,
        "h100s": run.h100s(run.windows_per_s),
        "cores_an_h100": 1 / run.h100s(run.windows_per_core_s),
    }


def _show(run: HostRun) -> None:
    console = Console()
    table = Table("", "core ms a window", "windows/s a core", "cores an H100")
    for name, spent_s in run.parts.items():
        if spent_s:
            alone = 1 / spent_s
            table.add_row(name, f"{spent_s * 1000:.1f}", f"{alone:.1f}", f"{1 / run.h100s(alone):.1f}")
    each = run.windows_per_core_s
    table.add_row("together", f"{1000 / each:.1f}", f"{each:.2f}", f"{1 / run.h100s(each):.1f}")
    show_table(table, to=console)
    shape = (
        f"{run.pixels / run.windows / 1e6:.1f} million pixels and {run.vision_tokens / run.windows:.0f} vision tokens"
    )
    say(f"{run.windows} windows of {shape} each.", to=console)
    h100s = run.h100s(run.windows_per_s)
    say(f"{run.windows_per_s:.2f} windows/s on this machine now: enough for {h100s:.2f} H100s.", to=console)
    say("One H100 is taken for twelve windows a second of 80 frames of 448 x 448.", to=console)
    if run.rejected:
        say(f"{run.rejected} clip(s) could not be read to the end.", to=console, style="red")
