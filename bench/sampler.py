"""The sampler against its peers, cell by cell: the same windows of the same painted clips, in turns.

    python -m bench.sampler [--quick] [--rounds 5] [--peers FOLDER] [--only h264,720]

A cell is a codec, a distance of key frames and a size. The daemon's sampler, with its caged decoders, and each library
are asked in turns for every window of 10 s and 8 frames, from the closed file to RGB in memory; frames are checked by
the number that they show. Ratios are taken within a round, the best peer's time over the sampler's, and printed with
their quartiles; so is processor time, and the same loop without a daemon that is told which packets it needs. Then
eight clips at once are taken by two decoders, and by two processes of each peer and of that loop. ``snap: keyframe`` is
held against exact frames.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.harness.painted import Painted, number_in, numbered_part
from bench.harness.peers import LEAST, NAMES, Peer, environment
from bench.harness.report import Row, report
from connectors.terminal import named_clip
from daemon.config.settings import LimitsSettings, TimeoutsSettings
from daemon.decoding.budgets import processor_s
from daemon.decoding.child.session import plan as plan_here
from daemon.decoding.media import MediaLimits
from daemon.decoding.packet_index import PacketIndex
from daemon.decoding.sampler import Sampler
from daemon.windows import NS_PER_S, FramePolicy, FrameSet, PlannedWindows, WindowPolicy, plan_windows

FOLDER = Path("build/bench")
CELLS = [
    Painted(codec, gop, height)
    for codec in ("h264", "hevc", "vp9", "av1")
    for gop in (30, 250)
    for height in (360, 720, 1080)
]
QUICK = [Painted("h264", 30, 360), Painted("vp9", 250, 360), Painted("av1", 30, 720)]
TOGETHER = [
    (Painted("h264", 250, 720), 10),
    (Painted("hevc", 30, 720), 10),
    (Painted("vp9", 30, 720), 10),
    (Painted("av1", 30, 720), 10),
    (Painted("h264", 30, 360), 2),
]
CLIPS_TOGETHER = 8
EXACT, KEY_FRAMES = FramePolicy(), FramePolicy(snap="keyframe")
_LIMITS = MediaLimits(8_912_896, 86_400.0)


@dataclass(slots=True)
class Took:
    """What the rounds of one way took, in seconds, and how many frames were wrong."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    wrong: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """The windows of a clip, and what a decoder that wastes nothing would need for them."""

    path: Path
    seconds: int
    index: PacketIndex
    windows: PlannedWindows
    frames: FramePolicy

    @classmethod
    def of(cls, path: Path, seconds: int = 10, frames: FramePolicy = EXACT) -> "Asked":
        """Plan a clip."""
        with path.open("rb") as file:
            _, index = plan_here(file.fileno(), _LIMITS, lambda: None)
        windows = plan_windows(index.pts_ns, index.duration_ns, policy_of(seconds), frames, index.keyframes)
        return cls(path, seconds, index, windows, frames)

    def of_peer(self, peer: str, threads: int) -> dict[str, Any]:
        """Return the request to a peer."""
        windows = [list(window.frame_indices) for window in self.windows]
        groups: dict[int, list[tuple[int, int]]] = {}
        for frame_index in sorted({index for window in windows for index in window}):
            place = int(self.index.order[frame_index])
            groups.setdefault(self.index.decode_start(frame_index), []).append((place, frame_index))
        listed = [{"start": start, "frames": frames} for start, frames in groups.items()]
        return {"peer": peer, "path": str(self.path), "threads": threads, "windows": windows, "groups": listed}

    def wrong_in(self, numbers: Sequence[Sequence[int]]) -> int:
        """Return how many of the numbers shown are not those asked for."""
        asked = [index for window in self.windows for index in window.frame_indices]
        shown = [number for window in numbers for number in window]
        return sum(a != b for a, b in zip(asked, shown, strict=True)) if len(asked) == len(shown) else len(asked)


def policy_of(seconds: int) -> WindowPolicy:
    """Return windows of so many seconds."""
    return WindowPolicy(seconds * NS_PER_S, seconds * NS_PER_S, seconds * NS_PER_S // 2)


class Ours:
    """The daemon's sampler, with two decoders."""

    def __init__(self) -> None:
        self.sampler = Sampler(LimitsSettings(decoders=2), TimeoutsSettings())

    def _cpu_s(self) -> float:
        return time.process_time() + sum(processor_s(pid) for pid in self.sampler.pool.pids)

    async def take(self, clips: Sequence[Asked]) -> tuple[float, float, int]:
        """Return seconds on the clock and of processors, and how many frames were wrong, for clips at once."""
        began_s, began_cpu_s = time.perf_counter(), self._cpu_s()

        async def one(asked: Asked) -> list[list[NDArray[np.uint8]]]:
            parts = []  # looked at when the clock stands: meanwhile decoders would wait for their next request
            plan = await self.sampler.plan(named_clip("bench", asked.path), policy_of(asked.seconds), asked.frames)
            async for window in self.sampler.frame_sets(plan):
                assert isinstance(window, FrameSet)
                parts.append([numbered_part(frame).copy() for frame in window.frames])
                self.sampler.release(window)
            plan.close()
            return parts

        shown = await asyncio.gather(*(one(asked) for asked in clips))
        wall_s, cpu_s = time.perf_counter() - began_s, self._cpu_s() - began_cpu_s
        numbers = [[[number_in(part) for part in window] for window in parts] for parts in shown]
        return wall_s, cpu_s, sum(asked.wrong_in(of) for asked, of in zip(clips, numbers, strict=True))


