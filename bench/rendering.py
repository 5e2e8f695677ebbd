"""Rendering in processes of its own against vLLM's one thread, on a tiny Qwen3-VL with the real one's processor.

    python -m bench.rendering [WINDOWS]

Each way renders the same windows of 80 frames of 448 x 448, three times in turns; what counts is the ratio within one
run. While it runs, a probe on the event loop asks to be woken every millisecond and notes how late it is; the first
line is the same probe while nothing is rendered, which is the machine's own lateness. ``loop`` is the processor time
that the event loop's thread takes for a window, less what the probe takes. A renderer needs a core of its own. At the
beginning the ways' tensors are compared byte by byte.
"""

import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from daemon.config.engine_settings import VllmSettings
from daemon.config.machine import core_count
from daemon.engines.rendering.choice import start_rendering
from daemon.engines.rendering.in_process import Rendering
from daemon.engines.rendering.job import RenderJob
from daemon.engines.vllm import library
from daemon.engines.vllm.load import LoadedModel, load_model
from daemon.memory_file import MemoryFile
from daemon.prompts.prompt import Prompt
from daemon.windows import NS_PER_S, FrameSet, Window, sample_times
from testing.rendered_windows import differences
from testing.tiny_models import build

FRAMES, SIDE = 80, 448
REAL_SIZE = {"shortest_edge": 4096, "longest_edge": 25_165_824}  # of a video, as Qwen3-VL's authors ship it
CONTEXT = 65_536
ROUNDS = 3
TARGET_MS = 5.0  # of the event loop's lag at the 99th percentile, beyond the machine's own
_PROBE_S = 0.001
_IDLE_S = 3.0


@dataclass
class Measured:
    """What one way did over all rounds."""

    windows: int = 0
    took_s: float = 0.0
    loop_s: float = 0.0  # of the event loop's thread
    late_ms: list[float] = field(default_factory=list)

    @property
    def windows_per_s(self) -> float:
        return self.windows / self.took_s

    @property
    def lag_ms(self) -> float:
        """The event loop's lag at the 99th percentile."""
        return statistics.quantiles(self.late_ms, n=100)[98]


def model(folder: Path) -> tuple[LoadedModel, Any]:
    """Return a tiny Qwen3-VL that takes videos as large as the real one, and vLLM's configuration of it."""
    path = build("qwen3_vl", folder) / "processor_config.json"
    said = json.loads(path.read_text())
    said["video_processor"]["size"] = REAL_SIZE
    path.write_text(json.dumps(said))
    long = {"text_config": {"max_position_embeddings": CONTEXT}}
    args = {"enforce-eager": True, "hf-overrides": long}
    settings = VllmSettings(model=str(path.parent), dtype="bfloat16", max_model_len=CONTEXT, args=args)
    loaded = load_model(settings, FRAMES)
    return loaded, library.configuration_of(dict(loaded.arguments))


def window(seed: int) -> FrameSet:
    """Return a window of noise in a memory file, as a decoder leaves it."""
    shape = (FRAMES, SIDE, SIDE, 3)
    pixels = np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)
    memory = MemoryFile("bench-window", pixels.nbytes)
    os.pwrite(memory.descriptor, pixels.data, 0)
    array = memory.lend(MemoryFile.close)
    times = sample_times(0, 10 * NS_PER_S, FRAMES)
    shown = Window(0, 0, 10 * NS_PER_S, times, tuple(range(FRAMES)))
    return FrameSet(shown, array.reshape(shape), times, memory_file=memory.descriptor)


@contextlib.asynccontextmanager
async def probe(late_ms: list[float]) -> AsyncIterator[None]:
    """Note how late the event loop wakes a task that sleeps."""

    async def sleep() -> None:
        while True:
            asked_s = time.perf_counter()
            await asyncio.sleep(_PROBE_S)
            late_ms.append((time.perf_counter() - asked_s - _PROBE_S) * 1000)

    sleeping = asyncio.create_task(sleep())
    try:
        yield
    finally:
        sleeping.cancel()
        await asyncio.gather(sleeping, return_exceptions=True)


