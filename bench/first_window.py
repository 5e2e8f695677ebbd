"""The first window of a long file: how soon it is there, and how many bytes are read before it.

    python -m bench.first_window [--minutes 60] [--rounds 3]

A short clip is encoded once and its packets are repeated, so that a file of 60 minutes and some 1.8 GB is made in
seconds. The daemon's sampler plans it and decodes its first window of 10 s and 8 frames, and then its last one, as
after a restart; beside it PyAV opens the file, seeks to each of the frames and decodes to it. Bytes are those that the
kernel counts as read (``rchar`` of /proc/PID/io), in the decoder and in the daemon.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from bench.harness.painted import RATE, Painted
from bench.harness.report import Row, report
from connectors.terminal import named_clip
from daemon.config.settings import LimitsSettings, TimeoutsSettings
from daemon.decoding.sampler import Sampler
from daemon.windows import FramePolicy, FrameSet, WindowPolicy

FOLDER = Path("build/bench/clips")
_SOURCE = Painted("h264", 30, 1080)
_PEER = """
import av, json, sys, time
path, rate = sys.argv[1], int(sys.argv[2])
def read():
    return int(open("/proc/self/io").read().split()[1])
for indices in json.loads(sys.argv[3]):
    begun, before = time.perf_counter(), read()
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for index in indices:
            ticks = round(index / rate / stream.time_base)
            container.seek(ticks, stream=stream)
            next(frame for frame in container.decode(stream) if frame.pts >= ticks).to_ndarray(format="rgb24")
    print(json.dumps([time.perf_counter() - begun, read() - before]))
"""


def make_clip(minutes: int) -> Path:
    """Repeat the packets of a short clip until there are so many minutes of them."""
    path = FOLDER / f"repeated-{minutes}min.mp4"
    if path.exists():
        return path
    source, unfinished = _SOURCE.made_in(FOLDER), path.with_suffix(".unfinished.mp4")
    with av.open(str(source)) as given, av.open(str(unfinished), "w") as container:
        (stream,) = given.streams.video
        copy, tick_s = container.add_stream_from_template(stream), Fraction(stream.time_base or 0)
        packets = [
            (bytes(packet), packet.pts or 0, packet.dts or 0, packet.is_keyframe)
            for packet in given.demux(stream)
            if packet.size
        ]
        ticks = int(_SOURCE.seconds / tick_s)
        for turn in range(minutes * 60 // _SOURCE.seconds):
            for data, pts, dts, is_key in packets:
                packet = av.Packet(data)
                packet.stream, packet.time_base, packet.is_keyframe = copy, tick_s, is_key
                packet.pts, packet.dts = pts + turn * ticks, dts + turn * ticks
                packet.duration = int(1 / RATE / tick_s)
                container.mux(packet)
    unfinished.rename(path)
    return path


def read_bytes(pids: Sequence[int | str]) -> int:
    """Return how many bytes processes have read so far."""
    return sum(int(Path(f"/proc/{pid}/io").read_text().split()[1]) for pid in pids)


async def ours(path: Path) -> tuple[list[list[float]], list[list[int]]]:
    """Return seconds and bytes for the first and the last window, and which frames they show."""
    took, shown = [], []
    for at in (0, -1):
        sampler = Sampler(LimitsSettings(decoders=2), TimeoutsSettings())
        await sampler.start()
        begun, before = time.perf_counter(), read_bytes(["self", *sampler.pool.pids])
        plan = await sampler.plan(named_clip("bench", path), WindowPolicy(), FramePolicy())
        async with aclosing(sampler.frame_sets(plan, at % len(plan.windows))) as sets:
            window = await anext(sets)
            took.append([time.perf_counter() - begun, read_bytes(["self", *sampler.pool.pids]) - before])
            assert isinstance(window, FrameSet)
            shown.append(list(window.window.frame_indices))
            sampler.release(window)
        plan.close()
        await sampler.close()
    return took, shown


def peer(path: Path, shown: list[list[int]]) -> list[list[float]]:
    """Return the same of PyAV."""
    command = [sys.executable, "-c", _PEER, str(path), str(RATE), json.dumps(shown)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def main() -> int:
    """Measure in turns, and print a row for each of the two windows."""
    parser = argparse.ArgumentParser(prog="python -m bench.first_window", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    path = make_clip(asked.minutes)
    path.read_bytes()[:0]  # so that every round finds it in memory
    rounds: list[tuple[Any, Any]] = []
    for _ in range(asked.rounds):
        mine, shown = asyncio.run(ours(path))
        rounds.append((mine, peer(path, shown)))
    rows: list[Row] = []
    for at, name in enumerate(("first", "last")):
        ratios = sorted(mine[at][0] / theirs[at][0] for mine, theirs in rounds)
        rows.append(
            {
                "window": name,
                "s": statistics.median(mine[at][0] for mine, _ in rounds),
                "pyav_s": statistics.median(theirs[at][0] for _, theirs in rounds),
                "ratio": statistics.median(ratios),
                "from": ratios[0],
                "to": ratios[-1],
                "mb_read": rounds[-1][0][at][1] / 1e6,
                "pyav_mb_read": rounds[-1][1][at][1] / 1e6,
                "mb": path.stat().st_size / 1e6,
            }
        )
    report("first_window", rows, x="window", ys=("s", "pyav_s"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