def note(took: Took, asked: Asked, said: dict[str, Any]) -> None:
    """Take down what a peer said."""
    took.error = said.get("error", took.error)
    if "error" not in said:
        took.wall_s.append(said["wall_s"])
        took.cpu_s.append(said["cpu_s"])
        took.wrong += asked.wrong_in(said["numbers"])


def spread(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Return the quartiles of ratios, the middle one first."""
    if len(ratios) < 2:
        return ratios[0], ratios[0], ratios[0]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return middle, low, high


async def measure_cell(cell: Painted, ours: Ours, peer: Peer, least: Peer, rounds: int) -> Row:
    """Return the row of a cell."""
    asked, threads = Asked.of(cell.made_in(FOLDER / "clips")), ours.sampler.pool.threads
    took = {name: Took() for name in ("captiond", LEAST, *NAMES)}
    await ours.take([asked])
    for _ in range(rounds):
        wall_s, cpu_s, wrong = await ours.take([asked])
        note(took["captiond"], asked, {"wall_s": wall_s, "cpu_s": cpu_s, "numbers": []})
        took["captiond"].wrong = wrong
        note(took[LEAST], asked, least.ask(asked.of_peer(LEAST, threads)))
        for name in NAMES:
            if not took[name].error:
                note(took[name], asked, peer.ask(asked.of_peer(name, 0)))
    there = [name for name in NAMES if len(took[name].wall_s) == rounds and not took[name].wrong]
    if not there:
        raise RuntimeError(f"{cell.name}: no peer shows the right frames; make the clip anew")
    best = min(there, key=lambda name: statistics.median(took[name].wall_s))
    thriftiest = min(there, key=lambda name: statistics.median(took[name].cpu_s))
    mine, count = took["captiond"], len(asked.windows)
    ratio, low, high = spread([b / m for b, m in zip(took[best].wall_s, mine.wall_s, strict=True)])
    cpu_ratio, *_ = spread([b / m for b, m in zip(took[best].cpu_s, mine.cpu_s, strict=True)])
    if took[LEAST].error or took[LEAST].wrong:
        raise RuntimeError(f"{cell.name}: the bare loop shows {took[LEAST].wrong} wrong frames; {took[LEAST].error}")
    limit, *_ = spread([b / m for b, m in zip(took[LEAST].wall_s, mine.wall_s, strict=True)])
    return {
        "cell": f"{cell.codec} {cell.gop} {cell.height}p",
        "ms_a_window": statistics.median(mine.wall_s) * 1000 / count,
        "best": best,
        "ratio": ratio,
        "from": low,
        "to": high,
        "cpu_ms": statistics.median(mine.cpu_s) * 1000 / count,
        "cpu_ratio": cpu_ratio,
        "least_cpu_peer": f"{thriftiest} {statistics.median(took[thriftiest].cpu_s) * 1000 / count:.0f}",
        "of_the_limit": limit,
        "wrong": mine.wrong,
        "others_wrong": ", ".join(f"{name} {took[name].wrong}" for name in NAMES if took[name].wrong)
        + ", ".join(f"{name}: {took[name].error[:40]}" for name in NAMES if took[name].error),
    }


async def measure_together(
    cell: Painted, seconds: int, ours: Ours, peers: Sequence[Peer], least: Sequence[Peer], rounds: int
) -> Row:
    """Return the row of eight clips at once, beside two processes of each peer that decode by one thread."""
    asked = Asked.of(cell.made_in(FOLDER / "clips"), seconds)
    mine, others = Took(), {name: Took() for name in (LEAST, *NAMES)}
    for _ in range(rounds):
        wall_s, cpu_s, wrong = await ours.take([asked] * CLIPS_TOGETHER)
        note(mine, asked, {"wall_s": wall_s, "cpu_s": cpu_s, "numbers": []})
        mine.wrong = wrong
        for name, took in others.items():
            if took.error:
                continue
            said, two = [], least if name == LEAST else peers
            for _ in range(CLIPS_TOGETHER // len(two)):
                for peer in two:
                    peer.send(asked.of_peer(name, 1))
                said += [peer.receive() for peer in two]
            took.error = next((one["error"] for one in said if "error" in one), "")
            if not took.error:
                took.wall_s.append(sum(one["wall_s"] for one in said) / len(two))
                took.cpu_s.append(sum(one["cpu_s"] for one in said))
    best = min(
        (n for n in NAMES if len(others[n].wall_s) == rounds), key=lambda name: statistics.median(others[name].wall_s)
    )
    ratio, low, high = spread([b / m for b, m in zip(others[best].wall_s, mine.wall_s, strict=True)])
    cpu_ratio, *_ = spread([b / m for b, m in zip(others[best].cpu_s, mine.cpu_s, strict=True)])
    limit, *_ = spread([b / m for b, m in zip(others[LEAST].wall_s, mine.wall_s, strict=True)])
    return {
        "cell": f"{cell.codec} {cell.gop} {cell.height}p {seconds}s",
        "ms_a_window": statistics.median(mine.wall_s) * 1000 / len(asked.windows) / CLIPS_TOGETHER,
        "best": best,
        "ratio": ratio,
        "from": low,
        "to": high,
        "cpu_ratio": cpu_ratio,
        "of_the_limit": limit,
        "wrong": mine.wrong,
    }


async def measure_snap(cell: Painted, ours: Ours, least: Peer, rounds: int) -> Row:
    """Return how many times as fast key frames alone are, and how near that is to the bare loop's time for them."""
    asked = Asked.of(cell.made_in(FOLDER / "clips"))
    keys = Asked.of(asked.path, frames=KEY_FRAMES)
    pairs, limits, wrong = [], [], 0
    for _ in range(rounds):
        exact, _, _ = await ours.take([asked])
        snapped, _, wrong = await ours.take([keys])
        pairs.append(exact / snapped)
        limits.append(least.ask(keys.of_peer(LEAST, ours.sampler.pool.threads))["wall_s"] / snapped)
    ratio, low, high = spread(pairs)
    limit, *_ = spread(limits)
    name = f"{cell.codec} {cell.gop} {cell.height}p"
    return {"cell": name, "ratio": ratio, "from": low, "to": high, "of_the_limit": limit, "wrong": wrong}


async def measure(cells: Sequence[Painted], together: Sequence[tuple[Painted, int]], rounds: int, python: Path) -> bool:
    """Measure everything and print it; False where a frame was wrong."""
    ours, peers, least = Ours(), [Peer(python), Peer(python)], [Peer(), Peer()]
    await ours.sampler.start()
    try:
        rows = []
        for cell in cells:
            rows.append(await measure_cell(cell, ours, peers[0], least[0], rounds))
            print({key: round(v, 2) if isinstance(v, float) else v for key, v in rows[-1].items()}, flush=True)
        mean = statistics.geometric_mean(float(row["ratio"]) for row in rows)
        report("sampler", rows, x="cell", ys=("ratio", "cpu_ratio", "of_the_limit"))
        print(f"Geometric mean of {len(rows)} cells: {mean:.2f}.")
        many = [await measure_together(cell, seconds, ours, peers, least, rounds) for cell, seconds in together]
        if many:
            report("sampler-together", many, x="cell", ys=("ratio", "cpu_ratio", "of_the_limit"))
        snapped = [await measure_snap(cell, ours, least[0], rounds) for cell in cells]
        report("sampler-snap", snapped, x="cell", ys=("ratio", "of_the_limit"))
        return not any(row["wrong"] for row in [*rows, *many, *snapped])
    finally:
        await ours.sampler.close()
        for peer in (*peers, *least):
            peer.close()


def main() -> int:
    """Measure; 1 where a frame was wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.sampler", description=__doc__.splitlines()[0])
    is_quick = bool(os.environ.get("QUICK"))
    parser.add_argument("--quick", action="store_true", default=is_quick, help="three cells and one of many clips")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", type=Path, default=FOLDER / "peers", help="the folder of their environment")
    parser.add_argument("--only", default="", help="cells whose name has all of these parts, e.g. h264,720")
    asked = parser.parse_args()
    parts = [part for part in asked.only.split(",") if part]
    cells = [cell for cell in (QUICK if asked.quick else CELLS) if all(part in cell.name for part in parts)]
    together = [] if parts else TOGETHER[-1:] if asked.quick else TOGETHER
    is_right = asyncio.run(measure(cells, together, asked.rounds, environment(asked.peers)))
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
