"""A clip of 24 hours at 60 frames a second: what planning it and decoding its windows take in memory and in time.

    python -m bench.long_clip [--hours 24]

A minute of 16 x 16 pixels is encoded once and repeated, so that the clip is made in seconds and what is measured is
the number of its packets: 5,184,000, with B frames and a key frame a second. The daemon's sampler plans it in a caged
decoder and decodes windows at its start, in its middle and at its end. Memory is the kernel's ``VmHWM``.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

from connectors.terminal import named_clip
from daemon.config.settings import LimitsSettings, TimeoutsSettings
from daemon.decoding.sampler import Sampler
from daemon.windows import FramePolicy, FrameSet, WindowPolicy

RATE = 60
MOST_BYTES_A_FRAME = {"daemon": 16, "decoder": 200}  # above what an idle process has


def make_clip(folder: Path, hours: float) -> Path:
    """Encode a minute and repeat it."""
    minute, clip = folder / "minute.mp4", folder / "clip.mp4"
    ffmpeg = ("ffmpeg", "-loglevel", "error", "-y")
    source = ("-f", "lavfi", "-i", f"testsrc=size=16x16:rate={RATE}:duration=60")
    subprocess.run([*ffmpeg, *source, "-c:v", "mpeg4", "-g", str(RATE), "-bf", "2", "-q:v", "31", minute], check=True)
    repeats = round(hours * 60) - 1
    subprocess.run([*ffmpeg, "-stream_loop", str(repeats), "-i", minute, "-c", "copy", clip], check=True)
    return clip


def peak_bytes(process: int | str) -> int:
    """Return the most memory that a process has had."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


async def measure(path: Path) -> dict[str, Any]:
    """Plan a clip, and decode a window at its start, in its middle and at its end."""
    sampler = Sampler(LimitsSettings(), TimeoutsSettings())
    await sampler.start()
    (child, *_) = sampler.pool.pids
    idle = {"daemon": peak_bytes("self"), "decoder": peak_bytes(child)}
    begun = time.perf_counter()
    plan = await sampler.plan(named_clip("bench", path), WindowPolicy(), FramePolicy())
    result: dict[str, Any] = {"frames": len(plan.pts_ns), "windows": len(plan.windows)}
    result["plan_s"] = round(time.perf_counter() - begun, 1)
    result["reserved_bytes"] = sampler.index_budget.held_bytes
    for name, first in (("start", 0), ("middle", len(plan.windows) // 2), ("end", len(plan.windows) - 1)):
        begun = time.perf_counter()
        async with aclosing(sampler.frame_sets(plan, first)) as sets:
            window = await anext(sets)
            assert isinstance(window, FrameSet)
            assert (window.window.index, window.substituted) == (first, 0)
            sampler.release(window)
        result[f"{name}_s"] = round(time.perf_counter() - begun, 2)
    assert plan.session.opened_in is not None
    peak = {"daemon": peak_bytes("self"), "decoder": peak_bytes(plan.session.opened_in.pid or 0)}
    for name, most in MOST_BYTES_A_FRAME.items():
        above = peak[name] - idle[name]
        result[name] = {"idle_mb": idle[name] // 10**6, "peak_mb": peak[name] // 10**6}
        result[name] |= {"bytes_a_frame": round(above / result["frames"], 1), "most": most}
    plan.close()
    await sampler.close()
    return result


def main() -> int:
    """Print what was measured; 1 when a frame took more than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0)
    hours = parser.parse_args().hours
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(measure(make_clip(Path(folder), hours)))
    print(json.dumps(result, indent=1))
    return int(any(result[name]["bytes_a_frame"] > result[name]["most"] for name in MOST_BYTES_A_FRAME))


if __name__ == "__main__":
    sys.exit(main())