async def rest(into: Measured) -> None:
    """Render nothing for a while."""
    begun_s, loop_s = time.monotonic(), time.thread_time()
    async with probe(into.late_ms):
        await asyncio.sleep(_IDLE_S)
    into.took_s += time.monotonic() - begun_s
    into.loop_s += time.thread_time() - loop_s


async def measure(rendering: Rendering, jobs: list[tuple[RenderJob, FrameSet]], into: Measured, lanes: int) -> None:
    """Render all jobs, with one more in line than there are renderers."""
    work = iter(jobs)

    async def lane() -> None:
        for job, frames in work:
            async with rendering.rendered(job, frames):
                pass

    begun_s, loop_s = time.monotonic(), time.thread_time()
    async with probe(into.late_ms), asyncio.TaskGroup() as tasks:
        for _ in range(lanes + 1):
            tasks.create_task(lane())
    into.took_s += time.monotonic() - begun_s
    into.loop_s += time.thread_time() - loop_s
    into.windows += len(jobs)


async def compare(ways: dict[str, Rendering], job: RenderJob, frames: FrameSet) -> bool:
    """Whether all ways render a window to the same bytes."""
    found = []
    for way in ways.values():
        async with way.rendered(job, frames) as rendered:
            found.append(rendered.input)
    differ = [place for one in found[1:] for place in differences(found[0], one)]
    if differ:
        print("differing:", *differ)
    return not differ


async def bench(folder: Path, windows: int) -> int:
    """Measure and print; 0 when the bytes are the same and the event loop is never held up for long."""
    loaded, configuration = model(folder)
    packed = library.packed_configuration(configuration)
    llm = SimpleNamespace(vllm_config=configuration, renderer=library.renderer_of(packed))
    counts = {"vLLM's own thread": 0, "1 renderer": 1, "2 renderers": 2}
    ways = {name: await start_rendering(llm, count, {}, 120.0) for name, count in counts.items()}
    form = loaded.planner.form
    ids = loaded.planner.encoder.encode(Prompt("Describe this video."), form.items(FRAMES))
    held = [window(seed) for seed in range(4)]
    jobs = [(RenderJob.of(one, ids, form, f"bench/{at}", by_content=False), one) for at, one in enumerate(held)]
    measured = {name: Measured() for name in ways}
    idle = Measured()
    try:
        is_same = await compare(ways, *jobs[0])
        for _ in range(ROUNDS):
            await rest(idle)
            for name, way in ways.items():
                await measure(way, [jobs[at % len(jobs)] for at in range(windows)], measured[name], counts[name] or 1)
    finally:
        for way in ways.values():
            await way.close()
    return report(measured, idle, is_same=is_same)


def report(measured: dict[str, Measured], idle: Measured, *, is_same: bool) -> int:
    """Print what was measured, and return the exit code."""
    (_, alone), *rest = measured.items()
    load = os.getloadavg()[0]
    print(f"{FRAMES} frames of {SIDE} x {SIDE}, {core_count()} cores, load {load:.1f} at the end")
    print(f"{'nothing':<18} {'':>28} event loop p99 {idle.lag_ms:6.2f} ms")
    for name, one in measured.items():
        ratio = one.windows_per_s / alone.windows_per_s
        rate = f"{one.windows_per_s:6.2f} windows/s  x {ratio:4.2f}"
        loop_ms = (one.loop_s - one.took_s * idle.loop_s / idle.took_s) * 1000 / one.windows
        loop = (
            f", loop {loop_ms:4.1f} ms a window" if one is not alone else ""
        )  # whose thread keeps the probe from turns
        print(f"{name:<18} {rate:<28} event loop p99 {one.lag_ms:6.2f} ms{loop}")
    print(f"rendered windows are {'the same' if is_same else 'NOT the same'} byte for byte")
    return 0 if is_same and all(one.lag_ms < TARGET_MS + idle.lag_ms for _, one in rest) else 1


def main() -> int:
    """Measure, in a folder that goes away."""
    windows = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(bench(Path(folder), windows))


if __name__ == "__main__":
    sys.exit(main())
